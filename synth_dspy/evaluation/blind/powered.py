"""People's votes on some items and the judge's scores of all: how far they agree, and a win rate from both.

Raters see a random sample of the items on which two arms' outputs differ. The judge has scored all of them, so its
scores make the votes' estimate more precise, and its errors cannot bias it: prediction-powered inference
(`evaluation.corrected`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from synth_dspy.core.io.reading import Json
from synth_dspy.evaluation import stats
from synth_dspy.evaluation.corrected import prediction_powered_mean
from synth_dspy.evaluation.finished_runs import Arm, as_written
from synth_dspy.evaluation.report.figures import HEADLINE, score

SCORED = "judged"
"""The judge's scores in a key: an object for each item with its `id`, its `group` and a score for each arm in order."""


def judge_scores(arms: Sequence[Arm], items: Sequence[str]) -> list[Json]:
    """The judge's scores of the items that raters may be shown; empty if the judge did not score them all.

    Raises:
        SetupError: a run's files are damaged.
    """
    rows = []
    for item in items:
        scores = []
        for arm in arms:
            with as_written(arm.run.folder):
                scores.append(score(arm.rows[item], HEADLINE))
        if None in scores:
            return []
        rows.append({"id": item, "group": str(arms[0].rows[item].get("group") or item), "scores": scores})
    return rows


def powered_rate(key: Mapping[str, Any], wins: Mapping[str, float]) -> Json | None:
    """How often the first of two arms wins over the second, of all items on which their outputs differ.

    Args:
        key: of the comparison; without the judge's scores (an earlier version's) there is no estimate.
        wins: the first arm's share of the votes on each item that was voted on, by the item's number on the sheets.

    Returns:
        `rate`, `low`, `high` and `n`, the number of all items; None without scores, or unless there are two arms.
    """
    scored = {row["id"]: row for row in key.get(SCORED) or []}
    voted = [key["items"][item]["id"] for item in wins]
    if len(key["arms"]) != 2 or not voted or not scored.keys() >= {*voted}:
        return None
    expected = {item: (1 + row["scores"][0] - row["scores"][1]) / 2 for item, row in scored.items()}
    found = prediction_powered_mean(
        list(wins.values()),
        [expected[item] for item in voted],
        list(expected.values()),
        [scored[item]["group"] for item in voted],
        [row["group"] for row in scored.values()],
    )
    return {"rate": found.mean, "low": found.low, "high": found.high, "n": len(expected)}


def judge_alignment(key: Mapping[str, Any], units: Mapping[str, Sequence[str]]) -> Json | None:
    """How often the judge's scores put two outputs in the order that most raters put them in; chance is a half.

    Pairs that raters or the judge do not separate say nothing, as in Zheng et al. 2023, "Judging LLM-as-a-Judge",
    section 4.1 (agreement without ties). An item's pairs are averaged first.

    Args:
        key: of the comparison.
        units: the names of the arms that raters chose, by the item's number on the sheets; any other label is a tie.

    Returns:
        `rate`, `low`, `high`, `n` items, and `undecided`, the pairs left out; None without scores.
    """
    scored = {row["id"]: row for row in key.get(SCORED) or []}
    if not scored:
        return None
    arms = [arm["name"] for arm in key["arms"]]
    values, groups, undecided = [], [], 0
    for item, labels in units.items():
        facts = key["items"][item]
        scores = dict(zip(arms, scored[facts["id"]]["scores"], strict=True)) if facts["id"] in scored else {}
        same = []
        for a, b in combinations(scores, 2):
            people, judge = labels.count(a) - labels.count(b), scores[a] - scores[b]
            if people and judge:
                same.append(float((people > 0) == (judge > 0)))
            else:
                undecided += 1
        if same:
            values.append(sum(same) / len(same))
            groups.append(facts["group"])
    estimate = stats.estimate(values, groups, seed=int(key.get("seed") or 0))
    return {
        "rate": estimate.mean,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "undecided": undecided,
    }
