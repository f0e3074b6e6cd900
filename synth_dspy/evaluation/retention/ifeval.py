"""IFEval's checks: whether a reply follows instructions that a program can verify.

The 25 kinds of instruction of Zhou et al., "Instruction-Following Evaluation for Large Language Models",
arXiv:2311.07911, in their strict form: the reply is not edited. Written from the published definitions, because the
packages that hold them split text with tokenizers that they download on first use. Here sentences end at a full stop,
question or exclamation mark that is not part of a known abbreviation; languages are detected by `langdetect`.

A check takes the reply and the instruction's arguments, named as in IFEval's data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Arguments = Mapping[str, Any]

_RELATIONS: Mapping[str, Callable[[int, int], bool]] = {
    "at least": lambda count, wanted: count >= wanted,
    "less than": lambda count, wanted: count < wanted,
}
_CONSTRAINED = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_ABBREVIATIONS = frozenset({
    "mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "etc", "e.g", "i.e", "u.s", "u.k", "a.m", "p.m", "no",
    "inc", "ltd", "co", "corp", "fig", "approx", "dept", "est",
})  # fmt: skip
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]”’*_]*(?=\s|$)")


def follows(instruction: str, reply: str, arguments: Arguments) -> bool:
    """Whether a reply follows one instruction; an empty reply follows none.

    Args:
        instruction: one of `KINDS`, such as `punctuation:no_comma`.
        reply: the model's reply.
        arguments: the instruction's arguments, those that are null left out or not.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    return bool(reply.strip()) and _CHECKS[instruction](reply, given)


def count_sentences(text: str) -> int:
    """The number of sentences of a text, including a last one without a full stop."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text) if not _abbreviation(text, match)]
    rest = text[ends[-1] :] if ends else text
    return len(ends) + bool(re.search(r"\w", rest))


def _abbreviation(text: str, end: re.Match[str]) -> bool:
    """Whether a full stop belongs to the word before it: an abbreviation, an initial, or the number of a list item."""
    if end.group()[0] != ".":
        return False
    line = text[: end.start()].rpartition("\n")[2]
    word = re.search(r"[\w.]*$", line)
    abbreviation = word.group() if word else ""
    numbers = abbreviation.isdigit() and not line.removesuffix(abbreviation).strip(" \t*#>-")
    initial = len(abbreviation) == 1 and abbreviation.isupper() and abbreviation != "I"
    return numbers or initial or abbreviation.lower() in _ABBREVIATIONS


def count_words(text: str) -> int:
    """Words of a text: runs of letters, digits and underscores."""
    return len(re.findall(r"\w+", text))


def language(text: str) -> str | None:
    """The ISO 639-1 code of a text's language (or `zh-cn`, `zh-tw`); None if it cannot be detected."""
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0  # it samples its features: without a seed, short texts change their language
    try:
        return str(detect(text))
    except LangDetectException:
        return None


def _compares(count: int, given: Arguments, wanted: str, relation: str = "relation") -> bool:
    return _RELATIONS[given.get(relation, "at least")](count, int(given[wanted]))


def _keywords(reply: str, given: Arguments) -> bool:
    return all(re.search(keyword, reply, re.IGNORECASE) for keyword in map(re.escape, given["keywords"]))


def _keyword_frequency(reply: str, given: Arguments) -> bool:
    return _compares(len(re.findall(re.escape(given["keyword"]), reply, re.IGNORECASE)), given, "frequency")


def _forbidden(reply: str, given: Arguments) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", reply, re.IGNORECASE) for word in given["forbidden_words"])


def _letters(reply: str, given: Arguments) -> bool:
    return _compares(reply.lower().count(given["letter"].lower()), given, "let_frequency", "let_relation")


def _language(reply: str, given: Arguments) -> bool:
    return language(reply) in (given["language"], None)


def _paragraphs(reply: str, given: Arguments) -> bool:
    """Paragraphs separated by `***`; the first or last may be empty."""
    parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", reply)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == given["num_paragraphs"]


def _first_word(reply: str, given: Arguments) -> bool:
    """A number of paragraphs separated by blank lines, one of which begins with a given word."""
    parts = [part.strip() for part in reply.split("\n\n")]
    nth = given["nth_paragraph"]
    if sum(map(bool, parts)) != given["num_paragraphs"] or nth > len(parts) or not parts[nth - 1]:
        return False
    word = re.split(r"[.,?!'\"]", parts[nth - 1].split()[0].lstrip("'\""), maxsplit=1)[0]
    return bool(word.lower() == str(given["first_word"]).lower())


def _postscript(reply: str, given: Arguments) -> bool:
    spaced = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = spaced.get(given["postscript_marker"], re.escape(given["postscript_marker"].lower()))
    return re.search(rf"\s*{marker}.*$", reply.lower(), re.MULTILINE) is not None


def _bullets(reply: str, given: Arguments) -> bool:
    bullets = re.findall(r"^\s*\*[^*].*$", reply, re.MULTILINE) + re.findall(r"^\s*-.*$", reply, re.MULTILINE)
    return len(bullets) == int(given["num_bullets"])


def _highlights(reply: str, given: Arguments) -> bool:
    """`*so*` or `**so**`, with something between the asterisks."""
    single = [text for text in re.findall(r"\*[^\n*]*\*", reply) if text.strip("*").strip()]
    double = [text for text in re.findall(r"\*\*[^\n*]*\*\*", reply) if text[2:-2].strip()]
    return len(single) + len(double) >= int(given["num_highlights"])


def _sections(reply: str, given: Arguments) -> bool:
    marker = re.escape(str(given["section_spliter"]).strip())
    return len(re.split(rf"\s?{marker}\s?\d+\s?", reply)) - 1 >= int(given["num_sections"])


def _json(reply: str, given: Arguments) -> bool:
    fenced = re.fullmatch(r"(?:```(?:json)?)?(.*?)(?:```)?", reply.strip(), re.IGNORECASE | re.DOTALL)
    try:
        json.loads(fenced.group(1) if fenced else reply)
    except ValueError:
        return False
    return True


def _title(reply: str, given: Arguments) -> bool:
    return any(title.strip("<>").strip() for title in re.findall(r"<<[^\n]+>>", reply))


def _two_responses(reply: str, given: Arguments) -> bool:
    """Two different replies separated by six asterisks."""
    parts = [part.strip() for part in reply.split("******")]
    kept = [part for part in parts if part]
    return all(parts[1:-1]) and len(kept) == 2 and kept[0] != kept[1]


def _repeats(reply: str, given: Arguments) -> bool:
    return reply.strip().lower().startswith(given["prompt_to_repeat"].strip().lower())


def _ends(reply: str, given: Arguments) -> bool:
    return reply.strip().strip('"').lower().endswith(given["end_phrase"].strip().lower())


def _quoted(reply: str, given: Arguments) -> bool:
    text = reply.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


def _capital_words(reply: str, given: Arguments) -> bool:
    words = [word for word in re.findall(r"[^\s\"“”()\[\]{},;:!?]+", reply) if word.isupper()]
    return _compares(len(words), given, "capital_frequency", "capital_relation")


_CHECKS: Mapping[str, Callable[[str, Arguments], bool]] = {
    "change_case:capital_word_frequency": _capital_words,
    "change_case:english_capital": lambda reply, given: reply.isupper() and language(reply) in ("en", None),
    "change_case:english_lowercase": lambda reply, given: reply.islower() and language(reply) in ("en", None),
    "combination:repeat_prompt": _repeats,
    "combination:two_responses": _two_responses,
    "detectable_content:number_placeholders": lambda reply, given: (
        len(re.findall(r"\[.*?\]", reply)) >= given["num_placeholders"]
    ),
    "detectable_content:postscript": _postscript,
    "detectable_format:constrained_response": lambda reply, given: any(option in reply for option in _CONSTRAINED),
    "detectable_format:json_format": _json,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:title": _title,
    "keywords:existence": _keywords,
    "keywords:forbidden_words": _forbidden,
    "keywords:frequency": _keyword_frequency,
    "keywords:letter_frequency": _letters,
    "language:response_language": _language,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_sentences": lambda reply, given: _compares(
        count_sentences(reply), given, "num_sentences"
    ),
    "length_constraints:number_words": lambda reply, given: _compares(count_words(reply), given, "num_words"),
    "punctuation:no_comma": lambda reply, given: "," not in reply,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
}

KINDS = frozenset(_CHECKS)
"""The kinds of instruction that can be checked."""
