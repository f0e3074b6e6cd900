"""Questions about the plain facts of a sentence: prices, times, ages, numbers, names.

Handbooks and help pages state most of what people ask in short sentences of the present tense ("A late return costs 5
euros an hour.", "The desk opens at 8:00."). The patterns and their questions are in `statement_rules.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from synth_dspy.domains.documents import statement_grammar as grammar
from synth_dspy.domains.documents import statement_rules as rules


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
    if match := rules.COORDINATED.fullmatch(body):
        return [f"{match['subject']} {match[part]}" for part in ("first", "second")]
    if (match := rules.TWO_PAYERS.fullmatch(body)) and not re.match(r"(?:for|in|per|an?)\b", match["other"]):
        other = match["other"][0].upper() + match["other"][1:]
        return [match["first"], f"{other} {match['verb']} {match['span']}"]
    return [body]


def with_subject(body: str, before: str) -> str:
    """Of "It lasts an hour" after "The tour starts at ten": "The tour lasts an hour"; "" if it cannot be told."""
    it, antecedent = rules.IT.fullmatch(body), rules.SINGULAR.match(before)
    if it is None or antecedent is None or grammar.FINITE.search(antecedent["subject"]):
        return ""
    return f"{antecedent['subject']} {it['predicate']}"


def facts(body: str, subject_in: Callable[[str], str]) -> Iterator[Fact]:
    """Questions about the facts that a sentence states.

    Args:
        body: a sentence without its full stop.
        subject_in: a subject as it is written inside a question; "" if it points outside the sentence.
    """
    if grammar.IMPERATIVE.match(body) or body.split(" ")[0].lower() in rules.BASES:
        for rule in rules.TO_DO:
            match = rule.pattern.fullmatch(body)
            if match and " and " not in match["act"] and not grammar.FINITE.search(match["act"]):
                act = match["act"][0].lower() + match["act"][1:]
                yield Fact(rule.name, rule.question.format(act=act), match["span"], rule.kind)
        return
    body = rules.TRAILING.sub("", body)
    for rule in rules.RULES:
        match = rule.pattern.fullmatch(body)
        if match is None:
            continue
        part = match.groupdict("")
        if rule.name not in ("who", "settings"):
            own = rule.name in ("name", "value")
            part["subject"] = re.sub("^The ", "the ", part["subject"]) if own else subject_in(part["subject"])
            if not part["subject"]:
                continue
        parts = [part]
        if rule.name == "price" and (both := rules.TWO_PRICES.fullmatch(part["rest"])):
            parts = [{**part, "rest": both["first"]}, {**part, "rest": both["second"], "span": both["span"]}]
        yield from (_fact(rule, each) for each in parts if not _is_misread(rule.name, each))


def _is_misread(rule: str, part: Mapping[str, str]) -> bool:
    """Whether a pattern fits words that mean something else."""
    what, verb, span = part.get("what", ""), part.get("verb", ""), part["span"]
    if any(grammar.FINITE.search(part.get(name, "")) for name in ("rest", "what", "head")):
        return True
    if re.search(rules.MONEY, part.get("rest", "")) or what.startswith(" to "):  # "have to be asked for"
        return True
    is_base = verb != "" and verb not in rules.THIRD_PERSON
    if is_base and not rules.PLURAL.search(part["subject"]):  # "the return of the book": no verb
        return True
    match rule:
        case "where":
            return re.match(rf"\w+ (?:the )?(?:{rules.MOMENT}|{rules.PERIOD})", span) is not None
        case "way":
            return re.search(r"\b(?:until|before|after|within|for)\b", what) is not None
        case "count":
            is_time = re.match(r"(?:second|minute|hour|day|week|month|year)s?\b", part["unit"])
            is_had = rules.FORMS.get(verb) == "have" and is_time is not None
            return is_had or (verb != "" and re.search(r"\b(?:one|1)$", span) is not None)
        case "when":
            asked = f"{rules.FORMS[verb]}{what}"
            return asked.split()[-1] in grammar.NOT_BEFORE_ADJUNCT or grammar.ENDS_IN_TIME.search(asked) is not None
    return False


def _fact(rule: rules.Rule, part: Mapping[str, str]) -> Fact:
    verb, span, subject = part.get("verb", ""), part["span"], part.get("subject", "")
    is_third = verb in rules.THIRD_PERSON if verb else not rules.PLURAL.search(subject)
    condition = "Under what condition" if re.match(r"(?:only )?if\b", span) else "When"
    question = rule.question.format(
        **part,
        does=f"{'does' if is_third else 'do'} {subject}",
        base=rules.FORMS.get(verb, ""),
        condition=condition,
        when="Until when" if span.startswith("until") else condition,
        how="Where" if span.startswith(("in ", "at ", "from ")) else "How",
    )
    return Fact(rule.name, question, f"{span} {part['unit']}" if "unit" in part else span, rule.kind)


def table_facts(lines: Sequence[str]) -> Iterator[tuple[Fact, str]]:
    """Questions about the rows of tables, whose cells are divided by "|", each with its row.

    The first row is the header. A table has at least two further rows, and all have as many cells.
    """
    rows: list[tuple[str, list[str]]] = []
    for line in [*lines, ""]:
        if rules.RULE_ROW.fullmatch(line.strip()):
            continue
        match = rules.ROW.fullmatch(line.strip())
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
