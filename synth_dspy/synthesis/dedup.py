"""Near-duplicates: of two questions that ask the same of the same document, the later one goes.

A pair is a duplicate if its words are (Jaccard similarity of word n-grams) or if its meaning is (cosine similarity).
Comparing all pairs is exact, needs no index, and is quick for the tens of thousands of rows of a group-wise run:
questions are compared within their group only, as "Which law governs it?" asks something else of every contract.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth_dspy.core.knowledge import Candidate, Verdict
from synth_dspy.core.protocols import Embed
from synth_dspy.synthesis.text import jaccard, ngrams, tokens


class NearDuplicate:
    """Keeps the first of every set of near-duplicates. Depends on the order; call it from one thread.

    Args:
        embed: texts to unit vectors.
        known: rows that are there already (labelled seeds), with the fields `group` and `question`.
        overlap: word bigrams shared, as a Jaccard similarity, at which two questions are the same.
        cosine: similarity of their embeddings at which they are.
    """

    name = "near-duplicate"
    ordered = True

    def __init__(
        self,
        embed: Embed,
        known: Iterable[Mapping[str, Any]] = (),
        *,
        overlap: float = 0.8,
        cosine: float = 0.92,
    ) -> None:
        self.embed = embed
        self.overlap = overlap
        self.cosine = cosine
        self._seen: defaultdict[str, list[tuple[str, NDArray[np.float32]]]] = defaultdict(list)
        rows = list(known)
        if rows:
            vectors = embed([str(row["question"]) for row in rows])
            for row, vector in zip(rows, vectors, strict=True):
                self._seen[str(row["group"])].append((str(row["question"]), vector))

    def __call__(self, candidate: Candidate) -> Verdict:
        question = str(candidate.fields["question"])
        vector = self.embed([question])[0]
        seen = self._seen[candidate.unit.group]
        grams = ngrams(tokens(question), 2)
        nearest = 0.0
        for other, other_vector in seen:
            shared = jaccard(grams, ngrams(tokens(other), 2))
            similar = float(vector @ other_vector)
            nearest = max(nearest, similar)
            if shared >= self.overlap or similar >= self.cosine:
                return Verdict(False, max(0.0, 1 - max(shared, similar)), f"asked already: {other}")
        seen.append((question, vector))
        return Verdict(True, min(1.0, max(0.0, 1 - nearest)), "")
