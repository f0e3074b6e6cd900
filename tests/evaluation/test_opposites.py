"""Answers that one small word turns into the opposite of their reference."""

from __future__ import annotations

import pytest

from synth_dspy.evaluation.reference_judge.features import compare_all


def opposed(answer: str, *references: str) -> float:
    compared = compare_all("What does it say?", references, answer, lambda norm: 1.0)
    assert compared is not None
    return compared.values["opposed"]


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("either party", "neither party"),
        ("Both parties bear the costs.", "Neither of the parties bears the costs."),
        ("Any assignment requires consent in writing.", "No assignment requires consent in writing."),
        ("All invoices are payable in euros.", "None of the invoices is payable in euros."),
        ("Each side insures its own goods.", "Neither side insures its own goods."),
        ("The buyer may inspect the goods.", "The buyer must not inspect the goods."),
        ("The agent shall keep records of sales.", "The agent shall not keep records of sales."),
        ("The agent shall not keep records of sales.", "The agent is free to keep records of sales."),
        ("The tenant may always renew the lease.", "The tenant may never renew the lease."),
        ("It may be assigned without the consent of the owner.", "It may be assigned with the consent of the owner."),
        ("an irrevocable, worldwide licence to print it", "a revocable, worldwide licence to print it"),
        ("a non-exclusive right to sell it", "an exclusive right to sell it"),
    ],
)
def test_one_small_word_makes_the_opposite(reference: str, answer: str) -> None:
    assert opposed(answer, reference) == 1.0
    assert opposed(reference, reference) == opposed(f"As agreed, {reference}", reference) == 0.0


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        ("Neither party may assign it without consent.", "No party may assign it without consent."),
        ("The agent may not keep records of sales.", "The agent is forbidden to keep records of sales."),
        (
            "It may not be assigned without the consent of the owner.",
            "It may be assigned only with the owner's consent.",
        ),
        ("a non-exclusive right to sell it", "a nonexclusive right to sell it"),
        ("The buyer gives at least 30 days of notice.", "The buyer gives no less than 30 days of notice."),
        ("The buyer pays the costs of the audit.", "The buyer and not only the seller pays the costs of the audit."),
        ("in Corinth, Mississippi", "It took place inCorinth, Mississippi."),
        ("Fine Fail", "Fianna Fail"),
        (
            "The agent shall not compete with the buyer directly or indirectly.",
            "We read in the text that the agent must not compete with the buyer directly or indirectly.",
        ),
        ("Delaware", "It is not Delaware."),  # how a mention is stated is for the features of the words around it
    ],
)
def test_other_words_need_not_mean_the_opposite(reference: str, answer: str) -> None:
    assert opposed(answer, reference) == 0.0


def test_another_reference_may_be_the_one_that_is_repeated() -> None:
    assert opposed("Neither party may assign it.", "Either party may assign it.", "Neither party may assign it.") == 0.0


@pytest.mark.parametrize(
    ("question", "reference", "answer", "denied"),
    [
        ("To whom may the tenant sublet?", "Ormond Ltd", "The tenant may not sublet to Ormond Ltd.", 1.0),
        ("To whom may the tenant sublet?", "Ormond Ltd", "The tenant may sublet to Ormond Ltd.", 0.0),
        (
            "To whom may the tenant sublet?",
            "Ormond Ltd",
            "The tenant may not keep pets; it may sublet to Ormond Ltd.",
            0.0,
        ),
        ("To whom may the tenant not sublet?", "Ormond Ltd", "The tenant may not sublet to Ormond Ltd.", 0.0),
        ("To whom may the tenant sublet?", "Ormond Ltd", "Ormond Ltd, but the tenant may not sublet twice.", 0.0),
        ("Who sings the song Cannot Wait?", "Ada Lind", 'The song "Cannot Wait" was sung by Ada Lind.', 0.0),
    ],
)
def test_an_answer_may_deny_what_is_asked(question: str, reference: str, answer: str, denied: float) -> None:
    compared = compare_all(question, [reference], answer, lambda norm: 1.0)
    assert compared is not None
    assert compared.values["opposed_question"] == denied


@pytest.mark.parametrize(
    ("question", "reference", "answer", "cited"),
    [
        ("Which law governs the lease?", "Oregon", "Oregon law, by the Residential Tenancy Act.", 1.0),
        ("Which law governs the lease?", "Oregon", "Oregon law, under Section 12 of the Civil Code.", 1.0),
        ("Which law governs the lease?", "Oregon", "The law of Oregon, says Section 12.", 0.0),
        ("Which law governs the lease?", "the Residential Tenancy Act", "The Residential Tenancy Act.", 0.0),
        ("Which act abolished it?", "in 1833", "The Slavery Abolition Act did so in 1833.", 0.0),
    ],
)
def test_an_answer_about_a_contract_cites_a_law_that_nobody_named(
    question: str, reference: str, answer: str, cited: float
) -> None:
    compared = compare_all(question, [reference], answer, lambda norm: 1.0)
    assert compared is not None
    assert compared.values["cites_law"] == cited


@pytest.mark.parametrize(
    ("reference", "answer", "twice"),
    [
        ("EUR 50", "EUR 53 for a full day in Japan. EUR 50 for a full day in Japan.", 1.0),
        ("EUR 50", "EUR 50 for a full day in Japan. EUR 50 for a full day in Japan.", 0.0),
        ("EUR 50 or EUR 53", "EUR 53 for a full day in Japan. EUR 50 for a full day in Japan.", 0.0),
        ("EUR 50", "EUR 50 for a full day in Japan; EUR 40 for a half day there.", 0.0),
        (
            "the head of department",
            "Form 12 goes to the head of department. Form 13 goes to the head of department.",
            0.0,
        ),
    ],
)
def test_an_answer_that_says_one_sentence_with_two_figures_contradicts_itself(
    reference: str, answer: str, twice: float
) -> None:
    compared = compare_all("What is paid a day in Japan?", [reference], answer, lambda norm: 1.0)
    assert compared is not None
    assert compared.values["contradicts_itself"] == twice


@pytest.mark.parametrize(
    ("references", "answer", "offered"),
    [
        (["Delaware"], "Delaware or Ohio", 1.0),
        (["Delaware"], "Ohio / Delaware", 1.0),
        (["Delaware"], "- Ohio\n- Delaware", 1.0),
        (["60 days"], "60 days; 90 days", 1.0),
        (["60 days"], "60 days or two months", 0.0),
        (["60 days"], "60 days; notice 90 days", 0.0),
        (["60 days"], "60 days. Payment is due within 20 days.", 0.0),
        (["Delaware"], "Delaware, United States", 0.0),
        (["Delaware"], "Delaware or its courts", 0.0),
        (["Delaware or Ohio"], "Delaware or Ohio", 0.0),
        (["Delaware", "Ohio"], "Delaware and Ohio", 0.0),
        (["J. K. Rowling", "Rowling"], "J. K. Rowling", 0.0),
    ],
)
def test_a_reference_beside_other_names_or_figures_is_no_answer(
    references: list[str], answer: str, offered: float
) -> None:
    compared = compare_all("What is agreed?", references, answer, lambda norm: 1.0)
    assert compared is not None
    assert compared.values["offers_others"] == offered


@pytest.mark.parametrize(
    ("answer", "otherwise"),
    [
        ("3 years. The duties of confidence last 5 years.", 1.0),
        ("The term of the lease lasts 3 years. The duties of confidence last 5 years.", 1.0),
        ("5 years. The notice is 60 days.", 0.0),
        ("Rent is due within 10 days. The term of the lease is 5 years.", 0.0),
        ("The term of the lease is not 3 years but 5 years.", 0.0),
        ("It lasts 60 months. The duties of confidence last 5 years.", 0.0),
        ("2019: 3 years. 2020: 5 years.", 0.0),
    ],
)
def test_an_answer_that_gives_another_figure_first_answers_otherwise(answer: str, otherwise: float) -> None:
    compared = compare_all("How long does the term of the lease last?", ["5 years"], answer, lambda norm: 1.0)
    assert compared is not None
    assert compared.values["answers_otherwise_first"] == otherwise
