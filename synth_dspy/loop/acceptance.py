"""What users did with suggestions, by version: how many they took as they were, edited, or rejected."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from synth_dspy.domains.tables.schema import viewed_table
from synth_dspy.evaluation.proportions import Proportion, proportion
from synth_dspy.loop.records import Feedback, Request
from synth_dspy.loop.store import Store

_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class Acceptance:
    """Decisions about a version's suggestions.

    Attributes:
        accepted: those taken as they were.
        edited: those changed before they were taken.
        rejected: those not taken.
        rate: accepted ones among all, with its interval; the groups are tables, or what else suggestions belong to.
    """

    accepted: int
    edited: int
    rejected: int
    rate: Proportion

    def __str__(self) -> str:
        rate = self.rate
        if rate.share is None or rate.low is None or rate.high is None:
            return ""
        return f"{100 * rate.share:.0f} % ({100 * rate.low:.0f} to {100 * rate.high:.0f}) of {rate.n}"


def acceptance_by_version(store: Store) -> dict[str, Acceptance]:
    """The acceptance of each version that anything was decided of; the latest decision on a suggestion counts.

    Args:
        store: of the task.
    """
    decisions = {record.request: record for record in store.read(Feedback, kind="acceptance", source="person")}
    names = list(decisions)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    values: defaultdict[str, list[bool]] = defaultdict(list)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for start in range(0, len(names), _AT_ONCE):
        for request in store.read(Request, id=names[start : start + _AT_ONCE]):
            outcome = outcome_of(decisions[request.id], request)
            counts[request.version][outcome] += 1
            values[request.version].append(outcome == "accepted")
            groups[request.version].append(group_of(request))
    return {
        version: Acceptance(
            each["accepted"], each["edited"], each["rejected"], proportion(values[version], groups[version])
        )
        for version, each in sorted(counts.items(), key=lambda pair: int(pair[0][1:]))
    }


def outcome_of(decision: Feedback, request: Request) -> str:
    """`accepted`, `edited` or `rejected`; edited to itself is accepted."""
    if isinstance(decision.value, str):
        return "accepted" if decision.value.strip() == request.answer.strip() else "edited"
    return "accepted" if decision.value else "rejected"


def group_of(request: Request) -> str:
    """What a suggestion belongs to: its table or document; without either it stands alone."""
    if table := request.inputs.get("table"):
        return viewed_table(str(table))
    return str(request.inputs.get("document") or request.id)
