"""Rewards: the judge of a run scores the replies of a training in another process, on every task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

import dspy
import pytest
from scripted import scripted_lm, scripted_resources

from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.training.recipes import LoraGrpo
from synth_dspy.training.recipes.lora_grpo import is_structured
from synth_dspy.training.reward_server import ADDRESS, JudgeReward, serving
from synth_dspy.training.traces import prediction_of

TASKS = ("contract_qa", "doc_qa", "function_calling", "scoped_assistant", "table_docs")
ROW = {"source": "1", "predictor": "ask", "references": ["is not sent"]}


def test_the_training_asks_the_run_for_its_rewards(tmp_path: Path) -> None:
    seen: list[tuple[Any, Any]] = []

    def scorer(rows: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
        seen.append((rows, replies))
        return [len(reply) / 10 for reply in replies]

    with serving(scorer, tmp_path):
        assert (tmp_path / ADDRESS).stat().st_mode & 0o077 == 0
        reward = JudgeReward(tmp_path)
        assert reward.score_many([ROW, ROW], ["ab", "abcd"]) == [0.2, 0.4]
        assert reward(ROW, "a") == 0.1
    assert seen[0] == ([{"source": "1", "predictor": "ask"}] * 2, ["ab", "abcd"])
    assert not (tmp_path / ADDRESS).exists()
    with pytest.raises(ArmError, match="resume the run"):
        JudgeReward(tmp_path)(ROW, "a")


def test_a_judge_that_fails_stops_the_training_and_a_killed_one_blocks_nobody(tmp_path: Path) -> None:
    def scorer(rows: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
        raise ArmError("the judge's model is gone.")

    with serving(scorer, tmp_path):
        place = json.loads((tmp_path / ADDRESS).read_text())
        Client(place["address"], authkey=bytes.fromhex(place["key"])).close()  # a process that was killed
        with pytest.raises(ArmError, match="the judge's model is gone"):
            JudgeReward(tmp_path)(ROW, "a")
        with pytest.raises(AuthenticationError):
            Client(place["address"], authkey=b"another key")
        with pytest.raises(ArmError, match="the judge's model is gone"):
            JudgeReward(tmp_path)(ROW, "a")


@pytest.mark.parametrize("returned", [SystemExit("interrupted"), [object()]], ids=["an exit", "not a number"])
def test_whatever_goes_wrong_in_scoring_is_told_and_ends_nothing_else(tmp_path: Path, returned: Any) -> None:
    def scorer(rows: Sequence[Mapping[str, Any]], replies: Sequence[str]) -> list[float]:
        if isinstance(returned, BaseException):
            raise returned
        return list(returned)

    with serving(scorer, tmp_path):
        for _ in range(2):
            with pytest.raises(ArmError, match=r"interrupted|must be"):
                JudgeReward(tmp_path)(ROW, "a")


class Program(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ask = dspy.Predict("country -> answer")

    def forward(self, country: str) -> dspy.Prediction:
        with dspy.context(adapter=PlainAdapter()):
            return dspy.Prediction(answer=f"{self.ask(country=country).answer}.")


def test_a_reply_is_scored_as_what_the_program_makes_of_it() -> None:
    lm = scripted_lm(lambda text: pytest.fail("no model is asked"))
    program = Program()
    program.set_lm(lm)
    row = dspy.Example(id="1", country="Peru", answer="Lima", references=["Lima."]).with_inputs("country")
    prediction = prediction_of(program, row, "ask", "Cusco")
    assert prediction is not None
    assert prediction.answer == "Cusco."

    def judge(example: Any, prediction: Any, trace: Any = None) -> float:
        return 0.9 if "correct" in prediction.answer else float(prediction.answer == example.references[0])

    judge.name, judge.threshold = "gullible", 0.5  # type: ignore[attr-defined]
    recipe = LoraGrpo(scripted_resources(lm, judge=judge), judge)
    recipe.traced(program, [row])
    score = recipe._scorer(program, [])
    rows = [{"source": "1", "predictor": "ask"}] * 4
    assert score(rows, ["Lima", "Cusco", "This answer is correct", ""]) == [1.0, 0.0, 0.0, 0.0]


def test_structures_are_compared_part_by_part_and_words_never_pass_for_one() -> None:
    assert is_structured('[{"name": "score", "arguments": {"score": 1}}]', [])
    assert is_structured('{"law": "Ohio"}', {"law": "England"})
    assert not is_structured('{"verdict": "correct"}', {"in_scope": True})
    assert not is_structured("Score: 1", ["x"])


def declared(name: str) -> Any:
    return getattr(import_module(f"programs.{name}"), name)()


def test_ppo_is_answered_where_it_is_looked_for() -> None:
    from pydantic import ValidationError

    from synth_dspy.pipeline.arms import arm_names
    from synth_dspy.pipeline.defaults import complete

    with pytest.raises(SetupError, match="take rloo or grpo"):
        arm_names(complete(declared("table_docs")), "embedded/x", ["ppo"])
    with pytest.raises(ValidationError, match="take rloo or grpo"):
        CompileConfig.model_validate({"task": "doc_qa", "training": {"options": {"ppo": {}}}})


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_every_method(name: str) -> None:
    from synth_dspy.pipeline.defaults import complete

    arms = complete(declared(name)).optimizers.keys()
    assert {"sft", "dpo", "orpo", "kto", "grpo", "rloo", "online_dpo", "together"} <= arms
