"""What the prompt optimizers share, on DSPy's dummy LM."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from dspy.utils import DummyLM

from synth_dspy.core.errors import ArmError
from synth_dspy.core.executor import Executor
from synth_dspy.training import prompting
from synth_dspy.training.recipes.bootstrap import Bootstrap
from synth_dspy.training.recipes.gepa import Gepa
from synth_dspy.training.recipes.mipro import Mipro
from synth_dspy.training.recipes.random_search import RandomSearch


class Echo(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.answer = dspy.Predict("passages, question -> answer")

    def forward(self, question: str, document: str = "") -> dspy.Prediction:
        return self.answer(passages="p", question=question)


def example(number: int, words: int = 5, silent: bool = False) -> dspy.Example:
    fields: dict[str, Any] = {"id": str(number), "question": f"q{number}", "document": "d", "answer": f"a{number}"}
    fields |= {"passages": "word " * words, "references": [] if silent else [f"a{number}"], "spans": ["x"]}
    return dspy.Example(**fields).with_inputs("question", "document")


def exact(example: dspy.Example, prediction: dspy.Prediction, trace: Any = None) -> float:
    return float(prediction.answer in example.references)


def resources(lm: Any, teacher: Any = None) -> Any:
    return SimpleNamespace(student=lm, teacher=teacher or lm, executor=Executor(2), seed=0, quick=False, words=20)


def answering(right: Callable[[int], bool]) -> DummyLM:
    return DummyLM([{f"q{n}": {"answer": f"a{n}" if right(n) else "no"} for n in range(40)}][0])


def test_demonstrations_are_kept_while_they_fit_and_show_only_the_prompt() -> None:
    program = Echo()
    program.answer.demos = [example(1), example(2, words=5000), example(3), example(4, words=80)]
    prompting.fit_demonstrations(program, budget=150)
    assert [demo.question for demo in program.answer.demos] == ["q1", "q3"]
    assert set(program.answer.demos[0].keys()) == {"passages", "question", "answer"}


def test_a_budget_admits_fewer_long_demonstrations_than_short_ones() -> None:
    short, long = ([example(n, words=words) for n in range(10)] for words in (10, 300))
    assert prompting.demonstrations_within(short, 600, most=4, words=10) == 4
    assert prompting.demonstrations_within(long, 600, most=4, words=10) == 1
    assert prompting.demonstrations_within([], 600, most=4, words=10) == 0


def test_a_budget_counts_traces_at_the_length_of_the_passages_they_show() -> None:
    rows = [example(n, words=10) for n in range(10)]
    assert prompting.demonstrations_within(rows, 1000, most=4, words=350) == 2
    assert prompting.demonstrations_within(rows, 1000, most=4, words=150) == 4


def test_a_labelled_teacher_shows_an_unanswerable_example_too() -> None:
    rows = [example(n, silent=n % 5 == 0) for n in range(10)]
    teacher = prompting.labelled_teacher(Echo(), rows, k=3, seed=0)
    assert sorted(bool(demo.references) for demo in teacher.answer.demos) == [False, True, True]


def test_warming_makes_exactly_the_calls_that_bootstrapping_makes() -> None:
    """An example never stands among its own demonstrations, neither when warming nor in DSPy's loop."""
    prompts_seen: list[str] = []

    class Recording(DummyLM):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            prompts_seen.append(str(kwargs.get("messages")))
            return super().__call__(*args, **kwargs)

    rows = [example(n) for n in range(4)]
    lm = Recording([{"answer": "no"}] * 20)
    teacher = prompting.labelled_teacher(Echo(), rows, k=2, seed=0)
    with dspy.context(lm=lm):
        prompting.prefetch_answers(teacher, rows, Executor(1))
        warmed, prompts_seen[:] = list(prompts_seen), []
        with prompting.quiet("test"):
            dspy.BootstrapFewShot(metric=prompting.at_least(exact, 0.5), max_labeled_demos=2).compile(
                Echo(), teacher=teacher, trainset=rows
            )
    assert sorted(warmed) == sorted(prompts_seen)


@pytest.mark.parametrize("recipe", [Bootstrap, RandomSearch])
def test_a_recipe_puts_accepted_traces_before_labelled_ones_and_leaves_the_student_alone(recipe: Any) -> None:
    lm = answering(lambda n: n % 2 == 0)
    rows = [example(n) for n in range(12)]
    student = Echo()
    with dspy.context(lm=lm):
        compiled = recipe(resources(lm), exact).compile(student, trainset=rows, valset=rows[:4])
    assert student.answer.demos == []
    assert all(demo.question.startswith("q") for demo in compiled.answer.demos)
    if recipe is Bootstrap:
        augmented = [demo for demo in compiled.answer.demos if demo.get("passages") == "p"]
        assert augmented
        assert all(int(demo.question[1:]) % 2 == 0 for demo in augmented)


@pytest.mark.parametrize("recipe", [Mipro, Gepa])
def test_a_recipe_that_needs_a_capable_teacher_says_so(recipe: Any) -> None:
    lm = SimpleNamespace(model="embedded/small")
    with pytest.raises(ArmError, match=r"--models\.teacher"):
        recipe(resources(lm), exact).compile(Echo(), trainset=[], valset=[])


def test_gepa_runs_with_the_same_interface() -> None:
    lm = answering(lambda n: True)
    teacher = DummyLM([{"improved_instruction": "Answer shortly."}] * 50)
    teacher.model = "another"
    rows = [example(n) for n in range(6)]
    with dspy.context(lm=lm):
        student = Echo()
        student.set_lm(lm)
        compiled = Gepa(resources(lm, teacher), exact).compile(student, trainset=rows, valset=rows)
    assert compiled(question="q3").answer == "a3"
