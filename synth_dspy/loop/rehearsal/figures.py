"""The figures of a rehearsal: how often, with exact intervals, how late, at what cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from scipy.stats import binomtest

from synth_dspy.loop.rehearsal.challengers import CHALLENGERS, Decided
from synth_dspy.loop.rehearsal.events import EVENTS
from synth_dspy.loop.rehearsal.trial import Outcome

_NO_WORSE = -0.005  # a promoted version whose true loss is smaller was not promoted wrongly


@dataclass(frozen=True, slots=True)
class Share:
    """How many of some seeds, with the exact 95 % interval (Clopper & Pearson 1934)."""

    count: int
    of: int

    @property
    def interval(self) -> tuple[float, float]:
        """Its bounds."""
        if not self.of:
            return 0.0, 1.0
        bounds = binomtest(self.count, self.of).proportion_ci()
        return float(bounds.low), float(bounds.high)

    def __str__(self) -> str:
        if not self.of:
            return "none"
        low, high = self.interval
        return f"{100 * self.count / self.of:.0f} % ({self.count}/{self.of}; {100 * low:.0f} to {100 * high:.0f} %)"


@dataclass(frozen=True, slots=True)
class EventFigures:
    """What came of an event over all seeds.

    Attributes:
        noticed: of the seeds in which it took effect; None where there is nothing to notice.
        delay: median requests until it was noticed, in all these seeds; None where fewer than half notice it.
        late: the 90th percentile, likewise.
        by: which signal noticed it first, how often.
        false_alarms: seeds with an alarm before the event, or, without an event, any.
        promoted_better, promoted_worse: promotions of versions that truly were.
        rolled_back: promotions that were.
        before, during, after: mean shares of right answers.
        trainings, labels, cost_usd: means per seed.
    """

    name: str
    noticed: Share | None
    delay: float | None
    late: float | None
    by: dict[str, int]
    false_alarms: Share
    promoted_better: int
    promoted_worse: int
    rolled_back: int
    before: float | None
    during: float | None
    after: float | None
    trainings: float
    labels: float
    cost_usd: float


@dataclass(frozen=True, slots=True)
class ChallengerFigures:
    """What came of a challenger: promoted, rejected, undecided; labels; promoted by the judge's scores alone."""

    name: str
    promoted: Share
    rejected: Share
    labels: float
    labels_mean: float
    unlabelled: Share | None


def event_figures(outcomes: Sequence[Outcome]) -> list[EventFigures]:
    """Of each event that was rehearsed, in the order of `EVENTS`."""
    by_name = [(name, [each for each in outcomes if each.event == name]) for name in EVENTS]
    return [_of_event(name, each) for name, each in by_name if each]


def challenger_figures(decisions: Sequence[Decided]) -> list[ChallengerFigures]:
    """Of each challenger that was tried, in the order of `CHALLENGERS`."""
    by_name = [(name, [each for each in decisions if each.challenger == name]) for name in CHALLENGERS]
    return [_of_challenger(name, each) for name, each in by_name if each]


def _of_event(name: str, outcomes: Sequence[Outcome]) -> EventFigures:
    planted = [each for each in outcomes if each.planted]
    to_notice = bool(EVENTS[name].noticed_by)
    delays = sorted(float("inf") if each.delay is None else each.delay for each in planted)
    gains = [gain for each in outcomes for gain in each.promotions]
    before, during, after = (_mean([each.right[i] for each in outcomes]) for i in range(3))
    n = len(outcomes)
    return EventFigures(
        name,
        Share(sum(each.delay is not None for each in planted), len(planted)) if to_notice else None,
        _finite(median(delays)) if to_notice and delays else None,
        _finite(delays[-(-9 * len(delays) // 10) - 1]) if to_notice and delays else None,
        dict(Counter(each.noticed for each in planted if each.noticed).most_common()),
        Share(sum(bool(each.false_alarms) for each in outcomes), n),
        sum(gain > _NO_WORSE for gain in gains),
        sum(gain <= _NO_WORSE for gain in gains),
        sum(each.rolled_back for each in outcomes),
        before,
        during,
        after,
        sum(each.trainings for each in outcomes) / n,
        sum(each.labels for each in outcomes) / n,
        sum(each.cost_usd for each in outcomes) / n,
    )


def _of_challenger(name: str, decisions: Sequence[Decided]) -> ChallengerFigures:
    n, labels = len(decisions), [each.labels for each in decisions]
    alone = [each.unlabelled for each in decisions if each.unlabelled]
    return ChallengerFigures(
        name,
        Share(sum(each.verdict == "promote" for each in decisions), n),
        Share(sum(each.verdict == "reject" for each in decisions), n),
        float(median(labels)),
        sum(labels) / n,
        Share(sum(each == "promote" for each in alone), len(alone)) if alone else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    present = [each for each in values if each is not None]
    return sum(present) / len(present) if present else None


def _finite(value: float) -> float | None:
    return None if value == float("inf") else value
