"""How an answer is said: the words around the place where it names the reference.

"It is not X", "whether it is X", "X or Y" and "X" hold the same answer words; what differs is what stands before and
after them. Cues are counted in six classes, near the mention, in its sentence and in the whole answer, outside the
mention itself: a reference that says "shall not assign" is no denial.
"""

from __future__ import annotations

from collections.abc import Sequence

from synth_dspy.core.text import words

CUES: dict[str, frozenset[str]] = {
    "neg": words(
        "not no never nor neither cannot without none nobody nothing nowhere hardly scarcely barely nope nay non isnt "
        "wasnt arent werent doesnt didnt dont cant wont couldnt wouldnt aint"
    ),
    "deny": words(
        "wrong wrongly incorrect incorrectly false falsely falsehood untrue mistaken mistakenly mistake inaccurate "
        "misconception myth deny denies denied denying exclude excludes excluded excluding rule ruled rules reject "
        "rejects rejected refute refutes refuted contrary far anything except excepting instead rather opposed besides "
        "apart aside unlike contradict contradicts contradicted erroneous erroneously invalid error fails failed lack "
        "lacks dismiss dismisses dismissed disagree disputes disputed debunked confuse confused discard discarded "
        "nonsense bogus disproved disproven refuse refuses refused omit omits omitted absent hoax rumor rumour "
        "superseded outdated replaced former inapplicable other different differs distinct "
        "place stead sorry negative substitute substitutes misread misreads misstates against contradiction"
    ),
    "hedge": words(
        "unsure uncertain uncertainty unclear maybe perhaps possibly whether wonder wondering doubt doubts doubtful "
        "dubious unknown undetermined undecided unsettled unresolved speculate speculation speculative guess guessing "
        "clueless idea verify verified confirm confirmed determine determined tell sure certain certainty know knows "
        "known knowing remember recall recollect unable unconfirmed ambiguous unverified question questionable hunch "
        "debatable arguable conceivably hesitate hesitant unaware ignorant insufficient inconclusive vouch swear "
        "conjecture assumption hint puzzled lost clue anyone beyond impossible minds evidence confident "
        "settle decide decided ascertain established proof"
    ),
    "weak": words(
        "might could if likely probably seems seem appears think believe supposedly allegedly reportedly presumably "
        "suspect suppose imagine assume potential potentially plausible plausibly may"
    ),
    "list": words(
        "either or among amongst candidates candidate option options possibility possibilities choice choices "
        "alternative alternatives alternatively any between shortlist contender contenders suspects vs versus several "
        "various multiple both one list else choose pick possible include includes following these answers"
    ),
    "contrast": words(
        "but rather instead actually however whereas although though yet correct right real really true truth fact "
        "reality"
    ),
}
"""Cue words in lower case; a word on "n't" is a negation too. Some have innocent uses: the fit weighs them."""

HARMLESS_AFTER_NEGATION = words("doubt question only other less more fewer matter dispute later sooner least")
"""What makes a negation none: "no doubt", "not only", "none other than", "no later than"."""
_SENTENCE_END = frozenset(".!?\n")
_SEPARATORS = frozenset({",", ";", "/", "|", "or", "and", "•", "*"})
_NEAR = 14

CUE_FEATURES = (
    *(f"{where}_{name}" for name in CUES for where in ("before", "after", "count")),
    "asks", "asks_anywhere", "or_adjacent", "and_adjacent", "comma_adjacent", "list_items", "context_length",
    "quoted", "negations_before", "negations_after",
)  # fmt: skip


def is_negation(word: str) -> bool:
    """Whether a lower-case word negates."""
    return word in CUES["neg"] or word.endswith("n't")


def sentence_bounds(low: Sequence[str], span: tuple[int, int]) -> tuple[int, int]:
    """First and last token of the sentence, or sentences, that a span of tokens lies in."""
    start, end = span
    while start > 0 and low[start - 1] not in _SENTENCE_END:
        start -= 1
    while end + 1 < len(low) and low[end + 1] not in _SENTENCE_END:
        end += 1
    return start, end


def cue_features(low: Sequence[str], span: tuple[int, int] | None, reference_length: int) -> dict[str, float]:
    """Cues around the mention of the reference.

    Args:
        low: the answer's tokens in lower case, punctuation among them.
        span: first and last token of the mention; None where the reference is not mentioned.
        reference_length: content words of the reference.

    Returns:
        A value for each of `CUE_FEATURES`; nearness is 1 / (1 + words between), 0.0 where there is none.
    """
    features = dict.fromkeys(CUE_FEATURES, 0.0)
    start, end = span if span else (len(low), -1)
    low = [
        "" if is_negation(word) and i + 1 < len(low) and low[i + 1] in HARMLESS_AFTER_NEGATION else word
        for i, word in enumerate(low)
    ]
    outside = [word for i, word in enumerate(low) if not start <= i <= end]
    for name in CUES:
        features[f"count_{name}"] = min(4.0, sum(_is(word, name) for word in outside))
    features["asks_anywhere"] = float("?" in outside)
    if span is None:
        features["asks"] = features["list_items"] = features["context_length"] = -1.0
        return features
    first, last = sentence_bounds(low, span)
    before, after = low[first:start][::-1], low[end + 1 : last + 1]
    for name in CUES:
        features[f"before_{name}"] = _nearness(before, name)
        features[f"after_{name}"] = _nearness(after, name)
    features["negations_before"] = float(min(3, sum(map(is_negation, before))))
    features["negations_after"] = float(min(3, sum(map(is_negation, after))))
    features["asks"] = float(last + 1 < len(low) and low[last + 1] == "?")
    adjacent = (*after[:2], *before[:2])
    features["or_adjacent"] = float("or" in adjacent)
    features["and_adjacent"] = float("and" in adjacent)
    features["comma_adjacent"] = float(sum(word in {",", ";", "/", "|"} for word in (*after[:1], *before[:1])))
    features["list_items"] = float(min(8, _items(before, reference_length) + _items(after, reference_length)))
    features["context_length"] = float(min(40, len(before) + len(after)))
    features["quoted"] = float(bool(before[:1]) and before[0] in "\"“'(")
    return features


def _is(word: str, name: str) -> bool:
    return word in CUES[name] or (name == "neg" and word.endswith("n't"))


def _nearness(words: Sequence[str], name: str) -> float:
    for distance, word in enumerate(words[:_NEAR]):
        if _is(word, name):
            return 1.0 / (1 + distance)
    return 0.0


def _items(words: Sequence[str], reference_length: int) -> int:
    """Pieces between commas, "or" and the like that are no longer than the reference: the other items of a list."""
    longest = max(6, reference_length + 3)
    items = length = 0
    separated = False
    for word in words:
        if word in _SEPARATORS:
            items += separated and 0 < length <= longest
            length, separated = 0, True
        else:
            length += 1
    return items + (separated and 0 < length <= longest)
