"""Contract QA as a program: what it says of a contract that is not there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from scripted import scripted_lm, scripted_resources

from programs.contract_qa import AnswerFromPassages, contract_qa
from synth_dspy import RAG, SetupError


class Cabinet:
    """A retriever over one contract."""

    def search(self, query: str, document: str | None, words: int) -> list[Any]:
        passage = SimpleNamespace(text="The law of Ohio governs.", score=1.0)
        return [passage] if document in (None, "lease") else []


def test_silence_is_only_said_of_contracts_that_are_there() -> None:
    lm = scripted_lm(lambda prompt: "Ohio")
    program = RAG(AnswerFromPassages)(scripted_resources(lm, retriever=Cabinet(), steps="off"))
    program.set_lm(lm)
    assert program(question="Which law?", document="lease").answer == "Ohio"
    assert program(question="Which law?").answer == "Ohio"
    with pytest.raises(ValueError, match="no document 'leese'"):
        program(question="Which law?", document="leese")


def test_categories_are_those_of_cuad() -> None:
    with pytest.raises(SetupError, match=r"add --task\.cuad"):
        contract_qa(categories="Parties")
