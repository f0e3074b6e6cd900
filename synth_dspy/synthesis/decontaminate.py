"""Decontamination: a training row that a held-out item could be answered from by memory is dropped.

Splitting by document keeps documents apart, but not text: a clause copied from one contract into another, an
amendment that repeats its contract, a page crawled twice. A row and a held-out item are compared by their question
together with the words of the document that answer it, in three ways: the same text, shared word n-grams (8 words in a
row do not recur by chance), and the cosine similarity of their embeddings. The question alone proves nothing where the
same is asked of every document, and neither do few words: two contracts under the law of New York are not copies, and a
trainset without New York is not that of the task. Such rows are compared by the passage around the words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.knowledge import Candidate, Verdict, rejected
from synth_dspy.core.protocols import Embed
from synth_dspy.synthesis.pipeline import DECONTAMINATED, MATCHES, NOT_COMPARED, reason
from synth_dspy.synthesis.text import ngrams, tokens

if TYPE_CHECKING:
    import dspy

WORDS = 8
"""So many words in a row do not recur by chance."""


class Decontaminated:
    """Rejects what a held-out item contains; the reason begins with the kind of match: exact, ngram or embedding.

    Args:
        held_out: the items that arms are chosen and scored on, with `question`, `answer`, `spans` and `passages`.
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
        n: int = WORDS,
        share: float = 0.5,
        cosine: float = 0.95,
    ) -> None:
        self.embed = embed
        self.n = n
        self.share = share
        self.cosine = cosine
        self._texts = [text_of(row, n) for row in held_out]
        self._exact = {tokens(text): text for text in self._texts}
        self._grams: dict[tuple[str, ...], set[int]] = {}
        for i, text in enumerate(self._texts):
            for gram in ngrams(tokens(text), n):
                self._grams.setdefault(gram, set()).add(i)
        self._vectors = embed(self._texts) if self._texts else None

    def __call__(self, candidate: Candidate) -> Verdict:
        return self.check([candidate.fields])[0]

    def check(self, rows: Sequence[Mapping[str, Any]]) -> list[Verdict]:
        """The verdicts on rows with `question`, `answer`, `spans` and `passages`, labelled ones too."""
        texts = [text_of(row, self.n) for row in rows]
        found = [self._by_words(row, text) for row, text in zip(rows, texts, strict=True)]
        open_ = [index for index, verdict in enumerate(found) if verdict is None]
        vectors = self.embed([texts[index] for index in open_]) if open_ else ()
        judged = {index: self._by_meaning(vector) for index, vector in zip(open_, vectors, strict=True)}
        return [verdict or judged[index] for index, verdict in enumerate(found)]

    def _by_words(self, row: Mapping[str, Any], text: str) -> Verdict | None:
        """The verdict, where words suffice for one."""
        # Where a document is silent there are no words to compare: the same question about another silent document
        # is not a copy, and without such rows no model learns to abstain. Without documents, only questions count.
        if self._vectors is None or (row.get("references") == [] and row.get("document")):
            return Verdict(True, 1.0, NOT_COMPARED)
        words = tokens(text)
        if words in self._exact:
            return rejected(f"exact: {self._exact[words]}")
        grams = ngrams(words, self.n)
        hits: dict[int, int] = {}
        for gram in grams:
            for i in self._grams.get(gram, ()):
                hits[i] = hits.get(i, 0) + 1
        if not hits:
            return None
        worst = max(hits, key=lambda i: (hits[i], -i))
        if hits[worst] / len(grams) < self.share:
            return None
        return Verdict(False, 1 - hits[worst] / len(grams), f"ngram: {self._texts[worst]}")

    def _by_meaning(self, vector: NDArray[np.float32]) -> Verdict:
        assert self._vectors is not None
        near = self._vectors @ vector
        best = int(np.argmax(near))
        if near[best] >= self.cosine:
            return Verdict(False, max(0.0, 1 - float(near[best])), f"embedding: {self._texts[best]}")
        return Verdict(True, min(1.0, max(0.0, 1 - float(near[best]))), "")


def decontaminate(
    rows: Sequence[dspy.Example], held_out: Sequence[dspy.Example], embed: Embed
) -> tuple[tuple[dspy.Example, ...], dict[str, int]]:
    """Labelled training rows without those that a held-out item repeats, and what was found by kind of match.

    Two contracts may well have the same clause and be asked the same question about it; such a row is not evidence of
    having learned anything, so it goes too.
    """
    verdicts = Decontaminated(held_out, embed).check(rows)
    found = Counter(reason(verdict.why) for verdict in verdicts if not verdict.keep)
    kept = tuple(row for row, verdict in zip(rows, verdicts, strict=True) if verdict.keep)
    counts = {kind: found[kind] for kind in MATCHES}
    compared = sum(verdict.why != NOT_COMPARED for verdict in verdicts)
    return kept, {"checked": compared, **counts, "removed": len(rows) - len(kept)}


def text_of(row: Mapping[str, Any], n: int = WORDS) -> str:
    """What is compared: the question and the words that answer it (the answer itself where no span is known).

    With a document, fewer than `n` words give way to the passage that holds them, if the row names it.
    """
    spans = [str(span) for span in row.get("spans") or ()]
    passage = str(row.get("passages") or "")
    if row.get("document") and passage and sum(len(tokens(span)) for span in spans) < n:
        spans = [passage]
    return " ".join([str(row["question"]), *(spans or [str(row.get("answer", ""))])])
