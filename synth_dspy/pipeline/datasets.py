"""Splits the knowledge by group, and turns it into the rows that the arms see.

Groups (documents) are assigned to train, dev and test before anything is generated. Synthetic rows and demonstrations
come from train only; prompts are chosen on dev; arms are scored on test only.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from pydantic_core import to_jsonable_python

from synth_dspy.core.knowledge import Item, Knowledge
from synth_dspy.core.splits import FRACTIONS, split_groups


@dataclass(frozen=True, slots=True)
class Split:
    """One split of the knowledge.

    Attributes:
        groups: names of its groups, sorted.
        items: sources for synthetic rows.
        labelled: human-labelled examples about them.
    """

    groups: tuple[str, ...]
    items: tuple[Item, ...]
    labelled: tuple[dspy.Example, ...]


Splits = Mapping[str, Split]
"""`train`, `dev` and `test`."""


def split(knowledge: Knowledge, seed: int) -> dict[str, Split]:
    """Split by group into `train`, `dev` and `test`.

    Groups with and without labelled examples, and those of different strata, are split separately, so that every split
    gets its share of each. Groups of `knowledge.held_out` are the test split.
    """
    groups = {item.group for item in knowledge.items}
    labelled = {example.group for example in knowledge.labelled} & groups
    strata: dict[tuple[bool, str], list[str]] = defaultdict(list)
    held_out = knowledge.held_out & groups
    for group in sorted(groups - held_out):
        strata[group in labelled, knowledge.strata.get(group, "")].append(group)
    fractions = [part for part in FRACTIONS if part[0] != "test" or not held_out]
    assigned = dict.fromkeys(held_out, "test")
    for part in strata.values():
        assigned |= split_groups(part, fractions, seed=seed)
    return {
        name: Split(
            groups=tuple(sorted(group for group, where in assigned.items() if where == name)),
            items=tuple(item for item in knowledge.items if assigned[item.group] == name),
            labelled=tuple(example for example in knowledge.labelled if assigned.get(example.group) == name),
        )
        for name in ("train", "dev", "test")
    }


def spread(rows: Sequence[dspy.Example], most: int, seed: int) -> list[dspy.Example]:
    """At most `most` rows, as evenly from the groups as possible, in their original order."""
    if len(rows) <= most:
        return list(rows)
    by_group: dict[str, list[dspy.Example]] = defaultdict(list)
    for row in rows:
        by_group[row.group].append(row)
    rng = random.Random(seed)
    for members in by_group.values():
        rng.shuffle(members)
    chosen: list[dspy.Example] = []
    while len(chosen) < most:
        for group in sorted(by_group):
            if by_group[group] and len(chosen) < most:
                chosen.append(by_group[group].pop())
    ids = {row.id for row in chosen}
    return [row for row in rows if row.id in ids]


def training_rows(gold: Iterable[dspy.Example], synthetic: Iterable[dspy.Example], train_on: str) -> list[dspy.Example]:
    """The rows that optimizers see: `gold`, `synthetic`, or `all` of them, human-labelled ones first."""
    rows = [] if train_on == "synthetic" else list(gold)
    return rows + ([] if train_on == "gold" else list(synthetic))


def as_row(example: dspy.Example) -> Mapping[str, Any]:
    """An example as a JSON object; `inputs` lists the program's input fields."""
    row: dict[str, Any] = dict(sorted(to_jsonable_python(dict(example.items()), fallback=str).items()))
    row["inputs"] = sorted(example.inputs().keys())
    return row


def from_row(row: Mapping[str, Any]) -> dspy.Example:
    """The example of a row that `as_row` made."""
    fields = {key: value for key, value in row.items() if key != "inputs"}
    return dspy.Example(**fields).with_inputs(*row["inputs"])
