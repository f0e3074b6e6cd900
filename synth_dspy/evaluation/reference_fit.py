"""Fitting the reference judge: verdicts of people, attacks made from them, and contract clauses, under boosted trees.

The figures that go with the parameters are of a judge fitted on half of the groups and measured on the other half;
the parameters themselves may then be fitted on all groups. A group is never on both sides.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synth_dspy.errors import SetupError
from synth_dspy.evaluation import judge_examples
from synth_dspy.evaluation.answer_meaning import MEANING_FEATURES, TokenEmbedder
from synth_dspy.evaluation.answer_text import parse
from synth_dspy.evaluation.judge_examples import Example, fold
from synth_dspy.evaluation.reference_judge import CONTEXT_FEATURE, Asked, Parameters, affirmation, extract, tabulate
from synth_dspy.evaluation.trees import Trees

if TYPE_CHECKING:
    Array = NDArray[np.float64]

_FOLDS = 4
_COMMON_ENOUGH = 8
_BOOSTING = {
    "objective": "cross_entropy",
    "learning_rate": 0.04,
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "feature_fraction": 0.35,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
_ROUNDS = 400

_MORE_IS_BETTER = frozenset(
    "recall novel_recall fuzzy_recall letters precision novel_precision exact joined coverage contiguous numbers_found "
    "names_found references_met references_half_met first_word last_word year_found best_recall best_novel_recall "
    "best_letters best_fuzzy_recall best_exact best_joined best_coverage best_numbers_found context_affirms "
    "asked_cosine best_cosine stretch_cosine reference_met_mean reference_met_least answer_met_mean "
    "mean_cosine".split()
)
_MORE_IS_WORSE = frozenset(
    "replaced_numbers replaced_months year_conflict month_conflict day_conflict numbers_conflict names_missing "
    "numbers_missing worst_year_conflict worst_month_conflict worst_day_conflict inserted_neg deleted_neg "
    "yes_no_flip".split()
)


def fit(
    rows: Sequence[Mapping[str, Any]],
    embedder: TokenEmbedder,
    *,
    clauses: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
    agreement: Mapping[str, Any] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Parameters:
    """Fit the judge.

    Args:
        rows: verdicts: question, references, prediction, label, group.
        embedder: gives token vectors.
        clauses: labelled contract clauses in the layout of `clauses.jsonl`; without them long references suffer.
        seed: of everything that is drawn.
        provenance: where the data is from; kept with the parameters.
        agreement: held-out figures; kept with the parameters.
        progress: told the share that is done.

    Raises:
        SetupError: LightGBM is not installed.
    """
    rng = random.Random(seed)
    items = judge_examples.known_from_verdicts(rows, rng)
    examples = judge_examples.natural(rows) + judge_examples.made(items, rng)
    if clauses:
        examples += judge_examples.made(judge_examples.known_from_clauses(clauses, rng), rng)
    idf = inverse_frequencies([text for row in rows for text in (row["question"], row["prediction"])])
    return fit_examples(examples, idf, embedder, seed, provenance or {}, agreement or {}, progress)


def fit_examples(
    examples: Sequence[Example],
    idf: Mapping[str, float],
    embedder: TokenEmbedder,
    seed: int,
    provenance: Mapping[str, Any],
    agreement: Mapping[str, Any],
    progress: Callable[[float], None] = lambda share: None,
) -> Parameters:
    """Fit the context model, then the trees on top of its out-of-fold answers."""
    try:
        import lightgbm
    except ImportError as error:
        raise SetupError("Fitting the reference judge needs LightGBM: pip install lightgbm") from error

    comparisons, meanings, arounds = [], [], []
    kept: list[Example] = []
    for start in range(0, len(examples), 512):
        batch = [Asked(e.question, e.references, e.prediction) for e in examples[start : start + 512]]
        compared, meaning, around, places = extract(batch, lambda norm: idf.get(norm, idf[""]), embedder)
        kept += [examples[start + place] for place in places]
        comparisons += compared
        meanings.append(meaning)
        arounds.append(around.astype(np.float32))
        progress(min(1.0, (start + 512) / len(examples)))
    examples = kept
    around = np.concatenate(arounds).astype(np.float64)
    affirms, weights = _fit_context(examples, around)
    features = (*comparisons[0].values, *MEANING_FEATURES, CONTEXT_FEATURE)
    table = tabulate(comparisons, np.concatenate(meanings), affirms, features)
    constraints = [1 if name in _MORE_IS_BETTER else -1 if name in _MORE_IS_WORSE else 0 for name in features]
    data = lightgbm.Dataset(table, [e.target for e in examples], weight=[e.weight for e in examples])
    booster = lightgbm.train(_BOOSTING | {"monotone_constraints": constraints, "seed": seed}, data, _ROUNDS)
    trees = Trees.from_lightgbm(booster.dump_model()["tree_info"])
    return Parameters(features, trees, idf, weights, embedder.name, provenance, agreement)


def inverse_frequencies(texts: Sequence[str]) -> dict[str, float]:
    """Inverse document frequency of the tokens seen in at least a few texts; "" stands for all rarer ones."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({token.norm for token in parse(text).tokens if token.kind != "p"})
    kept = {
        norm: round(math.log((len(texts) + 1) / (count + 1)), 2)
        for norm, count in sorted(counts.items())
        if count >= _COMMON_ENOUGH
    }
    return {"": round(math.log((len(texts) + 1) / (_COMMON_ENOUGH / 2)), 2)} | kept


_DENIES = frozenset({"negation", "uncertainty", "contrast", "candidates"})
_AFFIRMS = frozenset({"truth", "hard"})


def _fit_context(examples: Sequence[Example], around: Array) -> tuple[Array, Array]:
    """A logistic model that tells contexts that affirm from those that do not.

    Returns:
        Log-odds for every example from a model that saw neither its phrasing nor its group, and the weights of the
        model of all.
    """
    has = ~np.isnan(around[:, 0])
    denies = np.array([e.kind in _DENIES for e in examples])
    affirms = np.array([e.kind in _AFFIRMS or (e.kind == "natural" and e.target == 1) for e in examples])
    use = has & (denies | affirms)
    label = affirms.astype(np.float64)
    balance = np.where(denies, 0.5 / max(1, denies[use].sum()), 0.5 / max(1, affirms[use].sum())) * use.sum()
    folds = np.array([fold(e.phrasing, _FOLDS) for e in examples])
    out = np.full(len(examples), np.nan)
    for k in range(_FOLDS):
        chosen = use & (folds != k)
        weights = _logistic(around[chosen], label[chosen], balance[chosen])
        out[folds == k] = affirmation(around[folds == k], weights)
    return out, _logistic(around[use], label[use], balance[use])


def _logistic(x: Array, y: Array, sample_weight: Array, penalty: float = 2.0) -> Array:
    """Weights (bias last) of an L2-penalised logistic regression."""
    from scipy.optimize import minimize
    from scipy.special import expit, log_expit

    def loss(w: Array) -> tuple[float, Array]:
        z = x @ w[:-1] + w[-1]
        signed = np.where(y > 0.5, z, -z)
        value = -(sample_weight * log_expit(signed)).sum() + 0.5 * penalty * float(w[:-1] @ w[:-1])
        slope = sample_weight * (expit(z) - y)
        return value, np.append(x.T @ slope + penalty * w[:-1], slope.sum())

    found: Array = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return found
