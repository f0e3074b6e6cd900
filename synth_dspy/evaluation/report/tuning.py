"""The report on tuned weights, besides the scores.

How each arm was trained; the same model with demonstrations in its prompt; the tokens that a shorter prompt saves; and
retention: what the model lost outside the task.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from synth_dspy.core.training_facts import TrainingFacts
from synth_dspy.evaluation import stats
from synth_dspy.evaluation.facts import ArmFacts
from synth_dspy.evaluation.records import (
    ChangeRecord,
    FollowedChange,
    PerplexityChange,
    Prediction,
    RetentionRecord,
    SavedTokens,
    SavedTokensRecord,
    TrainingMeasured,
    TrainingRecord,
    VariantRecord,
    VariantSide,
)
from synth_dspy.evaluation.report.figures import HEADLINE, estimate, is_yes_no, mean, score
from synth_dspy.evaluation.retention.measure import Followed, Perplexity, Retained

_PART = 64
"""Tokens in a resampled block of the general text: losses of neighbouring tokens are correlated."""


def training(facts: TrainingFacts | None) -> TrainingRecord | None:
    """How weights were tuned, without what differs between two equal trainings; None for a prompt arm.

    `rows` is the number of rows trained on: as many of the `available` ones as the time allowed. A recipe counts its
    rows (`by_origin`, `rows`) before rows that are too long are left out; a training without a recipe has no
    `by_origin`, and its `rows` exclude them.
    """
    if facts is None:
        return None
    rows, left_out = facts.rows, facts.left_out or 0
    given = rows - left_out if rows is not None and facts.by_origin is not None else rows
    record: TrainingRecord = {
        "method": facts.method,
        "learning_rate": facts.learning_rate,
        "rank": facts.rank,
        "by_origin": None if facts.by_origin is None else dict(facts.by_origin),
        "dev_loss": facts.dev_loss,
        "tokens": facts.tokens,
        "epochs": facts.epochs,
        "steps": facts.steps,
        "stopped": facts.stopped,
        "rows": given if facts.trained_rows is None else facts.trained_rows,
        "available": given,
        "dropped": {**(facts.dropped or {}), **({"too long": left_out} if left_out else {})},
        "adapters": [PurePath(adapter).name for adapter in facts.adapters or ()],
        "loss": None if facts.loss is None else dict(facts.loss),
        "parity": None if facts.parity is None else dict(facts.parity),
    }
    if facts.reward is not None:
        record["reward"] = facts.reward
    return record


def measured(arm: ArmFacts) -> TrainingMeasured | None:
    """Time, speed and memory of an arm's own training, also a discarded one; None for a prompt arm."""
    facts = arm.discarded.training if arm.discarded else arm.training
    if facts is None:
        return None
    return {
        "seconds": facts.seconds,
        "minutes": facts.minutes,
        "all_rows_s": facts.all_rows_s,
        "tokens_per_second": facts.tokens_per_second,
        "peak_rss_mb": facts.peak_rss_mb,
        "peak_gpu_mb": facts.peak_gpu_mb,
        "device": facts.device,
    }


def variants(
    of: Mapping[str, str], rows: Mapping[str, Sequence[Prediction]], names: Sequence[str], seed: int
) -> list[VariantRecord]:
    """Arms with and without demonstrations, on the items that both answered; not tested.

    Args:
        of: the arm of each variant, by the variant's name.
        rows: predictions of arms and variants, by name.
        names: the scores' names.
        seed: for the intervals.
    """
    records: list[VariantRecord] = []
    for name, arm in of.items():
        ours = {r["id"]: r for r in rows.get(name, [])}
        theirs = {r["id"]: r for r in rows.get(arm, [])}
        common = sorted(ours.keys() & theirs.keys())
        if common:
            without, shown = ([each[i] for i in common] for each in (theirs, ours))
            records.append(
                {"name": name, "of": arm, "without": _side(without, names, seed), "with": _side(shown, names, seed)}
            )
    return records


def _side(rows: Sequence[Prediction], names: Sequence[str], seed: int) -> VariantSide:
    headline = [r for r in rows if not is_yes_no(r)]
    return {
        **{name: estimate(headline, name, seed, whole=True) for name in names},
        "prompt_tokens": mean(rows, "prompt_tokens"),
    }


def tokens_saved(arms: Sequence[ArmFacts], rows: Mapping[str, Sequence[Prediction]]) -> SavedTokensRecord | None:
    """Mean prompt tokens of each tuned arm against the best arm with demonstrations, on the items that both answered.

    None without an arm of either kind.
    """
    shown = [arm.name for arm in arms if arm.demos and not arm.training and rows.get(arm.name)]
    trained = [arm.name for arm in arms if arm.training and rows.get(arm.name)]
    if not shown or not trained:
        return None
    best = max(shown, key=lambda name: _mean_score(rows[name]))
    records: list[SavedTokens] = []
    for name in trained:
        theirs = {r["id"]: r for r in rows[best] if r.get("prompt_tokens") is not None}
        ours = [r for r in rows[name] if r["id"] in theirs and r.get("prompt_tokens") is not None]
        before, after = mean([theirs[r["id"]] for r in ours], "prompt_tokens"), mean(ours, "prompt_tokens")
        if before and after is not None:
            records.append(
                {
                    "arm": name,
                    "n": len(ours),
                    "before": before,
                    "after": after,
                    "saved": before - after,
                    "percent": 100 * (before - after) / before,
                }
            )
    return {"against": best, "arms": records} if records else None


def _mean_score(rows: Sequence[Prediction]) -> float:
    scores = [score(r, HEADLINE) or 0.0 for r in rows if not is_yes_no(r)]
    return math.fsum(scores) / len(scores) if scores else 0.0


def retention(retained: Mapping[str, Retained], seed: int) -> list[RetentionRecord]:
    """Followed instructions and perplexity before (`student`) and after, with paired differences and tests.

    Holm's correction covers both measures of all tuned models. Empty where nothing was measured.

    Args:
        retained: measurements of `student` and each tuned arm.
        seed: for the resampling.
    """
    before = retained.get("student")
    if before is None:
        return []
    records = [_levels("student", before)]
    tests: list[FollowedChange | PerplexityChange] = []
    for name, after in retained.items():
        if name == "student":
            continue
        change: ChangeRecord = {
            "ifeval": _followed_change(before.ifeval, after.ifeval, seed),
            "perplexity": _perplexity_change(before.perplexity, after.perplexity, seed),
        }
        tests += [test for test in (change["ifeval"], change["perplexity"]) if test is not None]
        records.append({**_levels(name, after), "change": change})
    for test, adjusted in zip(tests, stats.holm([test["p"] for test in tests]), strict=True):
        test["p_holm"] = adjusted
    return records


def _levels(name: str, retained: Retained) -> RetentionRecord:
    followed, perplexity = retained.ifeval, retained.perplexity
    return {
        "model": name,
        "ifeval": None
        if followed is None
        else {
            "n": followed.n,
            "prompt_strict": followed.prompt_strict,
            "low": followed.low,
            "high": followed.high,
            "instruction_strict": followed.instruction_strict,
            "errors": followed.errors,
        },
        "perplexity": None if perplexity is None else {"value": perplexity.value, "tokens": perplexity.tokens},
    }


def _followed_change(before: Followed | None, after: Followed | None, seed: int) -> FollowedChange | None:
    """The difference in the share of prompts followed, prompt by prompt."""
    if before is None or after is None:
        return None
    ours, theirs = after.followed, before.followed
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return None
    comparison = stats.compare(
        [float(all(ours[k])) for k in common], [float(all(theirs[k])) for k in common], seed=seed
    )
    change = comparison.difference
    return {"difference": change.mean, "low": change.low, "high": change.high, "p": comparison.p, "n": change.n}


def _perplexity_change(before: Perplexity | None, after: Perplexity | None, seed: int) -> PerplexityChange | None:
    """The relative change of perplexity in per cent: from the difference in loss, token by token."""
    if before is None or after is None or not after.losses or len(after.losses) != len(before.losses):
        return None
    more = [a - b for a, b in zip(after.losses, before.losses, strict=True)]
    parts = [i // _PART for i in range(len(more))]
    most = max(map(abs, more)) or 1.0
    change = stats.estimate(more, parts, bounds=(-most, most), seed=seed)
    return {
        "percent": _percent(change.mean),
        "low": _percent(change.low),
        "high": _percent(change.high),
        "p": stats.sign_flip_p(more, parts, seed=seed),
        "n": len(more),
    }


def _percent(more: float | None) -> float | None:
    return None if more is None else 100 * math.expm1(more)
