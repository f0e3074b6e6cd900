"""Patterns of whole sentences that state a plain fact, each with the question that it answers.

Each has a closed class of verbs, and leaves alone what it does not fit as a whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from synth_dspy.core.text import words
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
INSTANT: Final = (
    r"(?:\d{1,2}[:.]\d{2}(?: ?[ap]\.?m)?|\d{1,2} ?[ap]\.?m|noon|midnight|sunrise|sunset|dawn|dusk|"
    rf"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)days?|\d{{1,2}}(?:st|nd|rd|th)? {grammar.MONTH}(?: \d{{4}})?|"
    rf"{grammar.MONTH}(?: \d{{1,2}}(?:, \d{{4}})?)?|"
    rf"(?:the )?\d{{1,2}}(?:st|nd|rd|th)(?: (?:day )?of (?:each|every|the) \w+)?)"
)
MOMENT: Final = rf"(?:{INSTANT}|(?:every|each) \w+(?: \w+)?)"
_HOW_OFTEN: Final = (
    r"(?:(?:once|twice|\w+ times) (?:an?|each|every|per) [\w-]+|daily|weekly|monthly|quarterly|yearly|annually|"
    r"(?:every|each) (?:\w+ )?(?:\w+day|day|week|month|quarter|year|hour|spring|summer|autumn|winter|"
    rf"{grammar.MONTH}|(?:\w+ )?(?:hours|days|weeks|months|years)))"
)

BASES: Final = words(
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
THIRD_PERSON: Final = {grammar.third_person(base): base for base in sorted(BASES)}
"""Of the present tense, with each verb as it stands after "does"."""
FORMS: Final = {**THIRD_PERSON, **{base: base for base in THIRD_PERSON.values()}}
_PRESENT: Final = "|".join(FORMS)


def _verbs(bases: str) -> str:
    return "(?P<verb>" + "|".join(form for form, base in FORMS.items() if base in bases.split()) + ")"


_ANY_VERB: Final = f"(?P<verb>{_PRESENT})"
_SUBJECT: Final = "(?P<subject>(?:(?:The|An?|Each|Every|All|Any|Your|Our) )?[^ ]+(?: .+?)??)"
PLURAL: Final = re.compile(r"\w{2,}s\b|^you$|\b(?:people|children|women|men)\b", re.I)
_REST: Final = r"(?P<rest>(?: (?:an?|per|for|each|every|in|on|of|to|from|with) [^,;:]+)?)"
_UNIT: Final = (
    r"(?P<unit>(?!percent|per cent|times\b)[a-z][a-z-]+"
    r"(?: of [a-z-]+| (?!an?\b|per\b|for\b|each\b|and\b|in\b|on\b)[a-z-]+)?)"
)
_MODAL: Final = "can|cannot|may|must|should|shall|will"
_MUST: Final = "(?P<modal>must|should|shall|may)"
_ADVANCE: Final = rf"(?P<head>.+?) (?P<span>{PERIOD}) in advance"


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern of whole sentences, and what is asked about them.

    Attributes:
        name: names the rule in reports; rules of one name are of one sort.
        question: in braces, groups of the pattern and words made of them (`does`, `base`, `when`, `condition`, `how`).
        kind: of the answer, which is the group `span`; "" for any.
        pattern: the pattern.
    """

    name: str
    question: str
    kind: str
    pattern: re.Pattern[str]


def _rule(name: str, question: str, kind: str, *parts: str) -> Rule:
    return Rule(name, question, kind, re.compile(" ".join(parts)))


RULES: Final = (
    _rule(
        "price", "How much {does} {base}{rest}", "amount", _SUBJECT, _verbs("cost pay"), rf"(?P<span>{MONEY}){_REST}"
    ),
    _rule(
        "length", "How long {does} {base}{rest}", "period", _SUBJECT, _verbs("take last"), rf"(?P<span>{PERIOD}){_REST}"
    ),
    _rule(
        "moment",
        "When {does} {base}",
        "date",
        _SUBJECT,
        _verbs("open close start begin end leave depart arrive meet expire run finish"),
        rf"(?P<span>(?:(?:at|on|from|by|in|until|before|after) (?:the )?)?{MOMENT}(?: .+)?)",
    ),
    _rule(
        "hours",
        "When {be} {subject} {what}",
        "date",
        _SUBJECT,
        rf"(?P<be>is|are) (?P<what>open|closed|available|staffed|{grammar.PARTICIPLE})",
        rf"(?P<span>(?:from|between|until|at|on) (?:the )?{MOMENT}(?: .+)?)",
    ),
    _rule(
        "often",
        "How often {be} {subject} {what}",
        "",
        _SUBJECT,
        rf"(?P<be>is|are) (?P<what>{grammar.PARTICIPLE}(?: [a-z]+)?)",
        rf"(?P<span>{_HOW_OFTEN})",
    ),
    _rule(
        "where",
        "Where {be} {subject}{no} {what}",
        "",
        _SUBJECT,
        "(?P<be>is|are)(?P<no>(?: not)?)",
        "(?P<what>allowed|permitted|forbidden|prohibited|sold|served|parked|situated)",
        r"(?P<span>(?:in|on|at|near|under|behind|beside|next to|outside|inside) "
        r"(?:the |an? |all |every |your |[A-Z])[^,;:]+)",
    ),
    _rule(
        "rate",
        "At what rate {be} {subject} {what}{rest}",
        "amount",
        _SUBJECT,
        "(?P<be>is|are) (?P<what>paid|taxed|charged|billed) at",
        rf"(?P<span>{MONEY}){_REST}",
    ),
    _rule(
        "count",
        "How many {unit} {does} {base}{rest}",
        "number",
        _SUBJECT,
        _verbs("serve seat sleep fit employ offer include contain hold get have carry allow"),
        rf"(?P<span>{_ABOUT}{_NUMBER}) {_UNIT}{_REST}(?:, (?:at|for|of|in|on) .+)?",
    ),
    _rule(
        "count",
        "How many {unit} {modal} {subject} {what}{rest}",
        "",
        _SUBJECT,
        rf"(?P<modal>can|may|must|should) (?P<what>[a-z]+) (?P<span>{_ABOUT}{_NUMBER}) {_UNIT}{_REST}",
    ),
    _rule(
        "how long",
        "For how long {modal} {subject} {what}",
        "period",
        _SUBJECT,
        r"(?P<modal>can|may|must|should) (?P<what>[a-z][^,;:]+?)",
        rf"for (?P<span>{PERIOD}(?: (?:an?|per|each|every) \w+)?)",
    ),
    _rule(
        "frequency",
        "How often {does} {base}{what}",
        "",
        _SUBJECT,
        rf"{_ANY_VERB}(?P<what>(?: [^,;:]+?)??) (?P<span>(?:about )?{_HOW_OFTEN})(?: .+)?",
    ),
    _rule(
        "measure of",
        "What {what} {does} {base}",
        "",
        _SUBJECT,
        _verbs("have need require carry include get"),
        rf"an? (?P<what>[a-z-]+(?: [a-z-]+){{0,2}}) of (?P<span>{MONEY}|{PERIOD}|{_ABOUT}{_NUMBER} [a-z-]+)",
    ),
    _rule(
        "lasting",
        "For how long {does} {base}{what}",
        "period",
        _SUBJECT,
        rf"{_ANY_VERB}(?P<what>(?: [^,;:]+?)??) for (?P<span>{PERIOD})(?: and .+)?",
    ),
    _rule(
        "valid",
        "For how long {be} {subject} {what}",
        "period",
        _SUBJECT,
        "(?P<be>is|are)",
        "(?P<what>valid|free|open|closed|guaranteed|available|visible|active|suspended|blocked|locked)",
        rf"for (?P<span>{PERIOD}(?: .+)?)",
    ),
    _rule(
        "due",
        "When {be} {subject} {what}",
        "",
        _SUBJECT,
        "(?P<be>is|are) (?P<what>due|payable)",
        "(?P<span>(?:at|on|by|within|before|after|when|in) .+)",
    ),
    _rule(
        "shift",
        "When {modal} {subject} {what}",
        "",
        _SUBJECT,
        r"(?P<modal>can|may|must|should|will) (?P<what>[a-z][^,;:]+?)(?<! within)(?<! for)",
        rf"(?P<span>{PERIOD} (?:before|after) .+)",
    ),
    _rule("default", "What {does} default to", "", _SUBJECT, "defaults? to", r"(?P<span>.+)"),
    _rule(
        "value",
        "What {be} {subject}",
        "",
        "(?P<subject>[Tt]he (?:default|maximum|minimum|recommended|usual|easiest|simplest|best|preferred) [^,;:]+?)",
        "(?P<be>is|are)",
        r"(?P<span>(?:[`\"“\d$€£/~]|to [a-z]|an? |the |[A-Z]).*)",
    ),
    _rule(
        "settings",
        "Where can you {what}",
        "",
        r"You can (?P<what>[a-z]+ [^,;:]+?)",
        r"(?P<span>(?:in|from|under|on) (?:the|your) [^,;:]*?",
        r"?(?:settings|preferences|menu|page|dialog|tab|sidebar|toolbar|section|screen|panel|dashboard|console)"
        r"(?: of [^,;:]+)?)",
    ),
    _rule(
        "place",
        "Where {be} {subject}",
        "",
        _SUBJECT,
        r"(?P<be>is|are) (?P<span>(?:at|behind|opposite|next to|near) (?:\d|the |[A-Z]).+)",
    ),
    _rule(
        "when",
        "{when} {does} {base}{what}",
        "",
        _SUBJECT,
        rf"{_ANY_VERB}(?P<what>(?: [^,;:]+?)??)",
        r"(?P<span>(?:only )?(?:if|when|once(?! an?\b)|as soon as|after|before|until) (?!(?:by|and|or)\b)[^;]+)",
    ),
    _rule(
        "within",
        "Within what period {does} {base}{what}",
        "period",
        _SUBJECT,
        rf"{_ANY_VERB}(?P<what>(?: [^,;:]+?)??) within (?P<span>{PERIOD}(?: (?:of|after|from) .+)?)",
    ),
    _rule(
        "times",
        "How many times {modal} {subject} {what}",
        "",
        _SUBJECT,
        rf"(?P<modal>can|may|must) (?P<what>[a-z][^,;:]+?) (?P<span>{_ABOUT}{_NUMBER} times)(?:,? .+)?",
    ),
    _rule(
        "who",
        "Who {modal} {what}",
        "",
        "Only (?P<span>(?:the|an?|[a-z]+s) ?.*?)",
        "(?P<modal>can|may|must) (?P<what>[a-z][^,;:]+)",
    ),
    _rule("meaning of", "What {does} mean", "", _SUBJECT, "(?:means?) that", "(?P<span>.+)"),
    _rule(
        "age",
        "How old {modal} {subject} be{rest}",
        "",
        _SUBJECT,
        rf"{_MUST} be (?P<span>(?:at least|over|under|older than|younger than)",
        rf"{_NUMBER}(?: years? old| years of age)?)(?P<rest>(?: to .+)?)",
    ),
    _rule(
        "name",
        "What is the name of the {subject}",
        "name",
        r"The (?P<subject>[a-z][a-z '’-]+?) (?:is|are)",
        r"(?P<span>(?:(?:Dr|Ms|Mr|Mrs)\.? )?[A-ZÀ-Þ][\w&'’-]+(?: (?:(?:of|and|de|van) )?[A-ZÀ-Þ][\w&'’-]+){1,4})",
    ),
    _rule(
        "not",
        "{condition} {do} {subject} not {what}",
        "",
        _SUBJECT,
        "(?P<do>does|do) not (?P<what>[a-z]+(?: [^,;:]+?)??)",
        "(?P<span>(?:if|when|before|after|until|during) .+)",
    ),
    _rule(
        "way",
        "{how} can {subject} {what}",
        "",
        "(?P<subject>[Yy]ou|Guests|Members|Customers|Visitors) can",
        r"(?P<what>(?:reach|contact|call|join|book|order|pay|buy|hire|rent|cancel|change|apply|register|enrol|renew|"
        r"report|request|find)\b(?: [^,;:]+?)?)",
        r"(?P<span>(?:on|by|via|through|with|using|in|at|from) [^,;:]+)",
    ),
    _rule(
        "deadline",
        "By when {modal} {subject} {what}",
        "date",
        _SUBJECT,
        _MUST,
        rf"(?P<what>[a-z][^,;:]+?) by (?P<span>(?:the )?{INSTANT}(?: .+)?)",
    ),
    _rule(
        "ahead",
        "How far in advance {modal} {subject} {head}",
        "period",
        _SUBJECT,
        "(?P<modal>must|should|shall|may|can)",
        _ADVANCE,
    ),
    _rule("book ahead", "How far in advance {does} {base} {head}", "period", _SUBJECT, _verbs("book"), _ADVANCE),
)
TO_DO: Final = (
    _rule(
        "to do",
        "By when should you {act}",
        "date",
        rf"(?P<act>[^,;:]+?) (?:by|no later than|not later than) (?P<span>(?:the )?{INSTANT}(?: .+)?)",
    ),
    _rule("to do", "How often should you {act}", "", rf"(?P<act>[^,;:]+?) (?P<span>{_HOW_OFTEN})(?: .+)?"),
    _rule(
        "to do",
        "Within what period should you {act}",
        "period",
        rf"(?P<act>[^,;:]+?) within (?P<span>{PERIOD}(?: (?:of|after|from) [^,;:]+)?)(?: and .+|, .+|; .+)?",
    ),
)
_SAYS: Final = "|".join(("is", "are", _MODAL, *THIRD_PERSON, "cost", "pay", "get", "need", "take", "have"))
COORDINATED: Final = re.compile(
    rf"(?P<subject>[A-Z][\w'’-]*(?: [\w'’-]+){{0,6}}?) (?P<first>(?:{_SAYS}) [^,;:]+?),? and "
    rf"(?P<second>(?:(?:is|are|{_MODAL}) |(?:{_SAYS}) (?={_NUMBER}|an? |the |at |from |on |[$€£]|{_ABOUT}\d)).+)"
)
TRAILING: Final = re.compile(r", (?:and|but|so|since|as|although|which|where|because|unless|while|even if) .+|; .+")
TWO_PAYERS: Final = re.compile(
    rf"(?P<first>.+? (?P<verb>costs?|pays?) {MONEY}(?: [^,;]+?)?),? and (?P<other>[^,;]+?) (?P<span>{MONEY})"
)
TWO_PRICES: Final = re.compile(
    rf"(?P<first>(?: an? \w+)? for [^,;:]+?)(?:,? and|,) (?P<span>{MONEY})(?P<second> for [^,;:]+)"
)
IT: Final = re.compile(f"It (?P<predicate>{_verbs('cost last take open close start begin end run seat sleep')} .+)")
SINGULAR: Final = re.compile(
    rf"(?P<subject>(?:The|An?) [a-z][\w '’-]*?) (?:{'|'.join(THIRD_PERSON)}|is|must|may|can|will) .+"
)
ROW: Final = re.compile(r"\|?(?P<cells>[^|]+(?:\|[^|]+)+)\|?")
RULE_ROW: Final = re.compile(r"\|?(?: *:?-{2,}:? *\|)+(?: *:?-{2,}:? *)?")
