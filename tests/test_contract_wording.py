"""Wording: questions about clauses get the clauses' language, other questions are left alone."""

from __future__ import annotations

import pytest

from synth_dspy.domains.documents.contract_wording import contract_wording


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which state's law governs the contract?", "construed in accordance with the laws"),
        ("May the agent sell for our competitors? Is there a non-compete?", "competing business"),
        ("What insurance does the carrier need?", "commercial general liability"),
        ("Can either side terminate without cause?", "for any reason or no reason"),
        ("How much notice prevents renewal?", "automatically renew"),
        ("Can the customer audit the books?", "inspect and examine"),
        ("Who are the parties?", "by and between"),
    ],
)
def test_topics(question: str, expected: str) -> None:
    assert expected in contract_wording(question)


@pytest.mark.parametrize("question", ["What is the name of the contract?", "How tall is the tower?", ""])
def test_other_questions_are_left_alone(question: str) -> None:
    assert contract_wording(question) == ""


def test_topics_do_not_run_into_each_other() -> None:
    assert "warrants" not in contract_wording("What insurance must a party maintain?")
    assert "renew" not in contract_wording("Does the license extend to the licensee's affiliates?")
    assert "solicit, induce" not in contract_wording("May a party solicit the other's customers?")
