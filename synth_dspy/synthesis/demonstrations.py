"""Which labelled seeds to show a teacher: those that ask for the same kind of answer in the most similar words.

The choice is made per category of the seeds, not per span, so that many requests share the same demonstrations and a
server with prefix caching reads them once. Seeds of the span's own document are never shown: the teacher would repeat
them.
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
    """A labelled seed as a demonstration: its question, its answer, and the words of its document around the answer."""

    group: str
    category: str
    kind: str
    excerpt: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What to show for one span. `similarity` is the cosine of its words to the nearest seed's, -1 without seeds."""

    category: str
    similarity: float
    shots: tuple[Shot, ...]


class Demonstrations:
    """Chooses among labelled seeds.

    Args:
        shots: the seeds.
        embed: texts to unit vectors.
        count: demonstrations for each request.
        seed: of the choice among seeds of other categories.
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
        """For spans of one kind in one document: the nearest seed's category and `count` demonstrations.

        Args:
            kind: the spans' kind.
            excerpts: the words around each span.
            group: the document they stand in.
        """
        rows = [i for i in self._rows.get(kind, ()) if self.shots[i].group != group]
        if not rows or not excerpts:
            return [Choice("", -1.0, ()) for _ in excerpts]
        near = self.embed(excerpts) @ self._vectors[rows].T
        choices = []
        for scores in near:
            best = int(np.argmax(scores))
            category = self.shots[rows[best]].category
            choices.append(Choice(category, float(scores[best]), self._of_category(category, rows)))
        return choices

    def of_others(self, category: str, group: str) -> tuple[Shot, ...]:
        """`count` demonstrations of other categories, whose answers are about as long as this category's.

        Shown what others answer to the same question, a small teacher repeats that; shown short answers, it answers
        "Limited" where a clause is asked for.

        Args:
            category: what is asked for.
            group: the document it is asked of, whose seeds are not shown.
        """
        if category not in self._others:  # in one order for every document: a server reads them once
            others = [shot for shot in self.shots if shot.category != category]
            random.Random(f"{self._seed} {category}").shuffle(others)
            usual = median([_length(shot) for shot in self.shots if shot.category == category] or [0.0])
            self._others[category] = sorted(others, key=lambda shot: round(abs(_length(shot) - usual)))
        return tuple([shot for shot in self._others[category] if shot.group != group][: self.count])

    def _of_category(self, category: str, rows: Sequence[int]) -> tuple[Shot, ...]:
        """The category's own seeds, then those of the same kind nearest to them; one of each document at first."""
        own = [i for i in rows if self.shots[i].category == category]
        centre = self._vectors[own].mean(axis=0)
        order = sorted(rows, key=lambda i: (i not in set(own), -float(self._vectors[i] @ centre), i))
        return tuple(self.shots[i] for i in order[: self.count][::-1])  # the nearest last, next to the request


def _length(shot: Shot) -> float:
    """Of an answer: the logarithm to base 2 of its words, so that answers half and twice as long are as unlike."""
    return math.log2(len(shot.answer.split()) or 1)
