"""Traces and the rows made of them, with a student whose answers are written down here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy import lm15

from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.models.ledger_lm import LedgerEngine, LedgerLM
from synth_dspy.training.feedback import human_rows, read_feedback
from synth_dspy.training.rows import grpo_rows, kto_rows, need_both_labels, preference_rows, sft_rows
from synth_dspy.training.traces import Attempt, PredictorCall, Trace, collect, prompts


class Student:
    """Says of each sample what is written down for it, and counts how often it is asked."""

    supports_response_schema = False
    supports_function_calling = False
    supported_params = frozenset({"temperature", "max_tokens"})

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.asked = 0

    def complete(self, request: lm15.Request) -> lm15.Response:
        text = self.answers[self.asked % len(self.answers)]
        self.asked += 1
        message = lm15.Message.assistant([lm15.TextPart(text)])
        usage = lm15.Usage(input_tokens=1, output_tokens=1)
        return lm15.Response(id=None, model=request.model, message=message, finish_reason="stop", usage=usage)


class Capital(dspy.Signature):
    """Name the capital."""

    country: str = dspy.InputField()
    answer: str = dspy.OutputField()


class Program(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict(Capital)

    def forward(self, country: str) -> dspy.Prediction:
        with dspy.context(adapter=PlainAdapter()):
            return dspy.Prediction(answer=self.ask(country=country).answer)


class TwoSteps(dspy.Module):
    """The first predictor's output is in no example: only the student can give it."""

    def __init__(self) -> None:
        super().__init__()
        self.think = dspy.Predict("country -> thought")
        self.ask = dspy.Predict("country, thought -> answer")

    def forward(self, country: str) -> dspy.Prediction:
        with dspy.context(adapter=PlainAdapter()):
            thought = self.think(country=country).thought
            return dspy.Prediction(answer=self.ask(country=country, thought=thought).answer)


def score(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(prediction.answer == example.answer)


def example(country: str = "Peru", answer: str = "Lima", **fields: Any) -> dspy.Example:
    row = {"id": country, "country": country, "answer": answer, "references": [answer], "origin": "gold", **fields}
    return dspy.Example(**row).with_inputs("country")


def with_student(program: dspy.Module, *answers: str) -> tuple[dspy.Module, Student]:
    student = Student(*answers)
    program.set_lm(LedgerLM("embedded/x", engine=LedgerEngine(student, ledger=None, role="student"), temperature=0.0))
    return program, student


def traced(*answers: str, samples: int = 0, **fields: Any) -> Any:
    program, _ = with_student(Program(), *answers)
    return collect(program, [example(**fields)], executor=Executor(1), score=score, samples=samples)


def test_the_reference_pass_renders_what_is_served_and_asks_no_model() -> None:
    program, student = with_student(Program(), "nothing")
    (trace,) = collect(program, [example()], executor=Executor(2), score=score)
    assert student.asked == 0
    (row,) = sft_rows([trace]).rows
    assert row["prompt"] == [
        {"role": "system", "content": "Name the capital."},
        {"role": "user", "content": "Country: Peru"},
    ]
    assert row["completion"] == [{"role": "assistant", "content": "Lima"}]
    assert (row["source"], row["predictor"], row["origin"]) == ("Peru", "ask", "gold")
    assert prompts(program, [example()], Executor(1)) == [tuple(row["prompt"])]


def test_a_row_says_how_long_a_reply_may_be() -> None:
    (row,) = sft_rows([traced()[0]]).rows
    assert "reply_tokens" not in row  # nothing bounds it
    program, _ = with_student(Program(), "nothing")
    for lm, predictor, served in ((48, None, 48), (48, 96, 96)):
        program.ask.lm = program.ask.lm.copy(max_tokens=lm)
        program.ask.config = {} if predictor is None else {"max_tokens": predictor}
        (row,) = sft_rows(collect(program, [example()], executor=Executor(1), score=score)).rows
        assert row["reply_tokens"] == served


def test_a_predictor_without_reference_is_answered_by_the_student() -> None:
    program, student = with_student(TwoSteps(), "It is in the Andes.")
    (trace,) = collect(program, [example()], executor=Executor(1), score=score)
    assert student.asked == 1
    first, second = sft_rows([trace]).rows
    assert first["completion"][0]["content"] == "It is in the Andes."
    assert second["completion"][0]["content"] == "Lima"
    assert "It is in the Andes." in second["prompt"][-1]["content"]


def test_pairs_say_where_the_preference_comes_from_and_weak_ones_are_counted() -> None:
    made = preference_rows(traced("Cusco", "Lima", "Cusco", samples=3))
    assert [(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in made.rows] == [("Lima", "Cusco")]
    # The reference and the right sample are the same text, against the same wrong one: one pair.
    assert made.dropped["equal"] >= 1
    assert made.counts == {"rows": 1, "by_origin": {"gold": 1}, "dropped": dict(made.dropped)}
    assert preference_rows(traced("Lima", "Lima", samples=2)).rows == ()
    weak = preference_rows(traced("Cusco", samples=1), margin=1.5)
    assert weak.rows == ()
    assert weak.dropped["margin"] == 1


def test_ai_feedback_prefers_among_the_students_own_answers() -> None:
    def lenient(example: Any, prediction: Any, trace: Any = None) -> float:
        return float("Lima" in prediction.answer)

    program, _ = with_student(Program(), "It is Lima", "It is Cusco")
    traces = collect(program, [example()], executor=Executor(1), score=lenient, samples=2)
    pairs_found = {(row["origin"], row["chosen"][0]["content"]) for row in preference_rows(traces).rows}
    assert pairs_found == {("gold", "Lima"), ("ai", "It is Lima")}


def test_unpaired_labels_and_prompts_for_a_reward() -> None:
    traces = traced("Cusco", "Lima", samples=2)
    labels = {row["completion"][0]["content"]: row["label"] for row in kto_rows(traces).rows}
    assert labels == {"Lima": True, "Cusco": False}
    (row,) = grpo_rows(traces).rows
    assert row["references"] == ["Lima"]
    assert row["prompt"][-1]["content"] == "Country: Peru"


def test_without_an_accepted_answer_there_is_no_row() -> None:
    made = sft_rows(traced("Cusco", samples=1, answer=None))
    assert made.rows == ()
    assert made.dropped["no accepted answer"] == 1


def test_human_preferences_are_rendered_as_the_program_asks(tmp_path: Path) -> None:
    path = tmp_path / "feedback.jsonl"
    path.write_text(json.dumps({"country": "Peru", "chosen": "Lima", "rejected": "Cusco", "by": "Ana"}) + "\n")
    program, student = with_student(Program(), "nothing")
    feedback, left_out = read_feedback(path, ["country"])
    assert left_out == 0
    (row,) = human_rows(feedback, program, Executor(1), "pairs").rows
    assert student.asked == 0
    assert row["prompt"][-1]["content"] == "Country: Peru"
    assert (row["chosen"][0]["content"], row["rejected"][0]["content"], row["origin"]) == ("Lima", "Cusco", "human")
    assert "reply_tokens" not in row
    program.ask.lm = program.ask.lm.copy(max_tokens=48)
    assert [row["reply_tokens"] for row in human_rows(feedback, program, Executor(1), "pairs").rows] == [48]


def test_a_preference_with_one_side_missing_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "feedback.jsonl"
    lines = [{"country": "Peru", "chosen": "Lima", "rejected": "Cusco"}, {"country": "Chile", "chosen": "Santiago"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(SetupError, match=r"2.*rejected"):
        read_feedback(path, ["country"])
    with pytest.raises(SetupError, match=r"1.*continent"):
        read_feedback(path, ["country", "continent"])


def test_preferences_about_held_out_groups_and_between_equal_answers_are_not_learned(tmp_path: Path) -> None:
    path = tmp_path / "feedback.jsonl"
    lines = [
        {"country": "Peru", "chosen": "Lima", "rejected": "Cusco"},
        {"country": "Chile", "chosen": "Santiago", "rejected": " Santiago"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    feedback, left_out = read_feedback(path, ["country"], held_out={"Peru"})
    assert left_out == 1
    made = human_rows(feedback, with_student(Program(), "x")[0], Executor(1), "pairs")
    assert made.rows == ()
    assert made.dropped == {"equal": 1}


def test_rated_answers_are_learned_from_by_kto_and_the_good_ones_by_sft(tmp_path: Path) -> None:
    path = tmp_path / "feedback.jsonl"
    lines = [
        {"country": "Peru", "answer": "Lima", "good": True, "id": "f1", "feedback": ["a", "b"]},
        {"country": "Chile", "answer": "Cusco", "good": False, "source": "ai"},
        {"country": "Peru", "chosen": "Lima", "rejected": "Cusco", "answer": "a further field"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    program, student = with_student(Program(), "nothing")
    feedback, _ = read_feedback(path, ["country"])
    rated = human_rows(feedback, program, Executor(1), "rated").rows
    assert [(row["source"], row["origin"], row["label"]) for row in rated] == [
        ("f1", "human", True),
        ("human-2", "ai", False),
    ]
    (good,) = human_rows(feedback, program, Executor(1), "good").rows
    assert good["prompt"] == sft_rows(traced()).rows[0]["prompt"]
    assert good["completion"] == [{"role": "assistant", "content": "Lima"}]
    assert len(human_rows(feedback, program, Executor(1), "pairs").rows) == 1
    assert student.asked == 0


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ({"answer": "Lima"}, "field 'good' is missing"),
        ({"good": True}, "field 'answer' is missing"),
        ({"answer": "Lima", "good": "yes"}, "field 'good' is .*make it true or false"),
        ({"answer": "Lima", "good": True, "chosen": "Lima", "rejected": "Cusco"}, "write them as two lines"),
        ({}, "field 'chosen' is missing; give chosen and rejected .* or answer and good"),
    ],
)
def test_a_line_is_a_preference_or_a_rated_answer(tmp_path: Path, line: dict[str, Any], sentence: str) -> None:
    path = tmp_path / "feedback.jsonl"
    path.write_text(json.dumps({"country": "Peru", **line}))
    with pytest.raises(SetupError, match=f"line 1: .*{sentence}"):
        read_feedback(path, ["country"])


def test_a_rated_answer_is_learned_as_the_program_replies(tmp_path: Path) -> None:
    """Answers are texts in the file; the reply that is served holds a number."""

    class Count(dspy.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = dspy.Predict("cities: list[str] -> number: int")

        def forward(self, cities: list[str]) -> dspy.Prediction:
            with dspy.context(adapter=dspy.JSONAdapter()):
                return self.count(cities=cities)

    rated = [dspy.Example(cities=["Lima"], answer=text, good=True).with_inputs("cities") for text in ("1", "many")]
    made = human_rows(rated, with_student(Count(), "x")[0], Executor(1), "good")
    assert [json.loads(row["completion"][0]["content"]) for row in made.rows] == [{"number": 1}]
    assert made.dropped == {"could not be asked": 1}

    class Sentence(Program):
        def forward(self, country: str) -> dspy.Prediction:
            return dspy.Prediction(answer=f"The capital of {country} is {super().forward(country).answer}")

    rated = [dspy.Example(country="Peru", answer=a, good=True).with_inputs("country") for a in ("Lima", "It is Lima")]
    made = human_rows(rated, with_student(Sentence(), "x")[0], Executor(1), "good")
    assert made.dropped == {"the answer is not the program's last reply": 2}
    thinking = dspy.ChainOfThought("country -> answer")
    rated = [dspy.Example(country="Peru", answer="Lima", good=True).with_inputs("country")]
    made = human_rows(rated, with_student(thinking, "x")[0], Executor(1), "good")
    assert made.dropped == {"the program's reply has more fields than the answer": 1}


def test_kto_keeps_both_labels_within_its_bound_and_needs_both() -> None:
    program, _ = with_student(Program(), "Cusco")
    examples = [example(country=f"c{i}", answer="Lima") for i in range(6)]
    traces = collect(program, examples, executor=Executor(1), score=score, samples=1)
    rows = kto_rows(traces, most=4).rows
    assert sorted(row["label"] for row in rows) == [False, False, True, True]
    assert len({row["id"] for row in rows}) == 4
    with pytest.raises(ArmError, match="all 1 are right"):
        need_both_labels(kto_rows(traced("Lima", samples=1)).rows)


def test_a_sample_that_fails_leaves_the_others() -> None:
    class Failing(Student):
        def complete(self, request: lm15.Request) -> lm15.Response:
            if self.asked == 0:
                self.asked += 1
                raise lm15.ServerError("out of order")
            return super().complete(request)

    program, _ = with_student(Program(), "Cusco")
    program.set_lm(LedgerLM("embedded/x", engine=LedgerEngine(Failing("Cusco"), ledger=None, role="student")))
    (trace,) = collect(program, [example()], executor=Executor(1), score=score, samples=2)
    assert trace.reference is not None
    assert [sample.calls[0].reply for sample in trace.samples] == ["Cusco"]


def test_abstentions_are_learned_up_to_their_share() -> None:
    """There is one wording of silence: taught as often as it is right, it is said more often than that."""
    attempt = Attempt((PredictorCall("ask", ({"role": "user", "content": "?"},), "the answer"),), 1.0)
    traces = [
        Trace(dspy.Example(id=str(n), references=[] if n % 2 else ["x"], origin="gold"), attempt) for n in range(20)
    ]
    assert len(sft_rows(traces).rows) == 20
    few = sft_rows(traces, abstentions=0.2)
    assert sum(int(row["source"]) % 2 for row in few.rows) == 2  # of 12
    assert few.dropped == {"abstentions beyond their share": 8}
    assert len(sft_rows(traces, abstentions=0.0).rows) == 10
