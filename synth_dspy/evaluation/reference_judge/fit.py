"""Fitting the reference judge: verdicts of people, attacks made from them, and contract clauses, under boosted trees.

The figures that go with the parameters are of a judge fitted on half of the groups and measured on the other half;
the parameters themselves may then be fitted on all groups. A group is never on both sides.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.errors import SetupError
from synth_dspy.core.text import parse, words
from synth_dspy.evaluation.reference_judge import examples as judge_examples
from synth_dspy.evaluation.reference_judge.examples import Example, fold
from synth_dspy.evaluation.reference_judge.features import AnswerComparison
from synth_dspy.evaluation.reference_judge.judge import (
    CONTEXT_FEATURE,
    JudgedAnswer,
    Parameters,
    affirmation,
    extract,
    judge,
    tabulate,
)
from synth_dspy.evaluation.reference_judge.meaning import MEANING_FEATURES, MENTIONED, TokenEmbedder
from synth_dspy.evaluation.reference_judge.trees import Trees

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
# Random thresholds (extremely randomised trees), large leaves and few rounds take people's noisy labels better.
_SAME: dict[str, Any] = {"extra_trees": True, "feature_fraction": 0.3, "min_data_in_leaf": 80, "rounds": 280}
_STATED: dict[str, Any] = {"feature_fraction": 0.4, "rounds": 250}

_MORE_IS_BETTER = words(
    "recall novel_recall fuzzy_recall letters precision novel_precision exact joined coverage contiguous numbers_found "
    "names_found references_met references_half_met first_word last_word year_found best_recall best_novel_recall "
    "best_letters best_fuzzy_recall best_exact best_joined best_coverage best_numbers_found context_affirms "
    "best_contiguous best_precision best_novel_precision best_first_word best_last_word added_met_mean added_cosine "
    "asked_cosine best_cosine stretch_cosine reference_met_mean reference_met_least answer_met_mean "
    "mean_cosine"
)
_MORE_IS_WORSE = words(
    "replaced_numbers replaced_months replaced_foreign year_conflict month_conflict day_conflict numbers_conflict "
    "names_missing numbers_missing replaced_names worst_year_conflict worst_month_conflict worst_day_conflict "
    "inserted_neg deleted_neg yes_no_flip"
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
        progress: called with the share that is done.

    Raises:
        SetupError: LightGBM is not installed.
    """
    table = _extract_features(_examples(rows, clauses, seed), _frequencies(rows), embedder, progress)
    return _fit(table, seed, embedder.name, provenance or {}, agreement or {})


def _examples(rows: Sequence[Mapping[str, Any]], clauses: Sequence[Mapping[str, Any]], seed: int) -> list[Example]:
    """People's verdicts, and the examples generated from them and from the clauses."""
    rng = random.Random(seed)
    examples = judge_examples.verdict_examples(rows)
    examples += judge_examples.make_examples(judge_examples.items_from_verdicts(rows, rng), rng)
    if clauses:
        examples += judge_examples.make_examples(judge_examples.items_from_clauses(clauses, rng), rng)
    return examples


@dataclass(frozen=True, slots=True)
class _FeatureTable:
    """Examples and their features (`reference_judge.extract`)."""

    examples: list[Example]
    comparisons: list[AnswerComparison]
    meaning: Array
    around: NDArray[np.float32]
    idf: Mapping[str, float]

    def of(self, chosen: Callable[[Example], bool]) -> _FeatureTable:
        """The examples for which `chosen` is true."""
        places = [i for i, example in enumerate(self.examples) if chosen(example)]
        return _FeatureTable(
            [self.examples[i] for i in places], [self.comparisons[i] for i in places],
            self.meaning[places], self.around[places], self.idf,
        )  # fmt: skip


def _extract_features(
    examples: Sequence[Example],
    idf: Mapping[str, float],
    embedder: TokenEmbedder,
    progress: Callable[[float], None],
) -> _FeatureTable:
    """The features of all examples that have something to compare."""
    comparisons: list[AnswerComparison] = []
    meanings, arounds = [], []
    kept: list[Example] = []
    for start in range(0, len(examples), 512):
        batch = [JudgedAnswer(e.question, e.references, e.prediction) for e in examples[start : start + 512]]
        compared, meaning, around, places = extract(batch, lambda norm: idf.get(norm, idf[""]), embedder)
        kept += [examples[start + place] for place in places]
        comparisons += compared
        meanings.append(meaning)
        arounds.append(around.astype(np.float32))
        progress(min(1.0, (start + 512) / len(examples)))
    return _FeatureTable(kept, comparisons, np.concatenate(meanings), np.concatenate(arounds), idf)


def _fit(
    table: _FeatureTable, seed: int, embedder: str, provenance: Mapping[str, Any], agreement: Mapping[str, Any]
) -> Parameters:
    """Fit the context model, then the trees on top of its out-of-fold answers."""
    try:
        import lightgbm
    except ImportError as error:
        raise SetupError("Fitting the reference judge needs LightGBM: pip install lightgbm") from error

    examples, comparisons, meaning = table.examples, table.comparisons, table.meaning
    affirms, weights = _fit_context(examples, table.around.astype(np.float64))

    def boost(chosen: list[int], features: Sequence[str], options: dict[str, Any], weight: list[float]) -> Trees:
        matrix = tabulate([comparisons[i] for i in chosen], meaning[chosen], affirms[chosen], features)
        rising = [1 if name in _MORE_IS_BETTER else -1 if name in _MORE_IS_WORSE else 0 for name in features]
        data = lightgbm.Dataset(matrix, [examples[i].target for i in chosen], weight=weight)
        settings = _BOOSTING | options | {"monotone_constraints": rising, "seed": seed}
        rounds = settings.pop("rounds")
        return Trees.from_lightgbm(lightgbm.train(settings, data, rounds).dump_model()["tree_info"])

    same_features = (*comparisons[0].values, *MEANING_FEATURES)
    same_rows = [i for i, e in enumerate(examples) if _tells_same(e)]
    same = boost(same_rows, same_features, _SAME, [examples[i].weight for i in same_rows])
    manner = (*(name for name in comparisons[0].values if _is_manner(name)), CONTEXT_FEATURE)
    vetoes = []
    for against, natural_weight in ((_DENIES | {"question"}, _NATURAL_STATED), (_CHANGED, _NATURAL_INTACT)):
        chosen = [
            i for i, e in enumerate(examples)
            if comparisons[i].share >= MENTIONED and (e.kind in against or _is_true(e))
        ]  # fmt: skip
        kinds = {"natural": natural_weight, "name": _NAME}
        weight = [kinds.get(examples[i].kind, 1.0) for i in chosen]
        vetoes.append(boost(chosen, manner, _STATED, weight))
    stated, intact = vetoes
    return Parameters(same_features, same, manner, stated, intact, table.idf, weights, embedder, provenance, agreement)


_DENIES = frozenset({"negation", "uncertainty", "contrast", "candidates"})
_AFFIRMS = frozenset({"truth", "hard"})
_CHANGED = frozenset({"digit", "month", "name", "negated inside"})
_OF_LONG = frozenset({"part", "paraphrase", "other clause", "mixed", "surrounded", "negated inside"})
_NATURAL_STATED, _NATURAL_INTACT = 12.0, 2.0
"""Weights of a right natural answer in the vetoes: each one that a veto takes is a right answer lost."""
_NAME = 3.0
"""Weight of a changed name: the change that is hardest to tell from a short form or a title."""


def _tells_same(example: Example) -> bool:
    """Whether an example teaches what counts as the same answer: people's verdicts, and clauses for long ones."""
    return example.kind == "natural" or (example.from_contract and example.kind in _OF_LONG)


def _is_true(example: Example) -> bool:
    """Whether an example teaches how right answers are stated."""
    kept = {"natural", "part", "paraphrase", "surrounded"}
    return example.kind in _AFFIRMS or (example.kind in kept and example.target >= _RIGHT)


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


def _frequencies(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    return inverse_frequencies([text for row in rows for text in (row["question"], row["prediction"])])


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

    weights: Array = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return weights


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

    Each half's answers are generated and embedded once, for its own fit and for the fit on all groups. Word frequencies
    are counted over all groups, since that needs no label.

    Args:
        rows, embedder, clauses, seed, progress: as for `fit`.
        source: name of the verdicts, for the report.
    """
    from synth_dspy.evaluation.reference_judge.calibration import agreement

    examples: list[Example] = []
    for half in (0, 1):
        inside = [row for row in rows if fold(row["group"], 2) == half]
        if not inside or len(inside) == len(rows):
            raise SetupError("Fitting needs verdicts of several groups: one half of the groups measures the other.")
        examples += _examples(inside, [c for c in clauses if fold(c["contract"], 2) == half], seed)
    table = _extract_features(examples, _frequencies(rows), embedder, progress)
    scores, labels, groups = [], [], []
    for half in (0, 1):
        fitted = _fit(table.of(lambda e, half=half: fold(e.group, 2) == half), seed, embedder.name, {}, {})  # type: ignore[misc]
        outside = table.of(lambda e, half=half: fold(e.group, 2) != half and e.kind == "natural")  # type: ignore[misc]
        scores += judge(fitted, outside.comparisons, outside.meaning, outside.around.astype(np.float64)).tolist()
        labels += [int(e.target) for e in outside.examples]
        groups += [e.group for e in outside.examples]
    measures = agreement(scores, labels, groups).as_dict()
    figures = {key: None if value is None else np.round(value, 4).tolist() for key, value in measures.items()}
    measured = {
        **figures,
        "source": source,
        "measured_on": "the other half of the groups, after a fit on half, both ways; the parameters are of all",
    }
    provenance = {
        "source": source,
        "verdicts": len(rows),
        "groups": len({row["group"] for row in rows}),
        "clauses": len(clauses),
        "contracts": len({clause["contract"] for clause in clauses}),
        "seed": seed,
    }
    return _fit(table, seed, embedder.name, provenance, measured)
