"""Whether a challenger takes the champion's place: one decision for prompts, weights and retrieval alike.

Margin, level and protected slices are set before anybody sees a score. Both programs answer the same items; where
people labelled some of these, drawn at random, the judge's scores are corrected by them (prediction-powered inference,
Angelopoulos et al. 2023, arXiv:2301.09633, 2311.01453). The challenger is promoted where it is better, or not worse by
more than the margin and cheaper, and loses no protected slice (non-inferiority: Piaggio et al. 2012, "Reporting of
noninferiority and equivalence randomized trials").

Labels may be looked at as they come, at numbers fixed beforehand. The looks share the probability of a wrong decision
evenly, so their sum bounds it, however the looks depend on each other (Bonferroni's bound on a group-sequential test;
Jennison & Turnbull 1999).

Items that several cycles decide on wear out: with each further challenger that they are asked about, chance gets
another try (Dwork et al. 2015, "The reusable holdout", Science 349; Blum & Hardt 2015, arXiv:1502.04585). So an item
spends its probability over the cycles: all of it in the first, and as much once more in all later ones together, in the
shares 1/2, 1/6, 1/12, ... (spending as by Lan & DeMets 1983, with the bound of a sum). Fresh items are therefore worth
more than used ones, and `freshest` leaves out used ones where the interval is narrower without them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from synth_dspy.evaluation import stats
from synth_dspy.evaluation.corrected import prediction_powered_mean
from synth_dspy.evaluation.stats import Estimate

Verdict = Literal["promote", "reject", "undecided"]

_HALF_TO_NEEDED = ((1.96 + 0.84) / 1.96) ** 2
"""Items that show a difference with 80 % power, over items whose interval just excludes 0 at that difference."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is decided before any score is seen. Differences are shares, 0.02 being 2 points.

    The intervals of all looks together hold the difference with probability 95 %, so a challenger that is no better
    is promoted with probability 2.5 % at most; in all cycles that decide on one item together, with 5 % at most.

    Attributes:
        margin: how much worse a cheaper challenger may be.
        slice_margin: how much worse a protected slice may be, by a one-sided 75 % bound, before more labels are asked
            for; a point estimate alone would let through what a few labels cannot show.
        slice_items: a slice of fewer items is not protected: it cannot show anything. With fewer labels in it, the
            judge is taken at its word there.
        looks: how often one challenger may be looked at.
        labels: labelled items at the last look; at each one before, half as many as at the next. The numbers are fixed
            here because looking just when a difference seems large would find one in chance alone.
        fewest_labels: with fewer labels, but some, nothing is decided, unless these are of all items: the judge cannot
            be corrected by them.
    """

    margin: float = 0.02
    slice_margin: float = 0.10
    slice_items: int = 10
    looks: int = 3
    labels: int = 600
    fewest_labels: int = 20

    @property
    def level(self) -> float:
        """Of the interval at each look, on items that no earlier cycle was decided on."""
        return self.level_after(0)

    def level_after(self, uses: int) -> float:
        """Of the interval at each look, on items that so many earlier cycles were decided on."""
        share = 1 / (uses * (uses + 1)) if uses else 1.0
        return 1 - share * (1 - stats.LEVEL) / self.looks

    def labels_at(self, look: int) -> int:
        """Labelled items at a look, counted from 1."""
        return math.ceil(self.labels / (1 << (self.looks - look)))


@dataclass(frozen=True, slots=True)
class Pair:
    """An item that both programs answered.

    Attributes:
        champion, challenger: the judge's scores, in [0, 1].
        champion_label, challenger_label: a person's of the same answers; None where nobody has looked.
        group: items of one group, such as a document, are not independent.
        slices: the protected parts that it belongs to, such as a category.
        item: its id, by which later cycles know that it was used; "" where that does not matter.
        alike: whether both gave the same answer.
    """

    champion: float
    challenger: float
    group: str
    slices: frozenset[str] = frozenset()
    champion_label: float | None = None
    challenger_label: float | None = None
    item: str = ""
    alike: bool = False

    @property
    def gain(self) -> float:
        """Challenger minus champion, by the judge."""
        return self.challenger - self.champion

    @property
    def labelled_gain(self) -> float | None:
        """Challenger minus champion, by a person."""
        if self.champion_label is None or self.challenger_label is None:
            return None
        return self.challenger_label - self.champion_label


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says, and why.

    Attributes:
        reason: in a sentence.
        difference: challenger minus champion, with its interval.
        slices: the same of each protected slice.
        labels_needed: how many further labelled items would probably decide; None where it is decided, or where no
            number of labels is likely to.
    """

    verdict: Verdict
    reason: str
    difference: Estimate
    slices: Mapping[str, Estimate] = field(default_factory=dict)
    labels_needed: int | None = None

    def evidence(self) -> dict[str, Any]:
        """The figures as JSON."""

        def figures(each: Estimate) -> dict[str, Any]:
            return {"mean": each.mean, "low": each.low, "high": each.high, "n": each.n}

        return {
            "difference": figures(self.difference),
            "slices": {name: figures(each) for name, each in self.slices.items()},
            "labels_needed": self.labels_needed,
        }


def freshest(pairs: Sequence[Pair], uses: Mapping[str, int], policy: Policy) -> tuple[list[Pair], int]:
    """The pairs to decide on: those used least, as many as make the interval narrowest, by their numbers alone.

    Args:
        pairs: the items that both answered.
        uses: how many earlier cycles were decided on an item, by its id.
        policy: gives the intervals' levels.

    Returns:
        The pairs, and how often the most used of them was used.
    """
    by_uses = sorted({uses.get(pair.item, 0) for pair in pairs})
    candidates = [(most, [pair for pair in pairs if uses.get(pair.item, 0) <= most]) for most in by_uses]
    if not candidates:
        return [], 0
    most, chosen = min(
        candidates, key=lambda each: _normal((1 + policy.level_after(each[0])) / 2) / len(each[1]) ** 0.5
    )
    return chosen, most


def decide(
    pairs: Sequence[Pair],
    policy: Policy | None = None,
    *,
    cheaper: bool = False,
    look: int = 1,
    uses: int = 0,
) -> Decision:
    """Compare a challenger with the champion.

    Args:
        pairs: the items that both answered.
        policy: margins.
        cheaper: whether the challenger costs less to run.
        look: which look at this challenger it is, from 1; after the last no labels are asked for.
        uses: how many earlier cycles were decided on the most used of the items.

    Raises:
        ValueError: it has been looked at as often as the policy allows.
    """
    policy = policy or Policy()
    if not 1 <= look <= policy.looks:
        raise ValueError(f"The policy allows {policy.looks} looks at a challenger; this is number {look}.")
    last, level = look == policy.looks, policy.level_after(uses)
    whole = _difference(pairs, level)
    by_slice = {
        name: [pair for pair in pairs if name in pair.slices] for name in sorted({s for p in pairs for s in p.slices})
    }
    slices = {
        name: _difference(part, level, policy.slice_items)
        for name, part in by_slice.items()
        if len(part) >= policy.slice_items
    }
    if whole.mean is None or whole.low is None or whole.high is None or whole.n < 2:
        return Decision("undecided", "There are no items that both answered.", whole, slices)
    labelled = sum(pair.labelled_gain is not None for pair in pairs)
    fewest = min(policy.fewest_labels, len(pairs))
    if 0 < labelled < fewest:
        missing = fewest - labelled
        reason = f"{labelled} labelled items are too few to correct the judge: at least {missing} more are needed."
        return Decision("undecided", reason, whole, slices, missing)
    interval = f"{100 * level:.3g} % interval {100 * whole.low:+.1f} to {100 * whole.high:+.1f}"
    text = f"{100 * whole.mean:+.1f} points, {interval}, n = {whole.n}"
    lost = [name for name, each in slices.items() if each.high is not None and each.high < 0]
    if whole.high < 0:
        return Decision("reject", f"The challenger is worse: {text}.", whole, slices)
    if lost:
        return Decision("reject", f"The challenger is worse on {', '.join(lost)} ({text} over all).", whole, slices)
    better = whole.low > 0
    if not better and not (cheaper and whole.low > -policy.margin):
        needed = None if last else _labels_needed(whole, labelled, policy.margin if cheaper else 0.0)
        if last:
            end = "it was not shown to be better, and this was the last look"
        else:
            end = f"about {needed} further labelled items would decide it" if needed else "no sign that it is better"
        return Decision("undecided", f"The difference is {text}: {end}.", whole, slices, needed)
    doubtful = [name for name, each in slices.items() if _probable_low(each, level) < -policy.slice_margin]
    if doubtful:
        needed = None if last else policy.labels_at(look + 1) - policy.labels_at(look)
        reason = f"The challenger may be worse on {', '.join(doubtful)}, on too few items to say ({text} over all)."
        return Decision("undecided", reason, whole, slices, needed)
    why = "better" if better else f"cheaper, and worse by less than {100 * policy.margin:g} points"
    return Decision("promote", f"The challenger is {why}: {text}.", whole, slices)


def _probable_low(difference: Estimate, level: float) -> float:
    """The bound that the difference is above with probability 75 %."""
    if difference.mean is None or difference.low is None:
        return -1.0
    half = difference.mean - difference.low
    return difference.mean - half * _normal(0.75) / _normal((1 + level) / 2)


def _normal(p: float) -> float:
    """The normal distribution's quantile."""
    from scipy.stats import norm

    return float(norm.ppf(p))


def _difference(pairs: Sequence[Pair], level: float, fewest: int = 2) -> Estimate:
    gains, groups = [pair.gain for pair in pairs], [pair.group for pair in pairs]
    labelled = [(pair, gain) for pair in pairs if (gain := pair.labelled_gain) is not None]
    if len(labelled) < fewest:
        return stats.estimate(gains, groups, bounds=(-1.0, 1.0), level=level)
    return prediction_powered_mean(
        [gain for _, gain in labelled],
        [pair.gain for pair, _ in labelled],
        gains,
        [pair.group for pair, _ in labelled],
        groups,
        bounds=(-1.0, 1.0),
        level=level,
    )


def _labels_needed(difference: Estimate, labelled: int, margin: float) -> int | None:
    """How many more labels would probably put the interval above `-margin`; None where the mean is not above it.

    As if the interval's width came from the labels alone, so the judged items without one are not counted. Without
    any labels, the items are.
    """
    if difference.mean is None or difference.low is None or difference.mean + margin <= 0:
        return None
    half, now = difference.mean - difference.low, labelled or difference.n
    needed = now * _HALF_TO_NEEDED * (half / (difference.mean + margin)) ** 2
    return max(1, math.ceil(needed - now))
