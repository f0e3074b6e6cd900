"""The synthesis pipeline: from items to labelled examples, with an account of every candidate.

A synthesizer writes candidates, and filters judge them, cheapest first, until the first rejection. Units and candidates
are processed in a fixed order that does not depend on when calls return, so the same run gives the same rows.
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
    """A synthesizer that chooses units of its domain to write about, from items."""

    def plan(self, items: Sequence[Item], limit: int | None) -> Sequence[Unit]: ...


@runtime_checkable
class Prepared(Protocol):
    """A filter that sees all candidates before it judges the first, for example to set its threshold at a quantile."""

    def prepare(self, candidates: Sequence[Candidate[Any]]) -> None: ...


@runtime_checkable
class Tunable(Protocol):
    """A synthesizer that tunes its own prompts on a small first batch.

    `findings` are sentences for the report: the yield of the first batch before and after.
    """

    findings: Sequence[str]

    def tune(self, items: Sequence[Item], filters: Sequence[Filter], executor: Executor) -> None: ...


FilterRow = TypedDict("FilterRow", {"name": str, "in": int, "kept": int, "reasons": dict[str, int]})
"""The yield of one filter, in results.json."""


class YieldTable(TypedDict):
    """The yield of the synthesis, in results.json; see `Synthesis`."""

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
    """The yield of one filter: numbers of candidates judged, kept, and rejected by reason."""

    name: str
    judged: int
    kept: int
    reasons: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> FilterRow:
        """The row for the report."""
        return {"name": self.name, "in": self.judged, "kept": self.kept, "reasons": dict(self.reasons)}


@dataclass(frozen=True, slots=True)
class Synthesis:
    """The result of the synthesis.

    Attributes:
        items: number of units written about.
        candidates: all candidates, in order.
        verdicts: by candidate id, (filter name, verdict) in order, up to the first rejection.
        kept: the candidates that every filter kept, as labelled examples.
        filters: the yield of each filter, in order.
        failures: number of units whose call failed, by reason.
        findings: the synthesizer's own sentences for the report.
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
        """The table for the report: counts, the yield of every filter, kept rows by category and group, failures."""
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
        """Number of matches with held-out items by kind; None if they were not checked."""
        given = [verdict for verdicts in self.verdicts.values() for name, verdict in verdicts if name == DECONTAMINATED]
        if not any(entry.name == DECONTAMINATED for entry in self.filters):
            return None
        matches = Counter(reason(verdict.why) for verdict in given if not verdict.keep)
        kinds = {kind: matches[kind] for kind in MATCHES}
        compared = sum(verdict.why != NOT_COMPARED for verdict in given)
        return {"checked": compared, **kinds, "removed": sum(matches.values())}

    def candidate_rows(self) -> list[dict[str, Any]]:
        """Every candidate, kept or not, with its unit and its verdicts."""
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
        items: the training items.
        synthesizer: a module that maps a unit to candidates. With a `plan` method it chooses its own units; otherwise
            the items are the units.
        filters: filters, cheapest first. One with a method `prepare` first sees all candidates that it will judge. One
            with a true attribute `ordered` is called for one candidate at a time, in order; others concurrently.
        executor: runs the calls.
        ledger: stores the verdicts, if given.
        limit: maximum number of candidates, spread evenly over the groups.
        progress: called with (units done, units in all).
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
    remaining = candidates
    for judge in filters:
        if isinstance(judge, Prepared):
            judge.prepare(remaining)
        given = _judge(judge, remaining, executor)
        for candidate, verdict in zip(remaining, given, strict=True):
            verdicts[candidate.id].append((judge.name, verdict))
            if ledger is not None:
                ledger.record_verdict(candidate.id, judge.name, verdict)
        reasons = Counter(reason(verdict.why) for verdict in given if not verdict.keep)
        kept = [candidate for candidate, verdict in zip(remaining, given, strict=True) if verdict.keep]
        yields.append(FilterYield(judge.name, len(remaining), len(kept), dict(reasons.most_common())))
        remaining = kept
    return Synthesis(
        items=len(units),
        candidates=tuple(candidates),
        verdicts=verdicts,
        kept=tuple(as_example(candidate) for candidate in remaining),
        filters=tuple(yields),
        failures=dict(failures),
        findings=tuple(getattr(synthesizer, "findings", ())),
    )


def candidate_id(unit: Unit, *parts: object) -> str:
    """The id of a candidate, which is the same in every run for the same unit and sample index."""
    return hashlib.sha256("\n".join([unit.id, *map(str, parts)]).encode()).hexdigest()[:16]


def evenly(items: Sequence[AnyUnit], limit: int | None) -> list[AnyUnit]:
    """At most `limit` items, spread evenly over the groups and within each group."""
    if limit is None or len(items) <= limit:
        return list(items)
    queues: dict[str, list[AnyUnit]] = defaultdict(list)
    for item in items:
        queues[item.group].append(item)
    for members in queues.values():  # by hash, so that chunks are taken from all parts of a document
        members.sort(key=lambda item: hashlib.sha256(item.id.encode()).hexdigest(), reverse=True)
    taken: set[str] = set()
    while len(taken) < limit:
        for group in sorted(queues):
            if queues[group] and len(taken) < limit:
                taken.add(queues[group].pop().id)
    return [item for item in items if item.id in taken]


def reason(why: str) -> str:
    """The part of a verdict's reason to count by: the text before the first colon."""
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
    """Counts of the non-empty values."""
    return dict(Counter(str(value) for value in values if value).most_common())


def _unique(candidates: Iterable[Candidate]) -> list[Candidate]:
    return list({candidate.id: candidate for candidate in candidates}.values())
