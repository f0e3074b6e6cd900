"""Fitting what says without a model whether passages support a statement: boosted trees on few, monotone features.

Every figure is of rows of groups (a claim's article, a contract) that the fit did not see. What is shipped is fitted on
all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.errors import SetupError
from synth_dspy.core.text import words
from synth_dspy.evaluation.groundedness.features import FEATURES, Statement, feature_table
from synth_dspy.evaluation.groundedness.parameters import Fitted, Parameters
from synth_dspy.evaluation.reference_judge.calibration import agreement
from synth_dspy.evaluation.reference_judge.examples import fold
from synth_dspy.evaluation.reference_judge.meaning import TokenEmbedder
from synth_dspy.evaluation.reference_judge.trees import Trees

_FOLDS = 5
_BATCH = 128
_BOOSTING: dict[str, Any] = {
    "objective": "binary",
    "learning_rate": 0.05,
    "num_leaves": 8,
    "min_data_in_leaf": 30,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "feature_fraction": 0.5,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
_ROUNDS = 150
_VERDICTS = frozenset({"wice", "halueval"})
_VERDICT_WEIGHT = 3.0
"""Weight of a person's verdict: there are few, and they are what the others stand for."""

_FALLING = words("numbers_missing names_missing negations_added")
_FREE = words("negations_dropped length passage_length second_cosine question_found question_beside question_in_one")


class LabelledStatement(NamedTuple):
    """A statement, whether its passages support it (1 or 0), what it belongs to, and what kind of row it is."""

    text: str
    question: str
    passages: tuple[str, ...]
    label: int
    group: str
    kind: str


def fit_and_measure(
    grounded: Sequence[LabelledStatement],
    retrieval: Sequence[LabelledStatement],
    embedder: TokenEmbedder,
    *,
    seed: int = 0,
) -> Parameters:
    """Fit both parts, each with its agreement on groups outside the fit.

    Args:
        grounded: statements of answers.
        retrieval: references, with the passages that were found for their questions.
        embedder: gives token vectors.
        seed: of everything that is drawn.

    Raises:
        SetupError: LightGBM is not installed.
    """
    return Parameters(
        embedder.name,
        fit_part(grounded, embedder, "wice", "claims and web pages, WiCE", seed),
        fit_part(retrieval, embedder, "cuad, retrieved", "clauses that experts marked in contracts, CUAD", seed),
    )


def fit_part(
    rows: Sequence[LabelledStatement], embedder: TokenEmbedder, measured: str, source: str = "", seed: int = 0
) -> Fitted:
    """Trees fitted on all rows, with the figures of five fits, each measured on the fifth of the groups it left out.

    Args:
        rows: what is fitted on.
        embedder: gives token vectors.
        measured: the kind of rows that the agreement is of: those that people labelled.
        source: what these are, for the report.
        seed: of everything that is drawn.
    """
    table = np.concatenate(
        [
            feature_table([Statement(*row[:3]) for row in rows[start : start + _BATCH]], embedder)
            for start in range(0, len(rows), _BATCH)
        ]
    )
    label = np.array([row.label for row in rows])
    weight = np.array([_VERDICT_WEIGHT if row.kind in _VERDICTS else 1.0 for row in rows])
    folds = np.array([fold(row.group, _FOLDS) for row in rows])
    scores = np.empty(len(rows))
    for held_out in range(_FOLDS):
        inside = folds != held_out
        trees = _boost(table[inside], label[inside], weight[inside], seed)
        scores[~inside] = Fitted(trees, {}).scores(table[~inside])
    return Fitted(_boost(table, label, weight, seed), _figures(rows, scores, label, measured, source))


def _boost(table: NDArray[np.float64], label: NDArray[np.int64], weight: NDArray[np.float64], seed: int) -> Trees:
    try:
        import lightgbm
    except ImportError as error:
        raise SetupError("Fitting the groundedness judge needs LightGBM: pip install lightgbm") from error
    rising = [-1 if name in _FALLING else 0 if name in _FREE else 1 for name in FEATURES]
    data = lightgbm.Dataset(table, label, weight=weight)
    model = lightgbm.train(_BOOSTING | {"monotone_constraints": rising, "seed": seed}, data, _ROUNDS)
    return Trees.from_lightgbm(model.dump_model()["tree_info"])


def _figures(
    rows: Sequence[LabelledStatement],
    scores: NDArray[np.float64],
    label: NDArray[np.int64],
    measured: str,
    source: str,
) -> dict[str, Any]:
    """The agreement with people, and that of each kind of row."""
    by_kind = {}
    for kind in dict.fromkeys(row.kind for row in rows):
        figures = _told(rows, scores, label, np.array([row.kind == kind for row in rows]))
        # Of rows that all have one label there is nothing but the share that is told rightly.
        keys = ("n", "accuracy") if figures["auroc"] is None else ("n", "accuracy", "kappa", "auroc")
        by_kind[kind] = {key: figures[key] for key in keys}
    human = np.array([row.kind == measured for row in rows])
    return {**_told(rows, scores, label, human), "source": source, "by_kind": by_kind}


def _told(
    rows: Sequence[LabelledStatement],
    scores: NDArray[np.float64],
    label: NDArray[np.int64],
    chosen: NDArray[np.bool_],
) -> dict[str, Any]:
    groups = [row.group for row, kept in zip(rows, chosen, strict=True) if kept]
    told = agreement(scores[chosen], label[chosen], groups).as_dict()
    rounded = {key: None if value is None else np.round(value, 3).tolist() for key, value in told.items()}
    return {key: None if value != value else value for key, value in rounded.items()}  # NaN: not defined
