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

from synth_dspy.answer_text import parse, words
from synth_dspy.errors import SetupError
from synth_dspy.evaluation import judge_examples
from synth_dspy.evaluation.answer_meaning import MEANING_FEATURES, MENTIONED, TokenEmbedder
from synth_dspy.evaluation.judge_examples import Example, fold
from synth_dspy.evaluation.reference_judge import (
    CONTEXT_FEATURE,
    Asked,
    Parameters,
    ReferenceScorer,
    affirmation,
    extract,
    tabulate,
)
from synth_dspy.evaluation.trees import Trees

if TYPE_CHECKING:
    Array = NDArray[np.float64]

_FOLDS = 4
_COMMON_ENOUGH = 8
_BOOSTING: dict[str, Any] = {
    "objective": "cross_entropy",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
# Random thresholds (extremely randomised trees) take noisy labels better: +0.006 of kappa.
_SAME: dict[str, Any] = {"extra_trees": True, "feature_fraction": 0.5, "rounds": 420}
_STATED: dict[str, Any] = {"feature_fraction": 0.4, "rounds": 300}

_MORE_IS_BETTER = words(
    "recall novel_recall fuzzy_recall letters precision novel_precision exact joined coverage contiguous numbers_found "
    "names_found references_met references_half_met first_word last_word year_found best_recall best_novel_recall "
    "best_letters best_fuzzy_recall best_exact best_joined best_coverage best_numbers_found context_affirms "
    "asked_cosine best_cosine stretch_cosine reference_met_mean reference_met_least answer_met_mean "
    "mean_cosine"
)
_MORE_IS_WORSE = words(
    "replaced_numbers replaced_months year_conflict month_conflict day_conflict numbers_conflict names_missing "
    "numbers_missing replaced_names worst_year_conflict worst_month_conflict worst_day_conflict inserted_neg "
    "deleted_neg yes_no_flip"
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
    meaning = np.concatenate(meanings)

    def boost(chosen: list[int], features: Sequence[str], options: dict[str, Any], weight: list[float]) -> Trees:
        table = tabulate([comparisons[i] for i in chosen], meaning[chosen], affirms[chosen], features)
        rising = [1 if name in _MORE_IS_BETTER else -1 if name in _MORE_IS_WORSE else 0 for name in features]
        data = lightgbm.Dataset(table, [examples[i].target for i in chosen], weight=weight)
        settings = _BOOSTING | options | {"monotone_constraints": rising, "seed": seed}
        rounds = settings.pop("rounds")
        return Trees.from_lightgbm(lightgbm.train(settings, data, rounds).dump_model()["tree_info"])

    same_features = (*comparisons[0].values, *MEANING_FEATURES)
    same_rows = [i for i, e in enumerate(examples) if _tells_same(e)]
    same = boost(same_rows, same_features, _SAME, [examples[i].weight for i in same_rows])
    stated_features = (*(name for name in comparisons[0].values if _is_manner(name)), CONTEXT_FEATURE)
    stated_rows = [i for i, e in enumerate(examples) if comparisons[i].share >= MENTIONED and _tells_stated(e)]
    natural_weight = [_NATURAL_STATED if examples[i].kind == "natural" else 1.0 for i in stated_rows]
    stated = boost(stated_rows, stated_features, _STATED, natural_weight)
    return Parameters(same_features, same, stated_features, stated, idf, weights, embedder.name, provenance, agreement)


_DENIES = frozenset({"negation", "uncertainty", "contrast", "candidates"})
_AFFIRMS = frozenset({"truth", "hard"})
_CHANGED = frozenset({"digit", "month", "name"})
_OF_LONG = frozenset({"part", "paraphrase", "other clause", "mixed", "surrounded", "negated inside"})
_NATURAL_STATED = 3.0
"""Weight of a right natural answer in the model of what is stated: each one it vetoes is a right answer lost."""


def _tells_same(example: Example) -> bool:
    """Whether an example teaches what counts as the same answer.

    For short answers only people's verdicts do: they forgive a wrong day or a misspelt name more often than a made
    example would. Contracts, where they are not forgiven, have no verdicts.
    """
    return example.kind == "natural" or (example.from_contract and example.kind in _OF_LONG | _CHANGED | {"truth"})


def _tells_stated(example: Example) -> bool:
    """Whether an example teaches how answers are stated, denied, or quietly changed."""
    made = _DENIES | _AFFIRMS | _CHANGED | {"question", "negated inside"}
    kept = {"natural", "part", "paraphrase", "surrounded"}
    return example.kind in made or (example.kind in kept and example.target >= _RIGHT)


_RIGHT = 0.8

_MANNER = words(
    "asks asks_anywhere or_adjacent and_adjacent comma_adjacent list_items context_length quoted novel_words "
    "from_question novel_precision precision contiguous answer_length length_ratio same_type_before coverage exact "
    "recall letters fuzzy_recall first_word last_word numeric"
)
_MANNER_PREFIXES = words(
    "before after count negations neg mention reference references stranger strangers inserted deleted replaced "
    "numbers names year month day worst least best question"
)


def _is_manner(name: str) -> bool:
    return name in _MANNER or name.split("_")[0] in _MANNER_PREFIXES


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


def fit_and_measure(
    rows: Sequence[Mapping[str, Any]],
    embedder: TokenEmbedder,
    *,
    clauses: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
    source: str = "",
    progress: Callable[[float], None] = lambda share: None,
) -> Parameters:
    """Fit on all groups, with the figures of two fits on half of them, each measured on the other half.

    Args:
        rows, embedder, clauses, seed, progress: as for `fit`.
        source: name of the verdicts, for the report.
    """
    from synth_dspy.evaluation.calibration import agreement

    scores, labels = [], []
    for half in (0, 1):
        inside = [row for row in rows if fold(row["group"], 2) == half]
        outside = [row for row in rows if fold(row["group"], 2) != half]
        if not inside or not outside:
            raise SetupError("Fitting needs verdicts of several groups: one half of the groups measures the other.")
        half_clauses = [clause for clause in clauses if fold(clause["contract"], 2) == half]
        fitted = fit(inside, embedder, clauses=half_clauses, seed=seed, progress=_part(progress, half / 4))
        asked = [Asked(row["question"], row["references"], row["prediction"]) for row in outside]
        scores += ReferenceScorer(fitted, embedder).score(asked)
        labels += [row["label"] for row in outside]
    figures = {key: round(value, 4) for key, value in agreement(scores, labels).as_dict().items()}
    measured = {
        **figures,
        "source": source,
        "measured_on": "the other half of the groups, after a fit on half, both ways; the parameters are of all",
    }
    contracts = len({clause["contract"] for clause in clauses})
    provenance = {
        "source": source,
        "verdicts": len(rows),
        "groups": len({row["group"] for row in rows}),
        "clauses": len(clauses),
        "contracts": contracts,
        "seed": seed,
    }
    return fit(
        rows, embedder, clauses=clauses, seed=seed, provenance=provenance, agreement=measured,
        progress=_part(progress, 0.5, 0.5),
    )  # fmt: skip


def _part(progress: Callable[[float], None], start: float, width: float = 0.25) -> Callable[[float], None]:
    return lambda share: progress(start + width * share)
