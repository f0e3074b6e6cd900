"""Questions about the plain facts of a sentence: prices, times, ages, numbers, names.

Handbooks and help pages state most of what people ask in short sentences of the present tense ("A late return costs 5
euros an hour.", "The desk opens at 8:00."). Each rule is one pattern of a whole sentence, with a closed class of verbs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from synth_dspy.core.text import MONTHS, words
from synth_dspy.domains.documents import statement_grammar as grammar

_NUMBER: Final = (
    r"(?:\d+(?:[.,]\d+)*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|"
    r"sixty|ninety|a hundred)"
)
_ABOUT: Final = (
    r"(?:(?:at least|at most|up to|about|around|nearly|almost|more than|less than|not more than|no more than|only) )?"
)
PERIOD: Final = (
    rf"{_ABOUT}(?:{_NUMBER}(?: (?:to|or|and|[-–]) {_NUMBER})?(?: and a half)?|half an?|an?)[ -]"
    r"(?:(?:business|calendar|working|school|consecutive) )?(?:second|minute|hour|day|night|week|weekend|month|year)s?"
)
_CURRENCY: Final = (
    r"(?:euros?|dollars?|pounds?|francs?|crowns?|kron(?:er|or)|yen|rupees?|cents?|pence|percent|per cent)"
)
MONEY: Final = (
    rf"{_ABOUT}(?:[$€£¥] ?\d[\d.,]*|(?:US|CAD|USD|EUR|GBP|CHF|SEK|AUD|NOK|DKK) ?[$€£]? ?\d[\d.,’']*\d?|"
    rf"{_NUMBER} {_CURRENCY}|\d+(?:\.\d+)? ?%)(?: (?:million|billion))?"
)
_MONTH: Final = f"(?:{'|'.join(MONTHS).title()})"
INSTANT: Final = (
    r"(?:\d{1,2}[:.]\d{2}(?: ?[ap]\.?m)?|\d{1,2} ?[ap]\.?m|noon|midnight|sunrise|sunset|dawn|dusk|"
    rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?|\d{{1,2}}(?:st|nd|rd|th)? {_MONTH}(?: \d{{4}})?|"
    rf"{_MONTH}(?: \d{{1,2}}(?:, \d{{4}})?)?|(?:the )?\d{{1,2}}(?:st|nd|rd|th)(?: (?:day )?of (?:each|every|the) \w+)?)"
)
_MOMENT: Final = rf"(?:{INSTANT}|(?:every|each) \w+(?: \w+)?)"
_HOW_OFTEN: Final = (
    r"(?:(?:once|twice|\w+ times) (?:an?|each|every|per) [\w-]+|daily|weekly|monthly|quarterly|yearly|annually|"
    r"(?:every|each) (?:\w+ )?(?:\w+day|day|week|month|quarter|year|hour|spring|summer|autumn|winter|"
    rf"{_MONTH}|(?:\w+ )?(?:hours|days|weeks|months|years)))"
)

_BASES: Final = words(
    "accept add affect agree allow answer appear apply arrive ask avoid begin belong book borrow bring build call "
    "cancel carry change charge check choose clean clear close collect come contact contain continue copy cost "
    "count cover create deal decide delete deliver depart disappear download earn edit employ end ensure enter "
    "expire fail fall fill finish fit follow forward get grow happen have help hire hold import improve include "
    "increase inform install invite join keep last lead leave lend limit lose lower make manage meet move need "
    "notify offer open operate order organise pass pay perform phone place play print process produce protect "
    "provide publish raise reach receive recommend record refuse register release remain remind remove renew rent "
    "repair replace report require respond restore return run save seat sell send serve set share ship show sleep "
    "start stay stop store submit support switch take teach train transfer travel treat update upload use visit "
    "wait warn wash watch weigh wear withdraw work write"
)


def _third(base: str) -> str:
    if base == "have":
        return "has"
    if re.search(r"[^aeiou]y$", base):
        return f"{base[:-1]}ies"
    return f"{base}es" if re.search(r"(?:s|sh|ch|x|o)$", base) else f"{base}s"


_THIRD_PERSON: Final = {_third(base): base for base in sorted(_BASES)}
"""Of the present tense, with each verb as it stands after "does"."""
_FORMS: Final = {**_THIRD_PERSON, **{base: base for base in _THIRD_PERSON.values()}}
_PRESENT: Final = "|".join(_FORMS)


def _verbs(bases: str) -> str:
    return "(?P<verb>" + "|".join(form for form, base in _FORMS.items() if base in bases.split()) + ")"


_ANY_VERB: Final = f"(?P<verb>{_PRESENT})"
_SUBJECT: Final = "(?P<subject>(?:(?:The|An?|Each|Every|All|Any|Your|Our) )?[^ ]+(?: .+?)??)"
_PLURAL: Final = re.compile(r"\w{2,}s\b|^you$|\b(?:people|children|women|men)\b", re.I)
_REST: Final = r"(?P<rest>(?: (?:an?|per|for|each|every|in|on|of|to|from|with) [^,;:]+)?)"
_UNIT: Final = (
    r"(?P<unit>(?!percent|per cent|times\b)[a-z][a-z-]+"
    r"(?: of [a-z-]+| (?!an?\b|per\b|for\b|each\b|and\b|in\b|on\b)[a-z-]+)?)"
)
_MODAL: Final = "can|cannot|may|must|should|shall|will"
_MUST: Final = "(?P<modal>must|should|shall|may)"
_ADVANCE: Final = rf"(?P<head>.+?) (?P<span>{PERIOD}) in advance"
_WHOLE: Final = {
    name: re.compile(" ".join(parts))
    for name, parts in {
        "price": (_SUBJECT, _verbs("cost pay"), rf"(?P<span>{MONEY}){_REST}"),
        "length": (_SUBJECT, _verbs("take last"), rf"(?P<span>{PERIOD}){_REST}"),
        "moment": (
            _SUBJECT,
            _verbs("open close start begin end leave depart arrive meet expire run finish"),
            rf"(?P<span>(?:(?:at|on|from|by|in|until|before|after) (?:the )?)?{_MOMENT}(?: .+)?)",
        ),
        "hours": (
            _SUBJECT,
            rf"(?P<be>is|are) (?P<what>open|closed|available|staffed|{grammar.PARTICIPLE})",
            rf"(?P<span>(?:from|between|until|at|on) (?:the )?{_MOMENT}(?: .+)?)",
        ),
        "often": (_SUBJECT, rf"(?P<be>is|are) (?P<what>{grammar.PARTICIPLE}(?: [a-z]+)?)", rf"(?P<span>{_HOW_OFTEN})"),
        "where": (
            _SUBJECT,
            "(?P<be>is|are)(?P<no>(?: not)?)",
            "(?P<what>allowed|permitted|forbidden|prohibited|sold|served|parked|situated)",
            r"(?P<span>(?:in|on|at|near|under|behind|beside|next to|outside|inside) "
            r"(?:the |an? |all |every |your |[A-Z])[^,;:]+)",
        ),
        "rate": (_SUBJECT, "(?P<be>is|are) (?P<what>paid|taxed|charged|billed) at", rf"(?P<span>{MONEY}){_REST}"),
        "count": (
            _SUBJECT,
            _verbs("serve seat sleep fit employ offer include contain hold get have carry allow"),
            rf"(?P<span>{_ABOUT}{_NUMBER}) {_UNIT}{_REST}(?:, (?:at|for|of|in|on) .+)?",
        ),
        "how many": (
            _SUBJECT,
            rf"(?P<modal>can|may|must|should) (?P<what>[a-z]+) (?P<span>{_ABOUT}{_NUMBER}) {_UNIT}{_REST}",
        ),
        "how long": (
            _SUBJECT,
            r"(?P<modal>can|may|must|should) (?P<what>[a-z][^,;:]+?)",
            rf"for (?P<span>{PERIOD}(?: (?:an?|per|each|every) \w+)?)",
        ),
        "frequency": (_SUBJECT, rf"{_ANY_VERB}(?P<what>(?: [^,;:]+?)??) (?P<span>(?:about )?{_HOW_OFTEN})(?: .+)?"),
        "measure of": (
            _SUBJECT,
            _verbs("have need require carry include get"),
            rf"an? (?P<what>[a-z-]+(?: [a-z-]+){{0,2}}) of (?P<span>{MONEY}|{PERIOD}|{_ABOUT}{_NUMBER} [a-z-]+)",
        ),
        "lasting": (_SUBJECT, rf"{_ANY_VERB}(?P<what>(?: [^,;:]+?)??) for (?P<span>{PERIOD})(?: and .+)?"),
        "valid": (
            _SUBJECT,
            "(?P<be>is|are)",
            "(?P<what>valid|free|open|closed|guaranteed|available|visible|active|suspended|blocked|locked)",
            rf"for (?P<span>{PERIOD}(?: .+)?)",
        ),
        "due": (
            _SUBJECT,
            "(?P<be>is|are) (?P<what>due|payable)",
            "(?P<span>(?:at|on|by|within|before|after|when|in) .+)",
        ),
        "shift": (
            _SUBJECT,
            r"(?P<modal>can|may|must|should|will) (?P<what>[a-z][^,;:]+?)",
            rf"(?P<span>{PERIOD} (?:before|after) .+)",
        ),
        "place": (
            _SUBJECT,
            r"(?P<be>is|are) (?P<span>(?:at|behind|opposite|next to|near) (?:\d|the |[A-Z]).+)",
        ),
        "when": (
            _SUBJECT,
            rf"{_ANY_VERB}(?P<what>(?: [^,;:]+?)??)",
            r"(?P<span>(?:only )?(?:if|when|once(?! an?\b)|as soon as|after|before|until) (?!(?:by|and|or)\b)[^;]+)",
        ),
        "within": (
            _SUBJECT,
            rf"{_ANY_VERB}(?P<what>(?: [^,;:]+?)??) within (?P<span>{PERIOD}(?: (?:of|after|from) .+)?)",
        ),
        "times": (
            _SUBJECT,
            rf"(?P<modal>can|may|must) (?P<what>[a-z][^,;:]+?) (?P<span>{_ABOUT}{_NUMBER} times)(?:,? .+)?",
        ),
        "who": ("Only (?P<span>(?:the|an?|[a-z]+s) ?.*?)", "(?P<modal>can|may|must) (?P<what>[a-z][^,;:]+)"),
        "meaning of": (_SUBJECT, "(?:means?) that", "(?P<span>.+)"),
        "age": (
            _SUBJECT,
            rf"{_MUST} be (?P<span>(?:at least|over|under|older than|younger than)",
            rf"{_NUMBER}(?: years? old| years of age)?)(?P<rest>(?: to .+)?)",
        ),
        "name": (
            r"The (?P<subject>[a-z][a-z '’-]+?) (?:is|are)",
            r"(?P<span>(?:(?:Dr|Ms|Mr|Mrs)\.? )?[A-ZÀ-Þ][\w&'’-]+(?: (?:(?:of|and|de|van) )?[A-ZÀ-Þ][\w&'’-]+){1,4})",
        ),
        "not": (
            _SUBJECT,
            "(?P<do>does|do) not (?P<what>[a-z]+(?: [^,;:]+?)??)",
            "(?P<span>(?:if|when|before|after|until|during) .+)",
        ),
        "way": (
            "(?P<subject>[Yy]ou|Guests|Members|Customers|Visitors) can",
            r"(?P<what>(?:reach|contact|call|join|book|order|pay|buy|hire|rent|cancel|change|apply|register|enrol|renew|"
            r"report|request|find)\b(?: [^,;:]+?)?)",
            r"(?P<span>(?:on|by|via|through|with|using|in|at|from) [^,;:]+)",
        ),
        "deadline": (_SUBJECT, _MUST, rf"(?P<what>[a-z][^,;:]+?) by (?P<span>(?:the )?{INSTANT}(?: .+)?)"),
        "ahead": (_SUBJECT, "(?P<modal>must|should|shall|may|can)", _ADVANCE),
        "book ahead": (_SUBJECT, _verbs("book"), _ADVANCE),
    }.items()
}
_TO_DO: Final = {
    name: re.compile(pattern)
    for name, pattern in {
        "By when": rf"(?P<act>[^,;:]+?) (?:by|no later than|not later than) (?P<span>(?:the )?{INSTANT}(?: .+)?)",
        "How often": rf"(?P<act>[^,;:]+?) (?P<span>{_HOW_OFTEN})(?: .+)?",
        "Within what period": rf"(?P<act>[^,;:]+?) within (?P<span>{PERIOD}(?: (?:of|after|from) [^,;:]+)?)"
        "(?: and .+|, .+|; .+)?",
    }.items()
}
_SAYS: Final = "|".join(("is", "are", _MODAL, *_THIRD_PERSON, "cost", "pay", "get", "need", "take", "have"))
_KINDS: Final = {"By when": "date", "Within what period": "period"}
_COORDINATED: Final = re.compile(
    rf"(?P<subject>[A-Z][\w'’-]*(?: [\w'’-]+){{0,6}}?) (?P<first>(?:{_SAYS}) [^,;:]+?),? and "
    rf"(?P<second>(?:(?:is|are|{_MODAL}) |(?:{_SAYS}) (?={_NUMBER}|an? |the |at |from |on |[$€£]|{_ABOUT}\d)).+)"
)
_TRAILING: Final = re.compile(r", (?:and|but|so|since|as|although|which|where|because|unless|while|even if) .+|; .+")
_TWO_PAYERS: Final = re.compile(
    rf"(?P<first>.+? (?P<verb>costs?|pays?) {MONEY}(?: [^,;]+?)?),? and (?P<other>[^,;]+?) (?P<span>{MONEY})"
)
_TWO_PRICES: Final = re.compile(
    rf"(?P<first>(?: an? \w+)? for [^,;:]+?)(?:,? and|,) (?P<span>{MONEY})(?P<second> for [^,;:]+)"
)
_IT: Final = re.compile(f"It (?P<predicate>{_verbs('cost last take open close start begin end run seat sleep')} .+)")
_SINGULAR: Final = re.compile(
    rf"(?P<subject>(?:The|An?) [a-z][\w '’-]*?) (?:{'|'.join(_THIRD_PERSON)}|is|must|may|can|will) .+"
)
_ROW: Final = re.compile(r"\|?(?P<cells>[^|]+(?:\|[^|]+)+)\|?")
_RULE_ROW: Final = re.compile(r"\|?(?: *:?-{2,}:? *\|)+(?: *:?-{2,}:? *)?")


@dataclass(frozen=True, slots=True)
class Fact:
    """A question without its question mark, and the words that answer it.

    Attributes:
        rule: the pattern that fits.
        question: the question.
        answer: words of the sentence.
        kind: of the answer, where it is one that patterns are given for; else "".
    """

    rule: str
    question: str
    answer: str
    kind: str = ""


def split_predicates(body: str) -> list[str]:
    """Of "A tour lasts an hour and costs 9 euros": a sentence for each predicate; the sentence alone if it has one."""
    if match := _COORDINATED.fullmatch(body):
        return [f"{match['subject']} {match[part]}" for part in ("first", "second")]
    if (match := _TWO_PAYERS.fullmatch(body)) and not re.match(r"(?:for|in|per|an?)\b", match["other"]):
        other = match["other"][0].upper() + match["other"][1:]
        return [match["first"], f"{other} {match['verb']} {match['span']}"]
    return [body]


def with_subject(body: str, before: str) -> str:
    """Of "It lasts an hour" after "The tour starts at ten": "The tour lasts an hour"; "" if it cannot be told."""
    it, antecedent = _IT.fullmatch(body), _SINGULAR.match(before)
    if it is None or antecedent is None or grammar.FINITE.search(antecedent["subject"]):
        return ""
    return f"{antecedent['subject']} {it['predicate']}"


def facts(body: str, subject_in: Callable[[str], str]) -> Iterator[Fact]:
    """Questions about the facts that a sentence states.

    Args:
        body: a sentence without its full stop.
        subject_in: a subject as it is written inside a question; "" if it points outside the sentence.
    """
    if grammar.IMPERATIVE.match(body) or body.split(" ")[0].lower() in _BASES:
        for ask, pattern in _TO_DO.items():
            match = pattern.fullmatch(body)
            if match and " and " not in match["act"] and not grammar.FINITE.search(match["act"]):
                act = match["act"][0].lower() + match["act"][1:]
                yield Fact("to do", f"{ask} should you {act}", match["span"], _KINDS.get(ask, ""))
        return
    body = _TRAILING.sub("", body)
    for rule, pattern in _WHOLE.items():
        match = pattern.fullmatch(body)
        if match is None:
            continue
        subject = match.groupdict().get("subject", "")
        subject = subject if rule in ("name", "who") else subject_in(subject)
        if not subject and rule != "who":
            continue
        part = match.groupdict("")
        if rule == "price" and (both := _TWO_PRICES.fullmatch(part["rest"])):
            yield from filter(
                None,
                (
                    _fact(rule, {**part, "rest": both["first"]}, subject),
                    _fact(rule, {**part, "rest": both["second"], "span": both["span"]}, subject),
                ),
            )
        elif fact := _fact(rule, part, subject):
            yield fact


def _fact(rule: str, part: Mapping[str, str], subject: str) -> Fact | None:
    if any(grammar.FINITE.search(part.get(name, "")) for name in ("rest", "what", "head")):
        return None
    if re.search(MONEY, part.get("rest", "")):
        return None
    verb, span = part.get("verb", ""), part["span"]
    if part.get("what", "").startswith(" to "):  # "have to be asked for"
        return None
    if verb and verb not in _THIRD_PERSON and not _PLURAL.search(subject):  # "the return of the book": no verb
        return None
    does = f"{'does' if verb in _THIRD_PERSON else 'do'} {subject}"
    base, rest = _FORMS.get(verb, ""), part.get("rest", "")
    match rule:
        case "price":
            return Fact(rule, f"How much {does} {base}{rest}", span, "amount")
        case "length":
            return Fact(rule, f"How long {does} {base}{rest}", span, "period")
        case "moment":
            return Fact(rule, f"When {does} {base}", span, "date")
        case "often":
            return Fact(rule, f"How often {part['be']} {subject} {part['what']}", span)
        case "hours":
            return Fact(rule, f"When {part['be']} {subject} {part['what']}", span, "date")
        case "where":
            if re.match(rf"\w+ (?:the )?(?:{_MOMENT}|{PERIOD})", span):
                return None
            return Fact(rule, f"Where {part['be']} {subject}{part['no']} {part['what']}", span)
        case "way":
            if re.search(r"\b(?:until|before|after|within|for)\b", part["what"]):
                return None
            ask = "Where" if span.startswith(("in ", "at ", "from ")) else "How"
            return Fact(rule, f"{ask} can {subject} {part['what']}", span)
        case "rate":
            return Fact(rule, f"At what rate {part['be']} {subject} {part['what']}{rest}", span, "amount")
        case "how many":
            return Fact(
                "count",
                f"How many {part['unit']} {part['modal']} {subject} {part['what']}{rest}",
                f"{span} {part['unit']}",
            )
        case "how long":
            return Fact(rule, f"For how long {part['modal']} {subject} {part['what']}", span, "period")
        case "frequency":
            return Fact(rule, f"How often {does} {base}{part['what']}", span)
        case "count":
            is_time = re.match(r"(?:second|minute|hour|day|week|month|year)s?\b", part["unit"])
            if re.search(r"\b(?:one|1)$", span) or (is_time and base == "have"):
                return None
            return Fact(rule, f"How many {part['unit']} {does} {base}{rest}", f"{span} {part['unit']}", "number")
        case "measure of":
            return Fact(rule, f"What {part['what']} {does} {base}", span)
        case "lasting":
            return Fact(rule, f"For how long {does} {base}{part['what']}", span, "period")
        case "valid":
            return Fact(rule, f"For how long {part['be']} {subject} {part['what']}", span, "period")
        case "due":
            return Fact(rule, f"When {part['be']} {subject} {part['what']}", span)
        case "shift":
            return Fact(rule, f"When {part['modal']} {subject} {part['what']}", span)
        case "place":
            return Fact(rule, f"Where {part['be']} {subject}", span)
        case "within":
            return Fact(rule, f"Within what period {does} {base}{part['what']}", span, "period")
        case "when":
            asked = f"{base}{part['what']}"
            if asked.split()[-1] in grammar.NOT_BEFORE_ADJUNCT or grammar.ENDS_IN_TIME.search(asked):
                return None
            ask = "Until when" if span.startswith("until") else "When"
            ask = "Under what condition" if re.match(r"(?:only )?if\b", span) else ask
            return Fact(rule, f"{ask} {does} {base}{part['what']}", span)
        case "times":
            return Fact(rule, f"How many times {part['modal']} {subject} {part['what']}", span)
        case "who":
            return Fact(rule, f"Who {part['modal']} {part['what']}", span)
        case "meaning of":
            return Fact(rule, f"What {'do' if _PLURAL.search(subject) else 'does'} {subject} mean", span)
        case "age":
            return Fact(rule, f"How old {part['modal']} {subject} be{rest}", span)
        case "name":
            return Fact(rule, f"What is the name of the {subject}", span, "name")
        case "not":
            ask = "Under what condition" if span.startswith("if") else "When"
            return Fact(rule, f"{ask} {part['do']} {subject} not {part['what']}", span)
        case "deadline":
            return Fact(rule, f"By when {part['modal']} {subject} {part['what']}", span, "date")
        case "ahead":
            return Fact(rule, f"How far in advance {part['modal']} {subject} {part['head']}", span, "period")
        case _:
            return Fact(rule, f"How far in advance {does} {base} {part['head']}", span, "period")


def table_facts(lines: Sequence[str]) -> Iterator[tuple[Fact, str]]:
    """Questions about the rows of tables, whose cells are divided by "|", each with its row.

    The first row is the header. A table has at least two further rows, and all have as many cells.
    """
    rows: list[tuple[str, list[str]]] = []
    for line in [*lines, ""]:
        if _RULE_ROW.fullmatch(line.strip()):
            continue
        match = _ROW.fullmatch(line.strip())
        cells = [cell.strip() for cell in match["cells"].split("|")] if match else []
        if cells and (not rows or len(cells) == len(rows[0][1])):
            rows.append((line, cells))
            continue
        if len(rows) > 2:
            yield from _of_table(rows)
        rows = [(line, cells)] if cells else []


def _of_table(rows: list[tuple[str, list[str]]]) -> Iterator[tuple[Fact, str]]:
    (_, header), *others = rows
    names = [cells[0] for _, cells in others]
    for line, (name, *cells) in others:
        if not name[:1].isalpha() or len(name.split()) > 8 or names.count(name) > 1:
            continue
        for column, cell in zip(header[1:], cells, strict=True):
            if column[:1].isalpha() and len(column.split()) <= 6 and any(map(str.isalnum, cell)):
                yield Fact("table", f"What does the table give for “{name}” under “{column}”", cell), line
