"""Paired comparisons of arms, corrected for how many there are."""

from __future__ import annotations

from collections.abc import Sequence

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.agreement import Agreement
from synth_dspy.evaluation.records import ComparisonRecord, ReferenceRecord
from synth_dspy.evaluation.report import verdict
from synth_dspy.evaluation.report.figures import (
    HEADLINE,
    PROMPTS,
    TRIVIAL,
    Labels,
    Rows,
    is_cross_fitted,
    is_yes_no,
    score,
)
from synth_dspy.evaluation.report.judge import corrected_comparison
from synth_dspy.evaluation.scores import label_of


def comparisons(
    headline: Rows,
    baseline: str,
    every_pair: bool,
    labels: Labels,
    agreement: Agreement | None,
    seed: int,
    names: Sequence[str],
) -> list[ComparisonRecord]:
    """Paired comparisons of some scores, corrected in two families: those with the baseline, and all others.

    So the report's main question, whether an arm beats the baseline, does not pay for the other pairs.
    """
    arms = list(headline)
    if every_pair:  # the baseline is always the second of its pairs
        order = [baseline] * (baseline in arms) + [arm for arm in arms if arm != baseline]
        pairs = [(arm, other) for i, other in enumerate(order) for arm in order[i + 1 :]]
    else:
        pairs = [(arm, baseline) for arm in arms if arm != baseline and baseline in arms]
    compared = []
    for against in (True, False):
        family = [(name, *pair) for name in names for pair in pairs if (pair[1] == baseline) is against]
        compared += _family(family, headline, labels, agreement, seed)
    return compared


def _family(
    family: Sequence[tuple[str, str, str]], rows: Rows, labels: Labels, agreement: Agreement | None, seed: int
) -> list[ComparisonRecord]:
    """Comparisons, each of a score, an arm and another arm, that are corrected together."""
    compared = [_compare(arm, other, rows, name, len(family), agreement, seed) for name, arm, other in family]
    for row, adjusted in zip(compared, stats.holm([row["p"] for row in compared]), strict=True):
        row["p_holm"] = adjusted
        row["outcome"] = verdict.outcome(row)
        label = "" if row["score"] == HEADLINE else f"In {label_of(row['score'], labels)}: "
        row["sentence"] = label + verdict.sentence(row)
    return compared


def compare_references(
    references: Sequence[ReferenceRecord],
    every: Rows,
    headline: Rows,
    baseline: str,
    agreement: Agreement | None,
    seed: int,
) -> tuple[list[ComparisonRecord], list[ComparisonRecord]]:
    """Comparisons with the reference rows, corrected separately from those of the arms.

    Each arm is compared with the better trivial answer (one family), and the baseline under DSPy's adapter with itself;
    where it scores higher there, also each other arm with that (one family), on the items that both answered.
    """
    rows = {
        **headline,
        **{row["name"]: [r for r in every.get(row["name"], []) if not is_yes_no(r)] for row in references},
    }
    trivial = {
        row["name"]: score
        for row in references
        if row["kind"] in TRIVIAL and (score := row["scores"][HEADLINE]["mean"]) is not None
    }
    best = [max(trivial, key=lambda name: trivial[name])] if trivial else []
    prompts = [row["name"] for row in references if row["kind"] == PROMPTS and row["n"] and baseline in headline]
    formats = _family([(HEADLINE, name, baseline) for name in prompts], rows, {}, agreement, seed)
    higher = [c["arm"] for c in formats if (c["difference"] or 0.0) > 0]
    others = [(HEADLINE, arm, name) for name in higher for arm in headline if arm != baseline]
    return (
        _family([(HEADLINE, arm, name) for arm in headline for name in best], rows, {}, agreement, seed),
        formats + _family(others, rows, {}, agreement, seed),
    )


def _compare(
    arm: str, other: str, headline: Rows, name: str, tests: int, agreement: Agreement | None, seed: int
) -> ComparisonRecord:
    theirs = {r["id"]: r for r in headline[other]}
    common = [(r, theirs[r["id"]]) for r in headline[arm] if r["id"] in theirs]
    groups = [a.get("group") for a, _ in common]
    comparison = stats.compare(
        [score(a, name) or 0.0 for a, _ in common],
        [score(b, name) or 0.0 for _, b in common],
        groups,
        tests=tests,
        seed=seed,
        few_groups=is_cross_fitted(a for a, _ in common),
    )
    record: ComparisonRecord = {
        "score": name,
        "arm": arm,
        "against": other,
        "n": comparison.difference.n,
        "units": comparison.difference.units,
        "unit": comparison.difference.unit,
        "difference": comparison.difference.mean,
        "low": comparison.difference.low,
        "high": comparison.difference.high,
        "p": comparison.p,
        "relative_percent": comparison.relative_percent,
        "smallest_detectable": comparison.smallest_detectable,
        "p_holm": None,
        "outcome": verdict.NOT_COMPARED,
        "sentence": "",
    }
    if name == HEADLINE and agreement is not None and common:
        ours, others = ([pair[side] for pair in common] for side in (0, 1))
        return corrected_comparison(record, ours, others, agreement, tests, seed)
    return record
