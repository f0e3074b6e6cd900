"""Synthesis for contracts: patterns of answers, and the questions and words that go with them."""

from __future__ import annotations

import re

from synth_dspy.domains.documents.statement_grammar import MONTH
from synth_dspy.domains.documents.synthesis import DocumentSynthesis
from synth_dspy.synthesis.cues import Cues

_NUMBER = (
    "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fourteen|fifteen|eighteen|twenty|thirty|forty|"
    "fifty|sixty|seventy|eighty|ninety|hundred)"
)
_NUMBERS = rf"(?:{_NUMBER}(?:[- ](?:and )?{_NUMBER})*(?:\s*\(\d+\))?|\d+)"
_PLACE = r"[A-Z][\w'’-]+(?: (?:and|of|the) [A-Z][\w'’-]+| [A-Z][\w'’-]+){0,3}"
_ADJECTIVES = (
    "English|Scots|Irish|German|Dutch|French|Spanish|Italian|Swedish|Norwegian|Danish|Swiss|Austrian|Belgian|Japanese|"
    "Chinese|Indian|Australian|Canadian|Singapore|California|Delaware|Nevada|Oregon|Texas|Florida|Ohio|Illinois|"
    "New York"
)
_FIRM = (
    r"(?:Inc\.?|LLC|L\.L\.C\.|Ltd\.?|Limited|Corp\.?|Corporation|Company|Cooperative|GmbH|AG|AB|B\.V\.|N\.V\.|S\.A\.|S\.L\.|"
    r"SAS|SARL|L\.P\.|LLP|plc|PLC|Pte\.? Ltd\.?|N\.A\.|INC\.?|LTD\.?|CORP\.?|CORPORATION|COMPANY)"
)

PATTERNS = {
    "name": re.compile(
        r"\A#*\s*(?P<answer>[A-Z][A-Za-z ,&'’-]{0,60}"
        r"(?:AGREEMENT|Agreement|CONTRACT|Contract|LEASE|Lease|ADDENDUM|AMENDMENT)(?: [A-Z][A-Za-z]+){0,4})"
        r"[^\n.;]{0,40}$",
        re.M,
    ),
    "date": re.compile(
        rf"\b{MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}\b|\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:day\s+of\s+)?{MONTH},?\s+\d{{4}}\b"
    ),
    "amount": re.compile(
        r"(?:\b(?:US|CAD|USD|EUR|GBP|CHF|SEK|SGD|AUD|NOK|DKK)\s?[$€£]?\s?|[$€£]\s?)\d(?:[\d,.’']*\d)?(?:\s(?:million|billion))?"
        rf"|\b(?:{_NUMBERS})(?:-half)?\s(?:percent|per cent)(?:\s\(\d+(?:\.\d+)?%\))?|\b\d+(?:\.\d+)?\s?%"
    ),
    "period": re.compile(
        rf"\b{_NUMBERS}[\s-]+(?:(?:business|calendar|working|consecutive)\s+)?(?:day|week|month|year)s?\b"
        rf"(?! of (?:{MONTH}))",
        re.I,
    ),
    "law": re.compile(
        rf"\blaws? of (?:the )?(?P<answer>(?:State|Commonwealth|Province|Republic) of {_PLACE}|{_PLACE})"
        rf"|\b(?:{_ADJECTIVES}) law\b"
    ),
    "party": re.compile(
        rf"(?P<answer>(?:[A-ZÀ-Þ][\w&'’-]*,? ){{1,5}}{_FIRM})(?=[\W]|$)"
    ),
}  # fmt: skip

ASKS = {
    "date": re.compile(r"\bwhen\b|\bdates?\b|\bday\b|\b(?:until|till|since|from) w", re.I),
    "amount": re.compile(
        r"\bhow (?:much|many|large|high|big|far)\b|\bamounts?\b|\bsums?\b|\bfees?\b|\bprices?\b|\bpercent|\brates?\b|"
        r"\bshare\b|\bcosts?\b|\blimit|\bcap\b|\bmaximum\b|\bminimum\b|\bleast\b|\bmost\b|\bdiscount\b|\broyalt|\bcommission\b|"
        r"\binsur|\bcover|\bpaid\b|\bpays?\b|\bpenalty\b|\bvalue\b|\bwhat .* (?:rent|deposit|bonus|interest|payment)",
        re.I,
    ),
    "period": re.compile(
        r"\bhow (?:long|much (?:notice|time|advance)|many \w*\s?(?:days?|weeks?|months?|years?)|often|soon|early)\b|"
        r"\bperiods?\b|\bterm\b|\bnotice\b|\btime\b|\bduration\b|\blength\b|"
        r"\bwhat .*(?:days|months|years|warranty|deadline)\b|\bwithin (?:what|which|how)|\bwhen\b",
        re.I,
    ),
    "name": re.compile(r"\bname|\bcalled\b|\btitle|\bdocument\b|\bkind\b|\btype\b", re.I),
    "law": re.compile(r"\blaws?\b|\bstate|\bcountry|\bprovince|\bjurisdiction|\bgovern", re.I),
    "party": re.compile(r"\bwho|\bwhich\b|\bcompany\b|\bname|\bparty\b|\bparties\b|\bfirm\b", re.I),
}  # fmt: skip


CUES = Cues(
    {
        "ends": (
            r"\bend|expir|terminat|laps|close|until|complet",
            r"\bend|expir|terminat|laps|close|until|complet|through|last day",
        ),
        "begins": (
            r"\bbegin|commenc|\bstart|effect|\bopen",
            r"\bbegin|commenc|\bstart|effect|\bopen|\bfrom\b|as of|\bon\b",
        ),
        "is made": (
            r"\bsign|dated?\b.*(?:agreement|contract|letter|lease)|\bmade\b",
            r"\bsign|\bdate|\bmade\b|execut|enter|conclu|as of|day of|^\W*[\w ,]{0,20}\d{4}\W*$|,",
        ),
        "renews": (r"renew|extend|extension|prolong", r"renew|extend|extension|prolong|continu|further|additional"),
        "notice": (r"\bnotice", r"\bnotice|notif|beforehand|advance|announce"),
        "insures": (r"insur", r"insur|cover"),
        "warrants": (r"warrant|guarantee", r"warrant|guarantee"),
        "audits": (r"\baudit|inspect", r"\baudit|inspect|examin|book|record|check"),
        "limits": (r"liabilit", r"liabl|liabilit|insur|cover"),
        "law": (r"\blaws?\b", r"\blaws?\b"),
        "excludes": (r"exclusiv", r"exclusiv|\bsole|\bonly\b|compet"),
        "assigns": (r"\bassign", r"assign|transfer|delegat|successor"),
        "licenses": (r"\blicen[cs]e\b", r"licen[cs]|\bgrant|right to use"),
        "commits": (r"\bminimum", r"minimum|at least|less than|fewer|commit|quota|purchase|order"),
    }
)
"""By topic, the words of a question, and the words of which one must be near its answer."""


CONTRACTS = DocumentSynthesis(PATTERNS, ASKS, CUES, "The contract is silent.", transferred_share=0.75)
_UNIT = (
    r"(?!(?:of|and|or|to|in|on|at|is|are|was|for|the|by|per|from|with|that|which|as|percent|days?|weeks?|months?|years?|"
    r"hours?|minutes?|seconds?)\b)[a-z]{3,}"
)
DOCUMENTS = DocumentSynthesis(
    {
        **{kind: PATTERNS[kind] for kind in ("date", "amount")},
        "period": re.compile(
            rf"\b{_NUMBERS}[\s-]+(?:(?:business|calendar|working|consecutive)\s+)?"
            rf"(?:second|minute|hour|day|week|month|year)s?\b(?! of (?:{MONTH}))",
            re.I,
        ),
        "number": re.compile(rf"(?<![\w.,#/:=|`-])(?!one\b|0\b){_NUMBERS} {_UNIT}(?: {_UNIT})?\b", re.I),
        # A name inside a sentence: at the end of a line it is mostly a heading's.
        "name": re.compile(
            r"(?<=[a-z,] )[A-ZÀ-Þ][\w&'’-]+(?: (?:(?:of|and|for|de) )?[A-ZÀ-Þ][\w&'’-]+){1,3}"
            r"(?![\w&'’-]|[^\S\n]*(?:\n|\Z))"
        ),
    },
    {
        **{kind: ASKS[kind] for kind in ("date", "amount", "period")},
        "number": re.compile(
            r"\bhow (?:many|much|large|far|high|big|often)\b|\bnumber\b|\bmost\b|\bleast\b|\blimit", re.I
        ),
        "name": re.compile(r"\bwh(?:o|om|ich|at)\b|\bwhere\b|\bname", re.I),
    },
)
"""For documents of any kind: dates, amounts and periods, which nearly all of them state."""
