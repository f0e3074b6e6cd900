"""The reference judge's machinery: is this answer the same as one of these references? No language model needed.

Three questions, each answered by boosted trees (`fit`). Does the answer name the same thing as a reference (features
of words, `features`, and of meaning, `meaning`)? Where it does, does it state it, or deny it, doubt it, bound it, or
name it among others (features of the words around, `cues`)? And is it intact, or was a number, a unit, a name or a
"not" changed in it? A small cross-encoder that reads the sentence (`pairs`) is one more feature of each. People's
answers teach the first question and hardly ever need the others, attacks teach the others: kept apart, neither blurs
the other. A wrong "no" to the second or third would cost a right answer, so it only counts where it is more likely
than not. All that was fitted is one JSON file, and the cross-encoder's adapter beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.reading import read_json_object
from synth_dspy.evaluation.reference_judge.calibration import ACCEPTED
from synth_dspy.evaluation.reference_judge.features import AnswerComparison, compare_all
from synth_dspy.evaluation.reference_judge.meaning import MEANING_FEATURES, MENTIONED, TokenEmbedder, meaning_features
from synth_dspy.evaluation.reference_judge.pairs import READING_FEATURES, PairScorer, reading_features
from synth_dspy.evaluation.reference_judge.trees import Trees
from synth_dspy.models.cross_encoder import CrossEncoder

FORMAT = 3
_BATCH = 256
_READ = (*MEANING_FEATURES, *READING_FEATURES)
_ADAPTER = ".safetensors"
_FIT = "python -m synth_dspy.evaluate --judge reference --fit VERDICTS"


class JudgedAnswer(NamedTuple):
    """An answer to be judged."""

    question: str
    references: Sequence[str]
    prediction: str


@dataclass(frozen=True, slots=True)
class Parameters:
    """Everything that was fitted."""

    same_features: tuple[str, ...]
    same: Trees
    """Log-odds that the answer names the same thing as a reference."""
    stated_features: tuple[str, ...]
    stated: Trees
    """Log-odds that an answer which names the reference states it."""
    intact: Trees
    """Log-odds that an answer which names the reference names it unchanged; of `stated_features` too."""
    idf: Mapping[str, float]
    adapter: Path
    """The cross-encoder's, for the embedder's weights."""
    embedder: str
    provenance: Mapping[str, Any]
    agreement: Mapping[str, Any]
    """Figures on held-out groups, and what they were measured on."""

    def weight(self, norm: str) -> float:
        """How telling a token is."""
        return self.idf.get(norm, self.idf[""])

    def save(self, path: Path) -> None:
        """Write the parameters as JSON, and the adapter beside them."""
        adapter = self.adapter.read_bytes()
        stored = {
            "format": FORMAT,
            "provenance": self.provenance,
            "agreement": self.agreement,
            "embedder": self.embedder,
            "adapter": hashlib.sha256(adapter).hexdigest(),
            "same_features": self.same_features,
            "same": self.same.to_json(),
            "stated_features": self.stated_features,
            "stated": self.stated.to_json(),
            "intact": self.intact.to_json(),
            "idf": self.idf,
        }
        # One line for each part: a refit shows in a diff as the parts it changed.
        lines = ",\n".join(f'"{key}": {json.dumps(value, separators=(",", ":"))}' for key, value in stored.items())
        path.write_text("{\n" + lines + "\n}\n", encoding="utf-8")
        path.with_suffix(_ADAPTER).write_bytes(adapter)

    @classmethod
    def load(cls, path: Path) -> Parameters:
        """Read what `save` wrote.

        Raises:
            SetupError: there is no such file, it is of another format, or it is damaged.
        """
        what, remedy = "The reference judge's file", f"fit it again: {_FIT}"
        stored = read_json_object(path, what, remedy)
        if stored.get("format") != FORMAT:
            raise SetupError(f"{path} holds parameters of format {stored.get('format')!r}, not {FORMAT}; {remedy}.")
        try:
            stored_parameters = _Stored.model_validate(stored)
            same, stated, intact = (
                Trees.from_json(trees, len(features))
                for trees, features in (
                    (stored_parameters.same, stored_parameters.same_features),
                    (stored_parameters.stated, stored_parameters.stated_features),
                    (stored_parameters.intact, stored_parameters.stated_features),
                )
            )
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            raise SetupError(f"{what} {path} is damaged ({place}: {error.errors()[0]['msg']}); {remedy}.") from error
        except ValueError as error:
            raise SetupError(f"{what} {path} is damaged ({error}); {remedy}.") from error
        adapter = path.with_suffix(_ADAPTER)
        try:
            fits = hashlib.sha256(adapter.read_bytes()).hexdigest() == stored_parameters.adapter
        except OSError as error:
            raise SetupError(f"{what} {path} needs {adapter.name} beside it ({error.strerror}); {remedy}.") from error
        if not fits:
            raise SetupError(f"{adapter} is not the cross-encoder that {path} was fitted with; {remedy}.")
        return cls(
            stored_parameters.same_features,
            same,
            stored_parameters.stated_features,
            stated,
            intact,
            stored_parameters.idf,
            adapter,
            stored_parameters.embedder,
            stored_parameters.provenance,
            stored_parameters.agreement,
        )


class _Stored(BaseModel):
    """What `Parameters.save` writes; its trees are checked separately."""

    model_config = ConfigDict(allow_inf_nan=False)

    same_features: tuple[str, ...] = Field(min_length=1)
    same: dict[str, Any]
    stated_features: tuple[str, ...] = Field(min_length=1)
    stated: dict[str, Any]
    intact: dict[str, Any]
    idf: dict[str, Annotated[float, Field(gt=0, le=1e6)]]
    adapter: str
    embedder: str
    provenance: dict[str, Any]
    agreement: dict[str, Any]

    @field_validator("same_features", "stated_features")
    @classmethod
    def _check_features(cls, features: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted({*features} - _features())
        if unknown:
            raise ValueError(f"there is no feature {unknown[0]!r}")
        return features

    @field_validator("idf")
    @classmethod
    def _of_unknown_words(cls, idf: dict[str, float]) -> dict[str, float]:
        if "" not in idf:
            raise ValueError("the weight of unknown words is missing")
        return idf


class ReferenceScorer:
    """Scores answers by fitted parameters.

    Args:
        parameters: what was fitted.
        embedder: the embedder it was fitted with.
        reader: the cross-encoder; None for that of the parameters.
    """

    def __init__(self, parameters: Parameters, embedder: TokenEmbedder, reader: PairScorer | None = None) -> None:
        if embedder.name != parameters.embedder:
            raise SetupError(
                f"The reference judge was fitted with the embedder {parameters.embedder!r}, not {embedder.name!r}: "
                "use that one, or fit the judge again."
            )
        self.parameters = parameters
        self._embedder = embedder
        self._reader = reader or CrossEncoder(embedder.name.rpartition("/")[2], parameters.adapter)

    def score(self, answers: Sequence[JudgedAnswer]) -> list[float]:
        """The chance, in [0, 1], that each answer is right; 0.0 without a reference to compare with."""
        scores: list[float] = []
        for start in range(0, len(answers), _BATCH):
            scores += self._score(answers[start : start + _BATCH])
        return scores

    def _score(self, answers: Sequence[JudgedAnswer]) -> list[float]:
        scores = [0.0] * len(answers)
        words, read, comparable = extract(answers, self.parameters.weight, self._embedder, self._reader)
        if not comparable:
            return scores
        judged = judge(self.parameters, words, read)
        for place, score in zip(comparable, judged, strict=True):
            scores[place] = float(score)
        return scores


@cache
def _features() -> frozenset[str]:
    """The names of all features, by comparing something with itself."""
    compared = compare_all("What?", ["it"], "it", lambda _: 1.0)
    assert compared is not None
    return frozenset((*compared.values, *_READ))


def judge(fitted: Parameters, words: Sequence[AnswerComparison], read: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores of answers from what `extract` gives, shape (answers,)."""
    score = _probability(fitted.same.raw(tabulate(words, read, fitted.same_features)))
    named = np.array([comparison.share >= MENTIONED for comparison in words])
    manner = tabulate(words, read, fitted.stated_features)
    score = np.where([_is_refuted(comparison) for comparison in words], np.minimum(score, _REFUTED), score)
    for veto in (_probability(fitted.stated.raw(manner)), _probability(fitted.intact.raw(manner))):
        score = np.where(named & (veto < ACCEPTED), np.minimum(score, veto), score)
    return score


_REFUTED = 0.05
_RULES = ("opposed", "opposed_question", "cites_law", "contradicts_itself", "answers_otherwise_first", "offers_others")


def _is_refuted(comparison: AnswerComparison) -> bool:
    """Whether a rule, not a fit, refutes an answer: of 9,063 that people call right all rules meet six."""
    values = comparison.values
    refuted = any(values[name] > 0 for name in _RULES)
    return refuted or _is_other_quantity(comparison)


def _is_other_quantity(comparison: AnswerComparison) -> bool:
    """Whether an answer has the reference's figure in another unit or currency, or on one side of it, unasked.

    A rule, not a fit: of 9,063 answers that people call right two are met by it.
    """
    values = comparison.values
    return (values["unit_conflict"] > 0 and values["best_quantities_met"] <= 0) or values["least_bound_conflict"] >= 1


def _probability(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    probability: NDArray[np.float64] = 1.0 / (1.0 + np.exp(-log_odds))
    return probability


def extract(
    answers: Sequence[JudgedAnswer], weight: Any, embedder: TokenEmbedder, reader: PairScorer
) -> tuple[list[AnswerComparison], NDArray[np.float64], list[int]]:
    """Comparisons, features of meaning and what the cross-encoder says of the answers that have something to compare.

    Returns:
        The comparisons, the features of meaning and of reading, shape (comparable, features), and the places of the
        comparable answers in `answers`.
    """
    compared = [(i, compare_all(a.question, a.references, a.prediction, weight)) for i, a in enumerate(answers)]
    comparable = [(i, comparison) for i, comparison in compared if comparison is not None]
    places = [i for i, _ in comparable]
    comparisons = [comparison for _, comparison in comparable]
    questions = [answers[i].question for i in places]
    meaning = meaning_features(questions, comparisons, embedder)
    return comparisons, np.hstack([meaning, reading_features(questions, comparisons, reader)]), places


def tabulate(
    comparisons: Sequence[AnswerComparison], read: NDArray[np.float64], features: Sequence[str]
) -> NDArray[np.float64]:
    """All features in the order of `features`, shape (answers, features)."""
    table = np.empty((len(comparisons), len(features)))
    column = {name: i for i, name in enumerate(_READ)}
    for j, name in enumerate(features):
        if name in column:
            table[:, j] = read[:, column[name]]
        else:
            table[:, j] = [comparison.values[name] for comparison in comparisons]
    return table
