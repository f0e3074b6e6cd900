"""What the report says of arms whose weights were tuned, besides their scores.

How each was trained; the same model with demonstrations in its prompt; the tokens that a shorter prompt saves; and
retention: what tuning cost elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from synth_dspy.core.io.reading import Json
from synth_dspy.evaluation import stats
from synth_dspy.evaluation.report.figures import HEADLINE, Row, estimate, is_yes_no, mean, score

_RESULTS = ("method", "learning_rate", "rank", "by_origin", "dev_loss", "tokens", "epochs", "steps", "stopped")
_MEASURED = ("seconds", "minutes", "all_rows_s", "tokens_per_second", "peak_rss_mb", "peak_gpu_mb", "device")
_PART = 64
"""Tokens of one resampled part of the general text: losses of neighbouring tokens are correlated."""


def training(arm: Mapping[str, Any]) -> Json | None:
    """How an arm's weights were tuned, without what differs between two equal trainings; None for a prompt arm.

    `rows` are those that it was trained on: of the `available` ones as many as its time was enough for. A recipe counts
    its rows by origin (`by_origin`, `rows`) before those that are too long are left out; a training that no recipe
    counted has no `by_origin`, and `rows` without those.
    """
    facts = arm.get("training")
    if not facts:
        return None
    found: Json = {key: facts.get(key) for key in _RESULTS}
    rows, left_out = facts.get("rows"), facts.get("left_out") or 0
    given = rows - left_out if rows is not None and facts.get("by_origin") is not None else rows
    trained = facts.get("trained_rows")
    found["rows"], found["available"] = (given if trained is None else trained), given
    found["dropped"] = {**(facts.get("dropped") or {}), **({"too long": left_out} if left_out else {})}
    found["adapters"] = [PurePath(adapter).name for adapter in facts.get("adapters") or ()]
    found["loss"] = _only(facts.get("loss"), "first", "last")
    found["parity"] = _only(facts.get("parity"), "n", "held_out", "tokens", "agreed", "share", "difference")
    return found


def _only(found: Mapping[str, Any] | None, *keys: str) -> Json | None:
    return None if found is None else {key: found.get(key) for key in keys}


def measured(arm: Mapping[str, Any]) -> Json | None:
    """Time, speed and memory of an arm's training; None for a prompt arm."""
    facts = arm.get("training")
    return {key: facts.get(key) for key in _MEASURED} if facts else None


def variants(of: Mapping[str, str], rows: Mapping[str, Sequence[Row]], seed: int) -> list[Json]:
    """Arms with and without demonstrations, on the items that both answered; looked at, not tested.

    Args:
        of: a variant's name to that of its arm.
        rows: the predictions of arms and variants, by name.
        seed: of the intervals.
    """
    found = []
    for name, arm in of.items():
        ours = {r["id"]: r for r in rows.get(name, [])}
        theirs = {r["id"]: r for r in rows.get(arm, [])}
        common = sorted(ours.keys() & theirs.keys())
        if common:
            sides = {"without": [theirs[i] for i in common], "with": [ours[i] for i in common]}
            found.append({"name": name, "of": arm} | {side: _side(each, seed) for side, each in sides.items()})
    return found


def _side(rows: Sequence[Row], seed: int) -> Json:
    headline = [r for r in rows if not is_yes_no(r)]
    return {
        **{name: estimate(headline, name, seed) for name in (HEADLINE, "f1")},
        "prompt_tokens": mean(rows, "prompt_tokens"),
    }


def tokens_saved(arms: Sequence[Json], rows: Mapping[str, Sequence[Row]]) -> Json | None:
    """Mean prompt tokens of each tuned arm against the best arm with demonstrations, on the items that both answered.

    None without an arm of either kind.
    """
    shown = [arm["name"] for arm in arms if arm.get("demos") and not arm.get("training") and rows.get(arm["name"])]
    tuned = [arm["name"] for arm in arms if arm.get("training") and rows.get(arm["name"])]
    if not shown or not tuned:
        return None
    best = max(shown, key=lambda name: _mean_score(rows[name]))
    found = []
    for name in tuned:
        theirs = {r["id"]: r for r in rows[best] if r.get("prompt_tokens") is not None}
        ours = [r for r in rows[name] if r["id"] in theirs and r.get("prompt_tokens") is not None]
        before, after = mean([theirs[r["id"]] for r in ours], "prompt_tokens"), mean(ours, "prompt_tokens")
        if before and after is not None:
            found.append(
                {
                    "arm": name,
                    "n": len(ours),
                    "before": before,
                    "after": after,
                    "saved": before - after,
                    "percent": 100 * (before - after) / before,
                }
            )
    return {"against": best, "arms": found} if found else None


def _mean_score(rows: Sequence[Row]) -> float:
    scores = [score(r, HEADLINE) or 0.0 for r in rows if not is_yes_no(r)]
    return math.fsum(scores) / len(scores) if scores else 0.0


def retention(facts: Mapping[str, Any], seed: int) -> list[Json]:
    """Followed instructions and perplexity before (`student`) and after, with paired differences and tests.

    Holm's correction covers both measures of all tuned models. Empty where nothing was measured.

    Args:
        facts: for `student` and each tuned arm what `retention.measure` (`ifeval`) and `retention.perplexity` found.
        seed: of the resampling.
    """
    before = facts.get("student")
    if not before:
        return []
    found: list[Json] = [{"model": "student", **_levels(before)}]
    tests: list[Json] = []
    for name, after in facts.items():
        if name == "student":
            continue
        changes = {"ifeval": _followed(before, after, seed), "perplexity": _losses(before, after, seed)}
        tests += [change for change in changes.values() if change is not None]
        found.append({"model": name, **_levels(after), "change": changes})
    for change, adjusted in zip(tests, stats.holm([change["p"] for change in tests]), strict=True):
        change["p_holm"] = adjusted
    return found


def _levels(facts: Mapping[str, Any]) -> Json:
    keys = {
        "ifeval": ("n", "prompt_strict", "low", "high", "instruction_strict", "errors"),
        "perplexity": ("value", "tokens"),
    }
    return {
        measure: {key: facts[measure].get(key) for key in wanted} if facts.get(measure) else None
        for measure, wanted in keys.items()
    }


def _followed(before: Mapping[str, Any], after: Mapping[str, Any], seed: int) -> Json | None:
    """The difference in the share of prompts followed, prompt by prompt."""
    ours, theirs = ((facts.get("ifeval") or {}).get("followed") or {} for facts in (after, before))
    common = sorted(ours.keys() & theirs.keys())
    if not common:
        return None
    found = stats.compare([float(all(ours[k])) for k in common], [float(all(theirs[k])) for k in common], seed=seed)
    change = found.difference
    return {"difference": change.mean, "low": change.low, "high": change.high, "p": found.p, "n": change.n}


def _losses(before: Mapping[str, Any], after: Mapping[str, Any], seed: int) -> Json | None:
    """The relative change of perplexity in per cent: from the difference in loss, token by token."""
    ours, theirs = ((facts.get("perplexity") or {}).get("losses") or [] for facts in (after, before))
    if not ours or len(ours) != len(theirs):
        return None
    more = [a - b for a, b in zip(ours, theirs, strict=True)]
    parts = [i // _PART for i in range(len(more))]
    most = max(map(abs, more)) or 1.0
    found = stats.estimate(more, parts, bounds=(-most, most), seed=seed)
    percent = {key: _percent(getattr(found, key)) for key in ("mean", "low", "high")}
    p = stats.sign_flip_p(more, parts, seed=seed)
    return {"percent": percent["mean"], "low": percent["low"], "high": percent["high"], "p": p, "n": len(more)}


def _percent(more: float | None) -> float | None:
    return None if more is None else 100 * math.expm1(more)
