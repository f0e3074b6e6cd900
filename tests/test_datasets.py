"""Splits and rows: a group is on one side only, and a bound is spread over the groups."""

from __future__ import annotations

from collections import Counter

import dspy

from synth_dspy.core.knowledge import Item, Knowledge
from synth_dspy.pipeline import datasets


def example(group: str, number: int) -> dspy.Example:
    fields = {"id": f"{group}-{number}", "group": group, "question": "q", "document": group, "references": ["a"]}
    return dspy.Example(**fields).with_inputs("question", "document")


def knowledge(groups: int, labelled: int, each: int = 4) -> Knowledge:
    names = [f"g{number:02d}" for number in range(groups)]
    return Knowledge(
        items=[Item(f"{name}-{n}", name, "text") for name in names for n in range(3)],
        labelled=[example(name, n) for name in names[:labelled] for n in range(each)],
    )


def test_groups_are_on_one_side_and_labels_follow_them() -> None:
    splits = datasets.split(knowledge(20, 20), seed=0)
    names = [name for split in splits.values() for name in split.groups]
    assert len(names) == len(set(names)) == 20
    for split in splits.values():
        assert {item.group for item in split.items} == set(split.groups)
        assert {row.group for row in split.labelled} <= set(split.groups)


def test_every_split_gets_labelled_groups_where_only_some_are_labelled() -> None:
    splits = datasets.split(knowledge(20, 6), seed=0)
    assert all(split.labelled for split in splits.values())


def test_another_seed_splits_otherwise_and_the_same_one_alike() -> None:
    first, again, other = (datasets.split(knowledge(20, 20), seed=seed)["test"].groups for seed in (0, 0, 1))
    assert first == again != other


def test_a_bound_is_spread_over_the_groups() -> None:
    rows = [example(group, n) for group in "abc" for n in range(10)]
    chosen = datasets.spread(rows, 7, seed=0)
    assert sorted(Counter(row.group for row in chosen).values()) == [2, 2, 3]
    assert [row.id for row in chosen] == [row.id for row in rows if row.id in {c.id for c in chosen}]


def test_rows_survive_json() -> None:
    row = example("a", 1)
    back = datasets.from_row(datasets.as_row(row))
    assert back.toDict() == row.toDict()
    assert back.inputs().toDict() == row.inputs().toDict()


def test_training_rows_are_chosen_by_origin() -> None:
    gold, synthetic = [example("a", 1)], [example("b", 1)]
    assert datasets.training_rows(gold, synthetic, "all") == gold + synthetic
    assert datasets.training_rows(gold, synthetic, "gold") == gold
    assert datasets.training_rows(gold, synthetic, "synthetic") == synthetic
