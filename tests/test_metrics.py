"""Metrics: exact match, token F1, retrieval, abstention."""

from __future__ import annotations

import math

import dspy
import pytest

from synth_dspy.evaluation import metrics


def example(*references: str, spans: tuple[str, ...] = ()) -> dspy.Example:
    return dspy.Example(question="When does it end?", references=list(references), spans=list(spans))


def prediction(answer: str = "", *passages: str) -> dspy.Prediction:
    return dspy.Prediction(answer=answer, passages=list(passages))


@pytest.mark.parametrize(
    ("answer", "score"),
    [("March 3, 2021", 1.0), ("the march 3 2021.", 1.0), ("March 4, 2021", 0.0), ("", 0.0)],
)
def test_exact_match_takes_the_best_reference_and_minds_no_case_or_punctuation(answer: str, score: float) -> None:
    assert metrics.exact_match(example("3/3/2021", "March 3, 2021"), prediction(answer)) == score


def test_token_f1_is_the_best_over_references() -> None:
    predicted = prediction("the laws of Delaware")
    assert metrics.token_f1(example("Delaware"), predicted) == pytest.approx(2 * (1 / 3) / (1 / 3 + 1))
    assert metrics.token_f1(example("New York", "laws of Delaware"), predicted) == 1.0
    assert metrics.token_f1(example("New York"), predicted) == 0.0


def test_an_abstention_earns_no_token_f1_from_shared_words() -> None:
    silent = prediction("The agreement does not state the governing law of the agreement.")
    assert metrics.token_f1(example("the governing law of the agreement is Swedish law"), silent) == 0.0
    assert metrics.token_f1(example("The agreement does not state a law."), silent) > 0.5
    assert metrics.token_f1(example("Swedish law"), dspy.Prediction(answer="Swedish law", abstained=True)) == 0.0


def test_repeated_words_do_not_raise_f1() -> None:
    assert metrics.token_f1(example("Delaware"), prediction("Delaware Delaware Delaware")) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "answer",
    [
        "The contract is silent.",
        "Not specified.",
        "The agreement does not say when it ends.",
        "There is no such clause in this contract.",
        "The term is not stated in the agreement.",
        "No provision on renewal.",
        "N/A",
        "I don't know.",
    ],
)
def test_abstentions_are_recognised(answer: str) -> None:
    assert metrics.abstains(answer)
    assert metrics.abstention(example(), prediction(answer)) == 1.0
    assert metrics.exact_match(example(), prediction(answer)) == 1.0
    assert metrics.abstention(example("2021"), prediction(answer)) == 0.0
    assert metrics.token_f1(example("2021"), prediction("")) == 0.0


@pytest.mark.parametrize(
    "answer",
    [
        "March 3, 2021",
        "No.",
        "",
        "Neither party may assign this Agreement without consent.",
        "The contract does not say so in section 2, but section 9 sets March 3, 2021.",
        "I don't know whether it is Delaware.",
        "Licensee shall not disclose Confidential Information that is not specified in Schedule A, nor any "
        + "word " * 30,
    ],
)
def test_answers_are_no_abstentions(answer: str) -> None:
    assert not metrics.abstains(answer)
    assert metrics.abstention(example("x"), prediction(answer)) == 1.0
    assert metrics.abstention(example(), prediction(answer)) == 0.0


def test_retrieval_counts_gold_spans_among_passages_white_space_aside() -> None:
    spanned = example("x", spans=("ends on\n March 3", "laws of  Delaware"))
    passages = ("Nothing here.", "It ends  on March 3 of the year.", "more")
    assert metrics.retrieval_recall(spanned, prediction("", *passages)) == 0.5
    assert metrics.retrieval_mrr(spanned, prediction("", *passages)) == 0.5
    assert metrics.retrieval_recall(spanned, prediction()) == 0.0
    assert metrics.retrieval_mrr(spanned, prediction()) == 0.0
    assert math.isnan(metrics.retrieval_mrr(example("x"), prediction()))


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("EUR 3.50 per accident", "EUR 350 per accident", False),
        ("10:30", "1030", False),
        ("-5 days", "5 days", False),
        ('"-5 days"', "5 days", False),
        ("\N{MINUS SIGN}5 days", "-5 days", True),
        ("-$5", "$5", False),
        ("5-10 days", "510 days", False),
        ("5-10 days", "5\N{EN DASH}10 days", True),
        ("1/2", "12", False),
        ("3,50 EUR", "350 EUR", False),
        ("3,50 EUR", "3.50 EUR", True),
        ("1,00,000 rupees", "100000 rupees", True),
        ("12/03/2020", "12-03-2020", True),
        ("$1,000.00", "$1,000", True),
        ("4.100", "4.1", False),
        ("non-compete", "noncompete", True),
        ("1.5 days.", "1.5 days", True),
        ("5,000 (five thousand)", "5000 five thousand", True),
        ("- the lessee", "The lessee!", True),
    ],
)
def test_a_number_keeps_its_point_and_its_sign(answer: str, reference: str, same: bool) -> None:
    assert (metrics.exact_match(example(reference), prediction(answer)) == 1.0) is same
    assert (metrics.token_f1(example(reference), prediction(answer)) == 1.0) is same
