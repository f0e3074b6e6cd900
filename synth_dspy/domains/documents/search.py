"""An arm that tunes retrieval: size and overlap of chunks, how many, weights of lexical search and of the wording.

The settings are searched for together with a tree-structured Parzen estimator (Bergstra et al., "Algorithms for
Hyper-Parameter Optimization", NeurIPS 2011, as optuna has it). What it climbs needs no model: the share of the gold
spans of labelled questions that stand in the passages, within the words that the program is given.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import dspy
import numpy as np

from synth_dspy.core.config import Retrieval
from synth_dspy.core.errors import ArmError
from synth_dspy.core.knowledge import Document
from synth_dspy.core.resources import Resources, bounded
from synth_dspy.core.splits import hash_order
from synth_dspy.core.text import one_line
from synth_dspy.domains.documents.memory_index import MemoryIndex
from synth_dspy.domains.documents.retrieval import Documents, Retriever
from synth_dspy.evaluation.metrics import retrieval_recall
from synth_dspy.training import prompting

log = logging.getLogger("synth_dspy.domains.documents")

TUNED: Final = ("chunk_words", "overlap", "chunks", "lexical", "wording")
"""The settings of retrieval that are searched for."""
CHUNK_WORDS: Final = (25, 40, 60, 90, 130)
OVERLAPS: Final = (0.0, 0.25)  # of a chunk's words
CHUNKS: Final = (None, 4, 6, 8, 12)
_WORDS: Final = 0.005  # what a thousand words cost, in recall: of two that find as much, the briefer one


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings that were tried: the share of gold spans that was among the passages, and these passages' mean words."""

    settings: Retrieval
    recall: float
    words: float

    @property
    def worth(self) -> float:
        """What the search climbs."""
        return self.recall - _WORDS * self.words / 1000


@dataclass
class SearchRetrieval:
    """The program as it is, on the retrieval settings that find most on labelled questions that are not held out.

    Attributes:
        resources: the run's.
        metric: what finalists are compared by.
        trials: how many settings are tried; an eighth of them in a quick run.
        finalists: of so many of the best settings, and the run's own, the program's answers to the valset decide; 0:
            what is found decides alone, and no model is asked.
        documents: at most so many documents are searched in.
        most_words: at most so many words of documents, as all are embedded anew for every size of chunks.
    """

    resources: Resources
    metric: Callable[..., float]
    trials: int = 60
    finalists: int = 0
    documents: int = 40
    most_words: int = 400_000
    description: str = field(default="Retrieval as declared.", init=False)

    def compile(
        self, student: dspy.Module, *, trainset: Sequence[dspy.Example], valset: Sequence[dspy.Example]
    ) -> dspy.Module:
        """The program with the best retriever.

        Raises:
            ArmError: the program searches no documents, no labelled question has evidence in them, or a package is
                missing.
        """
        prompting.need_package("search", "optuna")
        retriever = self.resources.retriever
        if not isinstance(retriever, Retriever) or retriever.collection is None:
            raise ArmError("Retrieval is searched for where the task's source has documents, and this one has none.")
        sample, questions = self._sample(retriever.collection, [*valset, *trainset])
        count = max(2, bounded(self.trials, self.resources))
        trials = try_settings(retriever, sample, questions, self.resources.words, count, self.resources.seed)
        own = trials[0]
        ranked = sorted(trials, key=lambda trial: trial.worth, reverse=True)
        best = ranked[0]
        if self.finalists:
            best = self._best_by_answers(student, retriever, [own, *ranked[: self.finalists]], valset)
        self.description = (
            f"Of {len(trials)} settings of retrieval, that which found most of the gold spans of {len(questions)} "
            f"labelled questions about {len(sample)} {self.resources.noun}s that are not held out: {best.recall:.1%} "
            f"within {self.resources.words} words ({own.recall:.1%} as declared). For a whole run: "
            f"{as_flags(best.settings)}"
        )
        return with_retriever(student, retriever, reopened(retriever, best.settings))

    def _sample(
        self, collection: Documents, examples: Sequence[dspy.Example]
    ) -> tuple[list[Document], list[dspy.Example]]:
        """Documents to search in, in the order of their names' hashes, and the questions with evidence in them."""
        texts = {document.id: document for document in collection.documents}
        questions: dict[str, list[dspy.Example]] = {}
        for example in {example.id: example for example in examples if example.get("origin") == "gold"}.values():
            document = texts.get(str(example.group))
            spans = [] if document is None else _evidence(example, document)
            if document is not None and spans:
                questions.setdefault(document.id, []).append(example.copy(spans=spans))
        sample: list[Document] = []
        room = self.most_words
        for id in sorted(questions, key=hash_order)[: self.documents]:
            room -= len(texts[id].text.split())
            if room >= 0 or not sample:
                sample.append(texts[id])
        if not sample:
            raise ArmError(
                "Retrieval is searched for on labelled questions whose answers stand in a document in the same words, "
                f"and of {len(examples)} there are none: label some, or give their spans."
            )
        return sample, [example for document in sample for example in questions[document.id]]

    def _best_by_answers(
        self, student: dspy.Module, retriever: Retriever, finalists: Sequence[Trial], valset: Sequence[dspy.Example]
    ) -> Trial:
        """The finalist, of different settings, with whose passages the program answers best; the first of the best."""
        scores: dict[Retrieval, float] = {}
        for trial in finalists:
            if trial.settings not in scores:
                program = with_retriever(student, retriever, reopened(retriever, trial.settings))
                answered = self.resources.executor.map(partial(self._score, program), valset)
                # An example that cannot be answered is the program's failure, and scores as one.
                scores[trial.settings] = float(np.mean([outcome.value or 0.0 for outcome in answered]))
        return max(finalists, key=lambda trial: scores[trial.settings])

    def _score(self, program: dspy.Module, example: dspy.Example) -> float:
        return float(self.metric(example, program(**example.inputs())))


def try_settings(
    retriever: Retriever,
    documents: Sequence[Document],
    questions: Sequence[dspy.Example],
    words: int,
    count: int,
    seed: int = 0,
) -> list[Trial]:
    """Settings that were tried, in order; the first are the retriever's own. The same arguments give the same ones.

    Args:
        retriever: over these documents, among others.
        documents: those that the questions are about.
        questions: with `spans`, what must be among the passages, and `document`, where they are about one.
        words: most words of passages.
        count: how many settings.
        seed: of the search.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    measurement = _Measurement(retriever, documents, questions, words)
    trials: list[Trial] = []

    def objective(trial: Any) -> float:
        trials.append(measurement.measure(_suggested(trial, retriever)))
        return trials[-1].worth

    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=15)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(_parameters(retriever.settings))
    study.optimize(objective, n_trials=count)
    return trials


def reopened(retriever: Retriever, settings: Retrieval) -> Retriever:
    """A retriever over the same documents with other settings, which may be cut and embedded anew for them."""
    now = retriever.settings
    if (settings.chunk_words, settings.overlap) == (now.chunk_words, now.overlap):
        return retriever.with_settings(settings)
    assert retriever.collection is not None
    return retriever.collection.retriever(settings)


def with_retriever(program: dspy.Module, old: Retriever, new: Retriever) -> dspy.Module:
    """A copy of a program that searches with another retriever.

    Raises:
        ArmError: no module of it holds the old one.
    """
    changed = program.deepcopy()
    holders = [
        (module, name)
        for _, module in changed.named_sub_modules()
        for name, value in vars(module).items()
        if value is old
    ]
    if not holders:
        raise ArmError("No module of the program holds the run's retriever (resources.retriever) as an attribute.")
    for module, name in holders:
        setattr(module, name, new)
    return changed


def retriever_of(program: dspy.Module) -> Retriever | None:
    """The retriever that a program searches with, None where it has none."""
    for _, module in program.named_sub_modules():
        for value in vars(module).values():
            if isinstance(value, Retriever):
                return value
    return None


def tuned(settings: Retrieval) -> dict[str, Any]:
    """Of settings, those that are searched for, by name."""
    return {name: getattr(settings, name) for name in TUNED}


def as_flags(settings: Retrieval) -> str:
    """Settings as flags of a run, those that differ from the defaults."""
    changed = [(name, value) for name, value in settings if value != type(settings).model_fields[name].default]
    return " ".join(f"--retrieval.{name.replace('_', '-')} {value}" for name, value in changed) or "the defaults"


class _Measurement:
    """Measures settings on a sample of documents, each size and overlap of chunks embedded once.

    What was measured is noted in a file beside the indexes, by everything that determines it: a run that goes on, or
    another one over the same documents, proposes the same settings and embeds nothing for those it finds there.
    """

    def __init__(
        self, retriever: Retriever, sample: Sequence[Document], questions: Sequence[dspy.Example], words: int
    ) -> None:
        assert retriever.collection is not None
        self._retriever = retriever
        self._sample = sample
        self._questions = questions
        self._words = words
        self._opened: dict[tuple[int, int], Retriever] = {}
        self._file = retriever.collection.folder / "searches" / f"{self._fingerprint()}.jsonl"
        self._measured = _read_lines(self._file)

    def measure(self, settings: Retrieval) -> Trial:
        """The share of gold spans, in the mean of the questions, and words of passages, that settings give."""
        key = json.dumps(tuned(settings))
        if key not in self._measured:
            asked = [(example.question, example.get("document")) for example in self._questions]
            results = self._searcher(settings).search_many([q for q, _ in asked], [d for _, d in asked], self._words)
            texts = [[passage.text for passage in passages] for passages in results]
            recalls = [
                retrieval_recall(example, {"passages": passages})
                for example, passages in zip(self._questions, texts, strict=True)
            ]
            words = [sum(len(text.split()) for text in passages) for passages in texts]
            self._measured[key] = (float(np.mean(recalls)), float(np.mean(words)))
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps([key, *self._measured[key]]) + "\n")
        return Trial(settings, *self._measured[key])

    def _searcher(self, settings: Retrieval) -> Retriever:
        cut = settings.chunk_words, settings.overlap
        if cut not in self._opened:
            log.info("search: chunks of %d words, %d of them overlap", *cut)
            index = MemoryIndex(self._sample, self._retriever.index.embedder, *cut)
            self._opened[cut] = Retriever(index, self._retriever.preamble, self._retriever.wording)
        return self._opened[cut].with_settings(settings)

    def _fingerprint(self) -> str:
        parts = [
            self._retriever.index.embedder.name,
            self._words,
            self._retriever.preamble,
            [[document.id, document.text] for document in self._sample],
            [[e.question, e.get("document"), e.spans, self._retriever.wording(e.question)] for e in self._questions],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _read_lines(path: Path) -> dict[str, tuple[float, float]]:
    """What was measured before; a line that a kill cut short is left out."""
    measured: dict[str, tuple[float, float]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            key, recall, words = json.loads(line)
            measured[str(key)] = (float(recall), float(words))
        except (ValueError, TypeError):
            continue
    return measured


def _evidence(example: dspy.Example, document: Document) -> list[str]:
    """What must be among the passages: the gold spans, or the answers that the document has in the same words."""
    if example.get("spans"):
        return list(example.spans)
    text = one_line(document.text).lower()
    return [answer for answer in example.get("references") or [] if answer.strip() and one_line(answer).lower() in text]


def _parameters(settings: Retrieval) -> dict[str, Any]:
    """Settings as optuna's parameters."""
    return {
        "chunk_words": settings.chunk_words,
        "overlap": settings.overlap / settings.chunk_words,
        "chunks": settings.chunks,
        "lexical": settings.lexical,
        "wording": settings.wording,
    }


def _suggested(trial: Any, retriever: Retriever) -> Retrieval:
    """The settings that optuna proposes; the run's own are among those to choose from."""
    own = _parameters(retriever.settings)
    words = trial.suggest_categorical("chunk_words", sorted({*CHUNK_WORDS, own["chunk_words"]}))
    share = trial.suggest_categorical("overlap", sorted({*OVERLAPS, own["overlap"]}))
    chunks = trial.suggest_categorical("chunks", list(dict.fromkeys([*CHUNKS, own["chunks"]])))
    update = {
        "chunk_words": words,
        "overlap": round(share * words),
        "chunks": chunks,
        "lexical": round(trial.suggest_float("lexical", 0.0, 1.0), 2),
        "wording": round(trial.suggest_float("wording", 0.0, 1.0), 2),
    }
    return retriever.settings.model_copy(update=update)
