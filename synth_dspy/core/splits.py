"""Train, dev and test splits by group (document, function, ...).

Splits are made before anything is generated, by a hash of the group's key: the assignment does not depend on the order
of the groups, and a group is never divided.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

FRACTIONS: Sequence[tuple[str, float]] = (("train", 0.6), ("dev", 0.15), ("test", 0.25))

FOLDS = 5
"""Folds of cross-fitting where nothing is set: an arm then learns from about as much as in a single split."""


def hash_order(key: str, seed: int = 0) -> str:
    """A sort key for shuffling in an order that does not depend on which other keys there are."""
    return hashlib.sha256(f"{seed}\n{key}".encode()).hexdigest()


def split_groups(
    groups: Iterable[str], fractions: Sequence[tuple[str, float]] = FRACTIONS, seed: int = 0
) -> dict[str, str]:
    """Assign every group to a split.

    Args:
        groups: Group keys; repeats count once.
        fractions: Split names with their shares, which are normalised to 1.
        seed: Seed of the order.

    Returns:
        Group key -> split name. Sizes are the shares rounded to whole numbers, and no split is empty if there are at
        least as many groups as splits.

    Raises:
        ValueError: If the shares are not positive numbers of distinct splits.
    """
    names = [name for name, _ in fractions]
    if not names or len(set(names)) < len(names) or any(share <= 0 for _, share in fractions):
        raise ValueError(f"fractions must name distinct splits with positive shares, not {fractions!r}")
    ordered = sorted(set(groups), key=lambda group: (hash_order(group, seed), group))
    sizes = _sizes(len(ordered), [share for _, share in fractions])
    labels = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    return dict(zip(ordered, labels, strict=True))


def assign_folds(strata: Iterable[Iterable[str]], folds: int, seed: int = 0) -> dict[str, int]:
    """Assign every group to the fold that holds it out.

    Args:
        strata: Group keys by stratum; every fold gets its share of each.
        folds: How many there are.
        seed: Another seed, another order.

    Returns:
        Group key -> fold, from 0 on. The folds' sizes differ by one at most.
    """
    ordered = [
        group for part in strata for group in sorted(set(part), key=lambda group: (hash_order(group, seed), group))
    ]
    return {group: position % folds for position, group in enumerate(ordered)}


def _sizes(count: int, shares: Sequence[float]) -> list[int]:
    """Sizes summing to `count`, by the largest remainder method; an empty split takes one from the largest."""
    total = sum(shares)
    exact = [count * share / total for share in shares]
    sizes = [int(value) for value in exact]
    by_remainder = sorted(range(len(shares)), key=lambda i: (sizes[i] - exact[i], i))
    for i in by_remainder[: count - sum(sizes)]:
        sizes[i] += 1
    if count >= len(sizes):
        while 0 in sizes:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[sizes.index(0)] += 1
    return sizes
