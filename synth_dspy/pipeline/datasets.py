"""Splits the knowledge by group, and turns it into the rows that the arms see.

Groups (documents) are assigned to train, dev and test before anything is generated. Synthetic rows and demonstrations
come from train only; prompts are chosen on dev; arms are scored on test only.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dspy
from pydantic_core import to_jsonable_python

from synth_dspy.core.knowledge import Item, Knowledge
from synth_dspy.core.splits import FRACTIONS, assign_folds, split_groups


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
    held_out = knowledge.held_out & {item.group for item in knowledge.items}
    fractions = [part for part in FRACTIONS if part[0] != "test" or not held_out]
    assigned = _assign(_strata(knowledge, held_out).values(), seed, fractions)
    return _splits(knowledge, {**dict.fromkeys(held_out, "test"), **assigned})


def cross_splits(knowledge: Knowledge, seed: int, folds: int, most: int) -> list[dict[str, Split]]:
    """Splits for cross-fitting: together, their `test` holds every labelled example once; and one without any `test`.

    Within a fold, the groups that are not held out are split into `train` and `dev` as a single split does. Groups
    without labels are learned from in every fold.

    Args:
        knowledge: what is split.
        seed: of the assignment.
        folds: how many parts of the labelled groups are held out, one after another.
        most: at most so many labelled examples are scored, spread evenly over the groups.

    Returns:
        The splits of every fold with something to score, and last those in which nothing is held out.
    """
    strata = _strata(knowledge)
    labelled = {key: groups for key, groups in strata.items() if key[0]}
    unlabelled = {group: "train" for key, groups in strata.items() if not key[0] for group in groups}
    held_out = assign_folds(labelled.values(), folds, seed)
    scored = {example.id for example in spread([e for e in knowledge.labelled if e.group in held_out], most, seed)}
    made = []
    for fold in range(folds + 1):  # no group is held out by the last one
        rest = [[group for group in groups if held_out[group] != fold] for groups in labelled.values()]
        # Another seed for each: the same groups would be `dev` in every fold, and never learned from.
        assigned = {**dict.fromkeys(held_out, "test"), **unlabelled, **_assign(rest, seed + 1 + fold, FRACTIONS[:2])}
        splits = _splits(knowledge, assigned)
        test = splits["test"]
        splits["test"] = replace(test, labelled=tuple(example for example in test.labelled if example.id in scored))
        made.append(splits)
    return [*(splits for splits in made[:-1] if splits["test"].labelled), made[-1]]


def _strata(knowledge: Knowledge, without: frozenset[str] = frozenset()) -> dict[tuple[bool, str], list[str]]:
    """Groups, sorted, by whether they have labelled examples and by their stratum."""
    groups = {item.group for item in knowledge.items}
    labelled = {example.group for example in knowledge.labelled} & groups
    strata: dict[tuple[bool, str], list[str]] = defaultdict(list)
    for group in sorted(groups - without):
        strata[group in labelled, knowledge.strata.get(group, "")].append(group)
    return strata


def _assign(strata: Iterable[Iterable[str]], seed: int, fractions: Sequence[tuple[str, float]]) -> dict[str, str]:
    """By group, its split; each stratum is split by itself."""
    return {name: where for part in strata for name, where in split_groups(part, fractions, seed).items()}


def _splits(knowledge: Knowledge, assigned: Mapping[str, str]) -> dict[str, Split]:
    """The splits of an assignment."""
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
