"""Decontamination: drops training rows from which a held-out item could be answered by memorisation.

Splitting by document separates documents, but not their text: a clause copied from another contract, an amendment that
repeats its contract, a page crawled twice. A row and a held-out item are compared by the question together with the
words of the document that answer it, in three ways: exact match, shared word n-grams (8 consecutive words do not recur
by chance), and cosine similarity of embeddings. The question alone proves nothing if the same is asked about every
document, and neither do a few words: two contracts under the law of New York are not copies, and a trainset without New
York would not represent the task. Such rows are compared by the passage around the words.
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
"""Number of consecutive words that do not recur by chance."""


class Decontaminated:
    """Rejects candidates that match a held-out item; the reason begins with the kind: exact, ngram or embedding.

    Args:
        held_out: the dev and test items, with `question`, `answer`, `spans` and `passages`.
        embed: maps texts to unit vectors.
        n: length of an n-gram, in words.
        share: threshold for the share of a row's n-grams in one held-out item.
        cosine: threshold for the similarity of embeddings.
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
        """The verdicts on rows with `question`, `answer`, `spans` and `passages`."""
        texts = [text_of(row, self.n) for row in rows]
        verdicts = [self._by_words(row, text) for row, text in zip(rows, texts, strict=True)]
        undecided = [index for index, verdict in enumerate(verdicts) if verdict is None]
        vectors = self.embed([texts[index] for index in undecided]) if undecided else ()
        by_meaning = {index: self._by_meaning(vector) for index, vector in zip(undecided, vectors, strict=True)}
        return [verdict or by_meaning[index] for index, verdict in enumerate(verdicts)]

    def _by_words(self, row: Mapping[str, Any], text: str) -> Verdict | None:
        """The verdict by exact match or n-grams, or None if embeddings must decide."""
        # Unanswerable questions have no words to compare: the same question about another document without an answer
        # is not a copy, and such rows teach abstention. Without documents, only the question can be compared.
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
        closest = max(hits, key=lambda i: (hits[i], -i))
        if hits[closest] / len(grams) < self.share:
            return None
        return Verdict(False, 1 - hits[closest] / len(grams), f"ngram: {self._texts[closest]}")

    def _by_meaning(self, vector: NDArray[np.float32]) -> Verdict:
        assert self._vectors is not None
        similarities = self._vectors @ vector
        best = int(np.argmax(similarities))
        if similarities[best] >= self.cosine:
            return Verdict(False, max(0.0, 1 - float(similarities[best])), f"embedding: {self._texts[best]}")
        return Verdict(True, min(1.0, max(0.0, 1 - float(similarities[best]))), "")


def decontaminate(
    rows: Sequence[dspy.Example], held_out: Sequence[dspy.Example], embed: Embed
) -> tuple[tuple[dspy.Example, ...], dict[str, int]]:
    """Remove labelled training rows that match a held-out item, and count the matches by kind.

    Two contracts may have the same clause and the same question about it; such a row is removed too, since answering it
    would not show generalisation.
    """
    verdicts = Decontaminated(held_out, embed).check(rows)
    matches = Counter(reason(verdict.why) for verdict in verdicts if not verdict.keep)
    kept = tuple(row for row, verdict in zip(rows, verdicts, strict=True) if verdict.keep)
    counts = {kind: matches[kind] for kind in MATCHES}
    compared = sum(verdict.why != NOT_COMPARED for verdict in verdicts)
    return kept, {"checked": compared, **counts, "removed": len(rows) - len(kept)}


def text_of(row: Mapping[str, Any], n: int = WORDS) -> str:
    """The text to compare: the question and the words that answer it (or the answer, if no span is known).

    With a document, spans of fewer than `n` words are replaced by their passage, if the row has it.
    """
    spans = [str(span) for span in row.get("spans") or ()]
    passage = str(row.get("passages") or "")
    if row.get("document") and passage and sum(len(tokens(span)) for span in spans) < n:
        spans = [passage]
    return " ".join([str(row["question"]), *(spans or [str(row.get("answer", ""))])])
