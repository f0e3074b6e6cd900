"""The interval of a share holds what it should, also where answers come in groups that are alike."""

from __future__ import annotations

import numpy as np
import pytest

from synth_dspy.evaluation.proportions import proportion


def test_wilson_without_groups() -> None:
    given = proportion([True] * 8 + [False] * 2)
    assert (given.share, given.n, given.groups, given.method) == (0.8, 10, 10, "Wilson")
    assert (given.low, given.high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))  # Wilson 1927
    assert proportion([True] * 4, "abcd") == proportion([True] * 4)
    assert proportion([]).share is None


def test_one_group_says_as_much_as_one_answer() -> None:
    together, alone = proportion([True] * 30, ["orders"] * 30), proportion([True])
    assert (together.low, together.high) == (alone.low, alone.high)


def test_coverage_with_tables_whose_columns_are_alike() -> None:
    rng, tables, share, covered = np.random.default_rng(0), 20, 0.7, [0, 0]
    for _ in range(400):
        sizes, rates = rng.integers(3, 16, tables), rng.beta(share * 7 / 3, (1 - share) * 7 / 3, tables)
        values = [bool(v) for size, rate in zip(sizes, rates, strict=True) for v in rng.random(size) < rate]
        groups = np.repeat(np.arange(tables), sizes).tolist()
        for place, given in enumerate((proportion(values, groups), proportion(values))):
            assert given.low is not None
            assert given.high is not None
            covered[place] += given.low <= share <= given.high
    assert covered[0] >= 0.92 * 400
    assert covered[1] < 0.8 * 400  # what the groups are for
