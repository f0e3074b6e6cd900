"""A cycle learns from comments, which the teacher turns into rewrites, and from a grader that agrees with people."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from production import Production, production

from synth_dspy.core.errors import SetupError
from synth_dspy.loop.cycle import Outcome
from synth_dspy.loop.labels import is_held_back
from synth_dspy.loop.records import Feedback
from synth_dspy.loop.rows import ABOUT, FEEDBACK
from synth_dspy.loop.steps import make_steps


def collect(task: Production) -> tuple[Outcome, list[dict[str, Any]]]:
    """What a cycle's feedback comes to, and the lines that it wrote."""
    loop = task.loop()
    cycle = loop.cycles.open("person:ann", "now")
    outcome = make_steps(loop.work)["questions"](cycle)
    assert outcome is not None
    lines = (loop.work.cycle_folder(cycle) / FEEDBACK).read_text().splitlines()
    return outcome, [json.loads(line) for line in lines]


def number(body: dict[str, Any]) -> int:
    """Of the ticket that is asked about last."""
    return int(re.findall(r"word(\d+)x0", json.dumps(body["messages"]))[-1])


def test_a_comment_becomes_the_teacher_s_rewrite(tmp_path: Path) -> None:
    with production(tmp_path) as task:
        asked = task.ask("v1", count=6)
        better = task.ask("v1", count=6, answer="login")
        task.rate(asked, "comment", "This is about signing in.")
        task.rate(better, "thumb", True)
        task.server.behaviour.respond = lambda body: json.dumps({"better_answer": "login"})
        outcome, lines = collect(task)
        learned = {each.id for each in asked if not is_held_back(each.inputs)}
        rewrites = [line for line in lines if line.get("rejected") == "card"]
        assert len(rewrites) == len(learned) > 0
        assert {(line["chosen"], line["source"]) for line in rewrites} == {("login", "ai")}
        assert outcome.evidence["by_ai"] == len(learned)
        calls = len(task.server.requests)
        (task.loop().work.cycle_folder(task.loop().cycles.current()) / ABOUT).unlink()  # type: ignore[arg-type]
        assert collect(task)[1] == lines  # a loop that was killed here
        assert len(task.server.requests) == calls


@pytest.mark.parametrize("agrees", [True, False])
def test_ai_feedback_is_learned_where_the_grader_agrees_with_people(tmp_path: Path, agrees: bool) -> None:
    with production(tmp_path, judge="openai/mock") as task:
        rated = task.ask("v1", count=60)
        for place, request in enumerate(rated):
            task.rate([request], "thumb", place % 3 > 0)
        task.ask("v1", count=90)  # 60 of them as before, 30 that nobody rated
        right = 1 if agrees else 7
        task.server.behaviour.respond = lambda body: json.dumps({"score": float(number(body) * right % 21 % 3 > 0)})
        if not agrees:
            task.server.behaviour.respond = lambda body: json.dumps({"score": float(number(body) * 7919 % 10 / 10)})
        outcome, lines = collect(task)
        by_ai = [line for line in lines if line["source"] == "ai"]
        assert outcome.evidence["by_ai"] == len(by_ai)
        assert ("AI feedback is used" in outcome.reason) is agrees
        assert ("AI feedback is not used: its agreement" in outcome.reason) is not agrees
        assert bool(by_ai) is agrees
        assert outcome.evidence["graded"] == (30 if agrees else 0)
        for line in by_ai:
            ticket = int(re.findall(r"word(\d+)x0", line["text"])[0])
            assert line["good"] is (ticket % 3 > 0)
        assert {each.source for each in task.registry.store.read(Feedback)} == {"person"} | (
            {"ai"} if agrees else set()
        )


def test_a_teacher_that_does_not_answer_is_one_sentence_and_the_state_stays(tmp_path: Path) -> None:
    with production(tmp_path) as task:
        asked = task.ask("v1", count=3)
        task.rate(asked, "comment", "Wrong.")
        task.rate(task.ask("v1", count=3, answer="login"), "thumb", True)
        task.server.behaviour.respond = lambda body: "no JSON"
        with pytest.raises(SetupError, match="The feedback cannot be turned into rows: All 3 rewrites failed"):
            collect(task)
        assert task.loop().cycles.current().state == "opened"  # type: ignore[union-attr]
