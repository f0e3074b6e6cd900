"""Splits: exact sizes, no dependence on order, a group wholly on one side."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from synth_dspy.core.splits import split_groups


def test_sizes_are_as_near_as_possible() -> None:
    sizes = Counter(split_groups(f"g{i}" for i in range(100)).values())
    assert sizes == {"train": 60, "dev": 15, "test": 25}


@pytest.mark.parametrize("count", [3, 4, 5, 7, 16, 41])
def test_no_split_is_empty(count: int) -> None:
    sizes = Counter(split_groups(f"g{i}" for i in range(count)).values())
    assert set(sizes) == {"train", "dev", "test"}
    assert sum(sizes.values()) == count
    assert all(abs(sizes[name] - count * share) <= 1 for name, share in (("train", 0.6), ("dev", 0.15), ("test", 0.25)))


def test_order_and_repeats_do_not_matter() -> None:
    groups = [f"g{i}" for i in range(50)]
    shuffled = groups * 2
    random.Random(1).shuffle(shuffled)
    assert split_groups(groups) == split_groups(shuffled)


def test_seed_matters() -> None:
    groups = [f"g{i}" for i in range(50)]
    assert split_groups(groups) != split_groups(groups, seed=1)


def test_fewer_groups_than_splits() -> None:
    assert len(split_groups(["a", "b"])) == 2
    assert split_groups([]) == {}


@pytest.mark.parametrize("fractions", [[], [("a", 0.5), ("a", 0.5)], [("a", 1.0), ("b", 0.0)]])
def test_bad_fractions(fractions: list[tuple[str, float]]) -> None:
    with pytest.raises(ValueError, match="fractions"):
        split_groups(["x"], fractions)
