"""Plain facts are asked for in plain words; what a pattern only seems to fit is left alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from scripted import scripted_lm, scripted_resources

from synth_dspy.core.knowledge import Item
from synth_dspy.domains.documents.contract_synthesis import DOCUMENTS
from synth_dspy.domains.documents.statements import StatementQuestions
from synth_dspy.domains.documents.synthesizer import Synthesizer
from synth_dspy.domains.documents.units import SilentUnit


def asked(text: str) -> dict[str, str]:
    return {made.question: made.answer for made in StatementQuestions(text, DOCUMENTS.patterns).of(text)}


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        ("A late return costs 5 euros for each hour.", "How much does a late return cost for each hour?", "5 euros"),
        ("Students pay $60 a year.", "How much do students pay a year?", "$60"),
        ("A service takes two and a half hours.", "How long does a service take?", "two and a half hours"),
        ("The desk opens at 8:00 on weekdays.", "When does the desk open?", "at 8:00 on weekdays"),
        ("The pool is closed from October to April.", "When is the pool closed?", "from October to April"),
        ("The plan is published every second Monday.", "How often is the plan published?", "every second Monday"),
        ("The night shift is paid at 150 percent.", "At what rate is the night shift paid?", "150 percent"),
        ("The bus seats 19 people.", "How many people does the bus seat?", "19 people"),
        ("A bicycle needs a deposit of 150 euros.", "What deposit does a bicycle need?", "150 euros"),
        ("The shop keeps lost keys for six weeks.", "For how long does the shop keep lost keys?", "six weeks"),
        ("Drivers must be at least 21 years old.", "How old must drivers be?", "at least 21 years old"),
        ("The insurer is Nordlys Mutual.", "What is the name of the insurer?", "Nordlys Mutual"),
        ("The cover does not apply if the door was open.", "Under what condition does the cover not apply?",
         "if the door was open"),
        ("Dogs are not allowed in the dining room.", "Where are dogs not allowed?", "in the dining room"),
        ("You can reach the workshop on extension 417.", "How can you reach the workshop?", "on extension 417"),
        ("Rooms must be vacated by 11:00.", "By when must rooms be vacated?", "11:00"),
        ("Return the bicycle by 18:45.", "By when should you return the bicycle?", "18:45"),
        ("Report a theft to the police within 24 hours and send us the number.",
         "Within what period should you report a theft to the police?", "24 hours"),
        ("The offer stays for two weeks, and then it ends.", "For how long does the offer stay?", "two weeks"),
        ("Invitations are valid for seven days.", "For how long are invitations valid?", "seven days"),
        ("Payment is due at the end of each visit.", "When is payment due?", "at the end of each visit"),
        ("Dogs can go out one week after the second injection.", "When can dogs go out?",
         "one week after the second injection"),
        ("Fernhill Clinic is at 14 Mill Row.", "Where is Fernhill Clinic?", "at 14 Mill Row"),
        ("Fines stop growing once they reach £8 for an item.", "When do fines stop growing?",
         "once they reach £8 for an item"),
        ("You can renew a loan up to four times, unless it is reserved.", "How many times can you renew a loan?",
         "up to four times"),
        ("Only the account owner can cancel the plan.", "Who can cancel the plan?", "the account owner"),
        ("Error 41 means that your permission has expired.", "What does Error 41 mean?",
         "your permission has expired"),
        ("Weigh your cat once a month on the kitchen scales.", "How often should you weigh your cat?", "once a month"),
        ("Most office staff can work from home for up to three days a week.",
         "For how long can most office staff work from home?", "up to three days a week"),
        ("You can add up to ten sensors to the thermostat.", "How many sensors can you add to the thermostat?",
         "up to ten sensors"),
        ("Pairs meet about once a month for nine months.", "How often do pairs meet?", "about once a month"),
        ("Tours must be booked three days in advance.", "How far in advance must tours be booked?", "three days"),
    ],
)  # fmt: skip
def test_a_fact_is_asked_for(sentence: str, question: str, answer: str) -> None:
    assert asked(sentence)[question] == answer


def test_each_predicate_is_asked_for_alone() -> None:
    assert asked("A family ticket covers two adults and costs 150 euros.") == {
        "What does a family ticket cover?": "two adults",
        "How much does a family ticket cost?": "150 euros",
    }


def test_each_price_is_asked_for_alone() -> None:
    assert asked("A replacement costs £2.50 for adults and £1 for children. Cats cost £13 and rabbits £11.") == {
        "How much does a replacement cost for adults?": "£2.50",
        "How much does a replacement cost for children?": "£1",
        "How much do cats cost?": "£13",
        "How much do rabbits cost?": "£11",
    }


def test_an_answer_ends_where_the_sentence_says_something_else() -> None:
    made = asked(
        "Films are blocked between 3 pm and 6 pm because of the noise. Wheelchairs can be borrowed from the desk."
    )
    assert made["When are films blocked?"] == "between 3 pm and 6 pm"
    assert made["Where can wheelchairs be borrowed?"] == "from the desk"


def test_a_pronoun_stands_for_the_subject_before_it() -> None:
    text = "The harbour tour starts every Saturday. It lasts two hours."
    (made,) = (m for m in StatementQuestions(text, DOCUMENTS.patterns).of(text) if m.rule == "length")
    assert (made.question, made.answer) == ("How long does the harbour tour last?", "two hours")
    assert made.sentence == text  # without the sentence before it, nobody knows what lasts


@pytest.mark.parametrize(
    "sentence",
    [
        "It costs 5 euros.",
        "Other repairs take three days.",
        "User data must be kept by each party as confidential.",
        "The use of the marks does not create rights in the marks.",
        "We do not repair motors if they are old.",
        "You can cancel until 6 pm on the day before.",
        "Renewals have to be asked for five days before the end.",
        "New starters have 30 days.",
        "You may buy your old one once the disk is clean.",
        "Logs are sold in nets of about 8 kg.",
        "Security updates install themselves overnight.",
        "The price includes one vehicle.",
        "Create an account and confirm your address within 24 hours.",
        "Their sessions end within five minutes.",
        "Outside opening hours your call is passed to the hospital.",
        "Weight loss is the most important.",
        "To arrange one, write to the librarian.",
        "Do not make your pet sick unless a vet has said so.",
    ],
)
def test_what_only_looks_like_a_fact_is_left_alone(sentence: str) -> None:
    rules = {made.rule for made in StatementQuestions("", DOCUMENTS.patterns).of(sentence)}
    assert rules <= {"adjunct", "habit", "agent"}


def test_rows_of_a_table_are_asked_for_wherever_it_is_cut() -> None:
    table = ["| Work | Price |", "| --- | --- |", "| Chain | 29 euros |", "| Full service | 89 euros |", "| Bell | - |"]
    questions = StatementQuestions("\n".join(table), DOCUMENTS.patterns)
    assert not questions.of("\n".join(table[:2]))
    assert {made.question: made.answer for made in questions.of("\n".join(table[2:]))} == {
        "What does the table give for “Chain” under “Price”?": "29 euros",
        "What does the table give for “Full service” under “Price”?": "89 euros",
    }
    assert asked("a | b\nThe shop is open.") == {}


def test_unanswerable_questions_are_about_other_documents_of_the_same_corpus(embedder: Any) -> None:
    items = [Item("i", "desk", "The desk opens at 8:00."), Item("j", "tours", "A tour costs 9 euros.")]
    foreign = dspy.Example(
        id="x", group="leave", question="How long is the leave?", category="", references=[], spans=[]
    )
    made = Synthesizer(
        DOCUMENTS.patterns, [foreign], embedder.embed, abstention="Silent.", like_seeds=False, unanswerable=0.5,
        statement_share=1.0, written=False,
    )  # fmt: skip
    silent = {(unit.group, unit.like.question) for unit in made.plan(items, 4) if isinstance(unit, SilentUnit)}
    assert silent == {("desk", "How much does a tour cost?"), ("tours", "When does the desk open?")}


@pytest.mark.parametrize(("text", "like"), [("Leave lasts six weeks.", True), ("The loop trains.", False)])
def test_seeds_of_another_corpus_are_told_by_their_text(text: str, like: bool, embedder: Any) -> None:
    spans = ["Leave lasts six weeks."]
    seed = dspy.Example(
        id="x", group="training", question="How long is leave?", category="", answer="six weeks",
        references=["six weeks"], spans=spans, passages=spans[0],
    )  # fmt: skip
    retriever = SimpleNamespace(text=lambda group: text)
    resources = scripted_resources(
        scripted_lm(lambda prompt: ""), seeds=(seed,), embedder=embedder, retriever=retriever
    )
    assert DOCUMENTS.synthesizer(resources).like_seeds is like
