"""Quantities: equal across units, different across currencies, and what is a bound on them."""

from __future__ import annotations

import pytest

from synth_dspy.evaluation.reference_judge.quantities import quantities, quantity_features, respell


@pytest.mark.parametrize(
    ("reference", "answer", "spelled"),
    [
        ("60 days", "It is two months.", "It is 60 days."),
        ("two years", "twenty-four months", "two years"),
        ("CAD 50,000", "50,000 Canadian dollars", "CAD 50,000"),
        ("€600", "EUR 600 per day", "€600 per day"),
        ("£1,250,000", "1.25 million pounds sterling", "£1,250,000"),
        ("one hundred eighty (180) days", "six months", "one hundred eighty (180) days"),
        ("60 days", "60 months", "60 months"),
        ("30 days", "30 business days", "30 business days"),
        ("$5 million", "5,000,000 Swiss francs", "5,000,000 Swiss francs"),
        ("Delaware", "two months in Delaware", "two months in Delaware"),
    ],
)
def test_an_equal_quantity_is_spelled_as_in_the_reference(reference: str, answer: str, spelled: str) -> None:
    assert respell(answer, reference) == spelled


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("less than 60 days", "<"),
        ("no less than 60 days", ">="),
        ("more than 60 days", ">"),
        ("at most 60 days", "<="),
        ("60 days or more", ">="),
        ("twice the 60 days", "x"),
        ("60 days", ""),
        ("before 3 March 2021", "<"),
    ],
)
def test_bounds(text: str, bound: str) -> None:
    assert [quantity.bound for quantity in quantities(text)] == [bound]


def test_a_bound_that_was_asked_for_is_no_conflict() -> None:
    assert quantity_features("What is the term?", "60 days", "less than 60 days")["bound_conflict"] == 1.0
    assert quantity_features("What is the least order?", "40", "at least 40")["bound_added"] == 0.0
    assert quantity_features("What is the term?", "40", "at least 40")["bound_added"] == 1.0
    assert quantity_features("How long?", "60 days", "60 months")["unit_conflict"] == 1.0
    both = quantity_features("How much?", "CAD 3,000,000", "30,000 CAD 3,000,000")
    assert (both["quantities_met"], both["quantities_alike"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("question", "reference", "answer", "conflict"),
    [
        ("How long is the notice?", "5 days", "-5 days", 1.0),
        ("How long is the notice?", "5 days", "It is minus five days.", 1.0),
        ("How much is the fee?", "$5", "The fee is -$5.", 1.0),
        ("How long is the notice?", "5 days", "- 5 days", 0.0),
        ("How much is the fee?", "$5", "Fee - $5", 0.0),
        ("How many days?", "10 days", "5 -10 days", 0.0),
        ("How cold is it?", "-4 degrees", "-4 degrees", 0.0),
        ("What was the result?", "a loss of $5", "-$5", 0.0),
        ("By how much did sales fall?", "5%", "-5%", 0.5),
    ],
)
def test_a_figure_below_zero_is_another_figure_unless_a_loss_is_meant(
    question: str, reference: str, answer: str, conflict: float
) -> None:
    assert quantity_features(question, reference, answer)["bound_conflict"] == conflict
