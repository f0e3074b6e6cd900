"""Near-duplicate removal: of two similar questions about the same document, the later one is rejected.

Two questions are duplicates by words (Jaccard similarity of word bigrams) or by meaning (cosine similarity). Questions
are compared only within their group, since "Which law governs it?" is another question for every contract. So comparing
all pairs, which is exact and needs no index, is fast even for tens of thousands of rows.
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
        embed: maps texts to unit vectors.
        existing_rows: rows to compare with too (labelled seeds), with the fields `group` and `question`.
        overlap: threshold for the Jaccard similarity of word bigrams.
        cosine: threshold for the cosine similarity of embeddings.
    """

    name = "near-duplicate"
    ordered = True

    def __init__(
        self,
        embed: Embed,
        existing_rows: Iterable[Mapping[str, Any]] = (),
        *,
        overlap: float = 0.8,
        cosine: float = 0.92,
    ) -> None:
        self.embed = embed
        self.overlap = overlap
        self.cosine = cosine
        self._seen: defaultdict[str, list[tuple[str, NDArray[np.float32]]]] = defaultdict(list)
        rows = list(existing_rows)
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
