"""Chat-format data sets: every line checked, a card that the Hub can read, rows of any task's program."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import dspy
import pytest
import yaml

from synth_dspy.cli import export
from synth_dspy.core.errors import SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.domains.functions.schema import Function
from synth_dspy.domains.functions.syntax import parse, tool_messages, tools_json
from synth_dspy.models.adapter import PlainAdapter
from synth_dspy.pipeline.chat_export import (
    chat_rows,
    dataset_card,
    problem,
    tools_problem,
    write_chat,
    write_dataset,
)
from synth_dspy.training.traces import PredictorCall


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def talk(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


GOOD = talk(("system", "Be brief."), ("user", "Hello?"), ("assistant", "Yes."))


class TestProblem:
    def test_a_chat_is_fine_with_and_without_a_system_message(self) -> None:
        assert problem(GOOD) is None
        assert problem(GOOD[1:]) is None
        assert problem([*GOOD, *GOOD[1:]]) is None

    @pytest.mark.parametrize(
        ("messages", "message"),
        [
            ([], "not empty"),
            ("hello", "not empty"),
            (GOOD[:2], "the last word"),
            (GOOD[:1], "the last word"),
            ([GOOD[0], GOOD[2]], "take turns"),
            ([*GOOD, GOOD[2]], "take turns"),
            ([*GOOD[1:], GOOD[0]], "take turns"),
            (talk(("user", "a"), ("assistant", " ")), "message 2 (assistant) is empty"),
            (talk(("human", "a"), ("assistant", "b")), "role 'human'"),
            ([{"role": "user"}], "a role and a content"),
            ([{"role": "user", "content": 3}], "is empty"),
        ],
    )
    def test_says_what_is_wrong(self, messages: object, message: str) -> None:
        assert message in (problem(messages) or "")


def called(*names: str) -> dict:
    return {"role": "assistant", "calls": [{"name": name, "arguments": {"city": "Oslo"}} for name in names]}


TOOLS = tools_json([Function("rain", "Will it rain?", {"properties": {"city": {"type": "string"}}})])
QUESTION_TURN = {"role": "user", "content": "Rain in Oslo?"}
CALLING = tool_messages([QUESTION_TURN, called("rain")], "Be brief.")


class TestTools:
    def test_calls_have_the_form_that_chat_templates_render(self) -> None:
        call = {"type": "function", "function": {"name": "rain", "arguments": {"city": "Oslo"}}}
        assert CALLING[-1] == {"role": "assistant", "content": "", "tool_calls": [call]}
        assert problem(CALLING) is None
        assert tools_problem(CALLING, TOOLS) is None

    def test_results_and_further_turns_may_follow_calls(self) -> None:
        result, thanks = {"role": "tool", "content": "yes"}, {"role": "user", "content": "Thanks."}
        turns = [QUESTION_TURN, called("rain", "rain"), result, result, thanks, called()]
        messages = tool_messages(turns)
        assert problem(messages) is None
        assert messages[-1] == {"role": "assistant", "content": "[]"}
        assert problem(tool_messages([QUESTION_TURN, called("rain"), result, called("rain")])) is None
        assert "take turns" in (problem(tool_messages([QUESTION_TURN, result, called("rain")])) or "")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"content": "Well."}, "empty content"),
            ({"role": "user"}, "an assistant's"),
            ({"tool_calls": []}, "a name and arguments"),
            ({"tool_calls": [{"type": "function", "function": {"name": "rain", "arguments": "{}"}}]}, "arguments"),
            ({"name": "rain"}, "nothing else"),
        ],
    )
    def test_says_what_is_wrong_with_calls(self, change: dict, message: str) -> None:
        assert message in (problem([*CALLING[:-1], CALLING[-1] | change]) or "")

    def test_what_is_called_is_among_the_tools(self, tmp_path: Path) -> None:
        assert "'rain' is called" in (tools_problem(CALLING, None) or "")
        assert "list of functions" in (tools_problem(CALLING, [{"name": "rain"}]) or "")
        path = tmp_path / "train.jsonl"
        assert write_chat(path, [{"messages": CALLING, "tools": TOOLS}]) == 1
        assert written(path) == [{"messages": CALLING, "tools": TOOLS}]
        with pytest.raises(SetupError, match="'rain' is called"):
            write_chat(path, [{"messages": CALLING, "tools": []}])


class TestFiles:
    def test_rows_are_json_lines_in_a_new_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "train.jsonl"
        assert write_chat(path, [{"id": "a", "messages": GOOD}]) == 1
        assert written(path) == [{"id": "a", "messages": GOOD}]

    def test_a_bad_row_is_named_and_nothing_is_written(self, tmp_path: Path) -> None:
        path = tmp_path / "train.jsonl"
        with pytest.raises(SetupError, match=re.escape("Row 2 (b)")):
            write_chat(path, [{"id": "a", "messages": GOOD}, {"id": "b", "messages": GOOD[:2]}])
        assert list(tmp_path.iterdir()) == []


class TestCard:
    def rows(self, *groups: str) -> list[dict]:
        return [{"group": group, "category": "plain", "origin": "gold", "messages": GOOD} for group in groups]

    def test_metadata_are_yaml_and_name_the_files(self, tmp_path: Path) -> None:
        about = {"name": 'A "bank": chats', "license": "cc-by-4.0", "task": "scoped_assistant", "teacher": "t"}
        splits = {"train": self.rows("savings", "savings", "cash|coins"), "test": self.rows("loans"), "validation": []}
        counts = write_dataset(tmp_path / "out", splits, about)
        assert counts == {"train": 3, "test": 1}
        _, head, body = (tmp_path / "out" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
        metadata = yaml.safe_load(head)
        assert metadata["pretty_name"] == 'A "bank": chats'
        assert metadata["license"] == "cc-by-4.0"
        assert metadata["size_categories"] == ["n<1K"]
        for file in metadata["configs"][0]["data_files"]:
            assert (tmp_path / "out" / file["path"]).is_file()
        assert "| savings | 2 |" in body
        assert "cash\\|coins" in body

    def test_sizes_have_the_hub_s_names(self) -> None:
        assert "1K<n<10K" in dataset_card({"train": self.rows(*["g"] * 1000)}, {"name": "n"})

    def test_no_rows_at_all_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(SetupError, match="nothing to write"):
            write_dataset(tmp_path, {"train": []}, {"name": "n"})


class Silent:
    """An engine that must not be asked."""

    def complete(self, request: object) -> object:
        raise AssertionError("no model is needed where the answer is known")


class Greeter(dspy.Module):
    def __init__(self) -> None:
        super().__init__()
        self.reply = dspy.Predict(dspy.Signature("question -> answer", "Be brief."))

    def forward(self, question: str) -> dspy.Prediction:
        with dspy.context(adapter=PlainAdapter()):
            return dspy.Prediction(answer=self.reply(question=question).answer)


class Caller(Greeter):
    """A program that says how its rows are shown."""

    def chat_row(self, example: dspy.Example, call: PredictorCall) -> dict:
        turns = [QUESTION_TURN, {"role": "assistant", "calls": parse(call.reply, "json")}]
        return {"tools": TOOLS, "messages": tool_messages(turns, call.messages[0]["content"])}


class TestRows:
    def test_a_program_s_own_rows_go_before_its_prompts(self) -> None:
        program = Caller()
        program.set_lm(dspy.LM("test/silent", engine=Silent()))
        reply = '[{"name": "rain", "arguments": {"city": "Oslo"}}]'
        wrong = reply.replace("rain", "snow")
        examples = [dspy.Example(id=a, question=a, answer=a).with_inputs("question") for a in (reply, wrong)]
        (row,) = chat_rows(program, examples, Executor(1))
        assert (row["messages"], row["tools"]) == (CALLING, TOOLS)
        assert (row["id"], row["predictor"]) == (reply, "reply")

    def test_a_program_s_own_prompts_with_the_reference_answers(self) -> None:
        program = Greeter()
        program.set_lm(dspy.LM("test/silent", engine=Silent()))
        example = dspy.Example(id="1", group="g", origin="gold", question="Hello?", answer="Yes.").with_inputs(
            "question"
        )
        (row,) = chat_rows(program, [example], Executor(1))
        assert row["messages"] == talk(("system", "Be brief."), ("user", "Question: Hello?"), ("assistant", "Yes."))
        assert (row["id"], row["group"], row["origin"], row["predictor"]) == ("1", "g", "gold", "reply")


class TestExport:
    @pytest.fixture
    def program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A program of a run with rows to learn from, and no others."""
        greeter = Greeter()
        greeter.set_lm(dspy.LM("test/silent", engine=Silent()))
        monkeypatch.setattr("synth_dspy.pipeline.saved.open_program", lambda *_, **__: greeter)
        row = {
            "id": "1",
            "group": "g",
            "origin": "gold",
            "question": "Hello?",
            "answer": "Yes.",
            "inputs": ["question"],
        }
        about = {"task": "greeting", "arm": "sft", "config": {"models": {"teacher": "t"}}}
        folder = tmp_path / "run" / "programs" / "sft"
        for path, value in ((tmp_path / "run" / "datasets" / "train.jsonl", row), (folder / "about.json", about)):
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(value) + "\n", encoding="utf-8")
        return folder

    @pytest.mark.parametrize("name", ["README.md", "test.jsonl"])
    def test_nothing_is_written_over_unless_told_so(self, program: Path, tmp_path: Path, name: str) -> None:
        out = tmp_path / "out"
        out.mkdir()
        for each in (name, "notes.txt"):
            (out / each).write_text("mine", encoding="utf-8")
        with pytest.raises(SetupError, match=rf"{re.escape(name)} exists already: .* with --force"):
            export.main([str(program), "--out", str(out)])
        assert {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()} == dict.fromkeys(
            (name, "notes.txt"), "mine"
        )
        export.main([str(program), "--out", str(out), "--force"])
        assert {path.name for path in out.iterdir()} == {"README.md", "train.jsonl", "notes.txt"}, (
            "no other export's rows"
        )
        assert (out / "notes.txt").read_text(encoding="utf-8") == "mine"
