"""What a statement has in common with the passages that it should follow from, as numbers.

Words: which of its content words, numbers and names stand in the passages, in one sentence of them, and side by side.
Meaning: how near its tokens, in context, come to those of the sentences that share most with it (late interaction, as
in ColBERT; Khattab & Zaharia 2020). A question, where there is one, says what a short statement ("30 days") is about.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from synth_dspy.core.text import STOPWORDS, parse
from synth_dspy.evaluation.reference_judge.cues import is_negation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synth_dspy.evaluation.reference_judge.meaning import TokenEmbedder
    from synth_dspy.models.embedder import TokenVectors

    Table = NDArray[np.float64]

WORD_FEATURES = (
    "words_found", "new_words_found", "new_words_close", "numbers_found", "numbers_missing", "names_found",
    "names_missing", "one_sentence", "two_sentences", "pairs_found", "longest_run", "verbatim", "negations_added",
    "negations_dropped", "length", "passage_length", "question_found", "question_beside", "question_in_one",
)  # fmt: skip
MEANING_FEATURES = (
    "cosine", "second_cosine", "met_mean", "met_low", "met_least", "numbers_met", "question_cosine",
)  # fmt: skip
FEATURES = (*WORD_FEATURES, *MEANING_FEATURES)

_BOUNDARY = re.compile(r"(?<=[.!?;:])[\"”’')\]]*\s+(?=[\"“‘'(\[]*[A-Z0-9])|\n+")
_SENTENCE_WORDS = 60
"""A longer sentence is cut: of what follows, an embedder would see a blur."""
_EMBEDDED = 5
"""Sentences of the passages whose tokens are compared with the statement's: a judge's time goes there."""
_STATEMENT_WORDS, _QUESTION_WORDS = 80, 30


class Statement(NamedTuple):
    """What is to be supported, the question that it answers ("" for none), and the passages."""

    text: str
    question: str
    passages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Words:
    """A text's content words in their order: what is compared, and the kind of each; how many negations it holds."""

    norms: tuple[str, ...]
    kinds: tuple[str, ...]
    every: frozenset[str]
    negations: int


@dataclass(frozen=True, slots=True)
class _Compared:
    """A statement's features of words, and the sentences that its meaning is compared with, the closest first."""

    values: dict[str, float]
    sentences: tuple[str, ...]


def feature_table(statements: Sequence[Statement], embedder: TokenEmbedder) -> Table:
    """The features of statements, shape (statements, len(FEATURES)); NaN where one does not apply.

    Args:
        statements: each with at least one word, and at least one passage that has one.
        embedder: gives token vectors; every text is embedded once.
    """
    compared = [_compare(statement) for statement in statements]
    texts: dict[str, int] = {}
    for statement, of in zip(statements, compared, strict=True):
        for text in (_claim(statement)[0], statement.question, *of.sentences):
            if text:
                texts.setdefault(text, len(texts))
    vectors = embedder.embed_tokens(list(texts)) if texts else []
    table = np.full((len(statements), len(FEATURES)), np.nan)
    for row, (statement, of) in enumerate(zip(statements, compared, strict=True)):
        table[row, : len(WORD_FEATURES)] = [of.values[name] for name in WORD_FEATURES]
        claim, start = _claim(statement)
        sentences = [vectors[texts[sentence]] for sentence in of.sentences]
        question = vectors[texts[statement.question]] if statement.question else None
        table[row, len(WORD_FEATURES) :] = _meaning(vectors[texts[claim]], start, sentences, question)
    return table


def has_words(statement: Statement) -> bool:
    """Whether there is a word on both sides, without which there is nothing to compare."""
    return bool(_words_of(statement.text).norms) and any(_sentences(passage) for passage in statement.passages)


def sentences_of(passage: str) -> list[str]:
    """The sentences of a passage, long ones in pieces."""
    found = []
    for sentence in _BOUNDARY.split(passage):
        words = sentence.split()
        found += [" ".join(words[i : i + _SENTENCE_WORDS]) for i in range(0, len(words), _SENTENCE_WORDS)]
    return found


@lru_cache(maxsize=8192)
def _words_of(text: str) -> _Words:
    parsed = parse(text)
    tokens = [parsed.tokens[i] for i in parsed.words] or [token for token in parsed.tokens if token.kind != "p"]
    every = frozenset(token.norm for token in parsed.tokens if token.kind != "p")
    low = [parsed.text[token.start : token.end].lower() for token in parsed.tokens]
    return _Words(
        tuple(token.norm for token in tokens),
        tuple(token.kind for token in tokens),
        every,
        sum(map(is_negation, low)),
    )


@lru_cache(maxsize=2048)
def _sentences(passage: str) -> tuple[tuple[str, _Words], ...]:
    return tuple((sentence, words) for sentence in sentences_of(passage) if (words := _words_of(sentence)).every)


def _claim(statement: Statement) -> tuple[str, int]:
    """The statement after its question, as it is embedded, and where the statement begins."""
    asked = " ".join(statement.question.split()[:_QUESTION_WORDS])
    text = " ".join(statement.text.split()[:_STATEMENT_WORDS])
    return (f"{asked} {text}", len(asked) + 1) if asked else (text, 0)


def _compare(statement: Statement) -> _Compared:
    mine, asked = _words_of(statement.text), _words_of(statement.question)
    sentences = [each for passage in statement.passages for each in _sentences(passage)]
    everywhere = frozenset().union(*(words.every for _, words in sentences))
    new = [norm for norm in mine.norms if norm not in asked.every] or list(mine.norms)
    wanted, query = frozenset(new), frozenset(asked.norms)
    shares = [len(wanted & words.every) for _, words in sentences]
    best = max(range(len(sentences)), key=lambda i: (shares[i], len(query & sentences[i][1].every)))
    held = wanted & sentences[best][1].every
    second = max((len(held | (wanted & words.every)) for _, words in sentences), default=0)
    numbers = [norm for norm, kind in zip(mine.norms, mine.kinds, strict=True) if kind == "n"]
    names = [norm for norm, kind in zip(mine.norms, mine.kinds, strict=True) if kind == "c" and norm not in asked.every]
    pairs = {pair for _, words in sentences for pair in pairwise(words.norms)}
    own_pairs = list(pairwise(mine.norms))
    beside = frozenset().union(*(sentences[i][1].every for i in range(max(0, best - 1), min(len(sentences), best + 2))))
    negations = sentences[best][1].negations
    flat = " ".join(" ".join(words.norms) for _, words in sentences)
    values = {
        "words_found": _share(mine.norms, everywhere),
        "new_words_found": _share(new, everywhere),
        "new_words_close": sum(norm in everywhere or _is_close(norm, everywhere) for norm in new) / max(1, len(new)),
        "numbers_found": _share(numbers, everywhere) if numbers else math.nan,
        "numbers_missing": float(min(3, sum(norm not in everywhere for norm in numbers))),
        "names_found": _share(names, everywhere) if names else math.nan,
        "names_missing": float(min(4, sum(norm not in everywhere for norm in names))),
        "one_sentence": len(held) / max(1, len(wanted)),
        "two_sentences": second / max(1, len(wanted)),
        "pairs_found": sum(pair in pairs for pair in own_pairs) / len(own_pairs) if own_pairs else math.nan,
        "longest_run": _longest_run(mine.norms, pairs) / max(1, len(mine.norms)),
        "verbatim": float(f" {' '.join(mine.norms)} " in f" {flat} "),
        "negations_added": float(min(2, max(0, mine.negations - negations))),
        "negations_dropped": float(min(2, max(0, negations - mine.negations))),
        "length": math.log1p(len(mine.norms)),
        "passage_length": math.log1p(sum(len(words.norms) for _, words in sentences)),
        "question_found": _share(asked.norms, everywhere) if asked.norms else math.nan,
        "question_beside": _share(asked.norms, beside) if asked.norms else math.nan,
        "question_in_one": (
            max(_share(asked.norms, words.every) for _, words in sentences) if asked.norms else math.nan
        ),
    }
    # The question decides between sentences that share as much with the statement, and its own best one is there too.
    worth = [
        (2 * share / max(1, len(wanted)) + len(query & words.every) / max(1, len(query)), -i)
        for i, (share, (_, words)) in enumerate(zip(shares, sentences, strict=True))
    ]
    order = sorted(range(len(sentences)), key=lambda i: worth[i], reverse=True)[:_EMBEDDED]
    return _Compared(values, tuple(sentences[i][0] for i in order))


def _share(norms: Sequence[str], found: frozenset[str]) -> float:
    return sum(norm in found for norm in norms) / max(1, len(norms))


def _is_close(norm: str, found: frozenset[str]) -> bool:
    """Whether a word that begins alike stands there: "governing" for "governed"."""
    return len(norm) > 4 and norm[0].isalpha() and any(other[:5] == norm[:5] for other in found)


def _longest_run(norms: Sequence[str], pairs: set[tuple[str, str]]) -> int:
    """How many words of the statement in a row stand so in the passages, pair by pair."""
    longest = run = 1
    for pair in pairwise(norms):
        run = run + 1 if pair in pairs else 1
        longest = max(longest, run)
    return longest


def _meaning(
    claim: TokenVectors, start: int, sentences: Sequence[TokenVectors], question: TokenVectors | None
) -> list[float]:
    asked = set(question.tokens) if question is not None else set()
    own = [i for i, (begin, _) in enumerate(claim.offsets) if begin >= start]
    content = [i for i in own if claim.tokens[i] not in STOPWORDS and claim.tokens[i][-1:].isalnum()]
    content = [i for i in content if claim.tokens[i] not in asked] or content or own
    theirs = np.concatenate([sentence.vectors for sentence in sentences])
    met = (claim.vectors[content] @ theirs.T).max(axis=1) if len(theirs) and content else np.zeros(1)
    numbers = [j for j, i in enumerate(content) if claim.tokens[i][-1:].isdigit()]
    means = [_unit_mean(sentence) for sentence in sentences]
    cosines = sorted((float(_unit_mean(claim) @ mean) for mean in means), reverse=True)
    return [
        cosines[0],
        cosines[1] if len(cosines) > 1 else math.nan,
        float(met.mean()),
        float(np.quantile(met, 0.2)),
        float(met.min()),
        float(met[numbers].min()) if numbers else math.nan,
        max(float(_unit_mean(question) @ mean) for mean in means) if question is not None else math.nan,
    ]


def _unit_mean(tokens: TokenVectors) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = tokens.vectors.mean(axis=0)
    unit: NDArray[np.float32] = mean / max(float(np.linalg.norm(mean)), 1e-12)
    return unit
