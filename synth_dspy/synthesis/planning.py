"""Choice among units to write about, and their order for prefix caching."""

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
    """A unit with chosen demonstrations; `mode` is how it is written about, `kind` the type of answer."""

    mode: ClassVar[str]

    @property
    def kind(self) -> str: ...
    @property
    def choice(self) -> Choice: ...


AnyShown = TypeVar("AnyShown", bound=ShownUnit)


def topic(example: dspy.Example) -> str:
    """The topic of a seed: its category, or else its question."""
    return str(example.get("category") or example.question)


def questions_of_others(
    items: Sequence[Item], seeds: Sequence[dspy.Example], wanted: Callable[[dspy.Example, str], bool], seed: int
) -> list[tuple[Item, dspy.Example]]:
    """Pair the first item of each group with seeds of other groups, one per topic.

    Args:
        items: items of all groups.
        seeds: labelled examples with `group`, `question` and `category`.
        wanted: whether to ask a seed's question about a group.
        seed: random seed of the choice among seeds with the same topic.
    """
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(item.group, item)
    pairs = []
    for group, item in first.items():
        candidates = [example for example in seeds if example.group != group and wanted(example, group)]
        random.Random(f"{seed} {group}").shuffle(candidates)
        pairs += [(item, example) for example in {topic(example): example for example in candidates}.values()]
    return pairs


def best_of_each_group(units: Sequence[AnyShown], limit: int) -> list[AnyShown]:
    """At most `limit` units, spread evenly over the groups, those most similar to labelled seeds first."""
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


def interleave(units: Sequence[AnyShown]) -> list[AnyShown]:
    """Order units round-robin over their sets of demonstrations.

    Prefix caching only helps a request if an earlier one with the same demonstrations has been processed: concurrent
    requests do not share.
    """
    turn: defaultdict[tuple[Any, ...], int] = defaultdict(int)
    keyed = []
    for unit in sorted(units, key=lambda unit: (unit.mode, unit.kind, unit.choice.category, unit.id)):
        shown = tuple(shot.question for shot in unit.choice.shots)
        keyed.append((turn[shown], unit))
        turn[shown] += 1
    return [unit for _, unit in sorted(keyed, key=lambda pair: pair[0])]
