"""Decontamination: a training row that a held-out item could be answered from by memory is dropped.

Splitting by document keeps documents apart, but not text: a clause copied from one contract into another, an
amendment that repeats its contract, a page crawled twice. A row and a held-out item are compared by their question
together with the words of the document that answer it, in three ways: the same text, shared word n-grams (8 words in a
row do not recur by chance), and the cosine similarity of their embeddings. The question alone proves nothing where the
same is asked of every document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synth_dspy.synthesis.pipeline import DECONTAMINATED, MATCHES, NOT_COMPARED, reason
from synth_dspy.synthesis.text import ngrams, tokens
from synth_dspy.task import Candidate, Verdict

if TYPE_CHECKING:
    import dspy

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


class Decontaminated:
    """Rejects what a held-out item contains; the reason begins with the kind of match: exact, ngram or embedding.

    Args:
        held_out: the items that arms are chosen and scored on, with the fields `question`, `answer` and `spans`.
        embed: texts to unit vectors.
        n: length of an n-gram, in words.
        share: share of the row's n-grams in one held-out item at which it is a match.
        cosine: similarity at which it is one.
    """

    name = DECONTAMINATED

    def __init__(
        self,
        held_out: Iterable[Mapping[str, Any]],
        embed: Embed,
        *,
        n: int = 8,
        share: float = 0.5,
        cosine: float = 0.95,
    ) -> None:
        self.embed = embed
        self.n = n
        self.share = share
        self.cosine = cosine
        self._texts = [text_of(row) for row in held_out]
        self._exact = {tokens(text): text for text in self._texts}
        self._grams: dict[tuple[str, ...], set[int]] = {}
        for i, text in enumerate(self._texts):
            for gram in ngrams(tokens(text), n):
                self._grams.setdefault(gram, set()).add(i)
        self._vectors = embed(self._texts) if self._texts else None

    def __call__(self, candidate: Candidate) -> Verdict:
        return self.check(candidate.fields)

    def check(self, row: Mapping[str, Any]) -> Verdict:
        """The verdict on any row with `question`, `answer` and `spans`, labelled ones too."""
        # Where a document is silent there are no words to compare: the same question about another silent document
        # is no copy, and without such rows nobody learns to abstain. Without documents the question is all there is.
        if self._vectors is None or (row.get("references") == [] and row.get("document")):
            return Verdict(True, 1.0, NOT_COMPARED)
        text = text_of(row)
        words = tokens(text)
        if words in self._exact:
            return Verdict(False, 0.0, f"exact: {self._exact[words]}")
        grams = ngrams(words, self.n)
        hits: dict[int, int] = {}
        for gram in grams:
            for i in self._grams.get(gram, ()):
                hits[i] = hits.get(i, 0) + 1
        if hits:
            worst = max(hits, key=lambda i: (hits[i], -i))
            if hits[worst] / len(grams) >= self.share:
                return Verdict(False, 1 - hits[worst] / len(grams), f"ngram: {self._texts[worst]}")
        near = self._vectors @ self.embed([text])[0]
        best = int(np.argmax(near))
        if near[best] >= self.cosine:
            return Verdict(False, max(0.0, 1 - float(near[best])), f"embedding: {self._texts[best]}")
        return Verdict(True, min(1.0, max(0.0, 1 - float(near[best]))), "")


def decontaminate(
    rows: Sequence[dspy.Example], held_out: Sequence[dspy.Example], embed: Embed
) -> tuple[tuple[dspy.Example, ...], dict[str, int]]:
    """Labelled training rows without those that a held-out item repeats, and what was found by kind of match.

    Two contracts may well have the same clause and be asked the same question about it; such a row is no evidence of
    having learned anything, so it goes too.
    """
    check = Decontaminated(held_out, embed).check
    verdicts = [check(row) for row in rows]
    found = Counter(reason(verdict.why) for verdict in verdicts if not verdict.keep)
    kept = tuple(row for row, verdict in zip(rows, verdicts, strict=True) if verdict.keep)
    counts = {kind: found[kind] for kind in MATCHES}
    compared = sum(verdict.why != NOT_COMPARED for verdict in verdicts)
    return kept, {"checked": compared, **counts, "removed": len(rows) - len(kept)}


def text_of(row: Mapping[str, Any]) -> str:
    """What is compared: the question and the words that answer it (the answer itself where no span is known)."""
    spans = [str(span) for span in row.get("spans") or ()]
    return " ".join([str(row["question"]), *(spans or [str(row.get("answer", ""))])])
