"""Features of contradictions and additions: numbers, dates and names in an answer that a reference lacks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from synth_dspy.core.text import MONTHS, STOPWORDS, Text, parse
from synth_dspy.evaluation.reference_judge.parts import Answer, Reference, reference_of
from synth_dspy.evaluation.reference_judge.quantities import quantities

MANY_REFERENCES = 200
"""References after these are ignored."""
_SHORT = 6
MONTH_NAMES = frozenset(MONTHS)


def number_features(ref: Reference, answer: Answer) -> dict[str, float]:
    """Numbers and months: those of the reference that the answer lacks, and those it has instead."""
    theirs = {t.norm for t in ref.parsed.tokens if t.kind == "n"}
    ours = {t.norm for t in answer.text.tokens if t.kind == "n"}
    in_question = {t.norm for t in answer.question.tokens if t.kind == "n"}
    missing, extra = theirs - ours, ours - theirs - in_question
    years = {n for n in theirs if _is_year(n)}
    their_months = _months(ref.parsed)
    our_months = _months(answer.text)
    return {
        "numbers": float(min(5, len(theirs))),
        "numbers_missing": float(min(5, len(missing))),
        "numbers_found": float(min(5, len((theirs - in_question) & ours))),
        "numbers_extra": float(min(6, len(extra))),
        "numbers_conflict": float(bool(missing) and bool(extra)),
        "numbers_distance": _distance(missing, extra),
        "numeric": sum(norm in theirs or norm in MONTH_NAMES for norm in ref.norms) / len(ref.norms),
        "year_found": float(bool(years & ours)) if years else -1.0,
        "year_conflict": float(bool(years - ours) and any(map(_is_year, extra))),
        "month_found": float(bool(their_months & our_months)) if their_months else -1.0,
        "month_conflict": float(bool(their_months - our_months) and bool(our_months - their_months)),
        "day_conflict": float(
            bool(their_months)
            and any(not _is_year(n) for n in missing)
            and any(not _is_year(n) and len(n) <= 2 for n in extra)
        ),
    }


def name_features(ref: Reference, answer: Answer) -> dict[str, float]:
    """Capitalised words that are not in the question: those the answer lacks, and those it adds."""
    theirs = {t.norm for t in ref.parsed.tokens if t.kind in "co"} - answer.question_norms
    # A sentence's first word is capitalised whatever it is; in a short answer it is rather a name.
    kinds = "co" if len(answer.norms) <= _SHORT else "c"
    tokens = [answer.text.tokens[i] for i in answer.text.words]
    ours = {token.norm for token in tokens if token.kind in kinds} - answer.question_norms
    missing, extra = theirs - answer.every, ours - set(ref.norms)
    return {
        "names_conflict": float(min(3, len(missing), len(extra))),
        "names": float(min(10, len(theirs))),
        "names_missing": float(min(8, len(missing))),
        "names_extra": float(min(12, len(extra))),
        "names_found": len(theirs & answer.every) / len(theirs) if theirs else -1.0,
    }


def stranger_features(answer: Answer, references: Sequence[str], span: tuple[int, int] | None) -> dict[str, float]:
    """Words of the answer that are in neither the question nor a reference: mostly the other names of a list."""
    familiar = set(answer.question_norms)
    for reference in references[:MANY_REFERENCES]:
        familiar.update(reference_of(reference).norms)
    strangers = [answer.text.tokens[i] for i in answer.text.words if answer.text.tokens[i].norm not in familiar]
    kinds = "co" if len(answer.norms) <= _SHORT else "c"
    return {
        "stranger_items": float(min(6, _stranger_items(answer, familiar, span))),
        "strangers": float(min(30, len(strangers))),
        "stranger_share": len(strangers) / max(1, len(answer.norms)),
        "stranger_names": float(min(12, sum(token.kind in kinds for token in strangers))),
        "stranger_numbers": float(min(6, sum(token.kind == "n" for token in strangers))),
    }


_OWNED_BY = frozenset({"of", "for", "by", "to", "with", "from"})


def owner_features(answer: Answer, span: tuple[int, int] | None, ref: Reference) -> dict[str, float]:
    """Whether the mention only says whose somebody or something is: "the Supplier's customer", "an agent of X"."""
    values = {"owner": 0.0, "headed": 0.0}
    if span is None or any(token.kind == "n" for token in ref.parsed.tokens):  # "60 days' notice", "a term of 60 days"
        return values
    tokens, low = answer.text.tokens, answer.low
    owned = low[span[1]].endswith(("'s", "s'")) or low[span[1] + 1 : span[1] + 2] == ["'"]
    values["owner"] = float(owned and not ref.text.rstrip().lower().endswith(("'s", "s'")))
    before = [i for i in range(max(0, span[0] - 4), span[0]) if low[i] not in {"the", "a", "an", "its", "mr", "."}]
    if len(before) > 1 and low[before[-1]] in _OWNED_BY:
        head = tokens[before[-2]]
        familiar = STOPWORDS | answer.question_norms | set(ref.norms)
        values["headed"] = float(head.kind in "wco" and head.norm not in familiar)
    return values


_TO_JUDGE = re.compile(
    r"\b(?:verdict|judge?ment|grade[rd]?|grading|graders?|score[ds]?|scoring|evaluat\w+|examiners?|markers?|judges?|"
    r"judged|rubric|ground truth|gold answer|full (?:marks|points|score)|disregard|"
    r"ignore (?:all|any|the|previous|earlier|prior)|previous instructions|system prompt|label|verified|assessment|"
    r"award)\b|<\w+>|\bprediction:",
    re.IGNORECASE,
)


def addresses_judge(answer: Answer, references: Sequence[str]) -> float:
    """How many words speak to whoever grades, beyond those that the question and the references use themselves."""
    theirs = " ".join((answer.question.text, *references[:MANY_REFERENCES])).lower()
    hits = {match.group().lower() for match in _TO_JUDGE.finditer(answer.text.text)}
    return float(min(3, sum(hit not in theirs for hit in hits)))


_LAW = re.compile(
    r"\b(?:[A-Z][\w&-]+ (?:(?:of|and|the|for) )*)+(?:Acts?|Code|Regulations?|Ordinance|Statutes?|Convention|Treaty|"
    r"Directive|Rules)\b|\b(?:[Ss]ection|[Aa]rticle|§) ?\d+[\w.()]* of the [A-Z]|\b\d+ (?:U\.?S\.?C|C\.?F\.?R)\b"
)
_ABOUT_CONTRACTS = re.compile(
    r"\b(?:agreement|contract|govern(?:s|ed|ing)|parties|(?:a|the|each|either|which|other) party|licen[cs]\w*|liab\w*|"
    r"clause|warrant\w*|terminat\w*|assign(?:ed|ment)?|lease|letter|invoice|insur(?:ed?|es|ance)|notice)\b",
    re.IGNORECASE,
)


def cites_law(question: str, references: Sequence[str], prediction: str) -> float:
    """1.0 where an answer about a contract cites a law that neither the question nor a reference names.

    Invented statutes are what a model pads a right answer with. Elsewhere an answer may well name an act.
    """
    if not _ABOUT_CONTRACTS.search(question):
        return 0.0
    theirs = " ".join((question, *references[:MANY_REFERENCES])).lower()
    return float(any(match.group().lower() not in theirs for match in _LAW.finditer(prediction)))


_ALTERNATIVE = re.compile(
    r"\n+|\s*[;|]\s*|\s+[/+]\s+|(?<=[a-z])/(?=[a-z])|"
    r",?\s+(?:(?:and|or)/(?:or|and)|or|and(?:\s+also)?|plus|as\s+well\s+as|vs\.?|versus)\s+",
    re.IGNORECASE,
)
"""What stands between the items of a list; no comma, which also comes before an apposition: "Paris, France"."""
_BULLET = re.compile(r"^\s*(?:[-–*•+]|\(?(?:\d{1,2}|[a-zA-Z])[.)])\s+")
_SPARE = 1
"""Words by which an item may be longer than the reference."""


def offers_others(answer: Answer, references: Sequence[str]) -> float:
    """1.0 where an answer is a reference beside other names or figures and no more: "Delaware or Ohio".

    What stands beside it is of the reference's kind, and most of its words are in no reference and not in the question.
    Not where references have no word in common: then several things are asked for.
    """
    theirs = [reference_of(reference) for reference in references[:MANY_REFERENCES]]
    split = _ALTERNATIVE.split(answer.text.text)
    most = len(split) * (max(len(reference.norms) for reference in theirs) + _SPARE + 1)  # with its bullet
    if len(split) == 1 or len(answer.norms) > most:
        return 0.0
    if not frozenset.intersection(*(frozenset(reference.norms) for reference in theirs)):
        return 0.0
    pieces = [reference_of(_BULLET.sub("", piece)) for piece in split]
    norms = {reference.norms for reference in theirs}
    named = [piece for piece in pieces if piece.norms in norms]
    longest = max((len(piece.norms) + _SPARE for piece in named), default=0)
    if not named or any(len(piece.norms) > longest for piece in pieces):
        return 0.0
    kinds = {_kind(piece) for piece in named} - {"w"}
    familiar = answer.question_norms.union(*(reference.norms for reference in theirs))
    for piece in pieces:
        kind = _kind(piece)
        figures = [norm for norm in piece.norms if norm[0].isdigit() or norm in MONTH_NAMES]
        # "5 years; notice 60 days" offers no other term
        telling = [] if kind == "n" and set(piece.norms) - familiar - set(figures) else figures or piece.norms
        if kind in kinds and 2 * sum(norm not in familiar for norm in telling) > len(telling):
            return 1.0
    return 0.0


def _kind(piece: Reference) -> str:
    """Of what kind a piece is: "n" where it holds a number, "c" a capitalised word, else "w"."""
    kinds = {piece.parsed.tokens[i].kind for i in piece.words}
    return "n" if "n" in kinds else "c" if kinds & {"c", "o"} else "w"


_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|\n+")
_FIGURE = re.compile(r"\d(?:[\d,.:/]*\d)?")
_LEAST_WORDS = 3


def contradicts_itself(question: str, references: Sequence[str], prediction: str) -> float:
    """1.0 where an answer says one sentence twice with other figures: "EUR 53 a day in Japan. EUR 50 a day in Japan."

    Only where a reference has a figure, and not where question and references hold all of them.
    """
    if not any(map(_FIGURE.search, references)):
        return 0.0
    stated = set(_FIGURE.findall(" ".join((question, *references[:MANY_REFERENCES]))))
    said: dict[str, tuple[str, ...]] = {}
    for sentence in _SENTENCE_END.split(prediction):
        figures = tuple(_FIGURE.findall(sentence))
        words = re.findall(r"[^\W\d]+", _FIGURE.sub(" ", sentence).lower())
        if not figures or len(words) < _LEAST_WORDS:
            continue
        before = said.setdefault(" ".join(words), figures)
        if before != figures and not stated.issuperset((*before, *figures)):
            return 1.0
    return 0.0


def _months(text: Text) -> set[str]:
    """Months named in a text; "may" in lower case is a verb."""
    return {text.tokens[i].norm for i in text.words if text.tokens[i].kind != "w"} & MONTH_NAMES


def _is_year(norm: str) -> bool:
    return len(norm) == 4 and norm.isdigit() and norm[0] in "12"


def _distance(missing: set[str], extra: set[str]) -> float:
    """Smallest relative distance from a missing number to one the answer has instead; -1.0 without such a pair."""
    pairs = [(float(a), float(b)) for a in missing for b in extra]
    return min((min(3.0, abs(a - b) / (abs(a) + 1e-9)) for a, b in pairs), default=-1.0)


_SEPARATORS = frozenset({",", ";", "/", "|", "or", "and", "•", "*", "-", ".", ")"})
_LONGEST_ITEM = 8


def _stranger_items(answer: Answer, familiar: set[str], span: tuple[int, int] | None) -> int:
    """Pieces between commas and the like, outside the mention, that consist of unfamiliar words only."""
    start, end = span if span else (-1, -1)
    items = 0
    content: list[str] = []
    separated = True
    for i, token in enumerate((*answer.text.tokens, None)):
        if token is None or (token.norm in _SEPARATORS and not start <= i <= end):
            strange = bool(content) and all(norm not in familiar for norm in content)
            items += separated and strange and len(content) <= _LONGEST_ITEM
            content, separated = [], True
        elif start <= i <= end:
            separated = False
        elif token.kind != "p" and token.norm not in STOPWORDS:
            content.append(token.norm)
    return items


def answers_otherwise_first(question: str, references: Sequence[str], prediction: str) -> float:
    """1.0 where an answer replies with another figure, and the reference's only follows: "3 years. Its duties last 5."

    A sentence replies where it holds a figure of the reference's unit and no word that is neither asked nor a
    reference's, or most of the question's words, and more of them than any sentence with the reference's figure.
    """
    theirs = [
        q for reference in references[:MANY_REFERENCES] for q in quantities(reference) if q.unit and q.kind != "date"
    ]
    known, kinds = (*theirs, *quantities(question)), {q.kind for q in theirs}
    asked = {token.norm for token in parse(question).tokens} - STOPWORDS
    familiar = asked.union(*(reference_of(reference).norms for reference in references[:MANY_REFERENCES]))
    first: tuple[int, bool] | None = None
    most = -1
    for sentence in _SENTENCE_END.split(prediction) if theirs else ():
        ours = [q for q in quantities(sentence) if q.kind in kinds]
        tokens = [token for token in parse(sentence).tokens if token.kind != "p" and token.norm not in STOPWORDS]
        shared = len(asked & {token.norm for token in tokens})
        if any(our.equals(q) for our in ours for q in theirs):
            if first is None:
                return 0.0
            most = max(most, shared)
        elif first is None and any(not any(our.equals(q) for q in known) for our in ours):
            outside = (t.norm for t in tokens if not any(our.start <= t.start < our.end for our in ours))
            first = shared, familiar.issuperset(outside)
    if first is None or most < 0:
        return 0.0
    return float(first[1] or (first[0] > most and 2 * first[0] > len(asked)))
