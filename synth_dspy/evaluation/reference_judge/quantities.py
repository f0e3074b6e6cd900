"""Quantities in a text: what is counted, in which unit, and whether as a bound ("at most", "less than").

Quantities that are equal across units ("two months" and "60 days", "EUR 600" and "€600") are one answer. The same
figure in another unit or currency is another answer, and so is a figure with a comparison or a minus that the reference
and the question do not hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from synth_dspy.core.text import MONTHS, Text, parse

_DAYS = {
    "minut": 1 / 1440, "hour": 1 / 24, "day": 1.0, "week": 7.0, "fortnight": 14.0, "month": 365.25 / 12,
    "quarter": 365.25 / 4, "year": 365.25, "decad": 3652.5,
}  # fmt: skip
"""Units of time, as stems, in days."""
_CURRENCIES = {
    "$": "usd", "usd": "usd", "dollar": "usd", "buck": "usd", "€": "eur", "eur": "eur", "euro": "eur", "£": "gbp",
    "gbp": "gbp", "pound": "gbp", "sterl": "gbp", "sterling": "gbp", "cad": "cad", "chf": "chf", "franc": "chf",
    "¥": "jpy", "jpy": "jpy", "yen": "jpy", "inr": "inr", "rupe": "inr", "rupee": "inr", "aud": "aud", "nzd": "nzd",
    "sek": "sek", "nok": "nok", "dkk": "dkk", "rmb": "cny", "cny": "cny", "yuan": "cny", "krona": "sek", "peso": "mxn",
}  # fmt: skip
_DOLLARS = {"canadian": "cad", "c": "cad", "ca": "cad", "australian": "aud", "a": "aud", "singapor": "sgd"}
_SKIPPED = frozenset({"-", "(", ")", "calendar", "full", "consecutiv", "complet", "entir", "whol", "straight", "clear"})
_OTHER_DAYS = frozenset({"busines", "business", "work", "working", "bank", "trad"})
_TOLERANCE = 0.02
"""Relative difference up to which times in different units are equal: two months are 60 days and 61."""

_MINUS = re.compile(r"(?:(?<![^\s(])(?<!\d\s)[-−]|\b(?:minus|negative)\s+)$", re.IGNORECASE)
"""Neither the hyphen of "F-5", nor the dash of "fee - $5", nor that of "from 5 -10"."""
_LESS = r"(?:less|fewer|lower|smaller|shorter|earlier|sooner|younger)"
_MORE = r"(?:more|greater|higher|larger|longer|later|bigger|older)"
_LINK = r"(?:\s+(?:a|an|the|of|sum|total|amount|period|term|to|than|than the))*\s*[(\[\"“']*$"
_BEFORE = tuple(
    (bound, re.compile(rf"\b(?:{pattern}){_LINK}", re.IGNORECASE))
    for bound, pattern in (
        (
            ">=",
            rf"(?:not|no|never|nor)\s+{_LESS}\s+than|at\s+(?:the\s+very\s+)?least|(?:a\s+)?minimum(?:\s+of)?|"
            r"not\s+(?:under|below)",
        ),
        (
            "<=",
            rf"(?:not|no|never)\s+{_MORE}\s+than|not\s+(?:to\s+)?exceed(?:ing)?|at\s+(?:the\s+)?most|up\s+to|"
            r"(?:a\s+)?maximum(?:\s+of)?|within|limited|capped\s+at|until|not\s+over",
        ),
        ("<", rf"{_LESS}\s+than|under|below|short|shy|before|prior|inside|beneath|(?:almost|nearly)"),
        (">", rf"{_MORE}\s+than|over|above|exceed(?:s|ed|ing)?|beyond|after|excess|upwards?|past|following|plus"),
        ("x", r"half|twice|double|triple|thrice|quarter|fraction|multiple|times|third"),
    )
)
_AFTER = tuple(
    (bound, re.compile(rf"^[)\]\"”']*\s*(?:{pattern})\b", re.IGNORECASE))
    for bound, pattern in (
        (
            ">=",
            r"(?:or|and)\s+(?:more|longer|above|over|later|greater|higher|up)|"
            r"(?:at\s+)?(?:the\s+very\s+)?(?:least|minimum)|upwards",
        ),
        (
            "<=",
            r"(?:or|and)\s+(?:less|fewer|under|below|earlier|shorter|sooner)|(?:at\s+)?(?:the\s+)?(?:most|maximum)|tops",
        ),
        ("<", r"(?:minus|less)\s+(?:a|one|1)"),
        (">", r"plus\s+(?:a|one|1)|and\s+a\s+half"),
    )
)  # fmt: skip
_ASKED = {
    "<": re.compile(
        r"\b(?:less|under|below|before|fewer|earlier|prior|until|cap(?:ped)?|limit\w*|most|maxim\w*|ceiling|exceed\w*|"
        r"up to|within|largest|highest|how (?:soon|quickly)|deadline|latest)\b",
        re.IGNORECASE,
    ),
    ">": re.compile(
        r"\b(?:more|over|above|after|exceed\w*|beyond|later|least|minim\w*|floor|notice|smallest|lowest|advance|"
        r"from which|earliest)\b",
        re.IGNORECASE,
    ),
    "-": re.compile(
        r"(?:^|\s)[-−]\d|\b(?:minus|negative|below|loss\w*|lost|decreas\w*|declin\w*|deficit|f[ae]ll\w*|drop\w*|"
        r"reduc\w*|deduct\w*)\b",
        re.IGNORECASE,
    ),
}
"""Words of a question that ask for a bound, or for less than nothing: then an answer may say one."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A quantity: `value` in its kind's base unit, `figure` and `unit` as they stand, first and last character."""

    value: float
    kind: str
    figure: float
    unit: str
    bound: str
    start: int
    end: int

    def equals(self, other: Quantity) -> bool:
        """Whether two quantities are the same one, in whatever units; bounds do not count."""
        if self.kind != other.kind:
            return False
        if self.unit == other.unit or self.kind != "time":
            return self.value == other.value
        return abs(self.value - other.value) <= _TOLERANCE * max(self.value, other.value)


@lru_cache(maxsize=8192)
def quantities(text: str) -> tuple[Quantity, ...]:
    """The quantities of a text, left to right; places are those of the parsed text."""
    return _quantities(parse(text))


def _quantities(parsed: Text) -> tuple[Quantity, ...]:
    tokens, found, skip = parsed.tokens, [], -1
    for i, token in enumerate(tokens):
        if i <= skip:
            continue
        date = _date(parsed, i)
        if date is not None:
            value, last = date
            start, end = token.start, tokens[last].end
            skip = last
            kind, unit, figure = "date", "date", value
        elif token.kind == "n" or (token.norm in {"a", "an", "half"} and i + 1 < len(tokens)):
            figure = float(token.norm) if token.kind == "n" else 0.5 if token.norm == "half" else 1.0
            last = i + 1
            while last < len(tokens) and tokens[last].norm in (_SKIPPED | ({"a", "an"} if figure == 0.5 else set())):
                last += 1
            unit = tokens[last].norm if last < len(tokens) else ""
            other = unit in _OTHER_DAYS and last + 1 < len(tokens) and tokens[last + 1].norm == "day"
            start, end = token.start, token.end
            if token.kind != "n" and unit not in _DAYS:
                continue
            if other:
                kind, unit, value, end = "business day", "business day", figure, tokens[last + 1].end
                skip = last + 1
            elif unit in _DAYS:
                kind, value, end = "time", figure * _DAYS[unit], tokens[last].end
                skip = last
            elif unit in {"%", "percent"} or [t.norm for t in tokens[last : last + 2]] == ["per", "cent"]:
                skip = last + (unit == "per")
                kind, unit, value, end = "percent", "%", figure, tokens[skip].end
            else:
                currency, first, final = _currency(parsed, i, last)
                kind, unit, value = currency or "number", currency, figure
                start, end = tokens[first].start, tokens[final].end
                skip = final
        else:
            continue
        found.append(Quantity(value, kind, figure, unit, _bound(parsed.text, start, end), start, end))
    return tuple(found)


def _date(parsed: Text, i: int) -> tuple[float, int] | None:
    """A month's name with a day, and a year where it has one: days on a scale of dates, and the last token."""
    tokens = parsed.tokens
    if tokens[i].norm not in MONTHS or i + 1 >= len(tokens) or tokens[i + 1].kind != "n":
        return None
    day, last, year = float(tokens[i + 1].norm), i + 1, 0.0
    if day > 31:
        return (day * 372 + MONTHS.index(tokens[i].norm) * 31, i + 1)
    rest = [j for j in range(i + 2, min(i + 4, len(tokens))) if tokens[j].norm != ","][:1]
    if rest and tokens[rest[0]].kind == "n" and len(tokens[rest[0]].norm) == 4:
        year, last = float(tokens[rest[0]].norm), rest[0]
    return year * 372 + MONTHS.index(tokens[i].norm) * 31 + day, last


def _currency(parsed: Text, i: int, after: int) -> tuple[str, int, int]:
    """The currency of a number, with the first and the last token of both; "" where it has none."""
    tokens = parsed.tokens
    if i and tokens[i - 1].norm in _CURRENCIES:
        first = i - 1
        own = _CURRENCIES[tokens[first].norm]
        prefixed = first > 0 and tokens[first - 1].end == tokens[first].start
        if own == "usd" and prefixed and tokens[first - 1].norm in {*_DOLLARS, "us"}:
            first -= 1
            own = _DOLLARS.get(tokens[first].norm, own)
        return own, first, i
    for j in range(after, min(after + 2, len(tokens))):
        if tokens[j].norm in _CURRENCIES:
            own, last = _CURRENCIES[tokens[j].norm], j
            if own == "usd" and j > after:
                own = _DOLLARS.get(tokens[j - 1].norm, own if tokens[j - 1].norm in {"us", "american"} else "")
            elif j > after and tokens[j - 1].norm not in {"british", "swiss", "swis"}:
                return "", i, i
            if last + 1 < len(tokens) and tokens[last + 1].norm in {"sterl", "sterling"}:
                last += 1
            return own, i, last
    return "", i, i


def _bound(text: str, start: int, end: int) -> str:
    before, after = text[max(0, start - 60) : start], text[end : end + 30]
    if _MINUS.search(before):
        return "-"
    for patterns, piece in ((_BEFORE, before), (_AFTER, after)):
        for bound, pattern in patterns:
            if pattern.search(piece):
                return bound
    return ""


def respell(answer: str, reference: str) -> str:
    """The answer, with every quantity that equals one of the reference's in other units spelled as it is there."""
    theirs = [q for q in quantities(reference) if q.unit]
    if not theirs:
        return answer
    text, spelled = parse(answer).text, parse(reference).text
    changes = [
        (ours, other)
        for ours in quantities(answer)
        if (other := next((q for q in theirs if ours.equals(q)), None)) is not None
        and (ours.unit != other.unit or ours.figure != other.figure or ours.kind not in {"time", "date", "percent"})
    ]
    for ours, other in reversed(changes):
        text = text[: ours.start] + spelled[other.start : other.end] + text[ours.end :]
    return text if changes else answer


QUANTITY_FEATURES = (
    "quantities_met", "quantities_missing", "quantities_extra", "quantities_alike", "unit_conflict", "bound_conflict",
    "bound_added", "bound_opposed",
)  # fmt: skip


def quantity_features(question: str, reference: str, answer: str) -> dict[str, float]:
    """Quantities of the reference that the answer meets, contradicts, or puts a bound on; a value for each feature."""
    theirs, ours, asked = quantities(reference), quantities(answer), quantities(question)
    values = dict.fromkeys(QUANTITY_FEATURES, 0.0)
    if not theirs:
        values["quantities_met"] = -1.0
    met = [(q, o) for q in theirs for o in ours if o.equals(q)]
    if theirs:
        values["quantities_met"] = len({q.start for q, _ in met}) / len(theirs)
        values["quantities_missing"] = float(len(theirs) - len({q.start for q, _ in met}))
    extra = [o for o in ours if not any(o.equals(q) for q in (*theirs, *asked))]
    values["quantities_extra"] = float(min(6, len(extra)))
    values["quantities_alike"] = float(min(4, sum(any(o.kind == q.kind for q in theirs) for o in extra)))
    values["unit_conflict"] = float(
        any(o.figure == q.figure and o.unit and q.unit and o.unit != q.unit for q in theirs for o in extra)
    )
    for q, o in met:
        if not o.bound or o.bound == q.bound:
            continue
        wants = {side for side, pattern in _ASKED.items() if pattern.search(question)}
        if o.bound == "-" and _ASKED["-"].search(reference):  # "a loss of $5"
            continue
        values["bound_added"] = max(values["bound_added"], float(not q.bound and o.bound[0] not in wants))
        if o.bound in {"<", ">", "x", "-"}:
            values["bound_conflict"] = max(values["bound_conflict"], 1.0 if o.bound[0] not in wants else 0.5)
        other_side = {"<": ">", ">": "<"}.get(o.bound[0], "")
        if other_side and (q.bound[:1] == other_side or (other_side in wants and o.bound[0] not in wants)):
            values["bound_opposed"] = 1.0
    return values
