"""Writing questions about contracts: what can be asked for, and how the teacher is asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from eval.metrics import ABSTENTION

from synth_dspy.corpus.retrieval import Retriever
from synth_dspy.synthesis.decontaminate import Decontaminated
from synth_dspy.synthesis.dedup import NearDuplicate
from synth_dspy.synthesis.filters import AsksForKind, Grounded, WellFormed, common_words
from synth_dspy.synthesis.roundtrip import Place, Relevance, RetrievalRoundTrip, ReverseQuery, Silent, SpanRoundTrip
from synth_dspy.synthesis.spans import beside, excerpt, find_spans
from synth_dspy.synthesis.synthesizer import SAMPLING, Synthesizer, sentences_of
from synth_dspy.task import Candidate, Filter, Resources

_MONTH = "(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_NUMBER = (
    "(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fourteen|fifteen|eighteen|twenty|thirty|forty|"
    "fifty|sixty|seventy|eighty|ninety|hundred)"
)
_NUMBERS = rf"(?:{_NUMBER}(?:[- ](?:and )?{_NUMBER})*(?:\s*\(\d+\))?|\d+)"
_PLACE = r"[A-Z][\w'’.-]+(?: (?:and|of|the) [A-Z][\w'’.-]+| [A-Z][\w'’.-]+){0,3}"
_FIRM = (
    r"(?:Inc\.?|LLC|L\.L\.C\.|Ltd\.?|Limited|Corp\.?|Corporation|Company|Cooperative|GmbH|AG|AB|B\.V\.|N\.V\.|S\.A\.|S\.L\.|"
    r"SAS|SARL|L\.P\.|LLP|plc|PLC|Pte\.? Ltd\.?|N\.A\.|INC\.?|LTD\.?|CORP\.?|CORPORATION|COMPANY)"
)

PATTERNS = {
    "date": re.compile(
        rf"\b{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}\b|\b\d{{1,2}}(?:st|nd|rd|th)?\s+(?:day\s+of\s+)?{_MONTH},?\s+\d{{4}}\b"
    ),
    "amount": re.compile(
        r"(?:\b(?:US|CAD|USD|EUR|GBP|CHF|SEK|SGD|AUD|NOK|DKK)\s?[$€£]?\s?|[$€£]\s?)\d(?:[\d,.’']*\d)?(?:\s(?:million|billion))?"
        rf"|\b(?:{_NUMBERS})(?:-half)?\s(?:percent|per cent)(?:\s\(\d+(?:\.\d+)?%\))?|\b\d+(?:\.\d+)?\s?%"
    ),
    "period": re.compile(
        rf"\b{_NUMBERS}[\s-]+(?:(?:business|calendar|working|consecutive)\s+)?(?:day|week|month|year)s?\b(?! of (?:{_MONTH}))", re.I
    ),
    "law": re.compile(
        rf"\blaws? of (?:the )?(?P<answer>(?:State|Commonwealth|Province|Republic) of {_PLACE}|{_PLACE})"
    ),
    "party": re.compile(
        rf"(?P<answer>(?:[A-ZÀ-Þ][\w&'’-]*,? ){{1,5}}{_FIRM})(?=[\W]|$)"
    ),
}  # fmt: skip

ASKS = {
    "date": re.compile(r"\bwhen\b|\bdates?\b|\bday\b|\b(?:until|till|since|from) w", re.I),
    "amount": re.compile(
        r"\bhow (?:much|many|large|high|big|far)\b|\bamounts?\b|\bsums?\b|\bfees?\b|\bprices?\b|\bpercent|\brates?\b|\bshare\b|"
        r"\bcosts?\b|\blimit|\bcap\b|\bmaximum\b|\bminimum\b|\bleast\b|\bmost\b|\bdiscount\b|\broyalt|\bcommission\b|"
        r"\binsur|\bcover|\bpaid\b|\bpays?\b|\bpenalty\b|\bvalue\b|\bwhat .* (?:rent|deposit|bonus|interest|payment)",
        re.I,
    ),
    "period": re.compile(
        r"\bhow (?:long|much (?:notice|time|advance)|many \w*\s?(?:days?|weeks?|months?|years?)|often|soon|early|far)\b|"
        r"\bperiods?\b|\bterm\b|\bnotice\b|\btime\b|\bduration\b|\blength\b|\bwhat .*(?:days|months|years|warranty|deadline)\b|"
        r"\bwithin (?:what|which|how)|\bwhen\b",
        re.I,
    ),
    "law": re.compile(r"\blaws?\b|\bstate|\bcountry|\bprovince|\bjurisdiction|\bgovern", re.I),
    "party": re.compile(r"\bwho|\bwhich\b|\bcompany\b|\bname|\bparty\b|\bparties\b|\bfirm\b", re.I),
}  # fmt: skip


def contract_synthesizer(resources: Resources, free: bool = False) -> Synthesizer:
    """The module that writes questions about contracts.

    Args:
        resources: the seeds and the embedder are used; the teacher is set on the module by whoever runs it.
        free: let the teacher choose what to ask about a chunk; for capable teachers.
    """
    return Synthesizer(
        PATTERNS,
        resources.seeds,
        resources.embedder.embed,
        abstention=ABSTENTION,
        free=free,
        samples=3,
        checks=_checks(resources),
        seed=resources.seed,
    )


def contract_filters(resources: Resources) -> list[Filter]:
    """What a candidate must pass, cheapest first."""
    embed = resources.embedder.embed
    teacher = contract_synthesizer(resources)
    teacher.set_lm(resources.teacher)

    def ask(candidate: Candidate) -> str:
        fields = candidate.fields
        return teacher.ask(str(fields["source"]), str(fields["answer"]), candidate.item.meta["choice"], rollout_id=99, **SAMPLING)

    filters = [*_checks(resources), Relevance(embed, 0.3)]
    if resources.retriever is not None:
        document = _documents(resources.retriever)
        filters += [
            RetrievalRoundTrip(resources.retriever, resources.words),
            SpanRoundTrip(lambda group: _places(document(group)), embed),
            Silent(embed, lambda group: sentences_of(document(group)), 0.5),
        ]
    filters += [NearDuplicate(embed, resources.seeds), Decontaminated(resources.held_out, embed)]
    return [*filters, ReverseQuery(ask, embed, 0.5)]


def _checks(resources: Resources) -> list[Filter]:
    common = common_words((example.group, example.question) for example in resources.seeds)
    document = _documents(resources.retriever) if resources.retriever is not None else None
    return [WellFormed(), AsksForKind(ASKS), Grounded(common, document)]


def _documents(retriever: Retriever) -> Callable[[str], str]:
    """A document's id to its text."""

    @lru_cache(maxsize=256)
    def text(document: str) -> str:
        return "\n".join(chunk.text for chunk in retriever.index.chunks(document)[0])

    return text


def _places(text: str) -> list[Place]:
    return [
        Place(span.kind, span.text, beside(text, span.start, span.end), excerpt(text, span.start, span.end))
        for span in find_spans(text, PATTERNS)
    ]
