"""Questions about what a page's layout states: headings that ask, options and terms with what explains them, lists.

Markdown and reStructuredText write these alike: a line that names something, and a line or a list below it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from synth_dspy.core.text import words
from synth_dspy.domains.documents import statement_grammar as grammar
from synth_dspy.domains.documents import statement_rules as rules
from synth_dspy.domains.documents.chunks import sentences
from synth_dspy.domains.documents.statement_facts import Fact
from synth_dspy.synthesis.text import content

_LONGEST: Final = 1200
"""Characters of a line that is looked at: what is longer is data."""
_UNDERLINE: Final = re.compile(r"([=~^\"'`#*+.:_-])\1{2,}")
_TARGET: Final = re.compile(r"\.\. _[^:]+:$")
_DIRECTIVE: Final = re.compile(r"\.\. (?:[\w-]+:)?(?:cmd)?(?:option|envvar|confval|setting):: *(?P<term>[^\s=,\[]+)")
_TERM: Final = re.compile(r"(?:#+ +)?`(?P<term>[^`=]{2,60}?)(?:=[^`]*)?`(?: \([^)]*\))?:?")
_NOT_TERMS: Final = words("note tip warning optional example important caution pro con pros cons hint info")
_DEFAULT: Final = re.compile(
    r"(?:^|[.;] |\()(?:[Tt]he )?[Dd]efault(?:s| value)?(?: is| to|:)? "
    r"(?P<value>(?!setting|value|to\b)(?:`[^`]+`|\"[^\"]+\"|"
    r"[\w:/%-]+(?: (?:seconds|minutes|hours|days|MB|KB|GB|bytes))?))"
    r"(?=[.)]|$)"
)
_DOES: Final = (
    frozenset(rules.THIRD_PERSON)
    | frozenset(grammar.FORMS)
    | words("disables overrides selects specifies matches negates denotes toggles turns limits ignores adds")
)
_ORDERS: Final = words(
    "enable disable print show set use allow specify override list limit listen add ignore run turn select"
)
_CLAUSE: Final = re.compile(rf"\b(?:{grammar.MODAL}|is|are|has|have|if|when|whether|not|no)\b", re.I)
_REASON: Final = re.compile(r"\b(?:because|since(?! version)|due to|so that|in order to|caused by)\b|, to [a-z]+", re.I)
_ACTS: Final = re.compile(r"\b(?:can|should|must|need to|have to|use|is to|way)\b", re.I)
_PLACE: Final = re.compile(r"\b(?:in|at|on|to|from|under|inside)\b", re.I)
_HAS_PRONOUN: Final = re.compile(r"\b(?:it|this|that|these|those|they|them|there)\b", re.I)
_LEAD_IN: Final = re.compile(
    rf"(?P<subject>[A-Z`][^,;:]*?) (?:(?P<modal>can|may|must|should|will) (?P<act>[a-z]+)|"
    rf"(?P<verb>{'|'.join(rules.THIRD_PERSON)}|supports|uses|provides|accepts)) "
    r"the following (?P<noun>[a-z-]+(?: [a-z-]+)?s):"
)
_PASSIVE_LEAD_IN: Final = re.compile(
    rf"The following (?P<noun>[a-z-]+(?: [a-z-]+)?s) (?P<rest>(?:are|can be|must be) {grammar.PARTICIPLE}[^,;:]*):"
)
_ENTRY: Final = re.compile(r"(?:[-*•] +|\d{1,2}\. +)(?P<text>[^.:;]+?)[.,;]?")
_LONGEST_ENTRY: Final = 6
_MOST_ENTRIES: Final = 7


def layout_facts(lines: Sequence[str]) -> Iterator[tuple[Fact, str]]:
    """Questions about lines that explain, each with the line that answers it.

    Args:
        lines: a document's lines.
    """
    above = ""
    for number, line in enumerate(lines):
        if not line or len(line) > _LONGEST or _UNDERLINE.fullmatch(line.strip()) or _TARGET.match(line):
            continue
        text = grammar.plain(line)
        yield from ((fact, line) for fact in _labelled(text))
        for fact in (*_explained(above, text), *_asked(above, text)):
            yield fact, line
        if entries := _entries(lines[number + 1 : number + 2 + _MOST_ENTRIES]):
            yield from ((fact, line) for fact in _listed(text, entries))
        above = line


def _labelled(text: str) -> Iterator[Fact]:
    """A list item that explains an option or a term."""
    label = grammar.LABEL.fullmatch(text)
    if label is None or len(sentences(label["text"])) > 1:
        return
    if label["code"]:
        yield from _explanation(label["code"], label["text"])
    elif label["name"].lower() not in _NOT_TERMS:
        yield Fact("label", f"What does the document say about “{label['name']}”", label["text"].rstrip("."))


def _explained(above: str, text: str) -> Iterator[Fact]:
    """An option, or a term in code, that stands alone above the line that explains it."""
    match = _DIRECTIVE.match(above) or _TERM.fullmatch(grammar.plain(above))
    if match and not text.startswith(("..", "#", "`", "$")):
        yield from _explanation(match["term"], re.sub(r"^[:–-] +", "", text))


def _explanation(term: str, text: str) -> Iterator[Fact]:
    name = f"`{term}`"
    if default := _DEFAULT.search(text):
        yield Fact("default", f"What is the default of {name}", default["value"])
    first = re.sub(r" \((?:the )?default[^)]*\)\.?$", "", next(iter(sentences(text)), ""))
    begins = first.split(" ")[0].lower()
    if not first[:1].isupper() or first.endswith((":", "?")) or len(first.split()) < 3 or begins.startswith("default"):
        return
    if begins in _DOES or begins in _ORDERS:
        yield Fact("label", f"What does {name} do", first.rstrip("."))
    elif not _CLAUSE.search(re.split(" (?:that|which|where) ", first)[0]):
        yield Fact("label", f"What is meant by {name}", first.rstrip("."))
    elif text.rstrip(".") == first.rstrip("."):
        yield Fact("label", f"What does the document say about {name}", first.rstrip("."))


def _asked(above: str, text: str) -> Iterator[Fact]:
    """A heading that is a question is answered by what stands below it."""
    heading = re.sub(r" ([=~^\"-])\1{3,}$", "", grammar.ITEM.sub("", grammar.plain(above)).strip())
    heading = re.sub(r"^Q[:.] ", "", heading.strip("*_ "))
    if not heading.endswith("?") or not grammar.ASKING.match(heading) or _HAS_PRONOUN.search(heading):
        return
    said = sentences(re.sub(r"^A[:.] ", "", text))
    if not said or grammar.ITEM.match(said[0]) or not said[0].endswith("."):
        return
    is_short = said[0].rstrip(".").lower() in ("yes", "no")
    answer = " ".join(said[: 2 if is_short else 1])
    if _answers(heading, answer, is_short):
        yield Fact("heading", heading[:-1], answer.removesuffix("."))


def _answers(heading: str, answer: str, is_short: bool) -> bool:
    """Whether a sentence is an answer of the kind that a heading asks for, not the beginning of a longer one."""
    first = heading.split(" ")[0].lower()
    if re.match(r"(?:There (?:are|is)|See|This|That|It|When|First|In detail|For example)\b", answer):
        return False
    match first:
        case "why":
            return _REASON.search(answer) is not None
        case "how":
            how = heading.split(" ")[1].lower() if " " in heading else ""
            if how in ("much", "many", "long", "often", "old", "far"):
                return re.search(r"\d|\b(?:one|two|three|every|each|once|up to)\b", answer) is not None
            is_act = grammar.IMPERATIVE.match(answer) is not None or _ACTS.search(answer) is not None
            return is_act and ", so " not in answer
        case "where":
            return _PLACE.search(answer) is not None
        case "is" | "are" | "do" | "does" | "did" | "can" | "may" | "must" | "should" | "will":
            return is_short or answer.startswith(("Yes,", "No,", "No. "))
    return len(_shared(heading, answer)) > 0


def _shared(heading: str, answer: str) -> frozenset[str]:
    return frozenset(content(heading)) & frozenset(content(answer))


def _entries(lines: Sequence[str]) -> list[str]:
    """The entries of a short list that these lines begin with; none if it has long entries, or many."""
    entries = []
    for line in lines:
        if not grammar.ITEM.match(line):
            break
        match = _ENTRY.fullmatch(grammar.plain(line))
        if match is None or len(match["text"].split()) > _LONGEST_ENTRY:
            return []
        entries.append(match["text"])
    return entries if 2 <= len(entries) <= _MOST_ENTRIES else []


def _listed(text: str, entries: Sequence[str]) -> Iterator[Fact]:
    """What "can use the following fields:" leads in."""
    answer = ", ".join(entries)
    if match := _PASSIVE_LEAD_IN.fullmatch(text):
        yield Fact("list", f"Which {match['noun']} {match['rest']}", answer)
    elif (match := _LEAD_IN.fullmatch(text)) and not _HAS_PRONOUN.search(match["subject"]):
        subject = match["subject"]
        begins_small = subject.split(" ")[0] in grammar.DETERMINERS or (
            " " not in subject and rules.PLURAL.search(subject) is not None
        )
        subject = subject[0].lower() + subject[1:] if begins_small else subject
        verb = match["verb"] or ""
        base = rules.THIRD_PERSON.get(verb, verb.removesuffix("s"))
        asks = f"{match['modal']} {subject} {match['act']}" if match["modal"] else f"does {subject} {base}"
        yield Fact("list", f"Which {match['noun']} {asks}", answer)
