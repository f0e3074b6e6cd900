"""Choice of labelled seeds as demonstrations for the teacher: the same kind of answer in the most similar words.

Demonstrations are chosen per category of the seeds, not per span, so that many requests share the same ones and benefit
from prefix caching. Seeds of the span's own document are never shown, since the teacher would repeat them.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from synth_dspy.core.protocols import Embed


@dataclass(frozen=True, slots=True)
class Shot:
    """A labelled seed as a demonstration: its question, its answer, and the text around the answer."""

    group: str
    category: str
    kind: str
    excerpt: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Choice:
    """The demonstrations for one span. `similarity` is its cosine similarity to the nearest seed, -1 without seeds."""

    category: str
    similarity: float
    shots: tuple[Shot, ...]


class Demonstrations:
    """Chooses demonstrations among labelled seeds.

    Args:
        shots: the seeds.
        embed: maps texts to unit vectors.
        count: number of demonstrations per request.
        seed: random seed of the order of seeds of other categories.
    """

    def __init__(self, shots: Sequence[Shot], embed: Embed, count: int = 4, *, seed: int = 0) -> None:
        self.shots = list(shots)
        self.embed = embed
        self.count = count
        self._vectors = embed([shot.excerpt for shot in shots]) if shots else np.zeros((0, 1), np.float32)
        self._rows: dict[str, list[int]] = defaultdict(list)
        self._seed = seed
        self._others: dict[str, list[Shot]] = {}
        for i, shot in enumerate(self.shots):
            self._rows[shot.kind].append(i)

    def choose(self, kind: str, excerpts: Sequence[str], group: str) -> list[Choice]:
        """For spans of one kind in one document, choose the nearest seed's category and `count` demonstrations.

        Args:
            kind: the spans' kind.
            excerpts: the text around each span.
            group: their document.
        """
        rows = [i for i in self._rows.get(kind, ()) if self.shots[i].group != group]
        if not rows or not excerpts:
            return [Choice("", -1.0, ()) for _ in excerpts]
        similarities = self.embed(excerpts) @ self._vectors[rows].T
        choices = []
        for scores in similarities:
            best = int(np.argmax(scores))
            category = self.shots[rows[best]].category
            choices.append(Choice(category, float(scores[best]), self._of_category(category, rows)))
        return choices

    def of_others(self, category: str, group: str) -> tuple[Shot, ...]:
        """`count` demonstrations of other categories, with answers of similar length to this category's.

        A small teacher repeats answers to the same question; shown short answers, it replies "Limited" where a clause
        is wanted.

        Args:
            category: the category of the question.
            group: the document the question is about, whose seeds are not shown.
        """
        if category not in self._others:  # the same order for every document, for prefix caching
            others = [shot for shot in self.shots if shot.category != category]
            random.Random(f"{self._seed} {category}").shuffle(others)
            typical_length = median([_length(shot) for shot in self.shots if shot.category == category] or [0.0])
            self._others[category] = sorted(others, key=lambda shot: round(abs(_length(shot) - typical_length)))
        return tuple([shot for shot in self._others[category] if shot.group != group][: self.count])

    def _of_category(self, category: str, rows: Sequence[int]) -> tuple[Shot, ...]:
        """The category's own seeds, then the nearest ones of the same kind."""
        own = [i for i in rows if self.shots[i].category == category]
        centroid = self._vectors[own].mean(axis=0)
        order = sorted(rows, key=lambda i: (i not in set(own), -float(self._vectors[i] @ centroid), i))
        return tuple(self.shots[i] for i in order[: self.count][::-1])  # the nearest last, next to the request


def _length(shot: Shot) -> float:
    """The base-2 logarithm of an answer's number of words: half and twice the length are equally far."""
    return math.log2(len(shot.answer.split()) or 1)
