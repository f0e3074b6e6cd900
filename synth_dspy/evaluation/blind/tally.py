"""From votes and the key to win rates: who won, how sure that is, and how far the raters can be trusted.

The unit is the item, or the group of items (the document) where there are enough: votes of several raters on one item
are averaged first, because they are not independent. Intervals therefore speak of other items and these raters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import Json
from synth_dspy.core.text import counted
from synth_dspy.evaluation import stats
from synth_dspy.evaluation.agreement import position_p, rater_agreement
from synth_dspy.evaluation.blind.powered import judge_alignment, powered_rate
from synth_dspy.evaluation.blind.sheets import unfit_words
from synth_dspy.evaluation.blind.votes import SKIP, Vote, merge
from synth_dspy.evaluation.report.figures import plain
from synth_dspy.evaluation.report.verdict import ALPHA, p_value, percent

_TIED = ""
"""The label of a tie; no arm has this name."""


def tally_votes(key: Mapping[str, Any], votes: Sequence[Vote]) -> Json:
    """Results of a comparison, as JSON data.

    A vote for an output is a win of its arm over each other arm on the sheet; a tie is shared equally. The win rate of
    an arm is its mean share of an item's votes (chance is 1 / arms); of a pair (chance 0.5), ties count half and votes
    for a third arm are left out, as they do not concern the pair.

    Raises:
        SetupError: there are no votes, or votes on other sheets, items or positions.
    """
    arms = [arm["name"] for arm in key["arms"]]
    check_votes(key, votes)
    repeated, _, _ = merge([vote for vote in votes if vote.repeat])
    cast, replaced, conflicts = merge([vote for vote in votes if not vote.repeat])
    chosen = [vote for vote in cast if vote.choice != SKIP]
    if not chosen:
        raise SetupError("The votes hold no choice, only items that were skipped: rate some items first.")
    labels = {(vote.rater, vote.item): _label(vote, key) for vote in chosen}
    raters = sorted({vote.rater for vote in cast})
    seed = int(key.get("seed") or 0)
    units = _by_item(labels)
    pairs = _pairs(arms, units, key, seed)
    results: Json = {
        "study": key["study"],
        "task": key.get("task"),
        "counts": key["counts"],
        "votes": len(chosen),
        "items": len(units),
        "skipped": sum(vote.choice == SKIP for vote in cast),
        "replaced": replaced,
        "conflicts": conflicts,
        "arms": [_arm(arm, arms, units, key, seed) for arm in arms],
        "pairs": pairs,
        "ties": sum(label == _TIED for label in labels.values()),
        "raters": _raters(raters, cast, labels, arms, key, seed),
        "repeats": _repeats(repeated, labels, key),
        "judge": judge_alignment(key, units),
        "comments": [
            {"rater": vote.rater, "item": vote.item, "comment": vote.comment, "choice": named}
            for vote in (*cast, *repeated)
            if vote.comment
            for named in [_named(vote, key)]
        ],
        "agreement": asdict(rater_agreement([units[item] for item in sorted(units)], seed=seed)),
        "positions": _positions([vote for vote in chosen if vote.positions is None], len(arms), seed),
        "method": {
            "unit": stats.resampling_unit([key["items"][item]["group"] for item in units]),
            "interval": stats.method(len(units)),
            "test": "paired sign-flip permutation, two-sided",
            "correction": "Holm",
        },
    }
    results["headline"] = _headline(results["arms"], pairs)
    results["notes"] = _notes(results)
    plain_results: Json = plain(results)
    return plain_results


def check_votes(key: Mapping[str, Any], votes: Sequence[Vote]) -> None:
    """Make sure that votes are on the sheets of a key.

    Raises:
        SetupError: one is on other sheets, items or positions; names it.
    """
    for vote in votes:
        _check(vote, key, len(key["arms"]))


def _check(vote: Vote, key: Mapping[str, Any], arms: int) -> None:
    if vote.study != key["study"]:
        raise SetupError(
            f"{vote.place}: the vote is on other sheets ({vote.study}, not {key['study']}): name votes on these."
        )
    if vote.item not in key["items"]:
        raise SetupError(f"{vote.place}: there is no item {vote.item!r} on the sheets; correct the vote.")
    if vote.shown is not None and len(vote.shown) != arms:
        raise SetupError(f"{vote.place}: {len(vote.shown)} outputs were shown, but the sheets have {arms}; correct it.")
    if isinstance(vote.choice, int) and vote.choice > arms:
        raise SetupError(f"{vote.place}: the choice is {vote.choice}, but the sheets show {arms} outputs; correct it.")
    if vote.choice in unfit_words(key):
        raise SetupError(
            f"{vote.place}: the choice is {vote.choice}, but the sheets ask which output is "
            f"{key.get('asks') or 'better'}; correct it."
        )


def _label(vote: Vote, key: Mapping[str, Any]) -> str:
    """The arm that was chosen, or a tie, as of two outputs that are both right."""
    return _TIED if isinstance(vote.choice, str) else str(key["items"][vote.item]["order"][int(vote.choice) - 1])


def _named(vote: Vote, key: Mapping[str, Any]) -> str:
    """The choice in words."""
    return vote.choice if isinstance(vote.choice, str) else _label(vote, key)


def _repeats(
    repeated: Sequence[Vote], labels: Mapping[tuple[str, str], str], key: Mapping[str, Any]
) -> dict[str, Json]:
    """By rater, on how many of the items that were shown twice the choice was the same."""
    counts: dict[str, Json] = {}
    for vote in repeated:
        first = labels.get((vote.rater, vote.item))
        if first is not None and vote.choice != SKIP:
            count = counts.setdefault(vote.rater, {"same": 0, "n": 0})
            count["same"] += _label(vote, key) == first
            count["n"] += 1
    return counts


def _by_item(labels: Mapping[tuple[str, str], str]) -> dict[str, list[str]]:
    """Each item's labels, in the order of the raters' names: the same votes give the same figures."""
    units: dict[str, list[str]] = defaultdict(list)
    for _, item in sorted(labels):
        units[item] = []
    for (_, item), label in sorted(labels.items()):
        units[item].append(label)
    return dict(units)


def _share(label: str, arm: str, n: int) -> float:
    return 1 / n if label == _TIED else float(label == arm)


def _arm(arm: str, arms: Sequence[str], units: Mapping[str, Sequence[str]], key: Mapping[str, Any], seed: int) -> Json:
    means = {item: _mean(_share(label, arm, len(arms)) for label in labels) for item, labels in units.items()}
    labels = [label for item_labels in units.values() for label in item_labels]
    wins, ties = labels.count(arm), labels.count(_TIED)
    return {
        "arm": arm,
        **_estimate(means, key, seed),
        "votes": len(labels),
        "wins": wins,
        "ties": ties,
        "losses": len(labels) - wins - ties,
    }


def _pairs(arms: Sequence[str], units: Mapping[str, Sequence[str]], key: Mapping[str, Any], seed: int) -> list[Json]:
    pairs = []
    for ours, theirs in combinations(arms, 2):
        worth = {ours: 1.0, theirs: -1.0, _TIED: 0.0}
        worths = {item: [worth[label] for label in labels if label in worth] for item, labels in units.items()}
        gains = {item: _mean(values) for item, values in worths.items() if values}
        groups = [key["items"][item]["group"] for item in gains]
        least = stats.smallest_detectable(list(gains.values()), groups)
        pairs.append(
            {
                "arm": ours,
                "against": theirs,
                **_estimate({item: (1 + gain) / 2 for item, gain in gains.items()}, key, seed),
                "votes": sum(map(len, worths.values())),
                "wins": sum(value > 0 for values in worths.values() for value in values),
                "ties": sum(value == 0 for values in worths.values() for value in values),
                "losses": sum(value < 0 for values in worths.values() for value in values),
                "powered": powered_rate(key, {item: (1 + gain) / 2 for item, gain in gains.items()}),
                "p": stats.sign_flip_p(list(gains.values()), groups, seed=seed),
                "smallest_detectable": least / 2 if least is not None else None,
            }
        )
    for pair, adjusted in zip(pairs, stats.holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = adjusted
        pair["sentence"] = _pair_sentence(pair, alone=len(pairs) == 1)
    return pairs


def _raters(
    raters: Sequence[str],
    cast: Sequence[Vote],
    labels: Mapping[tuple[str, str], str],
    arms: Sequence[str],
    key: Mapping[str, Any],
    seed: int,
) -> list[Json]:
    rows: list[dict[str, Any]] = []
    for rater in raters:
        ours = {item: label for (name, item), label in sorted(labels.items()) if name == rater}
        alike = [
            _mean(float(labels[other, item] == label) for other in raters if other != rater and (other, item) in labels)
            for item, label in ours.items()
            if any((other, item) in labels for other in raters if other != rater)
        ]
        votes = [vote for vote in cast if vote.rater == rater]
        rows.append(
            {
                "rater": rater,
                "votes": len(ours),
                "ties": sum(label == _TIED for label in ours.values()),
                "skipped": sum(vote.choice == SKIP for vote in votes),
                "arms": {
                    arm: _estimate({i: _share(label, arm, len(arms)) for i, label in ours.items()}, key, seed)
                    for arm in arms
                },
                "agreement_with_others": _mean(alike) if alike else None,
                "positions": _positions([vote for vote in votes if vote.choice != SKIP], len(arms), seed),
            }
        )
    adjusted = stats.holm([row["positions"]["p"] for row in rows])
    for row, p in zip(rows, adjusted, strict=True):
        row["positions"]["p_holm"] = p
    return rows


def _positions(votes: Sequence[Vote], arms: int, seed: int) -> Json:
    """How often each position was chosen: `shares`, `n` choices without ties, `p` of the permutation test.

    A judge model's positions are those in the pairs that it compared.
    """
    units: dict[str, list[int]] = {}
    if any(vote.positions is not None for vote in votes):  # a judge's votes, not those of a person of the same name
        votes = [vote for vote in votes if vote.positions is not None]
    for vote in sorted(votes, key=lambda v: (v.rater, v.item)):
        counts = list(vote.positions) if vote.positions is not None else [0] * arms
        if vote.positions is None and isinstance(vote.choice, int):
            counts[vote.shown.index(vote.choice) if vote.shown else vote.choice - 1] += 1
        so_far = units.setdefault(vote.item, [0] * len(counts))
        units[vote.item] = [a + b for a, b in zip(so_far, counts, strict=True)]
    totals = [sum(column) for column in zip(*units.values(), strict=True)]
    n = sum(totals)
    shares = [total / n for total in totals] if n else []
    return {"shares": shares, "n": n, "p": position_p([units[i] for i in sorted(units)], seed=seed)}


def _estimate(values: Mapping[str, float], key: Mapping[str, Any], seed: int) -> Json:
    items = sorted(values)
    estimate = stats.estimate([values[i] for i in items], [key["items"][i]["group"] for i in items], seed=seed)
    return {"rate": estimate.mean, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def _pair_sentence(pair: Json, *, alone: bool) -> str:
    ours, theirs = pair["arm"], pair["against"]
    if pair["rate"] is None:
        return f"No vote decides between {ours} and {theirs}."
    figures = (
        f"{win_rate(pair)} % of the votes, 95 % interval {interval(pair)} %, adjusted {p_value(pair['p_holm'])}, "
        f"n = {pair['n']}"
    )
    if pair["p_holm"] < ALPHA:
        better = pair["rate"] > 0.5
        text = f"{ours} is preferred to {theirs}" if better else f"{theirs} is preferred to {ours}"
        return f"{text} ({ours} has {figures})."
    least = pair["smallest_detectable"]
    more = (
        f" Only a share of about {100 * (0.5 + least):.0f} % or more would be detected four times in five."
        if alone and least is not None and least < 0.5  # for several, corrected, it would be more
        else ""
    )
    return f"No evidence that raters prefer {ours} to {theirs} or the other way round ({ours} has {figures}).{more}"


def _headline(arms: Sequence[Json], pairs: Sequence[Json]) -> str:
    if len(pairs) == 1:
        return str(pairs[0]["sentence"])
    top = max(arms, key=lambda arm: arm["rate"])
    beaten = [_other(pair, top["arm"]) for pair in pairs if top["arm"] in (pair["arm"], pair["against"])
              and pair["p_holm"] is not None and pair["p_holm"] < ALPHA and _favours(pair, top["arm"])]  # fmt: skip
    rest = [arm["arm"] for arm in arms if arm["arm"] not in (*beaten, top["arm"])]
    first = f"{top['arm']} has the most votes ({win_rate(top)}, 95 % interval {interval(top)} %, n = {top['n']})"
    if not rest:
        return f"{first} and is preferred to every other arm."
    listed = f" It is preferred to {', '.join(beaten)}." if beaten else ""
    return f"{first}; there is no evidence that it is preferred to {', '.join(rest)}.{listed}"


def _other(pair: Json, arm: str) -> str:
    return str(pair["against"] if pair["arm"] == arm else pair["arm"])


def _favours(pair: Json, arm: str) -> bool:
    return bool((pair["rate"] > 0.5) == (pair["arm"] == arm))


def _notes(results: Json) -> list[str]:
    notes = []
    conflicts = results["conflicts"]
    if conflicts:
        shown = [
            f"{one['rater']} on item {one['item']}: {' then '.join(map(str, one['choices']))}" for one in conflicts[:5]
        ]
        more = f", and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
        notes.append(
            f"Raters changed a choice {counted(len(conflicts), 'time')}; the last counts ({'; '.join(shown)}{more})."
        )
    biased = [
        rater["rater"]
        for rater in results["raters"]
        if rater["positions"]["p_holm"] is not None and rater["positions"]["p_holm"] < ALPHA
    ]
    if biased:
        notes.append(f"Where an output stands matters to {', '.join(biased)}: read these votes with care.")
    missing = results["counts"]["shown"] - results["items"]
    if missing:
        notes.append(f"Items without a vote: {missing} of {results['counts']['shown']}.")
    if results["items"] < 30:
        notes.append(f"Only {counted(results['items'], 'item')} rated: only clear preferences can show.")
    return notes


def win_rate(estimate: Mapping[str, Any]) -> str:
    """A win rate in per cent."""
    return percent(estimate["rate"], "–")


def interval(estimate: Mapping[str, Any]) -> str:
    """Its interval."""
    return "–" if estimate["low"] is None else f"{100 * estimate['low']:.1f} to {100 * estimate['high']:.1f}"
