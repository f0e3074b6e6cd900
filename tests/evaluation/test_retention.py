"""What tuning cost elsewhere: prompts read, replies checked, perplexity of the served model."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.evaluation.retention import ifeval
from synth_dspy.evaluation.retention import measure as retention

GOOD = {"key": 1, "prompt": "Say it.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_projects_own_prompts_cover_every_kind(workspace: Path) -> None:
    prompts = retention.read_prompts(retention.DATA / "instructions.jsonl")
    assert len(prompts) == 40
    assert {kind for prompt in prompts for kind, _ in prompt.instructions} == ifeval.KINDS
    words = (retention.DATA / "general.txt").read_text().split()
    assert len(words) > 1200


def test_the_publishers_prompts_are_read(shared_data: Path) -> None:
    assert len(retention.read_prompts(shared_data / "ifeval" / "ifeval.jsonl")) > 200


def test_a_limit_spreads_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", *({**GOOD, "key": i} for i in range(10)))
    assert [prompt.key for prompt in retention.read_prompts(path, 4)] == ["0", "2", "5", "7"]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"instruction_id_list": ["rhyme:always"]}, "line 2: .*'rhyme:always' is not one of the 25 kinds"),
        ({"prompt": ""}, "line 2: field 'prompt'"),
        ({"kwargs": [{}, {}]}, "key 2 has 1 instructions and 2 sets of arguments"),
        ({"instruction_id_list": ["length_constraints:number_words"]}, "with which it cannot be checked"),
        ({"key": 1}, "key 1 is also used in line 1"),
    ],
)
def test_a_wrong_prompt_is_named(tmp_path: Path, row: dict[str, Any], sentence: str) -> None:
    path = write(tmp_path / "p.jsonl", GOOD, {**GOOD, "key": 2, **row})
    with pytest.raises(SetupError, match=sentence):
        retention.read_prompts(path)


def _prompts() -> list[retention.Prompt]:
    comma, words = ("punctuation:no_comma", {}), ("length_constraints:number_words", {"num_words": 3})
    return [retention.Prompt("a", "First.", (comma,)), retention.Prompt("b", "Second.", (comma, words))]


def test_prompts_and_instructions_are_counted_apart() -> None:
    replies = {"First.": "so be it", "Second.": "yes indeed"}

    def reply(messages: list[dict[str, str]], **kwargs: Any) -> list[str]:
        assert kwargs == {"max_tokens": 7, "temperature": 0}
        return [replies[messages[0]["content"]]]

    measured = retention.measure(reply, _prompts(), executor=Executor(2), max_tokens=7)
    assert measured.followed == {"a": [True], "b": [True, False]}
    assert (measured.n, measured.prompt_strict, measured.errors) == (2, 0.5, 0)
    assert measured.instruction_strict == pytest.approx(2 / 3)
    assert 0 <= measured.low < 0.5 < measured.high <= 1


def test_a_failed_call_follows_nothing_and_a_model_that_never_answers_is_an_error() -> None:
    def half(messages: list[dict[str, str]], **kwargs: Any) -> list[str]:
        if messages[0]["content"] == "First.":
            raise RuntimeError("down")
        return ["one two three"]

    measured = retention.measure(half, _prompts(), executor=Executor(2))
    assert measured.followed == {"a": [False], "b": [True, True]}
    assert measured.errors == 1

    def never(messages: list[dict[str, str]], **kwargs: Any) -> list[str]:
        raise RuntimeError("down")

    with pytest.raises(ModelError, match="All 2 retention prompts failed; the first with down"):
        retention.measure(never, _prompts(), executor=Executor(2))


@pytest.mark.slow
def test_the_ledger_remembers_whose_prompts_were_asked(tmp_path: Path) -> None:
    from synth_dspy.core.ledger import Ledger
    from synth_dspy.models import roles

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        lm = roles.lm_for("embedded/smollm2-135m-instruct", role="student", ledger=ledger)
        measured = retention.measure(lm, _prompts(), executor=Executor(2), arm="sft", max_tokens=4)
        calls = ledger.calls(station=retention.STATION, arm="sft")
        assert sorted(call.unit.source for call in calls) == ["a", "b"]
        assert retention.measure(lm, _prompts(), executor=Executor(2), arm="sft", max_tokens=4) == measured
        assert len(ledger.calls()) == 2


@pytest.mark.slow
def test_perplexity_tells_text_from_shuffled_words_and_is_repeatable(workspace: Path) -> None:
    from synth_dspy.models.weights.registry import resolve

    model = resolve("smollm2-135m-instruct")
    text = (retention.DATA / "general.txt").read_text()
    words = text.split()[:120]
    plain = retention.perplexity(model, " ".join(words))
    random.Random(0).shuffle(words)
    shuffled = retention.perplexity(model, " ".join(words))
    assert plain.value < 100 < shuffled.value
    assert len(plain.losses) == plain.tokens > 120
    assert plain.value == pytest.approx(math.exp(sum(plain.losses) / plain.tokens))
    assert retention.perplexity(model, " ".join(text.split()[:120])) == plain
    assert retention.perplexity(model, text, window=50).tokens == 49


def test_perplexity_of_a_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    broken = tmp_path / "model.gguf"
    broken.write_bytes(b"GGUF nothing")
    with pytest.raises((SetupError, ModelError), match=r"model\.gguf"):
        retention.perplexity(broken, "text")
