"""What to write about first: the choice among units, and the order that a server reads them in."""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from synth_dspy.core.knowledge import Item, Unit
from synth_dspy.synthesis.demonstrations import Choice

if TYPE_CHECKING:
    import dspy


class ShownUnit(Unit, Protocol):
    """A unit for which demonstrations were chosen; `mode` names how it is written about, `kind` what is asked for."""

    mode: ClassVar[str]

    @property
    def kind(self) -> str: ...
    @property
    def choice(self) -> Choice: ...


AnyShown = TypeVar("AnyShown", bound=ShownUnit)


def topic(example: dspy.Example) -> str:
    """What a seed asks about: its category, or else its question."""
    return str(example.get("category") or example.question)


def questions_of_others(
    items: Sequence[Item], seeds: Sequence[dspy.Example], wanted: Callable[[dspy.Example, str], bool], seed: int
) -> list[tuple[Item, dspy.Example]]:
    """For each group, by its first item: of the seeds of other groups that are wanted here, one for each topic.

    Args:
        items: of all groups.
        seeds: labelled examples with `group`, `question` and `category`.
        wanted: whether a seed's question shall be asked of a group.
        seed: of the choice among seeds with the same topic.
    """
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.group, item)
    found = []
    for group, item in first.items():
        asked = [example for example in seeds if example.group != group and wanted(example, group)]
        random.Random(f"{seed} {group}").shuffle(asked)
        found += [(item, example) for example in {topic(example): example for example in asked}.values()]
    return found


def best_of_each_group(units: Sequence[AnyShown], limit: int) -> list[AnyShown]:
    """The same number from every group as nearly as possible, those most like labelled seeds first."""
    queues: defaultdict[str, list[AnyShown]] = defaultdict(list)
    for unit in units:
        queues[unit.group].append(unit)
    for queue in queues.values():
        queue.sort(key=lambda u: (u.choice.similarity, hashlib.sha256(u.id.encode()).hexdigest()))
    chosen: list[AnyShown] = []
    while len(chosen) < limit and any(queues.values()):
        for group in sorted(queues):
            if queues[group] and len(chosen) < limit:
                chosen.append(queues[group].pop())
    return chosen


def apart(units: Sequence[AnyShown]) -> list[AnyShown]:
    """First one unit for every set of demonstrations, then the second ones, and so on.

    A server with prefix caching reads demonstrations once, but only if it has read them when the next request comes:
    requests under way together do not share.
    """
    turn: defaultdict[tuple[Any, ...], int] = defaultdict(int)
    keyed = []
    for unit in sorted(units, key=lambda unit: (unit.mode, unit.kind, unit.choice.category, unit.id)):
        shown = tuple(shot.question for shot in unit.choice.shots)
        keyed.append((turn[shown], unit))
        turn[shown] += 1
    return [unit for _, unit in sorted(keyed, key=lambda pair: pair[0])]
