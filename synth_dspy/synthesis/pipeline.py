"""Synthesis: items in, labelled examples out, and an account of every candidate that was written on the way.

A synthesizer writes candidates, filters judge them, cheapest first; a candidate's first rejection is its last verdict.
Nothing depends on the order in which calls return: units are planned, candidates numbered and judged in one fixed
order, so the same run gives the same rows.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NotRequired, Protocol, TypedDict, TypeVar, runtime_checkable

from synth_dspy.core.errors import message_of
from synth_dspy.core.knowledge import Candidate, Item, Unit, Verdict, rejected
from synth_dspy.core.protocols import Filter

if TYPE_CHECKING:
    import dspy

    from synth_dspy.core.executor import Executor
    from synth_dspy.core.ledger import Ledger

log = logging.getLogger("synth_dspy.synthesis")

SYNTHETIC = "synthetic"
DECONTAMINATED = "decontaminated"
MATCHES = ("exact", "ngram", "embedding")
NOT_COMPARED = "not compared"

AnyUnit = TypeVar("AnyUnit", bound=Unit)


@runtime_checkable
class Planner(Protocol):
    """A synthesizer that chooses what to write about: units of its domain, from items."""

    def plan(self, items: Sequence[Item], limit: int | None) -> Sequence[Unit]: ...


@runtime_checkable
class Prepared(Protocol):
    """A filter that is shown all candidates before it judges the first, such as one whose threshold is a quantile."""

    def prepare(self, candidates: Sequence[Candidate[Any]]) -> None: ...


@runtime_checkable
class Tunable(Protocol):
    """A synthesizer that tunes its own prompts on a first batch, before the large one.

    `findings` are sentences for the report: what the first batch yielded, before and after.
    """

    findings: Sequence[str]

    def tune(self, items: Sequence[Item], filters: Sequence[Filter], executor: Executor) -> None: ...


FilterRow = TypedDict("FilterRow", {"name": str, "in": int, "kept": int, "reasons": dict[str, int]})
"""What one filter did, in results.json."""


class YieldTable(TypedDict):
    """What became of the candidates, in results.json; see `Synthesis`."""

    items: int
    generated: int
    kept: int
    filters: list[FilterRow]
    by_category: NotRequired[dict[str, int]]
    by_group: NotRequired[dict[str, int]]
    failures: NotRequired[dict[str, int]]
    findings: NotRequired[list[str]]


@dataclass(frozen=True, slots=True)
class FilterYield:
    """What one filter did: candidates it judged, those it kept, and how many it rejected for which reason."""

    name: str
    judged: int
    kept: int
    reasons: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> FilterRow:
        """As the report reads it."""
        return {"name": self.name, "in": self.judged, "kept": self.kept, "reasons": dict(self.reasons)}


@dataclass(frozen=True, slots=True)
class Synthesis:
    """What came of it.

    Attributes:
        items: how many units were written about.
        candidates: all that were written, in order.
        verdicts: by candidate id, (filter name, verdict) in the order given; the last one is a rejection or all are
            kept.
        kept: the candidates that every filter kept, as labelled examples.
        filters: the yield of each filter, in order.
        failures: units that no candidate came of because a call failed, by reason.
        findings: what the synthesizer has to say of itself, in sentences for the report.
    """

    items: int
    candidates: tuple[Candidate, ...]
    verdicts: Mapping[str, Sequence[tuple[str, Verdict]]]
    kept: tuple[dspy.Example, ...]
    filters: tuple[FilterYield, ...]
    failures: Mapping[str, int] = field(default_factory=dict)
    findings: Sequence[str] = ()

    @property
    def yield_table(self) -> YieldTable:
        """The account for the report: counts, the yield of every filter, what kept rows are about, failures."""
        return {
            "items": self.items,
            "generated": len(self.candidates),
            "kept": len(self.kept),
            "filters": [entry.as_json() for entry in self.filters],
            "by_category": _counted(example.category for example in self.kept),
            "by_group": _counted(example.group for example in self.kept),
            "failures": dict(self.failures),
            "findings": list(self.findings),
        }

    @property
    def contamination(self) -> dict[str, int] | None:
        """What the check against held-out items found, by kind of match; None if there was no such check."""
        given = [verdict for verdicts in self.verdicts.values() for name, verdict in verdicts if name == DECONTAMINATED]
        if not any(entry.name == DECONTAMINATED for entry in self.filters):
            return None
        found = Counter(reason(verdict.why) for verdict in given if not verdict.keep)
        kinds = {kind: found[kind] for kind in MATCHES}
        compared = sum(verdict.why != NOT_COMPARED for verdict in given)
        return {"checked": compared, **kinds, "removed": sum(found.values())}

    def candidate_rows(self) -> list[dict[str, Any]]:
        """Every candidate, kept or not, with its unit and what each filter said of it."""
        kept = {example.id for example in self.kept}
        return [
            {
                "id": candidate.id,
                "item": candidate.unit.id,
                "group": candidate.unit.group,
                "category": candidate.category,
                **dict(candidate.fields),
                "kept": candidate.id in kept,
                "verdicts": [
                    {"filter": name, "keep": verdict.keep, "score": round(verdict.score, 4), "why": verdict.why}
                    for name, verdict in self.verdicts[candidate.id]
                ],
            }
            for candidate in self.candidates
        ]


def synthesise(
    items: Sequence[Item],
    synthesizer: Callable[[Any], Sequence[Candidate]],
    filters: Sequence[Filter],
    *,
    executor: Executor,
    ledger: Ledger | None = None,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Synthesis:
    """Write candidates from items and filter them.

    Args:
        items: what to write about; only training items.
        synthesizer: a module, unit to candidates. One with a `plan` method chooses its own units; for another they are
            the items.
        filters: cheapest first. One with a method `prepare` is shown all that it will judge. One with a true attribute
            `ordered` depends on the order and is called one candidate at a time; the others are called concurrently.
        executor: runs the calls.
        ledger: keeps the verdicts, if given.
        limit: at most so many candidates, spread evenly over the groups.
        progress: called with (units written about so far, units in all).
    """
    units: Sequence[Unit] = synthesizer.plan(items, limit) if isinstance(synthesizer, Planner) else evenly(items, limit)

    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, len(units))

    def write(unit: Unit) -> list[Candidate]:
        return list(synthesizer(unit))

    candidates: list[Candidate] = []
    failures: Counter[str] = Counter()
    for unit, outcome in zip(units, executor.map(write, units, progress=advance), strict=True):
        if outcome.error is not None:
            failures[type(outcome.error).__name__] += 1
            log.warning("nothing written about %s: %s", unit.id, outcome.error)
        else:
            candidates.extend(outcome.value or ())
    candidates = _unique(candidates)[:limit]
    verdicts: dict[str, list[tuple[str, Verdict]]] = {candidate.id: [] for candidate in candidates}
    yields: list[FilterYield] = []
    alive = candidates
    for judge in filters:
        if isinstance(judge, Prepared):
            judge.prepare(alive)
        given = _judge(judge, alive, executor)
        for candidate, verdict in zip(alive, given, strict=True):
            verdicts[candidate.id].append((judge.name, verdict))
            if ledger is not None:
                ledger.record_verdict(candidate.id, judge.name, verdict)
        reasons = Counter(reason(verdict.why) for verdict in given if not verdict.keep)
        kept = [candidate for candidate, verdict in zip(alive, given, strict=True) if verdict.keep]
        yields.append(FilterYield(judge.name, len(alive), len(kept), dict(reasons.most_common())))
        alive = kept
    return Synthesis(
        items=len(units),
        candidates=tuple(candidates),
        verdicts=verdicts,
        kept=tuple(as_example(candidate) for candidate in alive),
        filters=tuple(yields),
        failures=dict(failures),
        findings=tuple(getattr(synthesizer, "findings", ())),
    )


def candidate_id(unit: Unit, *parts: object) -> str:
    """The id of a candidate: the same for the same unit and sample index, in every run."""
    return hashlib.sha256("\n".join([unit.id, *map(str, parts)]).encode()).hexdigest()[:16]


def evenly(items: Sequence[AnyUnit], limit: int | None) -> list[AnyUnit]:
    """At most `limit` items, the same number from every group as nearly as possible, spread over each group."""
    if limit is None or len(items) <= limit:
        return list(items)
    queues: dict[str, list[AnyUnit]] = defaultdict(list)
    for item in items:
        queues[item.group].append(item)
    for members in queues.values():  # by hash: a document's chunks are taken from all over it
        members.sort(key=lambda item: hashlib.sha256(item.id.encode()).hexdigest(), reverse=True)
    taken: set[str] = set()
    while len(taken) < limit:
        for group in sorted(queues):
            if queues[group] and len(taken) < limit:
                taken.add(queues[group].pop().id)
    return [item for item in items if item.id in taken]


def reason(why: str) -> str:
    """The part of a verdict's reason that is counted: what stands before the first colon."""
    return why.partition(":")[0].strip()


def as_example(candidate: Candidate) -> dspy.Example:
    """A kept candidate as a labelled row."""
    import dspy

    row = {"id": candidate.id, "group": candidate.unit.group, "category": candidate.category, "origin": SYNTHETIC}
    row |= dict(candidate.fields)
    return dspy.Example(**row).with_inputs(*(name for name in candidate.inputs if name in row))


def _judge(judge: Filter, candidates: Sequence[Candidate], executor: Executor) -> list[Verdict]:
    if getattr(judge, "ordered", False):
        return [judge(candidate) for candidate in candidates]
    given = []
    for candidate, outcome in zip(candidates, executor.map(judge, candidates), strict=True):
        if outcome.error is not None:
            log.warning("%s could not judge %s: %s", judge.name, candidate.id, outcome.error)
            why = f"call failed ({type(outcome.error).__name__}): {message_of(outcome.error)}"
            given.append(rejected(why))
        else:
            given.append(outcome.unwrap())
    return given


def _counted(values: Iterable[Any]) -> dict[str, int]:
    """Values that are there, by how often."""
    return dict(Counter(str(value) for value in values if value).most_common())


def _unique(candidates: Iterable[Candidate]) -> list[Candidate]:
    return list({candidate.id: candidate for candidate in candidates}.values())
