"""Fitting the reference judge: verdicts of people, attacks made from them, and contract clauses, under boosted trees.

Groups and phrasings fall into two halves, and each half has a cross-encoder of its own. What the trees learn of an
example is what the other half's cross-encoder, which saw neither its group nor its phrasing, says of it. The figures
that go with the parameters are of trees fitted on one half and measured on the other, by a cross-encoder that has not
seen it; the parameters themselves are then fitted on all groups, and go with a cross-encoder that has learned from both
halves, one after the other.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.errors import SetupError
from synth_dspy.core.text import parse, words
from synth_dspy.evaluation.reference_judge import calibration, graded, reader
from synth_dspy.evaluation.reference_judge import examples as judge_examples
from synth_dspy.evaluation.reference_judge.calibration import ACCEPTED
from synth_dspy.evaluation.reference_judge.examples import CONTRACTS, Example, fold
from synth_dspy.evaluation.reference_judge.features import AnswerComparison, compare_all
from synth_dspy.evaluation.reference_judge.judge import (
    JudgedAnswer,
    Parameters,
    ReferenceScorer,
    extract,
    judge,
    tabulate,
)
from synth_dspy.evaluation.reference_judge.meaning import MEANING_FEATURES, MENTIONED, TokenEmbedder
from synth_dspy.evaluation.reference_judge.pairs import READING_FEATURES, Pair, PairScorer, pair
from synth_dspy.evaluation.reference_judge.trees import Trees
from synth_dspy.models.cross_encoder import CrossEncoder

if TYPE_CHECKING:
    Array = NDArray[np.float64]

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
    "best_letters best_fuzzy_recall best_exact best_joined best_coverage best_numbers_found best_contiguous "
    "best_precision best_novel_precision best_first_word best_last_word added_met_mean added_cosine "
    "asked_cosine best_cosine stretch_cosine reference_met_mean reference_met_least answer_met_mean "
    "mean_cosine read_stated read_same quantities_met best_quantities_met"
)
_MORE_IS_WORSE = words(
    "replaced_numbers replaced_months replaced_foreign year_conflict month_conflict day_conflict numbers_conflict "
    "names_missing numbers_missing replaced_names worst_year_conflict worst_month_conflict worst_day_conflict "
    "inserted_neg deleted_neg yes_no_flip unit_conflict bound_conflict bound_opposed least_bound_conflict "
    "least_bound_opposed addresses_judge owner quantities_alike quantities_extra "
    "opposed opposed_question cites_law contradicts_itself answers_otherwise_first offers_others"
)


@dataclass(frozen=True, slots=True)
class Made:
    """Examples and their features (`judge.extract`)."""

    examples: list[Example]
    comparisons: list[AnswerComparison]
    read: Array
    idf: Mapping[str, float]

    def of(self, chosen: Callable[[Example], bool]) -> Made:
        """The examples that are chosen."""
        places = [i for i, example in enumerate(self.examples) if chosen(example)]
        return Made(
            [self.examples[i] for i in places], [self.comparisons[i] for i in places], self.read[places], self.idf
        )


def examples_of_half(
    rows: Sequence[Mapping[str, Any]], clauses: Sequence[Mapping[str, Any]], half: int, seed: int
) -> list[Example]:
    """People's verdicts of one half of the groups, and what is made from them and from that half's clauses."""
    rng = random.Random(f"{seed}-{half}")
    inside = [row for row in rows if fold(row["group"], 2) == half]
    if not inside or len(inside) == len(rows):
        raise SetupError("Fitting needs verdicts of several groups: one half of the groups measures the other.")
    examples = judge_examples.make_examples(judge_examples.items_from_verdicts(inside, rng), rng, half=half)
    held = [clause for clause in clauses if fold(clause["contract"], 2) == half]
    if held:
        examples += judge_examples.make_examples(judge_examples.items_from_clauses(held, rng), rng, half=half)
    return judge_examples.verdict_examples(inside) + rng.sample(examples, min(_MOST_MADE, len(examples)))


def train_reader(
    examples: Sequence[Example],
    weight: Callable[[str], float],
    model: str,
    adapter: Path,
    *,
    start: Path | None = None,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> None:
    """Train a cross-encoder's adapter on examples, each text of a blanked pair once, and no kind too often.

    Args:
        examples: with a verdict each.
        weight: how telling a token is.
        model: the embedding model under the adapter.
        adapter: the file to write.
        start: an adapter to go on from.
        seed: of what is drawn.
        progress: told the share that is done.
    """
    rng = random.Random(seed)
    counts: Counter[tuple[str, bool, bool]] = Counter()
    seen: set[str] = set()
    chosen: list[tuple[Example, Pair]] = []
    for example in rng.sample(list(examples), len(examples)):
        compared = compare_all(example.question, example.references, example.prediction, weight)
        if compared is None:
            continue
        two = pair(example.question, compared)
        natural = example.kind == "natural"
        key = (example.kind, two.blanked, natural and example.target < _RIGHT)
        most = _READER_TRUTHS if example.kind in _AFFIRMS else _READER_KIND if two.blanked else _READER_OTHER
        if natural:
            most = _READER_BLANKED if two.blanked and not example.from_contract else len(examples)
        repeated = two.blanked and not natural and two.second in seen
        if repeated or counts[key] >= most:
            continue
        counts[key] += 1
        seen.add(two.second)
        chosen.append((example, two))
        if natural:  # what people judged is read twice, and unblanked the second time: it is the likeness to learn
            chosen.append((example, pair(example.question, compared, blank=False)))
    reader.train(
        model,
        [two for _, two in chosen],
        [example.target for example, _ in chosen],
        [example.weight if example.kind == "natural" else _READER_MADE for example, _ in chosen],
        adapter,
        start=start,
        seed=seed,
        progress=progress,
    )


_MOST_MADE = 10_000
_READER_KIND, _READER_OTHER, _READER_TRUTHS, _READER_BLANKED = 330, 160, 1_100, 900
"""Pairs that the cross-encoder learns from at most: of each kind of attack, blanked and unblanked, of true answers, and
of people's verdicts on answers that hold the reference, which are nearly all right."""
_READER_MADE = 0.7


def read_examples(
    examples: Sequence[Example],
    idf: Mapping[str, float],
    embedder: TokenEmbedder,
    read_by: PairScorer,
    progress: Callable[[float], None] = lambda share: None,
) -> Made:
    """The features of all examples that have something to compare."""
    comparisons: list[AnswerComparison] = []
    features, kept = [], []
    for start in range(0, len(examples), 512):
        batch = [JudgedAnswer(e.question, e.references, e.prediction) for e in examples[start : start + 512]]
        compared, read, places = extract(batch, lambda norm: idf.get(norm, idf[""]), embedder, read_by)
        kept += [examples[start + place] for place in places]
        comparisons += compared
        features.append(read)
        progress(min(1.0, (start + 512) / len(examples)))
    return Made(kept, comparisons, np.concatenate(features), idf)


def fit_trees(
    made: Made, seed: int, adapter: Path, embedder: str, provenance: Mapping[str, Any], agreement: Mapping[str, Any]
) -> Parameters:
    """Fit the trees to examples that are read already.

    Raises:
        SetupError: LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError as error:
        raise SetupError("Fitting the reference judge needs LightGBM: pip install lightgbm") from error

    examples, comparisons, read = made.examples, made.comparisons, made.read

    def boost(chosen: list[int], features: Sequence[str], options: dict[str, Any], weight: list[float]) -> Trees:
        table = tabulate([comparisons[i] for i in chosen], read[chosen], features)
        rising = [1 if name in _MORE_IS_BETTER else -1 if name in _MORE_IS_WORSE else 0 for name in features]
        data = lightgbm.Dataset(table, [examples[i].target for i in chosen], weight=weight)
        settings = _BOOSTING | options | {"monotone_constraints": rising, "seed": seed}
        rounds = settings.pop("rounds")
        return Trees.from_lightgbm(lightgbm.train(settings, data, rounds).dump_model()["tree_info"])

    same_features = (*comparisons[0].values, *MEANING_FEATURES)
    same_rows = [i for i, e in enumerate(examples) if _tells_same(e)]
    same = boost(same_rows, same_features, _SAME, [examples[i].weight for i in same_rows])
    manner = (*(name for name in comparisons[0].values if _is_manner(name)), *READING_FEATURES)
    vetoes = []
    for against, natural_weight in ((_DENIES, _NATURAL_STATED), (_CHANGED, _NATURAL_INTACT)):
        chosen = [
            i for i, e in enumerate(examples)
            if comparisons[i].share >= MENTIONED and (e.kind in against or _is_true(e) or _is_wrong(e))
        ]  # fmt: skip
        kinds = {"natural": natural_weight, "name": _NAME}
        weight = [kinds.get(examples[i].kind, 1.0) for i in chosen]
        vetoes.append(boost(chosen, manner, _STATED, weight))
    stated, intact = vetoes
    return Parameters(same_features, same, manner, stated, intact, made.idf, adapter, embedder, provenance, agreement)


_DENIES = frozenset(
    {"negation", "reversal", "uncertainty", "contrast", "candidates", "false fact", "other party", "bound",
     "date bound", "forged", "question", "second figure"}
)  # fmt: skip
_AFFIRMS = frozenset({"truth", "hard", "measure", "law"})
_CHANGED = frozenset({"digit", "unit", "month", "name", "negated inside", "second figure", "bound", "date bound"})
_UNNAMED = frozenset({"crumb", "question", "forged", "digit", "unit", "month"})
"""Attacks that need not name the reference: then only the first question can reject them."""
_OF_LONG = frozenset({"part", "paraphrase", "other clause", "mixed", "surrounded", "negated inside"})
_NATURAL_STATED, _NATURAL_INTACT = 20.0, 4.0
"""Weights of a right natural answer in the vetoes: each one that a veto takes is a right answer lost."""
_NAME = 3.0
"""Weight of a changed name: the change that is hardest to tell from a short form or a title."""


def _tells_same(example: Example) -> bool:
    """Whether an example teaches what counts as the same answer: people's verdicts, and clauses for long ones."""
    return example.kind in {"natural", *_UNNAMED} or (example.from_contract and example.kind in _OF_LONG)


def _is_true(example: Example) -> bool:
    """Whether an example teaches how right answers are stated."""
    kept = {"natural", "part", "paraphrase", "surrounded"}
    return example.kind in _AFFIRMS or (example.kind in kept and example.target >= _RIGHT)


def _is_wrong(example: Example) -> bool:
    """Whether an example is a wrong answer of a weak model: about contracts, the vetoes learn from them too."""
    return example.kind == "natural" and example.from_contract and example.target < _RIGHT


_RIGHT = 0.8

_MANNER = words(
    "asks asks_anywhere or_adjacent and_adjacent comma_adjacent list_items context_length quoted novel_words "
    "from_question novel_precision precision contiguous answer_length length_ratio same_type_before coverage exact "
    "recall letters fuzzy_recall first_word last_word numeric"
)
_MANNER_PREFIXES = words(
    "before after count negations neg mention reference references stranger strangers inserted deleted replaced "
    "numbers names year month day worst least best question quantities unit bound owner headed addresses "
    "opposed cites"
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
        norm: max(0.01, round(math.log((len(texts) + 1) / (count + 1)), 2))
        for norm, count in sorted(counts.items())
        if count >= _COMMON_ENOUGH
    }
    return {"": round(math.log((len(texts) + 1) / (_COMMON_ENOUGH / 2)), 2)} | kept


def fit_and_measure(
    rows: Sequence[Mapping[str, Any]],
    embedder: TokenEmbedder,
    folder: Path,
    *,
    clauses: Sequence[Mapping[str, Any]] = (),
    answers: Sequence[Mapping[str, Any]] = (),
    seed: int = 0,
    source: str = "",
    progress: Callable[[float], None] = lambda share: None,
) -> Parameters:
    """Fit on all groups, with the figures of two fits on half of them, each measured on the other half.

    How frequent words are is counted over all groups, for which no label is needed. Of graded answers about contracts
    one half of the documents joins the verdicts, and the other half measures all that was fitted.

    Args:
        rows: verdicts: question, references, prediction, label, group.
        embedder: gives token vectors; the cross-encoder is trained on its weights.
        folder: where the adapters are kept; one that is there already is taken as it is.
        clauses: labelled contract clauses in the layout of `clauses.jsonl`; without them long references suffer.
        answers: graded answers about contracts (`graded`).
        seed: of everything that is drawn.
        source: name of the verdicts, for the report.
        progress: told the share that is done.
    """
    held_out = [row for row in answers if graded.is_held_out(row["group"])]
    rows = [*rows, *graded.verdicts(row for row in answers if not graded.is_held_out(row["group"]))]
    clauses = [clause for clause in clauses if not graded.is_held_out(clause["contract"])]
    idf = _frequencies(rows)
    model = embedder.name.rpartition("/")[2]
    halves = [examples_of_half(rows, clauses, half, seed) for half in (0, 1)]
    adapters = [folder / f"{name}.safetensors" for name in ("first", "second", "both")]
    for turn, adapter in enumerate(adapters):
        if not adapter.exists():
            train_reader(
                halves[min(turn, 1)], lambda norm: idf.get(norm, idf[""]), model, adapter, seed=seed + turn,
                start=adapters[0] if turn == 2 else None,
                progress=lambda share, turn=turn: progress(0.25 * (turn + share)),  # type: ignore[misc]
            )  # fmt: skip
    made = [
        read_examples(
            halves[half], idf, embedder, CrossEncoder(model, adapters[1 - half]),
            lambda share, half=half: progress(0.75 + 0.12 * (half + share)),  # type: ignore[misc]
        )
        for half in (0, 1)
    ]  # fmt: skip
    scores, labels, groups = [], [], []
    for half in (0, 1):
        fitted = fit_trees(made[half], seed, adapters[half], embedder.name, {}, {})
        outside = made[1 - half].of(lambda e: e.kind == "natural" and not e.from_contract)
        scores += judge(fitted, outside.comparisons, outside.read).tolist()
        labels += [int(e.target) for e in outside.examples]
        groups += [e.group for e in outside.examples]
    agreed = calibration.agreement(scores, labels, groups).as_dict()
    figures = {key: None if value is None else np.round(value, 4).tolist() for key, value in agreed.items()}
    measured: dict[str, Any] = {
        **figures,
        "source": source,
        "measured_on": "the other half of the groups, after a fit on half, both ways; the parameters are of all",
        "domains": [domain_agreement(*_SOURCES.get(source, (source, "answers of the verdicts")), scores, labels)],
    }
    provenance = {
        "source": source,
        "verdicts": len(rows),
        "groups": len({row["group"] for row in rows}),
        "clauses": len(clauses),
        "contracts": len({clause["contract"] for clause in clauses}),
        "seed": seed,
    }
    both = Made(
        [*made[0].examples, *made[1].examples], [*made[0].comparisons, *made[1].comparisons],
        np.concatenate([made[0].read, made[1].read]), idf,
    )  # fmt: skip
    fitted = fit_trees(both, seed, adapters[2], embedder.name, provenance, measured)
    if held_out:
        asked = [JudgedAnswer(row["question"], row["references"], row["answer"]) for row in held_out]
        said, right = ReferenceScorer(fitted, embedder).score(asked), [row["right"] for row in held_out]
        measured["domains"].append(domain_agreement(CONTRACTS, graded.GRADED, said, right))
    return fitted


_SOURCES = {"evouna": ("trivia", "answers of five large systems to open questions (EVOUNA)")}
"""Sources of verdicts: their domain, and whose answers they are."""


def domain_agreement(domain: str, graded: str, scores: Sequence[float], labels: Sequence[int]) -> dict[str, Any]:
    """A row of the table of agreement (`evaluation.agreement.Agreement`)."""
    accepted, right = np.asarray(scores) >= ACCEPTED, np.asarray(labels) == 1
    return {
        "domain": domain,
        "graded": graded,
        "n_right": int(right.sum()),
        "n_wrong": int((~right).sum()),
        "sensitivity": round(float(accepted[right].mean()), 4),
        "specificity": round(float((~accepted[~right]).mean()), 4),
        "kappa": round(calibration.agreement(scores, labels).kappa, 4),
    }
