"""Questions made from statements by rule: the words of a sentence, turned round, ask for a part of it.

"Collaborators must wait 48 hours before landing a change." becomes "What must collaborators do before landing a
change?". The rules only use closed classes of English words (auxiliaries, conjunctions, prepositions), so they need no
parser and suit any subject (Heilman and Smith, "Good Question!", NAACL 2010, with a parser). What a rule cannot turn
round safely, or what points outside the sentence ("it", "such", "as follows"), is left alone: long documents have
enough other sentences. Well-formed questions with right answers come of it at no cost, where a small model writes few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from synth_dspy.domains.documents.chunks import sentences
from synth_dspy.synthesis.text import content

LONGEST_ANSWER = 25
LONGEST_DEFINITION = 40
_LONGEST_SUBJECT = 12

_VOID = frozenset(
    "it its this that these those there they them he she him his her we us our ours i my me such here one some "
    "others same above below following foregoing previous preceding former latter herein hereof hereby "
    "hereunder hereto thereof thereto therein thereunder so aforesaid either neither which who whom whose what".split()
)
"""Words that point at something outside the sentence: a question with one of them is not understood alone."""
_POINTING = re.compile(
    r"\b(?:below|above|following|as follows|foregoing|here|aforementioned|aforesaid|e\.g|i\.e)\b|[\[\]|<>{}*#•]|https?:|\.\."
)
_LEAD = (
    r"(?:If|When|Whenever|Before|After|Once|Upon|Unless|Until|During|Within|While|Without|Except|In case of|"
    r"In the event (?:of|that)|For|In order to|To)\b"
)
_MODAL = r"(?:must|shall|should|may|can|will)"
_BE = r"(?:is|are|was|were|(?:must|shall|should|may|can|will) be)"
_MODAL_CLAUSE = re.compile(rf"(?P<subject>.+?) (?P<modal>{_MODAL})(?P<no> not)?,? (?P<rest>[a-z][^?]*)")
_BE_CLAUSE = re.compile(rf"(?P<subject>.+?) (?P<be>{_BE}) (?P<no>not )?(?P<rest>[^?]*)")
_CAPTIONED = re.compile(
    r"(?<![`\"“]) (?:The|If|A|An|Each|Any|All|This|In|Upon|When|Such|No)\b|\d\.\d|(?:\b[A-Z]{2,} ){2}[A-Z]{2,}|^[A-Za-z]+(?:ing|ion) of [A-Z]|^(?:[A-Z][a-z]+ ){3,}[A-Z]"
)
"""Signs that a subject holds the caption before it too, which the conversion of a page ran into the sentence."""
_FINITE = re.compile(
    r"\b(?:is|are|was|were|has|have|had|do|does|did|must|shall|should|may|can|cannot|could|would|will|which|who|that|if|"
    r"when|where|because|and/or|provided|means)\b|[,;:()]",
)
_DETERMINERS = frozenset("The A An Each Any All Every Both Your".split())
_STARTS_AS_CLAUSE = re.compile(
    rf"(?:{_LEAD}|(?:As|Although|Though|Since|Because|While|Where|In|On|At|By|For|From|With|Under|But|And|Or|Also|Then|However|"
    r"Note|Not|Please|Nothing|None|No one|Nobody|Provided|Notwithstanding|Subject|Instead|Otherwise|Therefore|Thus|"
    r"Additionally|Furthermore|Moreover|Finally|First|Next|Such|Who|What|Which|How|Whether|That|Of|Examples?|Let)\b|\d|[$€£])",
    re.I,
)
_IMPERATIVES = (
    r"(?:add|apply|ask|avoid|book|bring|build|call|change|check|choose|clear|click|close|collect|complete|configure|confirm|"
    r"consider|consult|contact|copy|create|delete|disable|do not|download|enable|ensure|enter|execute|feel free|fill|find|follow|give|go|"
    r"include|inform|insert|install|keep|leave|log|make|move|notify|open|pass|pay|press|provide|put|read|rebuild|record|"
    r"refer|remove|replace|report|request|restart|return|review|run|save|see|select|send|set|sign|specify|start|stop|"
    r"submit|switch|take|tell|test|try|turn|type|update|upgrade|upload|use|verify|visit|wait|write)\b"
)
_VERBS = (
    "allow apply cause check consist contain control cover create define depend describe determine enable ensure generate "
    "grant handle include indicate install list need offer own prevent produce protect provide receive refer remove replace "
    "represent require return show specify store support warrant"
).split()
_TAKES = frozenset(
    [*_VERBS, "acquire", "appoint", "assign", "bear", "bring", "carry", "collect", "deliver", "disclose", "display", "furnish",
     "implement", "inspect", "keep", "maintain", "manage", "obtain", "pay", "perform", "retain", "return", "supply"]
)  # fmt: skip
_FORMS = {form: verb for verb in _VERBS for form in (verb, f"{verb[:-1]}ies" if verb == "apply" else f"{verb}s")}
_PARTICLES = {"apply": "to", "consist": "of", "depend": "on", "refer": "to"}
_PRESENT = re.compile(
    rf"(?P<subject>.+?) (?:(?:also|only|[a-z]+ly) )?(?P<verb>{'|'.join(sorted(_FORMS, key=len, reverse=True))})"
    r"(?: (?P<particle>to|of|on))? (?P<rest>[^?]*)"
)
_ADJUNCT = re.compile(
    r" (?P<word>(?:only |but only )?(?:if|when|unless|until|before|after|once|upon)|because|so that|in order to|"
    r"by(?= [a-z]+ing\b)) "
)
_WHETHER = frozenset("see check determine know ask asks decide verify even as or and whether specify long soon".split())
_TO_DO = (
    r"(?:required|allowed|expected|entitled|obliged|obligated|permitted|encouraged|intended|authorized|authorised|able|"
    r"free|supposed|designed|advised|asked|forbidden|prohibited from|responsible for)"
)
_PARTICIPLE = r"(?:[a-z-]+ed|responsible|subject|liable|eligible|given|made|known|built|held|sent|paid|written|shown|set|due)"
_PLACES = re.compile(
    r"(?:located|documented|described|listed|found|stored|kept|published|recorded|installed|saved|shown|posted|hosted|"
    r"displayed|available|archived|deposited)$"
)
_IDIOM = re.compile(
    r"(?:accordance|writing|addition|order|case|general|particular|full|force|effect|part|turn|good faith|(?:the|any) event|"
    r"connection|respect|advance|place|favou?r|behalf|lieu|whole|time|such|fact|no event|a timely|compliance|the same)\b"
)
_OBJECT = re.compile(
    r"(?:(?:an?|the|any|all|each|every|its|their|your|his|both|either|one|two|three|other)\b|[A-Z0-9`$€£]|[a-z]+s\b)(?! reason)"
)
_NEXT_CLAUSE = re.compile(rf"[,;] (?:and|but|so|provided|however|in which case)(?= (?:[\w'’-]+ ){{1,6}}?(?:{_MODAL}|{_BE}|has|have|that)\b)|; ")
_CLAUSE_IN = re.compile(rf"\b(?:and|but|or) (?:(?!to\b|that\b|which\b|who\b)[\w'’-]+ ){{1,4}}(?:{_MODAL}|is|are|has|responsible)\b|\b(?:this|these) [a-z]")
_LAW = re.compile(r"(?P<law>(?:the )?(?:(?:internal|substantive) )?laws? of (?:the )?[A-Z]\w+(?: (?:of|and|the|[A-Z]\w+))*)")
_IDLE = re.compile(r"set forth|time to time|follows\b|described|provided|specified|stated|defined")
_QUOTES = "\"“”„'‘’`"
_DEFINED = re.compile(
    r"(?:(?:The|the) (?:term|word|expression) )?[\"“”]+(?P<term>[^\"“”]{2,60}?)[,.]?[\"“”]+,? "
    r"(?:(?:shall|will) mean|means?|(?:shall |will )?refers? to|is defined as|stands for),? (?P<rest>.+)"
)
_ROLE = re.compile(r"\((?:the |hereinafter(?: referred to as)?,? (?:the )?|referred to (?:herein )?as (?:the )?)?[\"“]"
                   r"(?P<role>[A-Z][a-z]+(?: [A-Z][a-z]+)?)[,.]?[\"”]\)")  # fmt: skip
_FIRM_END = r"(?:Inc|LLC|L\.L\.C|Ltd|Limited|Corp|Corporation|Company|GmbH|AG|AB|B\.V|N\.V|S\.A|LLP|L\.P|plc|PLC|INC|LTD|CORP|Bank)\b\.?"
_FIRM = re.compile(rf"(?P<firm>[A-Z][\w&'’.-]*(?:,? (?:[A-Z&][\w&'’.-]*|of|and|the|de))*?,? {_FIRM_END})")
_GENERIC_ROLES = frozenset("Agreement Contract Effective Date Term Services Products Product Territory Software".split())
_SELF = re.compile(r"\b[Tt]his (?P<noun>[A-Z][a-z]+)\b")
_CALLED = (
    "Agreement|Contract|Lease|Licen[cs]e|Policy|Handbook|Guide|Manual|Plan|Addendum|Amendment|Code|Charter|Procedure|"
    "Standard|Report|Statement|Specification"
)
_NAMED_SELF = re.compile(rf"\b[Tt](?:his|HIS) (?P<name>(?:[A-Z][\w’'&-]+,? (?:and |of |for )?){{1,6}}?(?:{_CALLED}|{_CALLED.upper()})(?: (?:{_CALLED}|{_CALLED.upper()}))*\b)")
_NAMED_AT_HEAD = re.compile(rf"\b(?P<name>(?:[A-Z][A-Z&-]+ (?:AND |OF |FOR )?){{1,5}}?(?:{_CALLED.upper()})\b)")
_HEAD = 800
_MARKUP = (
    (re.compile(r"!?\[([^\]]+)\]\([^)]*\)"), r"\1"),
    (re.compile(r"\[([^\]]+)\]\[[^\]]*\]"), r"\1"),
    (re.compile(r"\*\*|__(?=\w)|(?<=\w)__"), ""),
)
_ITEM = re.compile(r"^(?:[#>*•·▪●-]+\s+|\(?[a-z0-9]{1,3}[.)]\s+|\d{1,2}(?:\.\d{1,2})*\.?\s+(?=[A-Z]))+")
_CAPTION = re.compile(r"^(?:[A-Z][\w&’'/-]*(?: (?:and|of|or|to|the|for|on|in|by|[A-Z][\w&’'/-]*)){0,6}\.|[A-Z][A-Z ]{3,}[.:])\s+(?=[A-Z])")
_LABEL = re.compile(
    r"[*•·-] +(?:`(?P<code>[^`]+)`|\*\*(?P<name>[^*:]{3,50}):?\*\*):? *(?:[-–—:] +)?(?P<text>[A-Z][^:]+)"
)
_DEFINITE = re.compile(
    r"^W\w+ (?:must|shall|should|may|can|will|do|does|is|are|was|were) the [a-z]+ (?:not )?[a-z]+(?: (?:to|of|on|by|for|with|from|into|as|be \w+(?: \w+)?|to do))?\?$"
)
"""Asks about "the issue", "the script": one that an earlier sentence has spoken of."""
_ASKING = re.compile(
    r"(?:what|which|who|whom|whose|when|where|why|how|is|are|do|does|did|can|may|must|should|will)\b", re.I
)


@dataclass(frozen=True, slots=True)
class Statement:
    """A question, the words of a sentence that answer it, and that sentence, both as they are written.

    Attributes:
        rule: which rule made it.
        kind: of the answer, where it is one of those that patterns are given for; else "".
    """

    rule: str
    question: str
    answer: str
    sentence: str
    kind: str = ""


class StatementQuestions:
    """Makes questions from the statements of one document.

    Args:
        document: the whole text, which tells the document's name and which words are written small.
        patterns: spans by kind, of which `amount`, `period` and `date` are used.
        noun: what a document is called.
    """

    def __init__(self, document: str, patterns: Mapping[str, re.Pattern[str]], noun: str = "document") -> None:
        self.noun = noun
        self.name = _own_name(document)
        self._small = frozenset(re.findall(r"(?<![\w'’])[a-z][\w'’-]*", document))
        self._names = frozenset(re.findall(r"(?<=[a-z,] )[A-Z][\w'’-]*", document))
        self._spans = {kind: patterns[kind] for kind in ("amount", "period", "date") if kind in patterns}

    def of(self, text: str) -> list[Statement]:
        """Those that the sentences of a chunk of the document give, at most one of each rule and sentence."""
        made: dict[str, Statement] = {}
        for line in text.split("\n"):
            if (label := _LABEL.fullmatch(line)) and len(sentences(label["text"])) == 1:
                ask = f"What does `{label['code']}` do" if label["code"] else f"What does the {self.noun} say about “{label['name']}”"
                if statement := self._statement("label", ask, label["text"].rstrip("."), line, ""):
                    made.setdefault(statement.question, statement)
        lines = text.split("\n")
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            for statement in [*self._asked_by_heading(line, following), *self._of_line(line)]:
                made.setdefault(statement.question, statement)
        return list(made.values())

    def _of_line(self, line: str) -> Iterator[Statement]:
        whole = True  # the sentence before ended: this one is no part of a list
        for written in sentences(line):
            ended = written.rstrip("\"'”’)")[-1:] in (".", "!", "?")
            if whole and ended and written[-1:] == "." and len(written.split()) <= 90:
                yield from self._of_sentence(written)
            whole = ended

    def _of_sentence(self, written: str) -> Iterator[Statement]:
        body = _CAPTION.sub("", _ITEM.sub("", written)).strip()[:-1]
        if not body or not (body[0].isupper() or body[0] in _QUOTES) or _is_odd(body):
            return
        found = [*self._definitions(body), *self._roles(body), *self._instruction(body)]
        for lead, main in _leads(body):
            turned = list(self._of_clause(lead, main))
            found += turned or _outcome(lead, main)
        for rule, question, answer, kind in found:
            if statement := self._statement(rule, question, answer, written, kind):
                yield statement

    # Rules. Each gives (name, question without "?", answer, kind).

    def _of_clause(self, lead: str, main: str) -> Iterator[tuple[str, str, str, str]]:
        if lead and re.match(_IMPERATIVES, main):
            if len(content(lead)) < 2:
                return
            if lead.startswith(("To ", "In order to ")):
                yield "instruction", f"How do you {lead.removeprefix('In order to ').removeprefix('To ')}", main, ""
            elif not lead.startswith(("Without", "Except", "Within")):
                yield "instruction", f"What should you do {_lower(lead)}", main, ""
            return
        if (match := _MODAL_CLAUSE.fullmatch(main)) and (subject := self._subject(match["subject"])):
            modal, no, rest = match["modal"], match["no"] or "", _without_adverb(match["rest"])
            yield from self._action(lead, subject, modal, no, rest)
        if (match := _BE_CLAUSE.fullmatch(main)) and not match["no"] and (subject := self._subject(match["subject"])):
            yield from self._state(lead, subject, match["be"], match["rest"])
        if (match := _PRESENT.fullmatch(main)) and (subject := self._subject(match["subject"])):
            yield from self._habit(lead, subject, match)

    def _action(self, lead: str, subject: str, modal: str, no: str, rest: str) -> Iterator[tuple[str, str, str, str]]:
        after = f" {_lower(lead)}" if lead else ""
        if lead and rest.startswith("be "):
            if span := self._tail(rest, "period", r"for(?: an?(?: \w+)? (?:period|term) of)?"):
                yield "period", f"For how long {modal} {subject}{no} {span[0]}{after}", span[1], "period"
            return
        if lead:
            if re.match(r"(?:see|find|notice|need|want|get|have|also)\b", rest):
                return
            if lead.startswith(("To ", "In order to ")) and subject == "you":
                yield "instruction", f"How {modal} you{no} {lead.removeprefix('In order to ').removeprefix('To ')}", rest, ""
            else:
                yield "condition", f"What {modal} {subject}{no} do {_lower(lead)}", rest, ""
            return
        asked = f"{modal} {subject}{no}"
        if span := self._tail(rest, "period", r"within"):
            yield "period", f"Within what period {asked} {span[0]}", span[1], "period"
        if span := self._tail(rest, "period", r"for(?: an?(?: \w+)? (?:period|term) of)?"):
            yield "period", f"For how long {asked} {span[0]}", span[1], "period"
        if match := self._measured(rest):
            yield "lead time", f"How long {match['side']} {match['event']} {asked} {match['head']}", match["span"], "period"
        if amount := self._paid(rest):
            yield "amount", f"How much {asked} {amount[0]}", amount[1], "amount"
        yield from _adjuncts(asked, rest)
        yield from self._object(asked, rest)

    def _habit(self, lead: str, subject: str, match: re.Match[str]) -> Iterator[tuple[str, str, str, str]]:
        verb, particle, rest = _FORMS[match["verb"]], match["particle"] or "", match["rest"]
        do = "does" if match["verb"] != verb else "do"
        ends_as_noun = subject.split()[-1] in ("the", "a", "an", "of", "in", "for", "with", "to", "by", "and", "or")
        if ends_as_noun or (do == "do" and subject != "you" and not subject.endswith("s")):
            return
        if particle != _PARTICLES.get(verb, "") and not (verb == "need" and particle == "to"):
            return
        after = f" {_lower(lead)}" if lead else ""
        if verb == "need" and particle:
            if lead and not rest.startswith("be "):
                yield "condition", f"What {do} {subject} need to do{after}", rest, ""
        elif verb in ("grant", "offer", "allow") and re.match(r"[A-Z]\w+ (?:an?|the|to|all|any)\b", rest):
            return
        elif not lead and not particle and _ADJUNCT.search(rest):
            yield from _adjuncts(f"{do} {subject}", f"{verb} {rest}")
        elif not _FINITE.match(rest) and not re.match(r"(?:of|in|on|at|by|and|or|to|for|from|that|is|are|whether|how|what|if) ", rest):
            yield "habit", f"What {do} {subject} {verb} {particle}".rstrip() + after, rest, ""

    def _instruction(self, body: str) -> Iterator[tuple[str, str, str, str]]:
        """"Run x to update y" tells how y is updated."""
        if not re.match(_IMPERATIVES, body, re.I) or not body[0].isupper():
            return
        if match := re.fullmatch(r"(?P<act>[^,;:]+?),? (?P<when>(?:before|after|if|when|once|until|unless|while) .+)", body):
            if len(match["act"].split()) > 1 and not re.match(r"when (?:necessary|possible)|if (?:necessary|possible|any)", match["when"]) and match["act"].split()[-1] not in _WHETHER:
                yield "instruction", f"What should you do {match['when']}", match["act"], ""
        elif (match := re.fullmatch(r"(?P<act>[^,;:]+?) (?:in order )?to (?P<aim>[a-z]+ (?:an?|the|your|all|any|[a-z]+s) .+)", body)) and (
            len(match["act"].split()) > 1 and not re.match(r"(?:Make sure|Ensure|Refer|Go|Do not|See|Ask|Try|Tell)\b", body)
        ):
            yield "instruction", f"How do you {match['aim']}", match["act"], ""

    def _state(self, lead: str, subject: str, be: str, rest: str) -> Iterator[tuple[str, str, str, str]]:
        after = f" {_lower(lead)}" if lead else ""
        asked = _inverted(be, subject)
        if not lead and " " not in be and re.match(_PARTICIPLE, rest):
            yield from _adjuncts(asked, rest)
        for kind, word in (("amount", "How much"), ("period", "How long"), ("date", "When")):
            pattern = self._spans.get(kind)
            measure = pattern and re.fullmatch(
                rf"(?:equal to |limited to |set at |for )?(?:an? (?:period|term|amount|sum|total) of )?"
                rf"(?P<span>(?:at least |at most |up to |no more than |not more than )?(?:{pattern.pattern}))"
                rf"(?P<rest>(?: (?:of|from|after|per|for|each|a) .*)?)", rest, pattern.flags)  # fmt: skip
            if measure and not pattern.search(measure["rest"]):  # type: ignore[union-attr]
                yield "measure", f"{word} {asked}{after}", measure["span"] + measure["rest"], kind
                return
        if match := re.fullmatch(rf"(?:\w+ly )?(?P<what>{_TO_DO}) (?:to )?(?P<act>[a-z].*)", rest):
            to = "" if match["what"].endswith((" from", " for")) else " to do"
            if not to:
                yield "duty", f"What {asked} {match['what']}{after}", match["act"], ""
            elif rest.startswith((f"{match['what']} to ", "also ")) and not match["act"].startswith("be "):
                yield "duty", f"What {asked} {match['what']}{to}{after}", match["act"], ""
            return
        if match := re.fullmatch(rf"(?P<what>(?:\w+ly )?{_PARTICIPLE}) (?P<to>to|by|for|from|with|into|as|in|at|on|of|until|within) "
                                 r"(?P<object>.+)", rest):  # fmt: skip
            yield from self._passive(asked, after, match["what"], match["to"], match["object"])
            return
        if not lead and re.match(r"(?:an?|the|one of) [a-z]|to [a-z]+ ", rest) and be in ("is", "was", "are", "were"):
            named = " of " in subject if rest.startswith("to ") else _is_specific(subject) or rest.startswith("a")
            if named and not _adds_clause(rest):
                yield "definition", f"What {be} {subject}", rest, ""

    def _passive(self, asked: str, after: str, what: str, to: str, object_: str) -> Iterator[tuple[str, str, str, str]]:
        if _IDLE.match(object_) or _IDLE.match(what):
            return
        period, date = self._spans.get("period"), self._spans.get("date")
        if what == "governed" and (law := _LAW.search(object_)):
            yield "law", f"Which law governs {asked.split(' ', 1)[1].removesuffix(' be')}", law["law"], "law"
            return
        answer = f"{to} {object_}"
        if what == "used" and (to == "for" or (to == "to" and re.match(r"[a-z]+ (?!by\b)", object_))):
            yield "use", f"What {asked} used for{after}", object_ if to == "for" else answer, ""
        elif period and to in ("for", "within") and re.match(r"(?:an? (?:period|term) of )?" + period.pattern, object_, period.flags):
            yield "period", f"{'For how long' if to == 'for' else 'Within what period'} {asked} {what}{after}", object_, "period"
        elif date and to in ("on", "in", "until") and date.match(object_):
            yield "date", f"{'Until when' if to == 'until' else 'When'} {asked} {what}{after}", object_, "date"
        elif to in ("in", "at", "on"):
            if _PLACES.search(what) and not _IDIOM.match(object_):
                yield "place", f"Where {asked} {what}{after}", answer, ""
        elif to == "by" and re.match(r"[a-z]+ing ", object_):
            yield "means", f"How {asked} {what}{after}", answer, ""
        elif to == "by" and not object_.startswith(("and ", "or ")):
            who = "What" if what in ("governed", "caused", "determined", "followed", "bound") else "Who or what"
            yield "agent", f"{who} {asked} {what} by{after}", object_, ""
        elif to not in ("until", "within") and _OBJECT.match(object_) and "reference" not in asked.lower():
            yield "relation", f"What {asked} {what} {to}{after}", object_, ""

    def _definitions(self, body: str) -> Iterator[tuple[str, str, str, str]]:
        if match := _DEFINED.fullmatch(body):
            meaning = re.split(r",? (?:including|(?<!of )whether|in each case)\b|; ", match["rest"])[0].rstrip(" ,(")
            where = f" in the {self.name}" if self.name else ""
            yield "meaning", f"What does “{match['term']}” mean{where}", meaning, ""

    def _roles(self, body: str) -> Iterator[tuple[str, str, str, str]]:
        end = 0
        for match in _ROLE.finditer(body):
            before, end = body[end : match.start()], match.end()
            firms = list(_FIRM.finditer(before))
            if len(firms) == 1 and self.name and match["role"].split()[0] not in firms[0]["firm"].split() and not set(match["role"].split()) & _GENERIC_ROLES:
                yield "role", f"Who is the {match['role']} in the {self.name}", firms[0]["firm"].strip(), "party"

    def _asked_by_heading(self, line: str, following: str) -> Iterator[Statement]:
        """A heading that is a question is answered by what stands below it."""
        heading = _ITEM.sub("", line).strip().strip("*_")
        first = next(iter(sentences(following)), "")
        if heading.endswith("?") and _ASKING.match(heading) and first.endswith(".") and not _ITEM.match(following):
            answer = first[:-1]
            if statement := self._statement("heading", heading[:-1], answer, first, ""):
                yield statement

    # Parts

    def _object(self, asked: str, rest: str) -> Iterator[tuple[str, str, str, str]]:
        verb, _, thing = rest.partition(" ")
        gives = re.match(r"(?:[A-Z]\w+ (?:an?|the|to|all|any|its|their|with)\b|(?:\S+ ){1,6}with )", thing)
        if verb in _TAKES and _OBJECT.match(thing) and not gives and not _ADJUNCT.search(rest):
            yield "object", f"What {asked} {verb}", thing, ""

    def _subject(self, subject: str) -> str:
        """A subject as it is written inside a question; "" where it points elsewhere, or is a clause."""
        words = subject.split()
        if not words or words[0] in ("No", "no") or subject[0] in _QUOTES[:4] or len(words) > _LONGEST_SUBJECT or _STARTS_AS_CLAUSE.match(subject) or _FINITE.search(subject) or _CAPTIONED.search(subject):
            return ""
        if words[-1] in ("and", "or", "of", "to", "also", "thus", "then", "not", "also") or words[0] in ("-", "–") or any(pattern.match(subject) for pattern in self._spans.values()):
            return ""
        if len(words) == 1 and words[0].capitalize() in _DETERMINERS:
            return ""
        if words == ["You"] or words == ["you"]:
            return "you"
        first = words[0]
        in_text = first.lower() in self._small
        small = first in _DETERMINERS or (in_text and (first not in self._names or words[-1].islower()))
        return " ".join([first.lower() if small and first[1:].islower() or first in ("A", "a") else first, *words[1:]])

    def _tail(self, rest: str, kind: str, before: str) -> tuple[str, str] | None:
        """The words before a span at the end of a predicate, and the span with the event that it is counted from."""
        pattern = self._spans.get(kind)
        match = pattern and re.fullmatch(
            rf"(?P<head>.+?) {before} (?P<span>(?:at least |up to |no more than |not more than )?(?:{pattern.pattern})(?: (?:of|after|from|following|before|prior to) .+)?)",
            rest, pattern.flags,
        )  # fmt: skip
        if not match or len(match["head"].split()) < 2 or _FINITE.search(match["head"]):
            return None
        return match["head"], match["span"]

    def _measured(self, rest: str) -> re.Match[str] | None:
        pattern = self._spans.get("period")
        match = pattern and re.fullmatch(
            rf"(?P<head>.+?) (?P<span>(?:at least|no later than|not later than|not less than|no less than) (?:{pattern.pattern}))"
            r" (?P<side>before|after) (?P<event>.+)", rest, pattern.flags)  # fmt: skip
        return match if match and len(match["head"].split()) > 1 and not _FINITE.search(match["head"]) else None

    def _paid(self, rest: str) -> tuple[str, str] | None:
        pattern = self._spans.get("amount")
        match = pattern and re.fullmatch(
            r"(?P<head>(?:pay|receive|reimburse|contribute|spend|deposit|invest|charge|cost)(?: [\w'’-]+){0,5}?) "
            rf"(?:an? (?:[\w-]+ ){{1,4}}of |the sum of )?(?P<span>{pattern.pattern})(?P<rest>.*)", rest)  # fmt: skip
        if not match or _FINITE.search(match["head"] + match["rest"]) or pattern.search(match["rest"]):  # type: ignore[union-attr]
            return None
        return match["head"] + match["rest"], match["span"]

    def _statement(self, rule: str, question: str, answer: str, written: str, kind: str) -> Statement | None:
        answer = _NEXT_CLAUSE.split(" ".join(answer.split()))[0].strip(" ,;")
        if _CLAUSE_IN.search(answer) and rule not in ("meaning", "heading", "definition", "adjunct"):
            return None
        question = self._with_name(_plain(question)) + "?"
        longest = LONGEST_DEFINITION if rule in ("meaning", "heading", "definition", "label") else LONGEST_ANSWER
        if not 1 <= len(answer.split()) <= longest or _POINTING.search(answer) or _is_odd(answer):
            return None
        asked = set(re.findall(r"[\w'’]+", question.lower().split(" ", 1)[1]))
        if (asked & _VOID or _DEFINITE.search(question) and rule in ("object", "habit", "relation", "duty")) or _POINTING.search(question) or _is_odd(question):
            return None
        if answer.split()[0].lower() in ("it", "and", "or", "they", "this", "these", "that", "those", "such", "he", "she"):
            return None
        if len(set(content(question))) < 2:
            return None
        return Statement(rule, question[0].upper() + question[1:], answer, written, kind)

    def _with_name(self, question: str) -> str:
        """A question about "this Agreement" names the agreement, where the document does."""
        last = self.name.split()[-1].lower() if self.name else ""
        return _SELF.sub(lambda m: f"the {self.name}" if m["noun"].lower() == last else m[0], question)


def _leads(body: str) -> Iterator[tuple[str, str]]:
    """A sentence as a leading condition or purpose and its main clause; a sentence without one as it is."""
    if not re.match(_LEAD, body):
        yield "", body
        return
    for comma in list(re.finditer(r", (?:then )?", body))[:2]:
        lead, main = body[: comma.start()], body[comma.end() :]
        if 3 <= len(lead.split()) <= 20 and not re.match(r"(?:and|or|but|which|who|provided|including|as)\b", main):
            yield lead, main
            return


def _outcome(lead: str, main: str) -> Iterator[tuple[str, str, str, str]]:
    wanted = re.search(r"\b(?:you (?:want|wish|would|need|like)|possible|necessary|any|so|applicable|appropriate)$|you want|you wish", lead)
    if re.match(r"(?:If|When|Once|After) (?!\w+ing\b)[^,]+$", lead) and len(lead.split()) > 3 and not wanted and _FINITE.search(main):
        starts = re.match(r"(?:an?|the|any|all|each|every|its|their|your|you|both)\b|[A-Z`]|[a-z-]+s\b", main)
        if starts and not _STARTS_AS_CLAUSE.match(main) and not re.match(r"(?:I|There|We)\b", main):
            yield "outcome", f"What happens {_lower(lead)}", main, ""


def _adjuncts(asked: str, rest: str) -> Iterator[tuple[str, str, str, str]]:
    match = _ADJUNCT.search(rest)
    if match is None:
        return
    head, word = rest[: match.start()], match["word"]
    if len(head.split()) < (1 if re.match(_PARTICIPLE, head) else 2 if head.startswith("be ") else 3) or head.split()[-1] in _WHETHER or _FINITE.search(head) or "upon request" in rest:
        return
    ask = {"because": "Why", "so that": "Why", "in order to": "Why", "by": "How"}.get(word, "When")
    if word.endswith(("if", "unless")):
        ask = "Under what condition"
    elif word == "until":
        ask = "Until when"
    yield "adjunct", f"{ask} {asked} {head.rstrip(',')}", rest[match.start() + 1 :], ""


def _inverted(be: str, subject: str) -> str:
    """"must be", "a report" -> "must a report be"."""
    first, _, second = be.partition(" ")
    return f"{first} {subject} {second}".strip()


def _without_adverb(rest: str) -> str:
    return re.sub(r"^(?:also|then|therefore|thereafter|thus|however|always|first|only|either|both|at all times),? ", "", rest)


def _lower(lead: str) -> str:
    return lead[0].lower() + lead[1:]


def _is_specific(subject: str) -> bool:
    return len(content(subject)) > 1 or bool(re.search(r"[`A-Z0-9]", subject))


def _adds_clause(rest: str) -> bool:
    return bool(re.search(r"(?:, (?:and|but|so) )|; ", rest))


def _is_odd(text: str) -> bool:
    """Whether brackets or quotation marks are open, or the text was set in columns or blanks to fill in."""
    pairs = (("(", ")"), ("“", "”"))
    unpaired = any(text.count(a) != text.count(b) for a, b in pairs) or text.count('"') % 2 or text.count("`") % 2
    return bool(unpaired or re.search(r"_{2,}|\t|\. ?\. ?\.|…|\[[^\]]*\]\(|[A-Z]{2,}(?: [A-Z]{2,}){3,}", text))


def _plain(text: str) -> str:
    for pattern, plain in _MARKUP:
        text = pattern.sub(plain, text)
    return " ".join(text.split())


def _own_name(document: str) -> str:
    """What a document calls itself ("This Endorsement Agreement" -> "Endorsement Agreement"); "" if it does not."""
    match = next((m for m in _NAMED_SELF.finditer(document) if m["name"][0].isupper()), None)
    match = match or _NAMED_AT_HEAD.search(document[:_HEAD])
    if match is None:
        return ""
    name = " ".join(match["name"].split())
    return name if any(c.islower() for c in name) else name.title()
