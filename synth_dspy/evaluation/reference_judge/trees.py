"""Boosted trees as plain arrays: fitted by LightGBM, kept as JSON, evaluated by numpy.

Nothing is pickled and nothing but numpy is needed to score. A leaf is a node whose children are itself, so all rows
walk all trees in as many steps as the deepest tree has levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Index = Annotated[int, Field(ge=0, lt=2**31)]


class _Stored(BaseModel):
    """Trees as a file holds them: whole numbers are whole, and all are finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    roots: list[Index]
    feature: list[Index]
    threshold: list[float]
    left: list[Index]
    right: list[Index]
    missing_left: list[Annotated[int, Field(ge=0, le=1)]]
    value: list[float]
    depth: Index


@dataclass(frozen=True, slots=True)
class Trees:
    """The trees' nodes one after another; `roots[t]` is the first node of tree t. All arrays have shape (nodes,)."""

    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: NDArray[np.float64]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    value: NDArray[np.float64]
    depth: int

    def raw(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of the leaves' values for each row, shape (rows,): the log-odds. NaN is a value that does not apply."""
        node = np.broadcast_to(self.roots, (len(rows), len(self.roots))).copy()
        index = np.arange(len(rows))[:, None]
        for _ in range(self.depth):
            values = rows[index, self.feature[node]]
            go_left = np.where(np.isnan(values), self.missing_left[node], values <= self.threshold[node])
            node = np.where(go_left, self.left[node], self.right[node])
        total: NDArray[np.float64] = self.value[node].sum(axis=1)
        return total

    def to_json(self) -> dict[str, Any]:
        """The trees as JSON values; what is written is what is evaluated, so values are rounded before."""
        return {
            "roots": self.roots.tolist(),
            "feature": self.feature.tolist(),
            "threshold": self.threshold.tolist(),
            "left": self.left.tolist(),
            "right": self.right.tolist(),
            "missing_left": self.missing_left.astype(int).tolist(),
            "value": self.value.tolist(),
            "depth": self.depth,
        }

    @classmethod
    def from_json(cls, stored: Any, features: int) -> Trees:
        """The trees that `to_json` wrote.

        Args:
            stored: JSON values; nothing is taken for granted of them.
            features: how many features the trees were fitted on.

        Raises:
            ValueError: they are no such trees; says why.
        """
        read = _Stored.model_validate(stored)
        nodes = np.arange(len(read.feature))
        columns = (read.threshold, read.left, read.right, read.missing_left, read.value)
        if not len(nodes) or any(len(column) != len(nodes) for column in columns):
            raise ValueError("the trees' columns differ in length, or are empty")
        if not read.roots or max(read.roots) >= len(nodes) or max(read.feature) >= features:
            raise ValueError("a tree names a node or a feature that does not exist")
        left, right = np.array(read.left, np.int64), np.array(read.right, np.int64)
        leaf = (left == nodes) & (right == nodes)
        # A child stands behind its parent, as `from_lightgbm` writes them: so there is no circle.
        if not np.all(leaf | ((left > nodes) & (right > nodes) & (left < len(nodes)) & (right < len(nodes)))):
            raise ValueError("a child of a tree's node lies outside the trees, or before its parent")
        return cls(
            np.array(read.roots, np.int32),
            np.array(read.feature, np.int32),
            np.array(read.threshold, np.float64),
            left.astype(np.int32),
            right.astype(np.int32),
            np.array(read.missing_left, np.bool_),
            np.array(read.value, np.float64),
            min(read.depth, len(nodes)),
        )

    @classmethod
    def from_lightgbm(cls, trees: Sequence[Mapping[str, Any]]) -> Trees:
        """The trees of `Booster.dump_model()["tree_info"]`."""
        roots: list[int] = []
        nodes: list[tuple[int, float, int, int, bool, float]] = []
        deepest = 0

        def add(node: Mapping[str, Any], depth: int) -> int:
            nonlocal deepest
            deepest = max(deepest, depth)
            here = len(nodes)
            if "split_feature" not in node:
                nodes.append((0, 0.0, here, here, True, round(float(node["leaf_value"]), 6)))
                return here
            nodes.append((0, 0.0, here, here, True, 0.0))
            left, right = add(node["left_child"], depth + 1), add(node["right_child"], depth + 1)
            threshold = float(f"{float(node['threshold']):.6g}")
            nodes[here] = (int(node["split_feature"]), threshold, left, right, bool(node["default_left"]), 0.0)
            return here

        for tree in trees:
            roots.append(len(nodes))
            add(tree["tree_structure"], 0)
        feature, thresholds, left_child, right_child, missing, values = zip(*nodes, strict=True)
        return cls(
            np.array(roots, np.int32),
            np.array(feature, np.int32),
            np.array(thresholds, np.float64),
            np.array(left_child, np.int32),
            np.array(right_child, np.int32),
            np.array(missing, np.bool_),
            np.array(values, np.float64),
            deepest,
        )
