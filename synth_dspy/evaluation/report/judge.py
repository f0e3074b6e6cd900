"""What a judge's scores allow a report to say: verdicts by its threshold, and shares corrected for its mistakes.

The judge's agreement with people stands in `results["judge"]` only where it was measured in the task's own domain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.agreement import Agreement
from synth_dspy.evaluation.corrected import rogan_gladen, rogan_gladen_difference
from synth_dspy.evaluation.records import (
    ComparisonRecord,
    EstimateRecord,
    JudgeRecord,
    Prediction,
    Results,
    ScoredRecord,
)
from synth_dspy.evaluation.report.figures import HEADLINE, is_cross_fitted, score

NOT_MEASURED = "not measured here"
_LEAST_BASE = 0.01
"""An improvement over a smaller share than this is not given relative to it."""


def threshold(results: Results) -> float | None:
    """The least score with which the judge calls an answer right; None where scores count as they are.

    That is where they are measured and no judge's, and in runs of earlier versions, whose figures are means of scores.
    """
    return (results["judge"] or {}).get("threshold")


def verdicts(rows: Sequence[Prediction], least: float) -> list[Prediction]:
    """The rows with the judge's verdict, 1.0 (right) or 0.0, in place of its score."""
    found: list[Prediction] = []
    for row in rows:
        value = score(row, HEADLINE)
        judged = row["scores"] if value is None else {**row["scores"], HEADLINE: float(value >= least)}
        found.append({**row, "scores": judged})
    return found


def agreement_of(judge: JudgeRecord | None) -> Agreement | None:
    """The judge's agreement with people, as far as verdicts can be corrected by it.

    None where its sensitivity and specificity were not measured, or say that it is no better than chance.
    """
    values = {"domain": "", "graded": "", "kappa": 0.0, **(judge or {})}
    known = {each.name: values.get(each.name) for each in fields(Agreement)}
    numbers = [known[name] for name in ("n_right", "n_wrong", "sensitivity", "specificity")]
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        return None
    measured = Agreement(**known)  # type: ignore[arg-type]
    return measured if measured.sensitivity + measured.specificity > 1 else None


def corrected_share(rows: Sequence[Prediction], agreement: Agreement, seed: int) -> EstimateRecord:
    """The share of right answers, corrected for the judge's mistakes; of rows with verdicts."""
    there = [row for row in rows if score(row, HEADLINE, whole=True) is not None]
    found = rogan_gladen(
        _values(there), agreement, _groups(there), settled=_settled(there), seed=seed, few_groups=is_cross_fitted(there)
    )
    return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}


def corrected_comparison(
    record: ComparisonRecord,
    rows: Sequence[Prediction],
    others: Sequence[Prediction],
    agreement: Agreement,
    tests: int,
    seed: int,
) -> ComparisonRecord:
    """The comparison of two arms with a difference and a test of corrected verdicts; as judged, they are its `raw`.

    The test is the same one, of each answer's part in the corrected share. Where the judge decided all answers that is
    the test of the verdicts. Where one arm abstains and the other answers it is not: of their verdicts it would find
    that the other is better, if only because some wrong answers are called right and a wrong abstention never is.

    Args:
        record: of the verdicts.
        rows: one arm's, with verdicts.
        others: the other arm's, of the same items in the same order.
        agreement: the judge's with people.
        tests: as for `stats.compare`.
        seed: of the resampling.
    """
    groups, few_groups = _groups(rows), is_cross_fitted(rows)
    tested = stats.compare(
        _parts(rows, agreement), _parts(others, agreement), groups, tests=tests, seed=seed, few_groups=few_groups
    )
    found = rogan_gladen_difference(
        _values(rows),
        _values(others),
        agreement,
        groups,
        settled=_settled(rows),
        others_settled=_settled(others),
        seed=seed,
        few_groups=few_groups,
    )
    least = sum(_parts(others, agreement)) / len(others)
    return {
        **record,
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "p": tested.p,
        "relative_percent": tested.relative_percent if least >= _LEAST_BASE else None,
        "smallest_detectable": tested.smallest_detectable,
        "raw": {"difference": record["difference"], "low": record["low"], "high": record["high"], "p": record["p"]},
    }


def best_estimate(arm: ScoredRecord) -> EstimateRecord:
    """An arm's share of right answers, corrected where it can be, else as the judge has it."""
    return arm.get("corrected") or arm["scores"][HEADLINE]


def agreement_words(judge: JudgeRecord | None) -> str:
    """How far the judge agrees with people, in a few words."""
    judge = judge or {}
    kappa = judge.get("kappa")
    if kappa is None:
        return f"agreement with people {NOT_MEASURED}"
    about = judge.get("domain") or judge.get("source")
    return f"kappa {kappa:.2f}" + (f" on {about}" if about else "")


def agreement_sentence(judge: JudgeRecord | None) -> str:
    """How far the judge agrees with people, and on what that was measured."""
    judge = judge or {}
    name, kappa = f"the judge {judge.get('name') or ''}".strip(), judge.get("kappa")
    if kappa is None:
        domain = f" about {judge['domain']}" if judge.get("domain") else ""
        return f"How well {name} agrees with people was {NOT_MEASURED}, on answers to questions{domain} such as these."
    graded = judge.get("graded") or judge.get("source")
    labels = f"{judge['n']:,} answers that people graded" if judge.get("n") else "answers that people graded"
    parts = [f"Cohen's kappa {kappa:.2f}{_between(judge.get('kappa_interval'), 2)}"]
    sensitivity, specificity = judge.get("sensitivity"), judge.get("specificity")
    if sensitivity is not None and specificity is not None:
        parts += [
            f"it calls {100 * sensitivity:.1f} % of {judge.get('n_right', 0):,} right answers right",
            f"{100 * specificity:.1f} % of {judge.get('n_wrong', 0):,} wrong ones wrong",
        ]
    if (auroc := judge.get("auroc")) is not None:
        parts.append(f"AUROC {auroc:.3f}{_between(judge.get('auroc_interval'), 3)}")
    if (accuracy := judge.get("accuracy")) is not None:
        parts.append(f"accuracy {100 * accuracy:.1f} %")
    source = f" ({graded})" if graded else ""
    return f"T{name[1:]} was measured on {labels}{source}: {', '.join(parts)}."


def agreement_record(measured: Mapping[str, object] | None) -> JudgeRecord:
    """What is kept of a judge's `agreement`: its figures and what follows from them."""
    record: JudgeRecord = {**(measured or {})}  # type: ignore[typeddict-item]
    agreement = agreement_of(record)
    if agreement is not None and (n := agreement.n_right + agreement.n_wrong):
        same = agreement.sensitivity * agreement.n_right + agreement.specificity * agreement.n_wrong
        record = {"n": n, "accuracy": same / n, **record}
    return record


def _between(ends: Sequence[float] | None, digits: int) -> str:
    return f" (95 % interval {ends[0]:.{digits}f} to {ends[1]:.{digits}f})" if ends else ""


def _values(rows: Sequence[Prediction]) -> list[float]:
    return [score(row, HEADLINE, whole=True) or 0.0 for row in rows]


def _groups(rows: Sequence[Prediction]) -> list[str]:
    return [row["group"] for row in rows]


def _parts(rows: Sequence[Prediction], agreement: Agreement) -> list[float]:
    """Each answer's part in the corrected share, which is their mean; beyond [0, 1] where the judge decided."""
    beyond_chance = agreement.sensitivity + agreement.specificity - 1
    return [
        value if settled else (value + agreement.specificity - 1) / beyond_chance
        for value, settled in zip(_values(rows), _settled(rows), strict=True)
    ]


def _settled(rows: Sequence[Prediction]) -> list[bool]:
    """Whether no judgement is needed: a call failed, nothing was answered, or to abstain was right."""
    return [
        bool(row.get("error") or row.get("abstained") or not row["references"] or not row["prediction"].strip())
        for row in rows
    ]
