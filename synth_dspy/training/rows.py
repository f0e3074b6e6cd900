"""Traces to rows: what each method trains on, all from the same pass.

    sft         prompt, completion          the reference answer, or the student's own where it was accepted
    dpo, orpo   prompt, chosen, rejected    the reference against a wrong answer (gold, synthetic), a right answer of
                                            the student against a wrong one (ai), what people preferred (human)
    kto         prompt, completion, label   every answer by itself, right or wrong
    grpo        prompt, example's fields    the reward reads them

Every row names its `id`, the `source` it was made from, the `predictor` and the `origin` of the preference or label,
and `reply_tokens`, the most tokens that the program allows for a reply: what serving would cut is not learned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synth_dspy.core.errors import ArmError
from synth_dspy.training.traces import Attempt, Message, PredictorCall, Trace

ACCEPT = 0.5
"""The least score of an answer that is right."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one method, and what the report says of them: how many of each origin, how many were dropped and why."""

    rows: tuple[dict[str, Any], ...]
    dropped: Mapping[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, Any]:
        """`rows`, `by_origin` and `dropped`, as JSON."""
        origins = Counter(row["origin"] for row in self.rows)
        return {"rows": len(self.rows), "by_origin": dict(origins), "dropped": dict(self.dropped)}


def sft_rows(traces: Iterable[Trace], *, accept: float = ACCEPT, abstentions: float = 1.0) -> Rows:
    """The reference answer of every call, or of the best accepted sample where there is no reference.

    Args:
        traces: of the trainset.
        accept: the least score of an answer that is learned.
        abstentions: at most this share of the examples is learned whose right answer is to abstain.
    """
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    traces = list(traces)
    silent = [trace for trace in traces if not trace.example.get("references", True)]
    most = int(abstentions / max(1 - abstentions, 1e-9) * (len(traces) - len(silent)))
    beyond = {id(trace) for trace in silent[most:]}
    for trace in traces:
        if id(trace) in beyond:
            dropped["abstentions beyond their share"] += 1
            continue
        origin, attempt = _origin(trace), trace.reference
        if attempt is None or attempt.score < accept:
            origin, attempt = "ai", max(trace.samples, key=lambda sample: sample.score, default=None)
        if attempt is None or attempt.score < accept:
            dropped["no accepted answer"] += 1
            continue
        for number, call in enumerate(attempt.calls):
            rows.append(_row(trace, call, number, origin, completion=said(call.reply)))
    return Rows(tuple(rows), dropped)


def preference_rows(
    traces: Iterable[Trace], *, margin: float = 0.5, per_example: int = 2, most: int | None = None
) -> Rows:
    """Pairs of a better and a worse answer to the same prompt.

    Each sample judged wrong stands against the reference, and against the best sample judged right if there is one.

    Args:
        traces: of the trainset, with samples.
        margin: the least difference of the two scores.
        per_example: at most so many pairs of one example, those with the largest margins.
        most: at most so many pairs, from as many examples as can be.
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
                        break  # from here on the two runs were asked different things
                    if same(good.reply, bad.reply):
                        dropped["equal"] += 1
                    elif chosen.score - rejected.score < margin:
                        dropped["margin"] += 1
                    else:
                        sides = {"chosen": said(good.reply), "rejected": said(bad.reply)}
                        difference = round(chosen.score - rejected.score, 4)
                        pairs.append(_row(trace, good, number, origin, **sides, margin=difference))
        rows += _distinct(pairs, per_example)
    return _bounded(rows, most, dropped)


def kto_rows(traces: Iterable[Trace], *, accept: float = ACCEPT, most: int | None = None) -> Rows:
    """Every answer by itself, labelled right or wrong: the references, and the student's samples as judged.

    Raises:
        ArmError: all are right, or all are wrong.
    """
    rows: list[dict[str, Any]] = []
    dropped: Counter[str] = Counter()
    for trace in traces:
        attempts: list[tuple[str, Attempt]] = [("ai", sample) for sample in trace.samples]
        if trace.reference is not None:
            attempts.insert(0, (_origin(trace), trace.reference))
        seen: set[tuple[str, str]] = set()
        for origin, attempt in attempts:
            for number, call in enumerate(attempt.calls):
                if (call.predictor, call.reply) in seen:
                    dropped["equal"] += 1
                    continue
                seen.add((call.predictor, call.reply))
                label = attempt.score >= accept
                rows.append(_row(trace, call, number, origin, completion=said(call.reply), label=label))
    right, wrong = ([row for row in rows if row["label"] is label] for label in (True, False))
    if not right or not wrong:
        raise ArmError(
            f"KTO learns from right and wrong answers, and all {len(rows)} are {'right' if right else 'wrong'}: raise "
            "training.options.kto.examples or samples."
        )
    half = None if most is None else max(1, most // 2)  # of each, or only right ones might be left
    kept = (*_bounded(right, half, dropped).rows, *_bounded(wrong, half, dropped).rows)
    return Rows(tuple({**row, "id": f"{row['id']}/{'right' if row['label'] else 'wrong'}"} for row in kept), dropped)


def grpo_rows(traces: Iterable[Trace]) -> Rows:
    """The prompts of the last predictor, whose reply is the answer, with the example's fields for the reward."""
    rows = []
    dropped: Counter[str] = Counter()
    for trace in traces:
        if trace.reference is None or not trace.reference.calls:
            dropped["no prompt"] += 1
            continue
        number, call = len(trace.reference.calls) - 1, trace.reference.calls[-1]
        fields = {key: value for key, value in trace.example.toDict().items() if isinstance(value, str | list)}
        rows.append({**fields, **_row(trace, call, number, _origin(trace))})
    return Rows(tuple(rows), dropped)


def _bounded(rows: Sequence[dict[str, Any]], most: int | None, dropped: Counter[str]) -> Rows:
    """At most so many rows, every example's first one before any second, with ids of their own."""
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
    return str(trace.example.get("origin") or "gold")


def _row(trace: Trace, call: PredictorCall, number: int, origin: str, **values: Any) -> dict[str, Any]:
    source = str(trace.example.get("id") or "")
    return row_of(call, f"{source}/{call.predictor}/{number}", source, origin, **values)


def row_of(call: PredictorCall, id: str, source: str, origin: str, **values: Any) -> dict[str, Any]:
    """The row of a call, with what the method learns of it as `values`."""
    return {
        "id": id,
        "source": source,
        "predictor": call.predictor,
        "origin": origin,
        "prompt": [dict(message) for message in call.messages],
        **({} if call.limit is None else {"reply_tokens": call.limit}),
        **values,
    }


def said(reply: str) -> list[Message]:
    """A reply as a row's side: one message of the assistant."""
    return [{"role": "assistant", "content": reply}]


def same(one: str, other: str) -> bool:
    """Whether two replies are the same text, white space aside."""
    return " ".join(one.split()) == " ".join(other.split())


def _distinct(pairs: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """The pairs of the largest margins, none twice."""
    kept: dict[tuple[str, str, str], dict[str, Any]] = {}
    for pair in sorted(pairs, key=lambda pair: -pair["margin"]):
        key = (pair["predictor"], pair["chosen"][0]["content"], pair["rejected"][0]["content"])
        kept.setdefault(key, pair)
    return list(kept.values())[:most]
