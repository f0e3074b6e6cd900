"""From the predictions and facts of a run to what is reported: `results` and `measurements`.

The same answers give the same `results`, byte for byte: a finished run that is resumed does not change them. Whatever
differs between two equal runs (time, memory, cost, the run's name) is in `measurements`. Both are JSON data: an unknown
number is None, never NaN.

Yes/no questions have figures of their own and do not count in the headline: small models answer them at chance, and
one-word answers inflate similarity scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.agreement import Agreement
from synth_dspy.evaluation.facts import ArmFacts, Circumstances, ReferenceFacts, RunFacts, TaskFacts
from synth_dspy.evaluation.records import (
    AbstentionRecord,
    ArmRecord,
    BreakdownRecord,
    ItemsRecord,
    Measurements,
    MethodRecord,
    Prediction,
    ReferenceRecord,
    Results,
)
from synth_dspy.evaluation.report import notes, tuning, verdict
from synth_dspy.evaluation.report.classification import classification
from synth_dspy.evaluation.report.comparisons import compare_references, comparisons
from synth_dspy.evaluation.report.figures import (
    HEADLINE,
    RIGHT,
    Labels,
    Rows,
    estimate,
    is_cross_fitted,
    is_yes_no,
    mean,
    outcomes,
    plain,
)
from synth_dspy.evaluation.report.judge import agreement_of, corrected_share, verdicts
from synth_dspy.evaluation.report.measurements import measurements
from synth_dspy.evaluation.scores import label_of

_BREAKDOWN_RESAMPLES = 2_000  # many small cells, which are shown but not tested; a cell of all items has the arm's


def summarise(
    predictions: Iterable[Prediction], task: TaskFacts, run: RunFacts, circumstances: Circumstances
) -> tuple[Results, Measurements]:
    """Aggregate one row per arm and item into `(results, measurements)`, whatever the order of the rows.

    Each arm is compared with the baseline, or every pair of arms is; of arms with the same program, one is. Holm's
    correction is applied to the headline's score and to the task's own scores (those of whole answers, and its
    objective) separately; within each, comparisons with the baseline are one family and all others another.

    Args:
        predictions: rows of the arms, their variants and the reference rows.
        task: the task's declaration.
        run: facts from the run's stages.
        circumstances: models, versions and machine of the run.

    Raises:
        ValueError: two rows for the same arm and item.
    """
    seed, baseline = circumstances.seed, run.baseline
    judge, agreement = task.judge, None
    every = _by_arm(predictions)
    if not task.measured:
        least = (task.judge or {}).get("threshold", RIGHT)
        judge = {**(task.judge or {}), "threshold": least}
        agreement = agreement_of(judge)
        every = {name: verdicts(answers, least) for name, answers in every.items()}
    named = [reference.name for reference in run.references]
    not_arms = {*run.variants, *named}
    rows = {name: answers for name, answers in every.items() if name not in not_arms}
    scores = _Scores.of(task, rows)
    declared = {arm.name for arm in run.arms}
    arms = [*run.arms, *(ArmFacts(name) for name in rows if name not in declared)]
    scored = [arm.name for arm in arms if rows.get(arm.name)]
    headline = {name: [r for r in rows[name] if not is_yes_no(r)] for name in scored}
    yes_no = {name: [r for r in rows[name] if is_yes_no(r)] for name in scored}
    same = _same([arm for arm in arms if arm.name in scored], baseline)
    distinct = {name: answered for name, answered in headline.items() if name not in same}
    own = _own_scores(scores, headline, task.objective)
    first = (HEADLINE, *scores.answer[:1])
    references = _references(run.references, every, scores, agreement, seed)
    compared_trivial, compared_prompts = compare_references(references, every, distinct, baseline, agreement, seed)
    compare = partial(comparisons, distinct, baseline, run.every_pair, scores.labels, agreement, seed)
    results: Results = {
        "task": task.name,
        "noun": task.noun,
        "scores": list(scores.measured),
        "baseline": baseline,
        "labels": task.labels,
        "seed": seed,
        "models": dict(circumstances.models),
        "versions": dict(circumstances.versions),
        "splits": {
            name: {"groups": each.groups, "items": each.items, "available": each.available, "origin": each.origin}
            for name, each in run.rows.splits.items()
        },
        "synthesis": run.rows.synthesis,
        "contamination": None if run.rows.contamination is None else dict(run.rows.contamination),
        "held_out": run.rows.held_out,
        "judge": judge,
        "skipped": [
            {"path": str(skip.path), "why": f"{skip.why}, but was kept" if skip.kept else skip.why}
            for skip in run.rows.skipped
        ],
        "items": _items(rows),
        "method": _method(headline, run.every_pair),
        "arms": [
            _arm(
                arm,
                rows.get(arm.name, []),
                headline.get(arm.name, []),
                yes_no.get(arm.name, []),
                scores,
                agreement,
                seed,
                same.get(arm.name),
            )
            for arm in arms
        ],
        "alike": _alike(distinct),
        "comparisons": compare((HEADLINE,)),
        "comparisons_own": compare(own) if own else [],
        "reference_rows": references,
        "comparisons_trivial": compared_trivial,
        "comparisons_prompts": compared_prompts,
        "variants": tuning.variants(run.variants, every, first, seed),
        "tokens_saved": tuning.tokens_saved(arms, rows),
        "retention": tuning.retention({k: v for k, v in run.retained.items() if k not in same}, seed),
        "majority_yes_no": _majority(yes_no),
        "breakdown": {
            "answer": _breakdown(headline, lambda r: "answerable" if r["references"] else "must abstain", first, seed),
            "category": _breakdown(headline, lambda r: str(r.get("category") or "(none)"), first, seed),
            "answer_type": _breakdown(headline, lambda r: str(r.get("answer_type") or "(none)"), first, seed),
        },
        "verdict": verdict.NOTHING_SCORED,
        "notes": [],
    }
    if scores.support in scores.measured:
        results["support"] = scores.support
    if shown_judges := {name: judge for name, judge in task.passage_judges.items() if name in scores.measured}:
        results["passage_judges"] = shown_judges
    if run.folds:
        results["folds"] = [
            {"groups": list(fold.groups), "train": fold.train, "dev": fold.dev, "test": fold.test} for fold in run.folds
        ]
    if run.labelled is not None:
        results["labelled"] = run.labelled
    if run.rows.unread:
        results["unread"] = run.rows.unread
    if task.measured:
        results["score"] = task.measured
    if scores.labels:
        results["score_labels"] = dict(scores.labels)
    if task.classes and results["items"]["unanswerable"] < results["items"]["n"]:  # else the items have no labels
        shown = {name: [r for r in every[name] if not is_yes_no(r)] for name in (*scored, *named) if name in every}
        results["classification"] = classification(task.classes, shown, seed)
    results["verdict"] = verdict.verdict(results)
    results["notes"] = notes.notes(results, run.notes)
    return plain(results), plain(measurements(run, circumstances, arms, rows))


@dataclass(frozen=True, slots=True)
class _Scores:
    """Names of the task's scores.

    Attributes:
        measured: scores that at least one answer has, in the order of the task's metrics.
        answer: scores of whole answers.
        retrieval: scores of the passages.
        part: the other measured scores.
        support: the score of support by passages; None without one.
        labels: display names, where they do not follow from the score's name.
    """

    measured: tuple[str, ...]
    answer: tuple[str, ...]
    retrieval: tuple[str, ...]
    part: tuple[str, ...]
    support: str | None
    labels: Labels

    @classmethod
    def of(cls, task: TaskFacts, rows: Rows) -> _Scores:
        answer, retrieval, abstention = (
            tuple(score.name for score in task.scores if score.about == about)
            for about in ("answer", "retrieval", "abstention")
        )
        measured = tuple(name for name in _measured(rows) if name not in (HEADLINE, *abstention))
        part = tuple(name for name in measured if name not in (*answer, *retrieval))
        support = next((score.name for score in task.scores if score.about == "support"), None)
        labels = {score.name: score.label for score in task.scores if score.label != label_of(score.name)}
        return cls(measured, answer, retrieval, part, support, labels)


def _by_arm(predictions: Iterable[Prediction]) -> dict[str, list[Prediction]]:
    by_arm: dict[str, dict[str, Prediction]] = {}
    for row in predictions:
        arm = by_arm.setdefault(str(row["arm"]), {})
        if str(row["id"]) in arm:
            raise ValueError(f"two predictions of arm {row['arm']!r} for item {row['id']!r}")
        arm[str(row["id"])] = row
    return {name: [arm[i] for i in sorted(arm)] for name, arm in sorted(by_arm.items())}


def _items(rows: Rows) -> ItemsRecord:
    items = {str(r["id"]): r for arm in rows.values() for r in arm}.values()
    return {
        "n": len(items),
        "headline": sum(not is_yes_no(r) for r in items),
        "yes_no": sum(is_yes_no(r) for r in items),
        "unanswerable": sum(not r["references"] for r in items),
        "groups": len({r.get("group") for r in items}),
    }


def _method(headline: Rows, every_pair: bool) -> MethodRecord:
    answers = [r for rows in headline.values() for r in rows]
    groups = [r.get("group") for r in answers]
    unit = stats.resampling_unit(groups, is_cross_fitted(answers))
    units = len(set(groups)) if unit == "groups" else stats.MIN_GROUPS
    return {
        "unit": unit,
        "groups": len(set(groups)),
        "interval": stats.method(min(map(len, headline.values()), default=stats.FEW), units),
        "test": stats.comparison_method(units),
        "correction": "Holm",
        "pairs": "all" if every_pair else "baseline",
        "resamples": stats.RESAMPLES if units >= stats.MIN_GROUPS else 0,
    }


def _arm(
    arm: ArmFacts,
    rows: Sequence[Prediction],
    headline: Sequence[Prediction],
    yes_no: Sequence[Prediction],
    scores: _Scores,
    agreement: Agreement | None,
    seed: int,
    same_as: str | None,
) -> ArmRecord:
    whole = (HEADLINE, *scores.answer)
    record: ArmRecord = {
        "name": arm.name,
        "optimizer": arm.optimizer,
        "description": arm.description,
        "demos": arm.demos,
        "failed": arm.failed,
        "training": tuning.training(arm.training),
        "n": len(rows),
        "errors": sum(bool(r.get("error")) for r in rows),
        "scores": {name: estimate(headline, name, seed, whole=True) for name in whole},
        "yes_no": {name: estimate(yes_no, name, seed, whole=True) for name in whole},
        "retrieval": {name: estimate(rows, name, seed) for name in scores.retrieval},
        "further": {name: estimate(rows, name, seed) for name in scores.part},
        "abstention": _abstention(rows, seed),
        "outcomes": outcomes(headline, scores.support),
        "tokens": {"prompt": mean(rows, "prompt_tokens"), "completion": mean(rows, "completion_tokens")},
    }
    if arm.model is not None:
        record["model"] = arm.model
    if arm.discarded is not None and (discarded := tuning.training(arm.discarded.training)) is not None:
        record["discarded"] = {"training": discarded, "why": arm.discarded.why}
    if same_as is not None:
        record["same_as"] = same_as
    if agreement is not None:
        record["corrected"] = corrected_share(headline, agreement, seed)
    return record


def _abstention(rows: Sequence[Prediction], seed: int) -> AbstentionRecord:
    """Precision (how many abstentions were right), recall (how many required ones were made) and F1 of abstaining."""
    must = [r for r in rows if not r["references"]]
    did = [r for r in rows if r.get("abstained")]
    right = sum(bool(r.get("abstained")) for r in must)
    correct = sum(bool(r.get("abstained")) == (not r["references"]) for r in rows)
    pairs = [(bool(r.get("abstained")), not r["references"]) for r in rows]
    f1 = stats.ratio(
        [2.0 * (d and m) for d, m in pairs],
        [float(d + m) for d, m in pairs],
        [r.get("group") for r in rows],
        seed=seed,
        few_groups=is_cross_fitted(rows),
    )
    return {
        "f1": {"mean": f1.mean, "low": f1.low, "high": f1.high, "n": f1.n},
        "must": len(must),
        "did": len(did),
        "right": right,
        "precision": right / len(did) if did else None,
        "recall": right / len(must) if must else None,
        "accuracy": correct / len(rows) if rows else None,
    }


def _same(arms: Sequence[ArmFacts], baseline: str) -> dict[str, str]:
    """For each arm with another's program, that arm: the baseline if it is among them, else the trained one."""
    programs: dict[str, list[str]] = {}
    for arm in arms:
        programs.setdefault(arm.same_as or arm.name, []).append(arm.name)
    same: dict[str, str] = {}
    for trained, names in programs.items():
        first = next((name for name in (baseline, trained) if name in names), names[0])
        same |= {name: first for name in names if name != first}
    return same


def _alike(rows: Rows) -> list[list[str]]:
    """Groups of arms that gave the same answers to the same items, in the arms' order; failed calls match nothing."""
    by_answers: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, answers in rows.items():
        if answers and not any(r.get("error") for r in answers):
            by_answers.setdefault(tuple((str(r["id"]), str(r.get("prediction"))) for r in answers), []).append(name)
    return [names for names in by_answers.values() if len(names) > 1]


def _measured(rows: Rows) -> list[str]:
    """Names of the scores that at least one answer has, in the order of the task's metrics."""
    has_value: dict[str, bool] = {}
    for row in (row for arm in rows.values() for row in arm):
        for name, value in (row.get("scores") or {}).items():
            has_value[name] = has_value.get(name, False) or value is not None
    return [name for name, measured in has_value.items() if measured]


def _own_scores(scores: _Scores, headline: Rows, objective: str) -> list[str]:
    """The task's own scores that are tested besides the headline's: its objective, and those of whole answers."""
    measured = {*_measured(headline)} & {*scores.measured}
    return [name for name in dict.fromkeys((objective, *scores.answer)) if name in measured]


def _references(
    declared: Sequence[ReferenceFacts], every: Rows, scores: _Scores, agreement: Agreement | None, seed: int
) -> list[ReferenceRecord]:
    """The reference rows, with their scores."""
    records: list[ReferenceRecord] = []
    for reference in declared:
        rows = every.get(reference.name, [])
        headline = [r for r in rows if not is_yes_no(r)]
        records.append(
            {
                "name": reference.name,
                "kind": reference.kind,
                "answer": reference.answer,
                "skipped": reference.skipped,
                "n": len(rows),
                "errors": sum(bool(r.get("error")) for r in rows),
                "outcomes": outcomes(headline, scores.support),
                "scores": {name: estimate(headline, name, seed, whole=True) for name in (HEADLINE, *scores.answer)},
                "further": {name: estimate(rows, name, seed) for name in scores.part},
            }
        )
        if agreement is not None:
            records[-1]["corrected"] = corrected_share(headline, agreement, seed)
    return records


def _majority(yes_no: Rows) -> float | None:
    """Share of yes/no items that the more frequent answer gets right."""
    items = {r["id"]: r for rows in yes_no.values() for r in rows}.values()
    answers = Counter("yes" if str(r["references"][0]).strip().lower().startswith("y") else "no"
                      for r in items if r["references"])  # fmt: skip
    return max(answers.values()) / len(items) if answers else None


def _breakdown(
    headline: Rows, key: Callable[[Prediction], str], names: Sequence[str], seed: int
) -> list[BreakdownRecord]:
    """Some scores of each arm for each value of `key`, largest first."""
    size: dict[str, set[str]] = {}
    for rows in headline.values():
        for row in rows:
            size.setdefault(key(row), set()).add(str(row["id"]))
    table: list[BreakdownRecord] = []
    for value in sorted(size, key=lambda v: (-len(size[v]), v)):
        cells = {}
        for name, rows in headline.items():
            part = [r for r in rows if key(r) == value]
            resamples = stats.RESAMPLES if len(part) == len(rows) else _BREAKDOWN_RESAMPLES
            cells[name] = {s: estimate(part, s, seed, whole=True, resamples=resamples) for s in names}
        table.append({"value": value, "n": len(size[value]), "arms": cells})
    return table
