"""Questions made from statements: what is asked, with which words it is answered, and what is left alone."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import dspy
import pytest

from synth_dspy.core.executor import Executor
from synth_dspy.core.knowledge import Candidate, Item
from synth_dspy.domains.documents.contract_synthesis import DOCUMENTS, PATTERNS
from synth_dspy.domains.documents.roundtrip import OneAnswer
from synth_dspy.domains.documents.statements import StatementQuestions
from synth_dspy.domains.documents.synthesizer import Synthesizer
from synth_dspy.domains.documents.units import StatementUnit
from synth_dspy.synthesis.demonstrations import Choice
from synth_dspy.synthesis.pipeline import synthesise


def asked(text: str) -> dict[str, str]:
    return {made.question: made.answer for made in StatementQuestions(text, DOCUMENTS.patterns).of(text)}


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        (
            "If the badge is lost, visitors must tell the front desk.",
            "What must visitors do if the badge is lost?",
            "tell the front desk",
        ),
        (
            "When the alarm rings, leave the building by the nearest stairs.",
            "What should you do when the alarm rings?",
            "leave the building by the nearest stairs",
        ),
        ("To reset a password, open the settings page.", "How do you reset a password?", "open the settings page"),
        (
            "Tenants shall return the keys to the agent within five days after the end of the lease.",
            "Within what period shall tenants return the keys to the agent?",
            "five days after the end of the lease",
        ),
        (
            "Records must be kept in the archive for at least seven years.",
            "For how long must records be kept in the archive?",
            "at least seven years",
        ),
        (
            "Guests must give notice at least 30 days before the first night.",
            "How long before the first night must guests give notice?",
            "at least 30 days",
        ),
        (
            "The tenant shall pay the landlord a monthly rent of $900.",
            "How much shall the tenant pay the landlord?",
            "$900",
        ),
        ("Singers pay the hall €120 to borrow a piano.", "How much do singers pay the hall to borrow a piano?", "€120"),
        ("The notice period is three months.", "How long is the notice period?", "three months"),
        (
            "Line managers are responsible for the yearly review.",
            "What are line managers responsible for?",
            "the yearly review",
        ),
        ("The loan desk is located on the second floor.", "Where is the loan desk located?", "on the second floor"),
        (
            "A spike is a short experiment with one question.",
            "What is a spike?",
            "a short experiment with one question",
        ),
        (
            "Managers may refuse a request for leave if the team is short of staff.",
            "Under what condition may managers refuse a request for leave?",
            "if the team is short of staff",
        ),
        (
            "The travel policy covers trips of more than one day.",
            "What does the travel policy cover?",
            "trips of more than one day",
        ),
        (
            "If a parcel is damaged in transit, the carrier refunds half of the price.",
            "What happens if a parcel is damaged in transit?",
            "the carrier refunds half of the price",
        ),
        (
            "The Amount field allows guests to enter the price of a stay.",
            "What does the Amount field allow guests to do?",
            "enter the price of a stay",
        ),
        (
            "The tidy command removes empty folders, and the ``.marker`` is often empty.",
            "What does the tidy command remove?",
            "empty folders",
        ),
        (
            "- The event's name is stored in the HTTP header: `X-Event`.",
            "Where is the event's name stored?",
            "in the HTTP header: `X-Event`",
        ),
    ],
)
def test_a_sentence_is_turned_round(sentence: str, question: str, answer: str) -> None:
    # "tenants", "guests" and so on are written small somewhere in the document, and so in the question.
    document = f"{sentence} Some words: tenants, records, guests, singers, line, managers."
    made = {s.question: s.answer for s in StatementQuestions(document, DOCUMENTS.patterns).of(sentence)}
    assert made[question] == answer
    assert answer in sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "It must be returned within five days.",  # what?
        "The following forms must be signed before the visit.",
        "These rules are intended to protect visitors.",
        "Such notice shall be sent by registered mail before the term ends.",
        "The script removes the label.",  # which script?
        "No changes shall be made to the products.",
        "4.2 Payment The Buyer shall pay the fees if the goods are accepted.",  # with its caption
        "If the badge is lost, tell the front desk;",  # an item of a list
        "You should see below what to do if the page is empty.",
        "The fee is set forth in Schedule B.",
        "He or she may bring a guest if the host agrees.",
        "Sellers shall not, during the term and for ten months after it, sell bolts in the town.",
        "Small guests are looked after by the house.",
        "The keys shall be handed over at the desk within a week after the sale of the house.",
        "The company may end the lease at once if a guest is hurt.",
        "Workers will be paid for work done until then.",
        "Every step is a commit of the whole.",
        "Awards may be refused merely because the form is late.",
        "A shared line fosters trust but requires steady talks between singers.",
        "If some records should not be shared with managers, a list can be written.",
        "If you run a process manager like systemd, check there.",
        "You will not be able to open your records if you forget it.",
        "Some records require attention and require you to act on a record.",
        "You can use a separate line for your singers if you prefer.",
        "The web page is a lot snappier for all guests.",
        "The actual location depends on the system of your guests.",
        "If an external line is used for records, stop that container.",
        "If guests use the new menu, you may want to show managers the old one.",
        "Parkmaster includes a `.env` file.",
    ],
)
def test_what_is_not_understood_alone_is_left_alone(sentence: str) -> None:
    assert asked(sentence) == {}


def test_a_question_names_the_agreement_that_the_sentence_calls_this() -> None:
    text = (
        "This Endorsement Agreement is made today. This Agreement shall be governed by the laws of the State of Ohio."
    )
    assert asked(text)["Which law governs the Endorsement Agreement?"] == "the laws of the State of Ohio"
    assert not any("this" in question.lower() for question in asked(text))


def test_terms_and_parties_are_asked_for() -> None:
    text = (
        'This Supply Agreement is between Northern Bolts, Inc. (the "Seller") and others. '
        '"Net Price" means the list price less all discounts, including rebates.'
    )
    made = asked(text)
    assert made["Who is the Seller in the Supply Agreement?"] == "Northern Bolts, Inc."
    assert made["What does “Net Price” mean in the Supply Agreement?"] == "the list price less all discounts"


def test_a_heading_that_asks_is_answered_by_what_stands_below_it() -> None:
    made = asked("## How do I cancel an order?\nCall the shop before noon.")
    assert made["How do I cancel an order?"] == "Call the shop before noon"


def test_a_period_is_asked_for_once() -> None:
    made = asked("Guests must be registered within two days before or after the arrival.")
    assert made == {"Within what period must guests be registered?": "two days before or after the arrival"}


def test_an_option_is_asked_for_by_its_name() -> None:
    assert asked("* `--quiet`: Prints errors alone.") == {"What does `--quiet` do?": "Prints errors alone"}


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("The ``--port`` flag limits *the* **outer** range.", "What does the `--port` flag limit?", "the outer range"),
        (
            ":opt:`Pruning <prune>` requires [a list](x.md) of names.",
            "What does pruning require?",
            "a list of names",
        ),
        ("By default, the baker uses a sour dough.", "What does the baker use by default?", "a sour dough"),
        ("On Saturdays, the museum requires a ticket.", "What does the museum require on Saturdays?", "a ticket"),
        ("Note that the oven timer requires a fuse.", "What does the oven timer require?", "a fuse"),
        ("The default oven height is 40 cm.", "What is the default oven height?", "40 cm"),
        ("The Total box allows you to enter a sum.", "What does the Total box allow you to do?", "enter a sum"),
        ("When reading a list, click New to add a name.", "How do you add a name when reading a list?", "click New"),
        (".. option:: --dry=<yes>\n\nEnable a rehearsal.", "What does `--dry` do?", "Enable a rehearsal"),
        ("### `LOG_DIR`\nFolder of the log files.", "What is meant by `LOG_DIR`?", "Folder of the log files"),
        ("`LOG_DIR`\nFolder of the log files (default `/log`).", "What is the default of `LOG_DIR`?", "`/log`"),
        (
            "Is the pool heated?\n-------------------\nNo. The pool takes water from the lake.",
            "Is the pool heated?",
            "No. The pool takes water from the lake",
        ),
        ("Guests can use the following rooms:\n- bar\n- gym", "Which rooms can guests use?", "bar, gym"),
    ],
)
def test_a_manual_is_asked_for_what_it_states(text: str, question: str, answer: str) -> None:
    assert asked(text).get(question) == answer


@pytest.mark.parametrize(
    "text",
    [
        "A shared list fosters trust but requires regular talks.",
        "The web page contains a Recent Changes button.",
        "Some software removes empty folders.",
        "If some files should stay, a list of names can be created.",
        "To point the app at your server, open the settings page. Go to the server box.",
        "If you're running a process manager, check there.",
        "To get the concrete folder, run the program with a flag.",
        "If you want to be super detailed, you can create all kinds of rules.",
        "You will not recover the data of an account if you forget it.",
        "The place of the file depends on the system.",
        "Guests can use a wooden bench if you prefer.",
        "If you would like to switch rooms, the clerk is available at noon.",
        "If using an external database server, stop that container.",
        "Upon the launch of the catalogue, the territory will include Canada.",
        "How do I open the page from afar?\nThe page listens here alone, so you can only open it at home.",
    ],
)
def test_what_a_manual_says_too_little_about_is_left_alone(text: str) -> None:
    assert asked(text) == {}


def test_an_answer_ends_before_the_next_clause_though_its_subject_is_in_code() -> None:
    made = asked("Cleaning programs remove empty folders, and the `.keep` is often empty.")
    assert made["What do cleaning programs remove?"] == "empty folders"


@pytest.mark.parametrize(
    "text", ["The " + "big " * 20_000 + "dog.", "a, " * 20_000, "(" * 30_000, "A Bank, " * 9_000, "X" * 99_999 + "."]
)
def test_any_text_takes_linear_time(text: str) -> None:
    began = time.perf_counter()
    asked(text)
    assert time.perf_counter() - began < 20


def synthesizer(embed: Any, **more: Any) -> Synthesizer:
    return Synthesizer(PATTERNS, [], embed, abstention="", unanswerable=0.0, statement_share=1.0, **more)


TEXT = (
    "If the badge is lost, visitors must tell the front desk. Desks are booked by sending a message to the office. "
    "Most desks are free."
)


def test_statements_are_written_without_the_teacher(embedder: Any) -> None:
    made = synthesise(
        [Item("i", "page", TEXT)], synthesizer(embedder.embed, written=False), [], executor=Executor(1), limit=9
    )
    assert {example.question: example.answer for example in made.kept} == {
        "What must visitors do if the badge is lost?": "tell the front desk",
        "How are desks booked?": "by sending a message to the office",
    }
    assert all(example.spans[0] in TEXT for example in made.kept)


def test_a_question_that_two_sentences_answer_is_not_asked(embedder: Any) -> None:
    both = [Item("i", "page", TEXT), Item("j", "page", "If the badge is lost, visitors must pay a fee.")]
    questions = {
        unit.statement.question for unit in synthesizer(embedder.embed).plan(both, 9) if isinstance(unit, StatementUnit)
    }
    assert questions == {"How are desks booked?"}


def test_every_rule_comes_first_once(embedder: Any) -> None:
    many = " ".join(
        f"If the {name} is lost, visitors must tell the desk of {name}." for name in ("card", "key", "pass")
    )
    units = synthesizer(embedder.embed).plan([Item("i", "page", f"{many} {TEXT}")], 2)
    assert {unit.statement.rule for unit in units if isinstance(unit, StatementUnit)} == {"condition", "adjunct"}


def test_what_another_sentence_speaks_of_too_has_no_one_answer() -> None:
    sentences = ["Visitors must sign the book.", "The book that visitors must sign is red.", "Doors close at six."]
    judge = OneAnswer(lambda group: sentences)
    unit = StatementUnit("u", "page", "", "", Choice("", 0.0, ()), next(iter(StatementQuestions("", {}).of(TEXT))))

    def candidate(question: str, source: str) -> Candidate[Any]:
        return Candidate("c", unit, {"question": question, "references": ["x"], "source": source}, "")

    assert not judge(candidate("What must visitors sign?", sentences[0])).keep
    assert judge(candidate("When do doors close?", sentences[2])).keep
    assert judge(replace(candidate("What must visitors sign?", ""), fields={"question": "q", "references": []})).keep


def test_only_words_of_the_text_answer() -> None:
    example = dspy.Example(text=TEXT)
    for made in StatementQuestions(example.text, PATTERNS).of(example.text):
        assert re.search(re.escape(made.answer), TEXT)
