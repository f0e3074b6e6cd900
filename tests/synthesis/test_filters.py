"""Every filter keeps what it should keep and says why it rejects the rest."""

from __future__ import annotations

import re
from typing import Any

import pytest

from synth_dspy.core.knowledge import Candidate, Item
from synth_dspy.domains.documents.roundtrip import AnswerRoundTrip, Place, ReverseQuery, Silent, SpanRoundTrip
from synth_dspy.synthesis.cues import Cues
from synth_dspy.synthesis.decontaminate import Decontaminated
from synth_dspy.synthesis.dedup import NearDuplicate
from synth_dspy.synthesis.filters import AsksForKind, Grounded, TopicInSource, WellFormedQuestion, common_words

TEXT = "The lease begins on 1 May 2020 and ends on 30 April 2025. Tenant pays $900 a month."


def candidate(question: str, answer: str = "30 April 2025", kind: str = "date", **fields: Any) -> Candidate:
    row = {
        "question": question,
        "answer": answer,
        "references": [answer],
        "spans": [TEXT],
        "document": "lease",
        "answer_type": kind,
        "source": TEXT,
        **fields,
    }
    return Candidate(f"{question}|{answer}", Item("chunk", "lease", TEXT), row)


def unanswerable(question: str) -> Candidate:
    return candidate(question, "The contract is silent.", "none", references=[], spans=[], source="")


@pytest.mark.parametrize(
    ("question", "why"),
    [
        ("When does the lease end?", ""),
        ("On what date does the lease end?", ""),
        ("The lease ends on a date.", "not one question"),
        ("When does it end? And why?", "not one question"),
        ("Lease end date please?", "does not begin as a question does"),
        ("When then?", "too short or too long"),
        ("When does the the lease end?", "repeats itself"),
        ("What ends the lease of the lease of the lease of the house?", "repeats itself"),
        ("Which lease ends on April 30, 2025?", "contains the answer"),
        ("What ends in 2025 on the last day?", "contains the answer"),
    ],
)
def test_well_formed(question: str, why: str) -> None:
    verdict = WellFormedQuestion()(candidate(question))
    assert (verdict.keep, verdict.why) == (not why, why)


def test_asks_for_the_kind_of_its_answer() -> None:
    judge = AsksForKind({"date": re.compile(r"\bwhen\b|\bdate\b", re.I)})
    assert judge(candidate("When does the lease end?")).keep
    rejected = judge(candidate("Who pays the rent?"))
    assert not rejected.keep
    assert rejected.why.startswith("does not ask for its answer: ")
    assert judge(candidate("Who pays the rent?", "Tenant", "party")).keep  # no pattern for parties: not judged


def test_source_must_speak_of_what_is_asked() -> None:
    judge = TopicInSource(Cues({"ends": (r"\bend", r"\bend|expir")}))
    assert judge(candidate("When does it end?", source="It expires on 30 April 2025.")).keep
    assert not judge(candidate("When does it end?", source="It begins on 1 May 2020.")).keep
    assert judge(candidate("When does it begin?", source="It begins on 1 May 2020.")).keep


def test_grounded() -> None:
    judge = Grounded(frozenset({"contract"}), max_unsupported=0.0)
    assert judge(candidate("When does the lease contract end?")).keep
    assert judge(candidate("When does the warranty end?")).why == "invented words: warranty"
    assert judge(candidate("When does the lease end?", "30 April 2026")).why == "answer not in the text"
    assert judge(candidate("When does the lease end?", "")).why == "no answer"
    assert judge(candidate("When do the 7 leases end?")).why == "invented number: 7"
    assert judge(unanswerable("What is the warranty period?")).keep
    whole = Grounded(frozenset(), lambda group: f"A warranty is given in the {group}.", max_unsupported=0.5)
    assert whole(candidate("When does the warranty end?")).keep


def test_common_words_are_those_of_several_groups() -> None:
    assert "contract" in common_words([("a", "When does the contract end?"), ("b", "Who signed the contract?")])
    assert "contract" not in common_words([("a", "When does the contract end?"), ("a", "Who signed the contract?")])


def test_question_must_lead_to_its_own_answer(embedder: Any) -> None:
    places = [
        Place("date", "1 May 2020", "The lease begins on 1 May 2020", "The lease begins on 1 May 2020"),
        Place("date", "30 April 2025", "and ends on 30 April 2025", "The lease ends on 30 April 2025"),
    ]
    judge = SpanRoundTrip({"lease": places}.__getitem__, embedder.embed)
    assert judge(candidate("When does the lease begins?", "1 May 2020")).keep
    rejected = judge(candidate("When does the lease begins?", "30 April 2025"))
    assert not rejected.keep
    assert rejected.why == "leads to another answer: 1 May 2020"


def test_answers_must_agree() -> None:
    judge = AnswerRoundTrip(lambda candidate: "on April 30, 2025")
    assert judge(candidate("When does the lease end?")).score == 1.0
    assert not judge(candidate("When does the lease begin?", "1 May 2020")).keep


def test_reverse_query(embedder: Any) -> None:
    judge = ReverseQuery(lambda c: "When does the lease end?", embedder.embed, 0.7)
    assert judge(candidate("When does this lease end?")).keep
    assert judge(candidate("Who pays the rent?")).why == "asks something else: When does the lease end?"


def test_silent_document(embedder: Any) -> None:
    judge = Silent(embedder.embed, lambda group: ["Tenant pays the rent monthly.", "The lease ends in April."], 0.5)
    assert judge(unanswerable("Which warranty covers machines?")).keep
    assert not judge(unanswerable("Tenant pays the rent monthly?")).keep
    assert judge(candidate("Tenant pays the rent monthly?")).keep  # answerable: not its business


def test_only_sentences_that_speak_of_it_can_answer(embedder: Any) -> None:
    cues = Cues({"audits": (r"audit", r"audit|books"), "pays": (r"\bpay", r"\bpay")})
    sentences = ["Who may audit? The landlord.", "Tenant pays the rent monthly."]
    rent = unanswerable("Who audits the rent the tenant pays monthly?")
    assert not Silent(embedder.embed, lambda group: sentences, 0.5, cues)(rent).keep  # speaks of one of the two topics
    assert not Silent(embedder.embed, lambda group: sentences[1:], 0.5, cues)(rent).keep
    audit = unanswerable("Which tenant audits the rent monthly?")
    assert not Silent(embedder.embed, lambda group: sentences[1:], 0.5)(audit).keep  # near, although of another thing
    assert Silent(embedder.embed, lambda group: sentences[1:], 0.5, cues)(audit).keep


def test_a_question_about_something_else_is_not_asked_of_a_silent_document(embedder: Any) -> None:
    sentences = ["Tenant pays the rent monthly.", "The lease ends in April."]
    nonsense = candidate("Which watch maker may the athlete endorse?", "Silent.", references=[])
    plausible = candidate("Who insures the lease of the tenant?", "Silent.", references=[])
    judge = Silent(embedder.embed, lambda group: sentences, 0.9, shared=0.5)
    assert judge(nonsense).why == "about something else"
    assert judge(plausible).keep


def test_near_duplicates_are_judged_within_a_document_and_in_order(embedder: Any) -> None:
    judge = NearDuplicate(embedder.embed, [{"group": "lease", "question": "Who pays the rent?"}])
    first, again = candidate("When does the lease end?"), candidate("When does the lease end ?")
    assert judge.ordered
    assert judge(first).keep
    assert judge(again).why == "asked already: When does the lease end?"
    assert not judge(candidate("Who pays the rent?")).keep
    elsewhere = Candidate("x", Item("chunk", "other", TEXT), first.fields)
    assert judge(elsewhere).keep


def test_decontamination_counts_by_kind_of_match(embedder: Any) -> None:
    clause = "This lease shall be governed by and construed in accordance with the laws of Ohio in all respects"
    held_out = [{"question": "Which law governs?", "answer": "Ohio", "spans": [clause]}]
    judge = Decontaminated(held_out, embedder.embed, n=5, share=0.5, cosine=0.97)
    assert judge(candidate("Which law governs?", spans=[clause.upper()])).why.startswith("exact: ")
    assert judge(candidate("What law applies here?", spans=[f"{clause}, except section nine"])).why.startswith(
        "ngram: "
    )
    turned = " ".join(reversed(clause.split()))
    assert judge(candidate("Which law governs?", spans=[turned])).why.startswith("embedding: ")
    # The same question of another document is what training is for.
    assert judge(candidate("Which law governs?", spans=["Swiss law is applicable."])).keep
    assert Decontaminated([], embedder.embed)(candidate("Which law governs?")).keep
