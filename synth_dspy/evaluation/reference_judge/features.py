"""What an answer shares with a reference, and where it departs from it, as numbers.

Overlap alone takes "It is not X" and "1986" for "1985" as right. So beside overlap stand: what the answer adds to the
question, numbers and names that are missing or that contradict, an alignment of the mention with the reference (which
word stands in place of which), and the cues around the mention (`answer_cues`).
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from synth_dspy.core.text import Text, words
from synth_dspy.evaluation.reference_judge.conflicts import (
    MANY_REFERENCES,
    MONTH_NAMES,
    addresses_judge,
    answers_otherwise_first,
    cites_law,
    contradicts_itself,
    name_features,
    number_features,
    offers_others,
    owner_features,
    stranger_features,
)
from synth_dspy.evaluation.reference_judge.cues import cue_features, is_negation
from synth_dspy.evaluation.reference_judge.opposites import denies_question, polarity
from synth_dspy.evaluation.reference_judge.parts import Answer, Reference, answer_of, reference_of
from synth_dspy.evaluation.reference_judge.quantities import quantity_features, respell

Weight = Callable[[str], float]
"""How telling a token is: its inverse document frequency."""

_LONG_REFERENCE = 30
"""Content words above which unmatched words are not compared letter by letter: too slow, and of little use."""


@dataclass(frozen=True, slots=True)
class AnswerComparison:
    """An answer against one reference. `span` is the mention: first and last token in `answer.tokens`, or None."""

    reference: str
    answer: Text
    span: tuple[int, int] | None
    share: float
    values: Mapping[str, float]
    mentions: tuple[tuple[int, int], ...] = ()
    """First and last token of each place where the whole reference stands, word for word."""
    ranked: tuple[str, ...] = ()
    """The references closest to the answer, closest first, where there were several."""


def rank_references(question: str, references: Sequence[str], prediction: str, weight: Weight, most: int) -> list[str]:
    """The references that share most with the answer, best first, at most `most`; those that read the same once."""
    ranked: dict[tuple[str, ...], tuple[float, str]] = {}
    for text in references[:MANY_REFERENCES]:
        reference = reference_of(text)
        if not reference.norms or reference.norms in ranked:
            continue
        answer = answer_of(question, respell(prediction, text))
        overlap, novel = _overlap(reference, answer, weight)
        letters = len(reference.trigrams & answer.trigrams) / len(reference.trigrams)
        worth = 0.5 * overlap + 0.3 * letters + 0.4 * novel + 0.02 * min(len(reference.norms), 5)
        ranked[reference.norms] = (worth, text)
    return [text for _, text in sorted(ranked.values(), key=lambda pair: -pair[0])[:most]]


def compare_all(question: str, references: Sequence[str], prediction: str, weight: Weight) -> AnswerComparison | None:
    """An answer against the reference it is closest to, with what the other references say; None without references.

    Of several references some are more exact ("1979", "21 July 1979") and some are parts of one answer: an answer can
    meet the closest and contradict another, so their best overlap and their worst conflict are features too.
    """
    ranked = rank_references(question, references, prediction, weight, most=_COMPARED)
    if not ranked:
        return None
    comparisons = [compare(question, reference, prediction, weight) for reference in ranked]
    values = dict(comparisons[0].values)
    for name in _BEST:
        values[f"best_{name}"] = max(c.values[name] for c in comparisons)
    for name in _WORST:
        values[f"worst_{name}"] = max(c.values[name] for c in comparisons)
    for name in _LEAST:
        values[f"least_{name}"] = min(c.values[name] for c in comparisons)
    closest = answer_of(question, respell(prediction, ranked[0]))
    values |= stranger_features(closest, references, comparisons[0].span)
    values["addresses_judge"] = addresses_judge(closest, references)
    # Where another reference is repeated as it is, the closest one is not what the answer repeats.
    values["opposed"] = float(values["opposed"] > 0 and all(c.values["opposed"] for c in comparisons[1:]))
    values["cites_law"] = cites_law(question, references, prediction)
    values["contradicts_itself"] = contradicts_itself(question, references, prediction)
    values["answers_otherwise_first"] = answers_otherwise_first(question, references, prediction)
    values["offers_others"] = offers_others(closest, references)
    values["references"] = float(min(10, len(references)))
    values["references_met"] = sum(c.values["recall"] > 0.99 for c in comparisons) / len(comparisons)
    values["references_half_met"] = sum(c.values["recall"] >= 0.5 for c in comparisons) / len(comparisons)
    first = comparisons[0]
    return AnswerComparison(
        first.reference, first.answer, first.span, first.share, values, first.mentions, tuple(ranked)
    )


_COMPARED = 4
_BEST = (
    "recall",
    "novel_recall",
    "letters",
    "fuzzy_recall",
    "exact",
    "joined",
    "coverage",
    "numbers_found",
    "contiguous",
    "precision",
    "novel_precision",
    "first_word",
    "last_word",
    "quantities_met",
)
_WORST = ("year_conflict", "month_conflict", "day_conflict", "numbers_missing", "numbers_conflict", "names_missing")
_LEAST = ("names_missing", "numbers_missing", "names_conflict", "numbers_conflict", "bound_conflict", "bound_opposed")


def compare(question: str, reference: str, prediction: str, weight: Weight) -> AnswerComparison:
    """All features of an answer against one reference but the embedded ones."""
    prediction = respell(prediction, reference)
    answer, ref = answer_of(question, prediction), reference_of(reference)
    matches = _close_spellings(ref, answer)
    norms, words = answer.norms, answer.words
    if not ref.parsed.words:  # a reference of stopwords and signs alone ("It", "The Who"): compare every word
        words = [i for i, token in enumerate(answer.text.tokens) if token.kind != "p"]
        norms = [answer.text.tokens[i].norm for i in words]
    same = {theirs: norm for norm, (closeness, theirs) in matches.items() if closeness >= 0.6}
    mapped = [same.get(norm, norm) for norm in norms]
    window = _best_window(ref.norms, mapped, weight)
    span = (words[window[0]], words[window[1]]) if window else None
    values = _overlap_features(ref, answer, matches, weight)
    values |= _mention_features(ref, answer, mapped, words, window)
    values |= number_features(ref, answer)
    values |= name_features(ref, answer)
    values |= cue_features(answer.low, span, len(ref.norms))
    values["neg_reference"] = float(min(3, sum(map(is_negation, ref.norms))))
    values["neg_mention"] = float(min(3, sum(map(is_negation, answer.low[span[0] : span[1] + 1])))) if span else 0.0
    values["neg_question"] = float(min(2, sum(is_negation(token.norm) for token in answer.question.tokens)))
    for word in ("who", "when", "where", "how", "what", "which", "many"):
        values[f"ask_{word}"] = float(word in answer.question_norms)
    yes_no = {"yes", "no"}
    values["yes_no"] = float(ref.norms[0] in yes_no)
    values["yes_no_flip"] = float(
        ref.norms[0] in yes_no and bool(answer.low) and answer.low[0] in yes_no and answer.low[0] != ref.norms[0]
    )
    values |= quantity_features(question, reference, prediction)
    values |= owner_features(answer, span, ref)
    values["opposed"] = polarity(ref.parsed, answer.text, span)
    values["opposed_question"] = denies_question(answer.question, answer.text, span)
    count = len(ref.norms)
    mentions = tuple(
        (words[i], words[i + count - 1])
        for i in range(len(mapped) - count + 1)
        if tuple(mapped[i : i + count]) == ref.norms
    )
    return AnswerComparison(reference, answer.text, span, window[2] if window else 0.0, values, mentions)


def _overlap(ref: Reference, answer: Answer, weight: Weight) -> tuple[float, float]:
    """Weighted share of the reference's words in the answer: all of them, and those the question does not hold."""
    total = hit = novel = novel_hit = 0.0
    for norm in ref.norms:
        w = weight(norm)
        here = w if norm in answer.every else 0.0
        total, hit = total + w, hit + here
        if norm not in answer.question_norms:
            novel, novel_hit = novel + w, novel_hit + here
    return hit / total, novel_hit / novel if novel else 0.5


def _similarity(a: str, b: str) -> float:
    """Dice coefficient of the letter pairs; words with the same first five letters count 0.7 at least."""
    if len(a) < 4 or len(b) < 3 or a[0].isdigit() or b[0].isdigit() or _is_opposite(a, b):
        return 0.0
    first = {a[i : i + 2] for i in range(len(a) - 1)}
    second = {b[i : i + 2] for i in range(len(b) - 1)}
    return max(2 * len(first & second) / (len(first) + len(second)), 0.7 if a[:5] == b[:5] and len(a) > 4 else 0.0)


_NEGATING = ("n", "non", "un", "in", "im", "ir", "dis")


def _is_opposite(a: str, b: str) -> bool:
    """Whether one word negates the other: "either" and "neither"."""
    short, long = sorted((a, b), key=len)
    return len(long) > len(short) and long.endswith(short) and long[: -len(short)] in _NEGATING


def _close_spellings(ref: Reference, answer: Answer) -> dict[str, tuple[float, str]]:
    """For each word of the reference that the answer lacks, the closest spelling in the answer."""
    if len(ref.norms) > _LONG_REFERENCE:
        return {}
    candidates = set(answer.norms)
    return {
        norm: max(((_similarity(norm, other), other) for other in candidates), default=(0.0, ""))
        for norm in set(ref.norms)
        if norm not in answer.every
    }


def _best_window(norms: Sequence[str], answer: Sequence[str], weight: Weight) -> tuple[int, int, float] | None:
    """The stretch of the answer that covers most of the reference: first, last content word, share covered."""
    need = Counter(norms)
    total = sum(weight(norm) * count for norm, count in need.items())
    places = [i for i, norm in enumerate(answer) if norm in need]
    if not places or not total:
        return None
    longest = int(1.5 * len(norms)) + 4
    have: Counter[str] = Counter()
    covered, first = 0.0, 0
    best = (-1.0, 0, 0, 0.0)
    for place in places:
        norm = answer[place]
        have[norm] += 1
        if have[norm] <= need[norm]:
            covered += weight(norm)
        while place - places[first] + 1 > longest or have[answer[places[first]]] > need[answer[places[first]]]:
            gone = answer[places[first]]
            if have[gone] <= need[gone]:
                covered -= weight(gone)
            have[gone] -= 1
            first += 1
        length = place - places[first] + 1
        worth = covered / total - 0.002 * length / (len(norms) + 1)
        if worth > best[0] + 1e-9:
            best = (worth, places[first], place, covered / total)
    return best[1], best[2], best[3]


def _overlap_features(
    ref: Reference, answer: Answer, matches: Mapping[str, tuple[float, str]], weight: Weight
) -> dict[str, float]:
    recall, novel_recall = _overlap(ref, answer, weight)
    total = sum(map(weight, ref.norms))
    fuzzy = sum(weight(n) * (1.0 if n in answer.every else matches.get(n, (0.0, ""))[0]) for n in ref.norms) / total
    in_reference = set(ref.norms) | {norm for closeness, norm in matches.values() if closeness >= 0.6}
    novel = [norm for norm in answer.norms if norm not in answer.question_norms]
    weights, novel_weights = sum(map(weight, answer.norms)), sum(map(weight, novel))
    hits = [i for i, norm in enumerate(novel) if norm in in_reference]
    initials = "".join(norm[0] for norm in ref.norms)
    joined, answer_joined = "".join(ref.norms), "".join(answer.norms)
    return {
        "recall": recall,
        "novel_recall": novel_recall,
        "fuzzy_recall": fuzzy,
        "letters": len(ref.trigrams & answer.trigrams) / len(ref.trigrams),
        "precision": sum(weight(n) for n in answer.norms if n in in_reference) / weights if weights else 0.0,
        "novel_precision": sum(weight(novel[i]) for i in hits) / novel_weights if novel_weights else -1.0,
        "novel_words": float(min(60, len(novel))),
        "novel_rank": float(min(30, hits[0])) if hits else -1.0,
        "from_question": 1.0 - len(novel) / max(1, len(answer.norms)),
        "reference_in_question": sum(weight(n) for n in ref.norms if n in answer.question_norms) / total,
        "exact": float(tuple(answer.norms) == ref.norms),
        "joined": float(len(joined) > 2 and joined in answer_joined),
        "initials": float(
            (len(ref.norms) > 1 and initials in answer.every)
            or any(len(n) > 1 and n == "".join(norm[0] for norm in answer.norms) for n in ref.norms)
        ),
        "reference_length": float(min(150, len(ref.norms))),
        "answer_length": float(min(200, len(answer.norms))),
        "question_length": float(len(answer.question.words)),
        "length_ratio": math.log((len(answer.norms) + 1) / (len(ref.norms) + 1)),
        "first_word": float(ref.norms[0] in answer.every or matches.get(ref.norms[0], (0.0, ""))[0] >= 0.6),
        "last_word": float(ref.norms[-1] in answer.every or matches.get(ref.norms[-1], (0.0, ""))[0] >= 0.6),
    }


def _mention_features(
    ref: Reference,
    answer: Answer,
    mapped: Sequence[str],
    words: Sequence[int],
    window: tuple[int, int, float] | None,
) -> dict[str, float]:
    """Where the answer names the reference, and word for word how it departs from it there."""
    names = ("numbers", "months", "names", "words", "foreign")
    values = {f"replaced_{name}": 0.0 for name in names} | {"inserted": 0.0, "deleted": 0.0}
    values |= {"inserted_neg": 0.0, "deleted_neg": 0.0, "coverage": 0.0, "mention_length": -1.0}
    values |= {"mention_start": -1.0, "mention_rest": -1.0, "contiguous": 0.0, "same_type_before": -1.0}
    if window is None:
        return values
    start, end, share = window
    count = len(ref.norms)
    values["coverage"] = share
    values["mention_length"] = (end - start + 1) / count
    values["mention_start"] = start / len(mapped)
    values["mention_rest"] = (len(mapped) - 1 - end) / len(mapped)
    values["contiguous"] = float(tuple(mapped[start : end + 1]) == ref.norms)
    kinds = Counter(ref.parsed.tokens[i].kind for i in ref.words)
    kind = "n" if kinds["n"] else "c" if kinds["c"] + kinds["o"] else "w"
    tokens = answer.text.tokens
    values["same_type_before"] = float(
        min(10, sum(tokens[words[i]].kind == kind and mapped[i] not in answer.question_norms for i in range(start)))
    )
    if share <= 0.3 or values["contiguous"]:
        return values
    spare = min(3, count - len(set(ref.norms) & set(mapped[start : end + 1])))
    low, high = max(0, start - spare), min(len(mapped), end + 1 + spare)
    theirs, ours = list(ref.norms), list(mapped[low:high])
    their_kinds = [ref.parsed.tokens[i].kind for i in ref.words]
    our_kinds = [tokens[words[i]].kind for i in range(low, high)]
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, theirs, ours, autojunk=False).get_opcodes():
        if tag == "equal":
            continue
        edge = tag == "insert" and (j1 == 0 or j2 == len(ours))
        values["deleted_neg"] += sum(map(is_negation, theirs[i1:i2]))
        values["inserted_neg"] += 0 if edge else sum(map(is_negation, ours[j1:j2]))
        if tag == "replace":
            for i, j in zip(range(i1, i2), range(j1, j2), strict=False):
                kind = _replacement(theirs[i], their_kinds[i], ours[j], our_kinds[j])
                values[f"replaced_{kind}"] += 1
                values["replaced_foreign"] += kind == "names" and _foreign(theirs[i], ours[j], answer)
        elif tag == "delete":
            values["deleted"] += (i2 - i1) / count
        elif not edge:
            values["inserted"] += (j2 - j1) / count
    values["replaced_words"] /= count
    return values


_TITLES = words(
    "justic judg sir lord lady president king queen princ princess colonel general captain major mister mrs ms "
    "doctor professor reverend saint father minister senator governor emperor pope inc ltd limit corp company kingdom "
    "republic north south east west northern southern eastern western great ad ce bc bce"
)
"""Capitalised words, as stems, that come and go with a name, which stays the same."""


def _foreign(theirs: str, ours: str, answer: Answer) -> bool:
    """Whether a name that stands in place of another can be no form of it: not an initial, a short form, a title."""
    if min(len(theirs), len(ours)) < 3 or theirs[0] == ours[0] or ours in answer.question_norms:
        return False
    return theirs not in _TITLES and ours not in _TITLES


def _replacement(theirs: str, their_kind: str, ours: str, our_kind: str) -> str:
    if their_kind == our_kind == "n":
        return "numbers"
    if theirs in MONTH_NAMES and ours in MONTH_NAMES:
        return "months"
    return "names" if their_kind in "co" and our_kind in "co" else "words"
