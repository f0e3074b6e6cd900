"""Looks at what came since the last cycle, by every signal, and says which of them raises an alarm, and why.

A signal's state is a function of the records in the store, in their order: a monitor that is started again goes through
them again and comes to the same. It begins anew when the champion changes or a cycle ends. The probability that any
statistical signal raises an alarm until then, although nothing changes, is at most the stated rate. Changed documents
are known exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from synth_dspy.core.text import counted
from synth_dspy.loop.live import LiveJudge
from synth_dspy.loop.records import AliasMove, Feedback, Reading, Request, Transition
from synth_dspy.loop.signals.documents import DocumentChanges, document_changes
from synth_dspy.loop.signals.sequential import RATE
from synth_dspy.loop.signals.together import MODEL, Observed, Signals
from synth_dspy.loop.store import Store, now
from synth_dspy.loop.stream import Embed, observe

DOCUMENTS = "documents"
ONLY_SHOWN = frozenset({"latency", "cost"})
"""Signals whose alarm is shown and opens no cycle: training mends neither."""
SETTLE_S = 150.0
"""Seconds after which requests are taken: those that end together are kept in another order, or after a while where the
store is busy."""
DAY = timedelta(hours=23)
"""Time between two looks at the canaries."""
_SENTENCES = {
    "questions": "People's questions changed",
    "people": "People's scores of the answers fell",
    "judge": "The answers are less supported by their passages",
    "retrieval": "The passages have less to do with the questions",
    "failures": "More requests fail or get no answer",
    "latency": "Answers take longer",
    "cost": "Answers cost more",
    MODEL: "The model answers the same questions otherwise than before",
}
_SHOWN = 3


@dataclass
class Monitor:
    """The signals of one task.

    Args:
        store: of the task.
        embed: embeds texts.
        documents: hashes of the documents as the last cycle, or else the champion's run, had them, and as they are now.
        ask: asks the champion the canary questions, and returns its answers; None: there are none.
        judge: scores live answers; by default the fitted one.
        rate: of false alarms.
        settle_s: see `SETTLE_S`.
    """

    store: Store
    embed: Embed
    documents: Callable[[], tuple[Mapping[str, str], Mapping[str, str]]]
    ask: Callable[[], Mapping[str, str]] | None = None
    judge: LiveJudge | None = None
    rate: float = RATE
    settle_s: float = SETTLE_S
    _signals: Signals | None = field(default=None, init=False)
    _about: dict[str, Any] = field(default_factory=dict, init=False)
    _requests: set[str] = field(default_factory=set, init=False)
    _until: datetime = field(default=datetime.min.replace(tzinfo=UTC), init=False)

    def look(self) -> list[Reading]:
        """What every signal says now. A reading that saw more than the one before is kept."""
        signals, at = self._signals_now(), now()
        self._take_in(signals, at - timedelta(seconds=self.settle_s))
        self._take_in_canaries(signals, at)
        readings = [*signals.readings(at, self._about), self._documents(at)]
        for reading in readings:
            last = self.store.read(Reading, signal=reading.signal, last=1)
            if reading.signal != MODEL and (not last or last[0].evidence != reading.evidence):
                self.store.add(reading)
        return readings

    def _signals_now(self) -> Signals:
        """The signals, from their beginning where the champion is another one or a cycle ended."""
        moves = self.store.read(AliasMove, alias="champion", last=1)
        last = self.store.read(Transition, last=1)
        times = [*(each.at for each in moves), *(each.at for each in last)]
        begun = max(times, default=datetime.min.replace(tzinfo=UTC))
        about = {"champion": moves[0].version if moves else None, "since": begun.isoformat()}
        if self._signals is None or about != self._about:
            floors = moves[0].evidence.get("floors") or {} if moves else {}
            self._signals, self._about, self._until = Signals(self.rate, floors), about, begun
            self._requests = set()
            for reading in self.store.read(Reading, signal=MODEL):
                if _is_about(reading, about):
                    self._signals.add(Observed(canaries=reading.evidence["answers"]))
        return self._signals

    def _take_in(self, signals: Signals, until: datetime) -> None:
        """Records of after the last look and before `until`, in their order."""
        if until <= self._until:
            return
        every = self.store.read(Request, since=self._until, version=self._about["champion"])
        requests = [each for each in every if each.at < until and each.route == "champion"]
        self._requests |= {each.id for each in requests}
        every_record = self.store.read(Feedback, since=self._until)
        feedback = [each for each in every_record if each.at < until and each.request in self._requests]
        signals.add(observe(requests, feedback, self.embed, self.judge))
        self._until = until

    def _take_in_canaries(self, signals: Signals, at: datetime) -> None:
        """Ask the canary questions once a day; what was answered is kept, so that it can be read again."""
        if self.ask is None:
            return
        last = [each for each in self.store.read(Reading, signal=MODEL, last=1) if _is_about(each, self._about)]
        if last and at - last[0].at < DAY:
            return
        answers = dict(self.ask())
        if not answers:
            return
        signals.add(Observed(canaries=answers))
        for reading in signals.readings(at, self._about):
            if reading.signal == MODEL:
                evidence = {**reading.evidence, "answers": answers}
                self.store.add(Reading(MODEL, at, reading.statistic, reading.threshold, reading.alarm, evidence))

    def _documents(self, at: datetime) -> Reading:
        before, today = self.documents()
        return documents_reading(at, document_changes(before, today))


def documents_reading(at: datetime, changes: DocumentChanges) -> Reading:
    """What the signal `documents` says."""
    kinds = {"added": changes.added, "changed": changes.changed, "removed": changes.removed}
    evidence = {name: list(names) for name, names in kinds.items() if names}
    return Reading(DOCUMENTS, at, float(sum(map(len, kinds.values()))), 1.0, bool(changes), evidence)


def alarms(readings: list[Reading]) -> list[Reading]:
    """Those that open a cycle, changed documents first."""
    raised = [each for each in readings if each.alarm and each.signal not in ONLY_SHOWN]
    return sorted(raised, key=lambda each: each.signal != DOCUMENTS)


def describe(reading: Reading) -> str:
    """An alarm in plain words."""
    evidence = reading.evidence
    if reading.signal == DOCUMENTS:
        changes = DocumentChanges(*(tuple(evidence.get(name, ())) for name in ("added", "changed", "removed")))
        kinds = {"added": changes.added, "changed": changes.changed, "removed": changes.removed}
        parts = [f"{counted(len(names), 'document')} {kind} ({_some(names)})" for kind, names in kinds.items() if names]
        return f"{'; '.join(parts)}."
    text = (
        f"{_SENTENCES[reading.signal]}: evidence {reading.statistic:,.0f}, alarm at {reading.threshold:,.0f}, after "
        f"{evidence['seen']:,}"
    )
    moved = evidence.get("questions_that_moved") or []
    return f"{text}; least like earlier ones: {moved[0]!r}." if moved else f"{text}."


def _is_about(reading: Reading, about: Mapping[str, Any]) -> bool:
    return all(reading.evidence.get(name) == value for name, value in about.items())


def _some(names: tuple[str, ...]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
