"""The plain adapter: what the model sees, and what comes of its reply."""

from __future__ import annotations

import dspy
import pytest
from dspy.utils import DummyLM
from dspy.utils.exceptions import AdapterParseError

from synth_dspy.models.adapter import PlainAdapter


class Answer(dspy.Signature):
    """Answer from the passages."""

    passages: str = dspy.InputField()
    the_question: str = dspy.InputField()
    answer: str = dspy.OutputField()


def test_prompt_is_instructions_lines_and_turns() -> None:
    demos = [
        {"passages": "One.\nTwo.", "the_question": "How many?", "answer": "two"},
        {"the_question": "Unanswered?"},  # a demonstration without its output shows nothing
    ]
    messages = PlainAdapter().format(Answer, demos, {"passages": "Three.", "the_question": "And now?"})
    assert [(message["role"], message["content"]) for message in messages] == [
        ("system", "Answer from the passages."),
        ("user", "Passages:\nOne.\nTwo.\nThe Question: How many?"),
        ("assistant", "two"),
        ("user", "Passages: Three.\nThe Question: And now?"),
    ]


def test_training_rows_are_what_is_served() -> None:
    inputs = {"passages": "Three.", "the_question": "How many?"}
    row = PlainAdapter().format_finetune_data(Answer, [], inputs, {"answer": "three"})
    assert row["messages"][:-1] == PlainAdapter().format(Answer, [], inputs)
    assert row["messages"][-1] == {"role": "assistant", "content": "three"}


def test_reply_is_taken_word_for_word() -> None:
    adapter = PlainAdapter()
    assert adapter.parse(Answer, '  "two" [[ ## x ## ]]\n') == {"answer": '"two" [[ ## x ## ]]'}
    assert adapter.parse(Answer, "Answer: two") == {"answer": "two"}
    with pytest.raises(AdapterParseError):
        adapter.parse(Answer, "Answer:  ")


def test_programs_run_on_it() -> None:
    adapter = PlainAdapter()
    with dspy.context(lm=DummyLM([{"answer": "two"}], adapter=adapter), adapter=adapter):
        assert dspy.Predict(Answer)(passages="One. Two.", the_question="How many?").answer == "two"


def test_several_outputs_are_refused() -> None:
    with pytest.raises(ValueError, match="one output field"):
        PlainAdapter().format(dspy.Signature("a -> b, c"), [], {"a": "x"})
