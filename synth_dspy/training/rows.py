"""Turns traces into training rows, for all methods from the same pass.

    sft         prompt, completion          the reference answer, or an accepted sample of the student
    dpo, orpo   prompt, chosen, rejected    the reference and a wrong sample (gold, synthetic), a right and a wrong
                                            sample (ai), or human preferences (human)
    kto         prompt, completion, label   single answers, right or wrong
    grpo        prompt, example's fields    for the reward

Every row has an `id`, the `source` it was made from, the `predictor`, the `origin` of the preference or label, and
`reply_tokens`, the program's limit for a reply: what serving would cut is not trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synth_dspy.core.errors import ArmError
from synth_dspy.training.traces import Attempt, Message, PredictorCall, Trace, is_unanswered

ACCEPT = 0.5
"""Minimum score of a right answer."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one method, and the number of dropped candidates by reason."""

    rows: tuple[dict[str, Any], ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Any]:
        """The counts for the report, as JSON values: `rows`, `by_origin` and `dropped`."""
        origins = Counter(row["origin"] for row in self.rows)
        return {"rows": len(self.rows), "by_origin": dict(origins), "dropped": dict(self.dropped)}


def sft_rows(traces: Iterable[Trace], *, accept: float = ACCEPT, abstentions: float = 1.0) -> Rows:
    """The reference answer of every call, or else that of the best accepted sample.

    Args:
        traces: traces of the trainset.
        accept: minimum score of an answer to train on; `ACCEPT` for questions that nobody has answered, where an
            abstention is not trained on, since nothing says whether it is right.
        abstentions: maximum share of examples whose right answer is to abstain.
    """
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    traces = list(traces)
    abstaining = [trace for trace in traces if not trace.example.get("references", True)]
    most = int(abstentions / max(1 - abstentions, 1e-9) * (len(traces) - len(abstaining)))
    excess = {id(trace) for trace in abstaining[most:]}
    for trace in traces:
        if id(trace) in excess:
            dropped["abstentions beyond their share"] += 1
            continue
        origin, attempt, least = _origin(trace), trace.reference, ACCEPT if is_unanswered(trace.example) else accept
        if attempt is None or attempt.score < least:
            samples = [sample for sample in trace.samples if not _is_unjudged(trace, sample)]
            origin, attempt = "ai", max(samples, key=lambda sample: sample.score, default=None)
        if attempt is None or attempt.score < least:
            dropped["no accepted answer"] += 1
            continue
        for number, call in enumerate(attempt.calls):
            rows.append(_row(trace, call, number, origin, completion=assistant_message(call.reply)))
    return Rows(tuple(rows), dropped)


def preference_rows(
    traces: Iterable[Trace], *, margin: float = 0.5, per_example: int = 2, most: int | None = None
) -> Rows:
    """Pairs of a chosen and a rejected answer to the same prompt.

    The reference and the best sample are each paired with worse samples, the worst first. Without a reference, pairs
    are of the student's own answers: the judge's preference is all there is.

    Args:
        traces: traces of the trainset, with samples.
        margin: minimum difference of the two scores.
        per_example: maximum number of pairs per example, those with the largest margins.
        most: maximum number of pairs, spread over as many examples as possible.
    """
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for trace in traces:
        pairs = []
        ranked = sorted(trace.samples, key=lambda sample: -sample.score)
        better = [(_origin(trace), trace.reference)] if trace.reference is not None else []
        better += [("ai", ranked[0])] if ranked else []
        for origin, chosen in better:
            for rejected in ranked:
                if rejected is chosen:
                    continue
                for number, (good, bad) in enumerate(zip(chosen.calls, rejected.calls, strict=False)):
                    if good.predictor != bad.predictor or good.messages != bad.messages:
                        break  # from here on the two runs have different prompts
                    if is_same_text(good.reply, bad.reply):
                        dropped["equal"] += 1
                    elif chosen.score - rejected.score < margin:
                        dropped["margin"] += 1
                    else:
                        sides = {"chosen": assistant_message(good.reply), "rejected": assistant_message(bad.reply)}
                        difference = round(chosen.score - rejected.score, 4)
                        pairs.append(_row(trace, good, number, origin, **sides, margin=difference))
        rows += _distinct(pairs, per_example)
    return _bounded(rows, most, dropped)


def kto_rows(traces: Iterable[Trace], *, accept: float = ACCEPT, most: int | None = None) -> Rows:
    """Single answers, labelled right or wrong: the references, and the student's samples by their scores."""
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for trace in traces:
        attempts: list[tuple[str, Attempt]] = [("ai", sample) for sample in trace.samples]
        if trace.reference is not None:
            attempts.insert(0, (_origin(trace), trace.reference))
        seen: set[tuple[str, str]] = set()
        least = ACCEPT if is_unanswered(trace.example) else accept
        for origin, attempt in attempts:
            if _is_unjudged(trace, attempt):
                dropped["abstention"] += 1
                continue
            for number, call in enumerate(attempt.calls):
                if (call.predictor, call.reply) in seen:
                    dropped["equal"] += 1
                    continue
                seen.add((call.predictor, call.reply))
                label = attempt.score >= least
                rows.append(_row(trace, call, number, origin, completion=assistant_message(call.reply), label=label))
    right, wrong = ([row for row in rows if row["label"] is label] for label in (True, False))
    half = None if most is None else max(1, most // 2)  # of each label, so that both remain
    kept = (*_bounded(right, half, dropped).rows, *_bounded(wrong, half, dropped).rows)
    return Rows(tuple({**row, "id": f"{row['id']}/{'right' if row['label'] else 'wrong'}"} for row in kept), dropped)


def _is_unjudged(trace: Trace, attempt: Attempt) -> bool:
    """Whether an attempt abstains from a question that nobody has answered: nothing says whether that is right."""
    return attempt.abstained and is_unanswered(trace.example)


def need_both_labels(rows: Sequence[Mapping[str, Any]]) -> None:
    """Check the rows of KTO.

    Raises:
        ArmError: all answers are right, or all are wrong.
    """
    labels = {row["label"] for row in rows}
    if len(labels) < 2:
        raise ArmError(
            f"KTO needs right and wrong answers, but all {len(rows)} are {'right' if True in labels else 'wrong'}: "
            "raise training.options.kto.examples or samples, or add people's feedback (--training.feedback)."
        )


def grpo_rows(traces: Iterable[Trace]) -> Rows:
    """The prompts of the last predictor, whose reply is the answer, and the example's fields for the reward."""
    rows = []
    dropped: Counter[str] = Counter()
    for trace in traces:
        attempt = next((each for each in (trace.reference, *trace.samples) if each is not None and each.calls), None)
        if attempt is None:
            dropped["no prompt"] += 1
            continue
        number, call = len(attempt.calls) - 1, attempt.calls[-1]
        fields = {key: value for key, value in trace.example.toDict().items() if isinstance(value, str | list)}
        rows.append({**fields, **_row(trace, call, number, _origin(trace))})
    return Rows(tuple(rows), dropped)


def _bounded(rows: Sequence[dict[str, Any]], most: int | None, dropped: Counter[str]) -> Rows:
    """At most `most` rows with unique ids; the first row of every example comes before any second one."""
    turn: Counter[str] = Counter()
    ranked = []
    for index, row in enumerate(rows):
        turn[row["source"]] += 1
        ranked.append((turn[row["source"]], index, {**row, "id": f"{row['id']}/{index}"}))
    kept = [row for _, _, row in sorted(ranked, key=lambda entry: entry[:2])[:most]]
    if len(kept) < len(rows):
        dropped["beyond the bound"] += len(rows) - len(kept)
    return Rows(tuple(kept), dropped)


def _origin(trace: Trace) -> str:
    return "ai" if trace.reference is None else str(trace.example.get("origin") or "gold")


def _row(trace: Trace, call: PredictorCall, number: int, origin: str, **values: Any) -> dict[str, Any]:
    source = str(trace.example.get("id") or "")
    return row_of(call, f"{source}/{call.predictor}/{number}", source, origin, **values)


def row_of(call: PredictorCall, id: str, source: str, origin: str, **values: Any) -> dict[str, Any]:
    """The row of a call; `values` are the method's fields."""
    return {
        "id": id,
        "source": source,
        "predictor": call.predictor,
        "origin": origin,
        "prompt": [dict(message) for message in call.messages],
        **({} if call.limit is None else {"reply_tokens": call.limit}),
        **values,
    }


def assistant_message(reply: str) -> list[Message]:
    """A reply as a list of one assistant message, as rows hold it."""
    return [{"role": "assistant", "content": reply}]


def is_same_text(one: str, other: str) -> bool:
    """Whether two replies are the same text, ignoring white space."""
    return " ".join(one.split()) == " ".join(other.split())


def _distinct(pairs: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The pairs with the largest margins, without duplicates."""
    kept: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pair in sorted(pairs, key=lambda pair: -pair["margin"]):
        key = (pair["predictor"], pair["chosen"][0]["content"], pair["rejected"][0]["content"])
        kept.setdefault(key, pair)
    return list(kept.values())[:most]
