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
        ("Delaware", "It is not Delaware."),  # how a mention is stated is for the features of the words around it
    ],
)
def test_other_words_need_not_mean_the_opposite(reference: str, answer: str) -> None:
    assert opposed(answer, reference) == 0.0


def test_another_reference_may_be_the_one_that_is_repeated() -> None:
    assert opposed("Neither party may assign it.", "Either party may assign it.", "Neither party may assign it.") == 0.0
