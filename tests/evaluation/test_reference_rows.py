"""What stands beside the arms: answers that are the same for every question, and DSPy's own adapter."""

from __future__ import annotations

from typing import Any

import dspy
import pytest
from scripted import scripted_lm

from synth_dspy.evaluation.reference_rows import trivial_answers, under_dspy_adapter
from synth_dspy.models.adapter import PlainAdapter


def example(answer: str, *references: str, **more: Any) -> dspy.Example:
    row = dspy.Example(question="?", answer=answer, references=list(references), origin="gold", **more)
    return row.with_inputs("question")


def test_trivial_answers_are_those_of_the_training_rows() -> None:
    rows = [example("Silent.")] * 2 + [example("No."), example("red", "red"), example("red", "red")]
    rows += [example(f"colour {i}", f"colour {i}") for i in range(10)]
    rows += [example("yes", "yes", answer_type="yes_no")] * 5
    silent, frequent = trivial_answers(rows)
    assert (silent.answer, frequent.answer) == ("Silent.", "red")
    prediction = silent.program(question="anything")
    assert (prediction.answer, prediction.abstained, prediction.passages) == ("Silent.", True, [])
    assert not frequent.program(question="anything").abstained


def test_answers_that_do_not_repeat_are_no_label() -> None:
    assert trivial_answers([example(f"colour {i}", f"colour {i}") for i in range(30)]) == []
    assert trivial_answers([]) == []
    rows = [example("synthetic", "synthetic").copy(origin="synthetic")] * 9 + [example("a", "a"), example("b", "b")]
    assert trivial_answers(rows) == []  # people's labels decide where there are some


class Asks(dspy.Module):
    def __init__(self, adapter: dspy.Adapter | None) -> None:
        super().__init__()
        self.adapter = adapter
        self.answer = dspy.Predict("question -> answer")

    def forward(self, question: str) -> dspy.Prediction:
        constraint = {"response_format": {"type": "json_object"}}
        with dspy.context(adapter=self.adapter):
            return self.answer(question=question, config=constraint)


def in_any_form(text: str) -> str:
    """A reply that DSPy's markers frame where the prompt asks for them."""
    return "[[ ## answer ## ]]\nsea\n[[ ## completed ## ]]" if "[[ ##" in text else "plain"


@pytest.mark.parametrize(
    ("adapter", "own", "theirs"),
    [
        (PlainAdapter(), "plain", "sea"),
        (None, "sea", "sea"),
        (dspy.ChatAdapter(), "sea", "sea"),
    ],
)
def test_the_baseline_is_asked_under_dspy_s_adapter_whatever_it_sets(
    adapter: dspy.Adapter | None, own: str, theirs: str
) -> None:
    program, lm = Asks(adapter), scripted_lm(in_any_form)
    program.set_lm(lm)
    program.answer.demos = [dspy.Example(question="Where?", answer="here")]
    reference = under_dspy_adapter("rag", program)
    assert program(question="Where does it end?").answer == own
    before = len(lm.engine.requests)
    assert reference.program(question="Where does it end?").answer == theirs
    first, second = lm.engine.requests[before - 1], lm.engine.requests[before]
    assert (reference.name, reference.most(20), reference.most(83)) == ("rag (DSPy's adapter)", 30, 42)
    skipped = reference.facts().skipped
    if own == theirs:  # the very same call, which a ledger answers, and a reason
        assert (first.messages, "DSPy's own already" in skipped) == (second.messages, True)
    else:
        assert (len(second.messages) > 2, second.config.response_format, skipped) == (True, None, "")
    assert program(question="Where does it end?").answer == own
