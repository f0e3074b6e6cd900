"""The questions of a rehearsal: labelled ones replayed with their embeddings, or directions drawn around topics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.jsonl import FILLED, read_table

Array = NDArray[np.float32]

DIMENSIONS = 32
_TOPIC_NOISE = 0.7  # of a question around its topic, in each dimension; topics are standard normal
_FEWEST = 20  # questions of a kind that is replayed


@dataclass(frozen=True, slots=True)
class Questions:
    """Labelled questions to replay.

    Attributes:
        texts: n of them.
        kinds: of each, such as its intent or the category of its clause.
        vectors: embeddings, shape (n, d), unit length.
    """

    texts: Sequence[str]
    kinds: Sequence[str]
    vectors: Array


@dataclass(frozen=True, slots=True)
class Batch:
    """Questions that came one after another: texts, kinds and vectors, as in `Questions`."""

    texts: Sequence[str]
    kinds: Sequence[str]
    vectors: Array


class Stream:
    """Questions of ordinary kinds, some of them more frequent than others, and of new kinds where asked for."""

    def __init__(self, seed: int, questions: Questions | None = None, *, ordinary: int = 6, new: int = 2) -> None:
        """Prepare a stream.

        Args:
            seed: of the draws: which kinds are the new ones, how frequent each is, and the questions.
            questions: to replay; None: directions around topics are drawn instead.
            ordinary: how many kinds are asked about from the beginning.
            new: how many are kept for later.
        """
        self._draws = np.random.default_rng([seed, 1])
        self._questions = questions
        self._rows: dict[str, list[int]] = {}
        self._topics: dict[str, Array] = {}
        if questions is None:
            names = [f"topic {i + 1}" for i in range(ordinary + new)]
            centres = self._draws.normal(size=(len(names), DIMENSIONS)).astype(np.float32)
            self._topics = dict(zip(names, centres, strict=True))
        else:
            by_kind: dict[str, list[int]] = {}
            for row, kind in enumerate(questions.kinds):
                by_kind.setdefault(kind, []).append(row)
            names = sorted(kind for kind, rows in by_kind.items() if len(rows) >= _FEWEST)
            if len(names) < ordinary + new:
                raise SetupError(
                    f"A rehearsal needs {ordinary + new} kinds with {_FEWEST} questions each; there are {len(names)}."
                )
            names = [names[i] for i in self._draws.permutation(len(names))[: ordinary + new]]
            self._rows = {
                name: [by_kind[name][i] for i in self._draws.permutation(len(by_kind[name]))] for name in names
            }
        self.ordinary, self.new = tuple(names[:ordinary]), tuple(names[ordinary:])
        self._shares = self._draws.dirichlet(np.full(ordinary, 5.0))
        self._asked: dict[str, int] = {}

    def ask(self, n: int, share_of_new: float = 0.0) -> Batch:
        """The next `n` questions, of which the share `share_of_new` is of new kinds."""
        kinds = [self.ordinary[i] for i in self._draws.choice(len(self.ordinary), n, p=self._shares)]
        for place in np.flatnonzero(self._draws.random(n) < share_of_new):
            kinds[place] = self.new[int(self._draws.integers(len(self.new)))]
        if self._questions is None:
            rows = np.stack([self._topics[kind] for kind in kinds])
            rows = rows + _TOPIC_NOISE * self._draws.normal(size=rows.shape).astype(np.float32)
            return Batch([f"about {kind}" for kind in kinds], kinds, rows / np.linalg.norm(rows, axis=1, keepdims=True))
        chosen = [self._next(kind) for kind in kinds]
        return Batch([self._questions.texts[row] for row in chosen], kinds, self._questions.vectors[chosen])

    def _next(self, kind: str) -> int:
        """The next question of a kind; once all were asked, they come again."""
        self._asked[kind] = self._asked.get(kind, -1) + 1
        return self._rows[kind][self._asked[kind] % len(self._rows[kind])]


def read_questions(
    path: Path, text: str, kind: str, embed: Callable[[Sequence[str]], Array], *, most: int | None = None
) -> Questions:
    """Labelled questions of a file of JSON lines or CSV.

    Args:
        path: of the file.
        text: the field with the question.
        kind: the field with its kind.
        embed: texts to vectors of unit length, shape (n, d).
        most: no more than so many, spread evenly over the file.

    Raises:
        SetupError: the file cannot be read, or a row lacks a field.
    """
    rows = read_table(path, {text: FILLED, kind: FILLED})
    if most is not None and len(rows) > most:
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, most).astype(int)]
    texts = [str(row[text]) for row in rows]
    return Questions(texts, [str(row[kind]) for row in rows], embed(texts))
