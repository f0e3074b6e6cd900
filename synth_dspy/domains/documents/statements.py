"""Questions made from statements by rule: the words of a sentence, turned round, ask for a part of it.

"Collaborators must wait 48 hours before landing a change." becomes "What must collaborators do before landing a
change?". The rules use only closed classes of English words (auxiliaries, conjunctions, prepositions), so they need no
parser and suit any subject (Heilman and Smith, "Good Question! Statistical Ranking for Question Generation", NAACL
2010, with a parser). What a rule cannot turn round safely, or what points outside the sentence ("it", "as follows"), is
left alone: long documents have enough other sentences. Well-formed questions with right answers come of it at no
cost, where a small model writes few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from synth_dspy.domains.documents import statement_grammar as grammar
from synth_dspy.domains.documents.chunks import sentences
from synth_dspy.domains.documents.statement_facts import Fact, facts, split_predicates, table_facts, with_subject
from synth_dspy.domains.documents.statement_layout import layout_facts
from synth_dspy.domains.documents.statement_rules import INSTANT, PERIOD
from synth_dspy.synthesis.text import content

LONGEST_ANSWER = 25
"""Words."""
LONGEST_DEFINITION = 40
_LONGEST_SUBJECT = 12
_LONGEST_SENTENCE = 90
_LONGEST_TEXT = 1200
"""Characters of a sentence: what is longer is data, on which the patterns would take long."""
_HEAD = 800
"""Characters at the beginning of a document, where its name may stand."""
_AIMS = re.compile(r"(?P<act>[^,;:]+?) (?:in order )?to (?P<aim>[a-z]+ (?:an?|the|your|all|any|[a-z]+s) .+)")
"""Of "click Edit to change a rule": the act, and its aim."""
_AT_LEAST = r"(?:at least |at most |up to |no more than |not more than )?"


@dataclass(frozen=True, slots=True)
class Statement:
    """A question, the words of a sentence that answer it, and that sentence, both as they are written.

    Attributes:
        rule: the rule that made it.
        question: the question.
        answer: words of the sentence.
        sentence: the sentence.
        kind: the answer's, if it is one of those that patterns are given for; else "".
    """

    rule: str
    question: str
    answer: str
    sentence: str = ""
    kind: str = ""


class StatementQuestions:
    """Makes questions from the statements of one document.

    Args:
        document: the whole text, which tells the document's name, and which words are not capitalised.
        patterns: spans by kind, of which `amount`, `period` and `date` are used.
    """

    def __init__(self, document: str, patterns: Mapping[str, re.Pattern[str]]) -> None:
        self.name = _own_name(document)
        self._lower = frozenset(re.findall(r"(?<![\w'’@./-])[a-z][\w'’-]*", document))
        self._names = frozenset(re.findall(r"(?<=[a-z,] )[A-Z][\w'’-]*", document))
        self._kinds = frozenset(patterns)
        self._rows: dict[str, list[Fact]] = {}
        lines = document.split("\n")
        for fact, row in (*table_facts([line for line in lines if len(line) <= _LONGEST_TEXT]), *layout_facts(lines)):
            self._rows.setdefault(row, []).append(fact)
        self._spans = {kind: patterns[kind] for kind in ("amount", "period", "date") if kind in patterns}

    def of(self, text: str) -> list[Statement]:
        """The questions that the sentences of a chunk of the document give, in order."""
        made: dict[str, Statement] = {}
        for line in text.split("\n"):
            of_layout = [Statement(fact.rule, fact.question, fact.answer, line) for fact in self._rows.get(line, ())]
            for statement in (*of_layout, *self._of_line(line)):
                if complete := self._complete(statement):
                    made.setdefault(complete.question, complete)
        return list(made.values())

    def _of_line(self, line: str) -> Iterator[Statement]:
        follows_end, before = True, ""  # otherwise the sentence is an item of a list
        said = sentences(line)
        for sentence, following in zip(said, [*said, ""][1:], strict=True):
            is_text = len(sentence) <= _LONGEST_TEXT and len(sentence.split()) <= _LONGEST_SENTENCE
            if follows_end and sentence.endswith(".") and is_text:
                body = grammar.plain(grammar.CAPTION.sub("", grammar.ITEM.sub("", sentence))).strip()[:-1]
                body, source = grammar.PREAMBLE.sub("", body), sentence
                if whole := with_subject(body, before):
                    body, source = whole, f"{before} {sentence}"
                if body and (body[0].isalpha() or body[0] in grammar.QUOTES) and not _is_odd(body):
                    for predicate in split_predicates(body):
                        for made in self._of_sentence(predicate):
                            if made.rule == "instruction" and grammar.GOES_ON.match(following):
                                continue  # the first of several steps
                            yield Statement(made.rule, made.question, made.answer, source, made.kind)
            follows_end, before = sentence.rstrip("\"'”’)").endswith((".", "!", "?")), sentence

    def _of_sentence(self, body: str) -> Iterator[Statement]:
        main, where = body.removesuffix(" by default"), "by default"
        if match := grammar.WHERE_TRUE.fullmatch(body):
            main, where = match["main"], _small(match["lead"])
        if main != body:
            for made in self._of_sentence(main):
                if made.rule not in ("heading", "instruction", "outcome"):
                    yield replace(made, question=f"{made.question} {where}")
            return
        yield from self._definitions(body)
        yield from self._roles(body)
        yield from _instructions(body)
        for fact in facts(body, self._subject):
            yield Statement(fact.rule, fact.question, fact.answer, kind=fact.kind if fact.kind in self._kinds else "")
        lead, main = _split_lead(body)
        if main:
            yield from list(self._of_clause(lead, main)) or _outcomes(lead, main)

    # Rules. Their questions have no question mark yet.

    def _of_clause(self, lead: str, main: str) -> Iterator[Statement]:
        if lead and grammar.IMPERATIVE.match(main):
            if len(content(lead)) > 1 and (aim := _aim(lead)):
                yield Statement("instruction", f"How do you {aim}", main)
            elif len(content(lead)) > 1 and (match := _by_hand(main)):
                yield Statement("instruction", f"How do you {match['aim']} {_small(lead)}", match["act"])
            elif len(content(lead)) > 1 and not lead.startswith(("Without", "Except", "Within", "For ")):
                yield Statement("instruction", f"What should you do {_small(lead)}", main)
            return
        if (match := grammar.MODAL_CLAUSE.fullmatch(main)) and (subject := self._subject(match["subject"])):
            yield from self._actions(lead, subject, match["modal"], match["no"] or "", _without_adverb(match["rest"]))
        match = grammar.BE_CLAUSE.fullmatch(main)
        if match and not match["no"] and (subject := self._subject(match["subject"])):
            yield from self._states(lead, subject, match["be"], match["rest"])
        if (match := grammar.PRESENT.fullmatch(main)) and (subject := self._subject(match["subject"])):
            yield from _habits(lead, subject, match)
        if not lead and (match := grammar.PAYMENT.fullmatch(main)) and (subject := self._subject(match["subject"])):
            do = "does" if match["s"] else "do"
            yield from self._amounts(f"{do} {subject}", f"{match['verb']} {match['rest']}")

    def _actions(self, lead: str, subject: str, modal: str, no: str, rest: str) -> Iterator[Statement]:
        """What somebody must, may or will do."""
        if grammar.STARTS_AS_CLAUSE.match(rest):  # "not, during the term, sell": the verb comes later
            return
        asked, after = f"{modal} {subject}{no}", f" {_small(lead)}" if lead else ""
        for ask, before in (("Within what period", "within"), ("For how long", "for(?: an? (?:period|term) of)?")):
            if (not lead or rest.startswith("be ")) and (tail := self._period_at_end(rest, before)):
                yield Statement("period", f"{ask} {asked} {tail['head']}{after}", tail["span"], kind="period")
        if lead:
            if rest.startswith(("be ", "but ", "or ")) or re.match(
                r"(?:see|find|notice|need|want|get|have|also)\b", rest
            ):
                return
            if subject == "you" and (aim := _aim(lead)):
                yield Statement("instruction", f"How {modal} you{no} {aim}", rest)
            elif re.match(r"(?:include|mean|contain|apply)\b", rest):  # nothing that one does
                return
            elif not lead.startswith(("Except", "For the avoidance")) and "otherwise" not in lead:
                yield Statement("condition", f"What {asked} do {_small(lead)}", rest)
            return
        if time := self._time_before(rest):
            question = f"How long {time['side']} {time['event']} {asked} {time['head']}"
            yield Statement("lead time", question, time["span"], kind="period")
            return
        yield from self._amounts(asked, rest)
        yield from _adjuncts(asked, rest)
        verb, _, thing = rest.partition(" ")
        takes = verb in grammar.TRANSITIVE and grammar.OBJECT.match(thing) and not grammar.GIVEN_TO.match(thing)
        if takes and not grammar.ADJUNCT.search(rest):
            yield Statement("object", f"What {asked} {verb}", thing)

    def _states(self, lead: str, subject: str, be: str, rest: str) -> Iterator[Statement]:
        """What something is, where, by whom, how long."""
        after = f" {_small(lead)}" if lead else ""
        first, _, second = be.partition(" ")
        asked = f"{first} {subject} {second}".strip()  # "must be", "a report" -> "must a report be"
        if not lead and not second and re.match(grammar.PARTICIPLE, rest):
            yield from _adjuncts(asked, rest)
        if measure := self._measure(rest):
            if len(content(subject)) > 1:
                ask = {"amount": "How much", "period": "How long", "date": "When"}[measure.kind]
                yield Statement("measure", f"{ask} {asked}{after}", measure.answer, kind=measure.kind)
        elif match := re.fullmatch(rf"(?:\w+ly )?(?P<what>{grammar.TO_DO})(?P<to> to)? (?P<act>[a-z].*)", rest):
            if match["what"].endswith((" from", " for")):
                yield Statement("duty", f"What {asked} {match['what']}{after}", match["act"])
            elif match["to"] and not match["act"].startswith("be "):
                yield Statement("duty", f"What {asked} {match['what']} to do{after}", match["act"])
        elif match := grammar.PASSIVE.fullmatch(rest):
            yield from self._passives(asked, after, match["what"], match["to"], match["object"])
        elif not lead and not second and re.match(r"(?:an?|the|one of) [a-z]|to [a-z]+ ", rest):
            is_specific = len(content(subject)) > 1 or re.search(r"[`A-Z0-9]", subject)
            named = " of " in subject if rest.startswith("to ") else is_specific or rest.startswith("a")
            named = named and not re.fullmatch(r"the (?:most|least|only|same) [a-z-]+", rest)
            is_one = not re.match(r"(?:every|each|all|any|some|most|many|few|no|both|other)\b", subject)
            if named and is_one and not re.search(r", (?:and|but|so) |; | one$", rest):
                yield Statement("definition", f"What {be} {subject}", rest)

    def _passives(self, asked: str, after: str, what: str, to: str, thing: str) -> Iterator[Statement]:
        period, date = self._spans.get("period"), self._spans.get("date")
        if grammar.IDLE.match(thing) or grammar.IDLE.match(what) or re.match(INSTANT, thing):
            return
        if what == "governed" and (law := grammar.LAW.search(thing)):
            subject = asked.split(" ", 1)[1].removesuffix(" be")
            yield Statement("law", f"Which law governs {subject}", law["law"], kind="law")
        elif what == "used" and (to == "for" or (to == "to" and re.match(r"[a-z]+ (?!by\b)", thing))):
            yield Statement("use", f"What {asked} used for{after}", thing if to == "for" else f"to {thing}")
        elif (
            period
            and to in ("for", "within")
            and re.match(rf"(?:a (?:period|term) of )?(?:{period.pattern})", thing, re.I)
        ):
            ask = "For how long" if to == "for" else "Within what period"
            yield Statement("period", f"{ask} {asked} {what}{after}", thing, kind="period")
        elif date and to in ("on", "in", "until") and date.match(thing):
            ask = "Until when" if to == "until" else "When"
            yield Statement("date", f"{ask} {asked} {what}{after}", thing, kind="date")
        elif what in grammar.SOURCES and to in ("in", "at", "from", "to"):
            yield Statement("place", f"Where {asked} {what}{after}", f"{to} {thing}")
        elif to in ("in", "at", "on"):
            if grammar.PLACES.search(what) and not grammar.IDIOM.match(thing):
                yield Statement("place", f"Where {asked} {what}{after}", f"{to} {thing}")
        elif to == "by" and re.match(r"[a-z]+ing ", thing):
            yield Statement("means", f"How {asked} {what}{after}", f"by {thing}")
        elif to == "by" and not thing.startswith(("and ", "or ")):
            who = "What" if what in ("governed", "caused", "determined", "followed", "bound") else "Who or what"
            yield Statement("agent", f"{who} {asked} {what} by{after}", thing)
        elif to not in ("until", "within") and grammar.OBJECT.match(thing) and "reference" not in asked.lower():
            who = "Who or what" if to == "to" and what in grammar.SENT else "What"
            yield Statement("relation", f"{who} {asked} {what} {to}{after}", thing)

    def _definitions(self, body: str) -> Iterator[Statement]:
        if match := grammar.DEFINED.fullmatch(body):
            meaning = re.split(r",? (?:including|(?<!of )whether|in each case)\b|; ", match["rest"])[0].rstrip(" ,(")
            where = f" in the {self.name}" if self.name else ""
            yield Statement("meaning", f"What does “{match['term']}” mean{where}", meaning)

    def _roles(self, body: str) -> Iterator[Statement]:
        """Of 'Acme, Inc. (the "Licensor")': who the licensor is."""
        end = 0
        for match in grammar.ROLE.finditer(body):
            before, end = body[end : match.start()], match.end()
            firms, role = [firm["firm"].strip() for firm in grammar.FIRM.finditer(before)], match["role"].split()
            plain = not role[-1].endswith("s") and not frozenset(role) & grammar.GENERIC_ROLES
            if len(firms) == 1 and self.name and plain and role[0].lower() not in re.findall(r"\w+", firms[0].lower()):
                yield Statement("role", f"Who is the {match['role']} in the {self.name}", firms[0], kind="party")

    # Parts

    def _subject(self, subject: str) -> str:
        """A subject as it is written inside a question; "" if it points elsewhere, or is a clause."""
        parts = subject.split()
        if (
            not parts
            or parts[0].lower() in grammar.POSSESSIVES
            or len(parts) > _LONGEST_SUBJECT
            or parts[0] in ("No", "no", "-", "–")
            or subject[0] in '"“”„'
        ):
            return ""
        shapes = (grammar.STARTS_AS_CLAUSE, grammar.VAGUE_SUBJECT, *self._spans.values())
        if any(shape.match(subject) for shape in shapes) or parts[-1] in grammar.UNFINISHED:
            return ""
        if "but" in parts or "yet" in parts or "by default" in subject:  # holds a verb that is not known
            return ""
        if grammar.FINITE.search(subject) or grammar.CAPTIONED.search(subject):
            return ""
        first, *others = parts
        if not others and first.capitalize() in (*grammar.DETERMINERS, "You"):
            return "you" if first.capitalize() == "You" else ""
        is_common = first.lower() in self._lower and (first not in self._names or parts[-1].islower())
        # A name is in capitals inside other sentences too; most words for things end alike.
        looks_common = all(word.islower() for word in others) if others else bool(grammar.COMMON_NOUN.search(first))
        is_common = is_common or (looks_common and first not in self._names)
        begins_small = first in grammar.DETERMINERS or (is_common and first[1:].islower())
        return " ".join([first.lower() if begins_small else first, *others])

    def _period_at_end(self, rest: str, before: str) -> re.Match[str] | None:
        """A period at the end of a predicate, with the event that it is counted from."""
        pattern = self._spans.get("period")
        event = r"(?: (?:of|after|from|following|before|prior to) .+)?"
        match = pattern and re.fullmatch(
            rf"(?P<head>.+?) {before} (?P<span>{_AT_LEAST}(?:{pattern.pattern}){event})", rest, pattern.flags
        )
        return match if match and _is_phrase(match["head"]) else None

    def _time_before(self, rest: str) -> re.Match[str] | None:
        """Of "give notice at least 30 days before the end": the period and the event."""
        pattern = self._spans.get("period")
        match = pattern and re.fullmatch(
            rf"(?P<head>.+?) (?P<span>(?:at least|no later than|not later than|not less than) (?:{pattern.pattern}))"
            r" (?P<side>before|after) (?P<event>.+)",
            rest,
            pattern.flags,
        )
        return match if match and _is_phrase(match["head"]) else None

    def _amounts(self, asked: str, rest: str) -> Iterator[Statement]:
        """How much somebody pays or gets."""
        pattern = self._spans.get("amount")
        match = pattern and re.fullmatch(
            r"(?P<head>(?:pay|receive|reimburse|contribute|spend|deposit|invest|charge|cost|earn)(?: [\w'’-]+){0,5}?) "
            rf"(?:an? (?:[\w-]+ ){{1,4}}of |the sum of )?(?P<span>{pattern.pattern})(?P<rest>.*)",
            rest,
        )
        if pattern and match and not pattern.search(match["rest"]) and not grammar.FINITE.search(match["rest"]):
            yield Statement("amount", f"How much {asked} {match['head']}{match['rest']}", match["span"], kind="amount")

    def _measure(self, rest: str) -> Statement | None:
        """An amount, a period or a date that is all that a predicate says."""
        for kind, pattern in self._spans.items():
            match = re.fullmatch(
                r"(?:equal to |limited to |set at |for )?(?:an? (?:period|term|amount|sum|total) of )?"
                rf"(?P<span>{_AT_LEAST}(?:{pattern.pattern}))(?P<rest>(?: (?:of|from|after|per|for|each|a) .*)?)",
                rest,
                pattern.flags,
            )
            if match and not pattern.search(match["rest"]):
                return Statement("measure", "", match["span"] + match["rest"], kind=kind)
        return None

    def _complete(self, made: Statement) -> Statement | None:
        """A question with its question mark, its answer without a clause that follows; None if it is not good alone."""
        is_definition = made.rule in ("meaning", "heading", "definition", "label", "list")
        answer = grammar.plain(made.answer)
        answer = grammar.NEXT_CLAUSE.split(answer)[0].strip(" ,;") if made.rule != "heading" else answer
        if made.rule == "outcome":
            answer = answer.split(", so ")[0]
        elif made.rule not in ("condition", "instruction", "duty", "meaning", "heading", "label", "table", "list"):
            answer = grammar.NEXT_PREDICATE.split(answer)[0]
        if not is_definition and made.rule != "adjunct" and grammar.SECOND_CLAUSE.search(answer):
            return None
        question = self._with_name(grammar.plain(made.question)) + "?"
        question = question[0].upper() + question[1:]
        # Two sentences, the second begun with a small letter; or a word that stands for another.
        if question.endswith((".?", " one?", " ones?")) or re.match(
            r"When\b.* (?:within|by|in|on|at|until)\?$", question
        ):
            return None
        for text in (question, answer):
            if not text or grammar.POINTING.search(text) or _is_odd(text):
                return None
        asked = frozenset(re.findall(r"\w+", grammar.OPENING.sub("", question, count=1).lower()))
        about = frozenset(content(question))
        is_vague = len(about) < {"object": 3, "duty": 3, "definition": 1, "label": 1, "default": 1}.get(made.rule, 2)
        if made.rule in ("object", "habit", "relation", "duty"):
            is_vague = is_vague or any(each.search(question) for each in (grammar.DEFINITE, grammar.UNTOLD))
        if made.rule == "definition" and grammar.OPINION.match(answer):
            return None
        is_trivial = about <= frozenset(content(answer)) and made.rule not in ("heading", "label")
        is_trivial = is_trivial or (answer.isalpha() and answer.islower() and made.rule != "default")
        if re.search(r"if you (?:want|wish|like) to be\b|^What do(?:es)? \S+ use\?", question):
            return None
        if (asked & grammar.VOID and made.rule != "heading") or is_vague or is_trivial:
            return None
        size = len(answer.split())
        if size > (LONGEST_DEFINITION if is_definition else LONGEST_ANSWER):
            return None
        if grammar.POINTING_ANSWER.match(answer):
            return None
        return Statement(made.rule, question, answer, made.sentence, made.kind)

    def _with_name(self, question: str) -> str:
        """A question about "this Agreement" names the agreement, if the document does."""
        last = self.name.split()[-1].lower() if self.name else ""
        return grammar.SELF.sub(lambda m: f"the {self.name}" if m["noun"].lower() == last else m[0], question)


def _instructions(body: str) -> Iterator[Statement]:
    """Of "Run x to update y": how y is updated."""
    if not grammar.IMPERATIVE.match(body) or not body[0].isupper():
        return
    when = re.fullmatch(r"(?P<act>[^,;:]+?),? (?P<when>(?:before|after|if|when|once|until|unless|while) [^,;:]+)", body)
    if when:
        idle = re.match(r"(?:when|if) (?:necessary|possible|any|only)\b", when["when"])
        clear = not idle and not when["when"].startswith("unless")
        if _is_phrase(when["act"]) and clear and when["act"].split()[-1] not in grammar.NOT_BEFORE_ADJUNCT:
            yield Statement("instruction", f"What should you do {when['when']}", when["act"])
        return
    match = _AIMS.fullmatch(body)
    if match and re.search(r"(?:ed|able|enough|as)$", match["act"]):  # "a group used to": belongs together
        return
    takes_infinitive = re.match(r"(?:Make sure|Ensure|Refer|Go|Do not|See|Ask|Try|Tell)\b", body)
    if match and _is_phrase(match["act"]) and not takes_infinitive and not match["aim"].startswith("be "):
        yield Statement("instruction", f"How do you {match['aim']}", match["act"])


def _habits(lead: str, subject: str, match: re.Match[str]) -> Iterator[Statement]:
    """What something does, needs, contains: verbs of the present tense that are known."""
    verb, particle, rest = grammar.FORMS[match["verb"]], match["particle"] or "", match["rest"]
    do, after = "do" if match["verb"] == verb else "does", f" {_small(lead)}" if lead else ""
    if re.search(r"\b(?:the|an?|of|in|for|with|to|by|and|or)$", subject):  # "the report": a noun after all
        return
    if verb in ("support", "provide", "offer") and " " not in subject:  # one thing of several
        return
    if (do == "do" and subject != "you" and not subject.endswith("s")) or re.match(PERIOD, rest):
        return
    if verb == "need" and particle == "to":
        if lead and not rest.startswith("be "):
            yield Statement("condition", f"What {do} {subject} need to do{after}", rest)
    elif (
        particle != grammar.PARTICLES.get(verb, "")
        or (verb in ("grant", "offer", "allow") and grammar.GIVEN_TO.match(rest))
        or (match["verb"] in grammar.WORKS and not grammar.OBJECT.match(rest))
        or re.match(r"(?:some|many|most|several|certain|few|other)\b", subject, re.I)
        or (verb in ("contain", "include") and re.match(r"an? ", rest))
    ):
        return
    elif verb in ("allow", "enable") and (given := re.fullmatch(r"(?P<who>you|[a-z]+s) to (?P<act>[a-z].+)", rest)):
        yield Statement("habit", f"What {do} {subject} {verb} {given['who']} to do{after}", given["act"])
    elif not lead and not particle and grammar.ADJUNCT.search(rest):
        yield from _adjuncts(f"{do} {subject}", f"{verb} {rest}")
    elif (
        rest.split(" ")[0] not in grammar.FORMS and not grammar.FINITE.match(rest) and not grammar.NO_OBJECT.match(rest)
    ):
        yield Statement("habit", f"What {do} {subject} {verb} {particle}".rstrip() + after, rest)


def _outcomes(lead: str, main: str) -> Iterator[Statement]:
    """What happens if something is so."""
    is_clause = re.match(r"(?:If|When|Once|After) (?!\w+(?:ing|ed)\b)[^,]+$", lead) and len(lead.split()) > 3
    # A wish, and what can be done: no cause, and no effect of one.
    is_choice = re.search(r"\b(?:can|could|may|might) be\b|^(?:your|you) (?:can|could|may|might)\b", main) is not None
    if is_choice or re.match(r"\w+ you would (?:like|rather|prefer)\b", lead):
        return
    wished = grammar.INTENTION.search(lead) or re.search(r" (?:should|must)(?: not)? ", lead)
    if not is_clause or wished or not re.search(rf"{grammar.FINITE.pattern}|[a-z]s\b", main):
        return
    if grammar.BEGINS_PHRASE.match(main) and not grammar.STARTS_AS_CLAUSE.match(main) and not main.startswith("I "):
        yield Statement("outcome", f"What happens {_small(lead)}", main)


def _adjuncts(asked: str, rest: str) -> Iterator[Statement]:
    """When, why, how or under what condition something is done."""
    match = grammar.ADJUNCT.search(rest)
    if match is None or "upon request" in rest:
        return
    head, word = rest[: match.start()].rstrip(","), match["word"]
    shortest = 1 if re.match(grammar.PARTICIPLE, head) else 2 if head.startswith("be ") else 3
    if len(head.split()) < shortest or head.split()[-1] in grammar.NOT_BEFORE_ADJUNCT or grammar.FINITE.search(head):
        return
    if word in ("before", "after", "upon") and grammar.ENDS_IN_TIME.search(head):  # "within a month after": one phrase
        return
    ask = "Under what condition" if word.endswith("if") else grammar.ASKED_BY_ADJUNCT.get(word, "When")
    yield Statement("adjunct", f"{ask} {asked} {head}", rest[match.start() + 1 :])


def _split_lead(body: str) -> tuple[str, str]:
    """A sentence as its leading condition or purpose and its main clause; ("", "") if it cannot be told."""
    if not re.match(grammar.LEAD, body):
        return "", body
    for comma in list(re.finditer(r", (?:then )?", body))[:2]:
        lead, main = body[: comma.start()], body[comma.end() :]
        if re.match(r"For (?:example|instance)\b|(?:If|When) (?:only for|so|not|any)\b", lead):
            return "", ""
        if 3 <= len(lead.split()) <= 20 and not re.match(r"(?:and|or|but|which|who|provided|including|as)\b", main):
            return lead, main
    return "", ""


def _aim(lead: str) -> str:
    """Of "To do x": "do x"; "" of another lead."""
    for to in ("In order to ", "To "):
        if lead.startswith(to):
            return lead.removeprefix(to)
    return ""


def _by_hand(main: str) -> re.Match[str] | None:
    """Of "click Edit to change a rule": the act, and its aim."""
    match = _AIMS.fullmatch(main)
    is_act = match and re.match(r"(?:click|press|select|choose|open|run|type|enter|go|tap|set)\b", match["act"], re.I)
    return match if match and is_act and _is_phrase(match["act"]) else None


def _is_phrase(text: str) -> bool:
    return len(text.split()) > 1 and not grammar.FINITE.search(text)


def _without_adverb(rest: str) -> str:
    return re.sub(r"^(?:also|then|therefore|thereafter|thus|however|always|first|only|either|both),? ", "", rest)


def _small(lead: str) -> str:
    return lead[0].lower() + lead[1:]


def _is_odd(text: str) -> bool:
    """Whether brackets or quotation marks are open, or the text was set in columns or has blanks to fill in."""
    unpaired = any(text.count(a) != text.count(b) for a, b in (("(", ")"), ("“", "”")))
    return unpaired or text.count('"') % 2 == 1 or text.count("`") % 2 == 1 or grammar.ODD.search(text) is not None


def _own_name(document: str) -> str:
    """What a document calls itself ("This Endorsement Agreement" -> "Endorsement Agreement"); "" if it does not."""
    named = (match for match in grammar.NAMED_SELF.finditer(document) if match["name"][0].isupper())
    match = next(named, None) or grammar.NAMED_AT_HEAD.search(document[:_HEAD])
    name = " ".join(match["name"].split()) if match else ""
    return name if any(c.islower() for c in name) else name.title()
