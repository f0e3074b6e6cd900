"""The report's sentences: which arm is best, how sure that is, and what the reader should be wary of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

ALPHA = 0.05
SUBSTANTIAL_KAPPA = 0.6  # "substantial agreement" begins here (Landis & Koch 1977)
SMALL_SAMPLE = 30
PREFERENCES = ("dpo", "orpo", "kto")
_HUMAN = "human: "
"""Begins why a preference of people was dropped, in the counts of a training."""


def outcome(comparison: Json) -> str:
    """ "better", "worse", "no evidence of a difference" or "not compared", at 5 % after Holm's correction."""
    p = comparison["p_holm"]
    if p is None:
        return "not compared"
    if p >= ALPHA:
        return "no evidence of a difference"
    return "better" if comparison["difference"] > 0 else "worse"


def sentence(comparison: Json) -> str:
    """One comparison in words."""
    arm, other, n = comparison["arm"], comparison["against"], comparison["n"]
    found = outcome(comparison)
    if found == "not compared":
        return f"{arm} and {other} have no item in common, so they could not be compared."
    figures = (
        f"{points(comparison['difference'])}, 95 % interval {points(comparison['low'], unit=False)} to "
        f"{points(comparison['high'])}, adjusted {p_value(comparison['p_holm'])}, n = {n}"
    )
    if found == "no evidence of a difference":
        text = f"No evidence of a difference between {arm} and {other} ({figures})."
        least = comparison["smallest_detectable"]
        return text + (f" {_least(least, n)}" if least else "")
    return f"{arm} is {found} than {other} ({figures})."


def verdict(results: Json) -> dict[str, Any]:
    """The report's first lines: `{"best", "highest", "outcome", "headline", "detail"}`.

    `highest` is the arm with the highest score; `best` is an arm only where there is evidence that
    it differs from the baseline (or the baseline from all others), else None.
    """
    scored = {a["name"]: a for a in results["arms"] if a["scores"]["judged"]["mean"] is not None}
    baseline = results["baseline"]
    if not scored:
        return {
            "best": None,
            "highest": None,
            "outcome": "nothing scored",
            "headline": "No arm was scored.",
            "detail": "There are no answers to compare; the failures are listed below.",
        }
    # Equal scores: the baseline wins, being the simplest; then the arm declared first.
    highest = max(scored, key=lambda name: (scored[name]["scores"]["judged"]["mean"], name == baseline))
    against = {c["arm"]: c for c in results["comparisons"] if c["against"] == baseline}
    judged = f"{highest}: {_accuracy(scored[highest])}"
    if baseline not in scored or len(scored) == 1:
        why = f"the baseline {baseline} was not scored" if baseline not in scored else "no other arm was scored"
        return {
            "best": None,
            "highest": highest,
            "outcome": "not compared",
            "headline": f"{judged}; {why}, so there is no comparison.",
            "detail": "One score alone does not say whether an optimizer helped.",
        }
    winners = [name for name, c in against.items() if c["outcome"] == "better"]
    if winners:
        top = max(winners, key=lambda name: scored[name]["scores"]["judged"]["mean"])
        return _a_winner(top, highest, scored, against[top], results)
    worse = [name for name, c in against.items() if c["outcome"] == "worse"]
    detail = _detectable(against.get(highest), against)
    if worse and len(worse) == len(against):
        return {
            "best": baseline,
            "highest": highest,
            "outcome": "baseline",
            "headline": f"{baseline} is best, every other arm is worse: {_accuracy(scored[baseline])}.",
            "detail": " ".join(c["sentence"] for c in against.values()),
        }
    listed = f" {_names(worse)} {'is' if len(worse) == 1 else 'are'} worse." if worse else ""
    return {
        "best": None,
        "highest": highest,
        "outcome": "no evidence of a difference",
        "headline": f"No evidence that any arm is better than {baseline}.{listed}",
        "detail": detail,
    }


def notes(results: Json) -> list[str]:
    """What limits the figures, plainly, most important first. Empty if nothing does."""
    found = [f"{a['name']} failed and has no score: {a['failed']}" for a in results["arms"] if a["failed"]]
    if results["held_out"] == "synthetic":
        found.append(
            "The held-out items are synthetic, written by the teacher: nobody has labelled these "
            f"{results['noun']}s, so real questions may be answered better or worse."
        )
    judge = results["judge"] or {}
    kappa = judge.get("kappa")
    if kappa is None:
        found.append(
            "How well the judge agrees with people is unknown: read judged accuracy as an indication, and check the "
            "sample answers."
        )
    elif kappa < SUBSTANTIAL_KAPPA:
        found.append(
            f"The judge agrees poorly with people (kappa {kappa:.2f}, below {SUBSTANTIAL_KAPPA}): differences in "
            "judged accuracy may be the judge's."
        )
    found += [
        f"{_names(names)} gave the same answer to every item that is compared: these items cannot tell them apart."
        for names in results["alike"]
    ]
    unused: Counter[str] = Counter()
    for a in results["arms"]:  # each is given the same preferences
        dropped = ((a["training"] or {}).get("dropped") or {}).items()
        unused |= Counter({why.removeprefix(_HUMAN): count for why, count in dropped if why.startswith(_HUMAN)})
    if unused:
        reasons = ", ".join(f"{why}: {count}" for why, count in unused.items())
        found.append(
            f"Of the feedback that people gave, {unused.total()} could not be used ({reasons}): preferences need two "
            "different answers, and a question that the program can be asked."
        )
    taught = [a["name"] for a in results["arms"] if a["n"] and _judge_taught(a["training"] or {})]
    if taught:
        beside = "token F1" if results["comparisons_f1"] else "the sample answers"
        found.append(
            f"The judge that scores {_names(taught)} also chose the answers that "
            f"{'it' if len(taught) == 1 else 'they'} learned from: read {beside} beside judged accuracy."
        )
    items = results["items"]
    if 0 < items["headline"] < SMALL_SAMPLE:
        found.append(f"Only {items['headline']} items were scored: nothing but large differences can show.")
    if results["method"]["unit"] == "items" and 0 < items["groups"] < items["n"]:
        few = f"{items['groups']} {results['noun']}{'s' if items['groups'] != 1 else ''}"
        found.append(
            f"The items come from only {few}, too few to resample: intervals treat items as independent and may be "
            f"too narrow for new {results['noun']}s."
        )
    found += [
        f"{a['name']} answered {a['n']} of {items['n']} items; comparisons use the items that both arms answered."
        for a in results["arms"]
        if 0 < a["n"] < items["n"]
    ]
    errors = [f"{a['name']} {a['errors']} of {a['n']}" for a in results["arms"] if a["errors"]]
    if errors:
        found.append(f"Calls that ended in an error count as wrong: {', '.join(errors)}.")
    found += [lost for model in results["retention"] if "change" in model and (lost := _lost(model))]
    return found


def points(value: float | None, *, unit: bool = True) -> str:
    """A difference of scores in percentage points, with its sign."""
    if value is None:
        return "unknown"
    text = f"{100 * value:+.1f}".replace("-", "\u2212")
    return f"{text} points" if unit else text


def p_value(p: float | None) -> str:
    """ "p = 0.03" or "p < 0.001"."""
    return "p unknown" if p is None else "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _accuracy(arm: Json) -> str:
    judged = arm["scores"]["judged"]
    return (
        f"judged accuracy {100 * judged['mean']:.1f} % on {judged['n']} held-out items "
        f"(95 % interval {100 * judged['low']:.1f} to {100 * judged['high']:.1f} %)"
    )


def _a_winner(top: str, highest: str, scored: Mapping[str, Json], won: Json, results: Json) -> dict[str, Any]:
    baseline = results["baseline"]
    ours, base = (scored[name]["scores"]["judged"]["mean"] for name in (top, baseline))
    relative = won["relative_percent"]
    times = f", a relative improvement of {relative:.0f} %" if relative is not None else ""
    detail = [
        f"On the same {won['n']} held-out items the difference is {points(won['difference'])}{times} (95 % interval "
        f"{points(won['low'], unit=False)} to {points(won['high'])}, {p_value(won['p_holm'])} after Holm's correction)."
    ]
    rivals = [name for name in scored if name not in (top, baseline)]
    pairs = {frozenset((c["arm"], c["against"])): c for c in results["comparisons"]}
    tested = {name: pairs.get(frozenset((top, name))) for name in rivals}
    level = [n for n, c in tested.items() if c is not None and c["outcome"] == "no evidence of a difference"]
    untested = [n for n, c in tested.items() if c is None]
    beaten = [n for n, c in tested.items() if c is not None and _beats(top, c)]
    if beaten:
        detail.append(f"It is also better than {_names(beaten)}.")
    if level:
        detail.append(f"There is no evidence of a difference between {top} and {_names(level, 'or')}.")
    if untested:
        detail.append(f"Whether it differs from {_names(untested, 'or')} was not tested.")
    return {
        "best": top,
        "highest": highest,
        "outcome": "better",
        "headline": f"{top} is better than {baseline}: judged accuracy {100 * ours:.1f} % against {100 * base:.1f} %.",
        "detail": " ".join(detail),
    }


def _beats(arm: str, comparison: Json) -> bool:
    """Whether there is evidence that `arm`, on either side of the comparison, is the better one."""
    return bool(comparison["outcome"] == ("better" if comparison["arm"] == arm else "worse"))


def _judge_taught(training: Json) -> bool:
    """Whether an arm was tuned on the judge's labels: an answer it accepted, or a side of a preference it judged.

    A preference of "gold" or "synthetic" origin sets a reference against an answer that the judge found wrong; only
    those of people owe the judge nothing.
    """
    origins = {origin for origin, n in (training.get("by_origin") or {}).items() if n}
    return "ai" in origins or (training.get("method") in PREFERENCES and bool(origins - {"human"}))


def _lost(model: Json) -> str | None:
    """What a tuned model has demonstrably lost elsewhere, as a sentence; None if nothing."""
    change, found = model["change"], []
    followed, perplexity = change["ifeval"], change["perplexity"]
    if followed and followed["difference"] < 0 and followed["p_holm"] < ALPHA:
        found.append(f"it follows fewer instructions ({points(followed['difference'])})")
    if perplexity and perplexity["percent"] > 0 and perplexity["p_holm"] < ALPHA:
        found.append(f"general text surprises it more (perplexity {perplexity['percent']:+.0f} %)")
    return f"Tuning cost {model['model']} something elsewhere: {' and '.join(found)}." if found else None


def _detectable(nearest: Json | None, against: Mapping[str, Json]) -> str:
    """What was seen, and the smallest difference that could have been."""
    nearest = nearest or max(against.values(), key=lambda c: c["difference"] if c["difference"] is not None else -2)
    if nearest["difference"] is None:
        return str(nearest["sentence"])
    seen = (
        f"The highest-scoring other arm, {nearest['arm']}, differs by {points(nearest['difference'])} (95 % interval "
        f"{points(nearest['low'], unit=False)} to {points(nearest['high'])}, {p_value(nearest['p_holm'])} after "
        "Holm's correction)."
    )
    least = nearest["smallest_detectable"]
    if least is None:
        same = abs(nearest["difference"]) < 1e-9 and nearest["n"] > 1
        return f"{seen} {'The two scored alike throughout.' if same else 'That is too few items to show anything.'}"
    return f"{seen} {_least(least, nearest['n'])}"


def _least(least: float, n: int) -> str:
    if least >= 1:
        return f"With n = {n}, no difference, however large, would be found reliably."
    return (
        f"With n = {n}, only a difference of about {100 * least:.0f} points or more would be found four times in five."
    )


def _names(names: list[str], last: str = "and") -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {last} {names[-1]}"
