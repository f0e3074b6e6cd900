"""The embedded engine, with the real student: what callers see through DSPy, and how it fails."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import pytest
from dspy.lm15 import Config, FunctionTool, Message, Request, Response, UnsupportedModelError
from dspy.utils.exceptions import ContextWindowExceededError, LMUnsupportedFeatureError, LMUnsupportedModelError

from synth_dspy.core.errors import SetupError
from synth_dspy.domains.functions.schema import Function, calls_schema
from synth_dspy.domains.functions.syntax import Syntax
from synth_dspy.domains.functions.syntax import parse as parse_calls
from synth_dspy.models.embedded.engine import EmbeddedEngine, embedded_lm
from synth_dspy.models.embedded.generation import PipelineError, Sampling, ServerSettings
from synth_dspy.models.embedded.pool import ModelPool, pool
from synth_dspy.models.embedded.tokenizer import open_tokenizer
from synth_dspy.models.grammar.constraints import Grammar, grammar_format, python_calls_grammar
from synth_dspy.models.weights.gguf import readable
from synth_dspy.models.weights.registry import resolve

pytestmark = pytest.mark.slow

PROMPTS = [f"Write a sentence about {what}." for what in ("rain", "a lawyer", "the sea", "money", "bread", "a train")]


@pytest.fixture(scope="module", autouse=True)
def _free_the_models() -> Iterator[None]:
    yield
    pool().close()


@pytest.fixture(scope="module")
def lm(student: str) -> Any:
    return embedded_lm(student, max_tokens=16)


def _ask(lm: Any, prompt: str, **config: Any) -> Response:
    response = lm(
        Request(model=lm.model, messages=(Message.user(prompt),), config=Config(**{"max_tokens": 16, **config}))
    )
    assert isinstance(response, Response)
    return response


def test_a_response_tells_what_it_cost(lm: Any) -> None:
    response = _ask(lm, "Say hello.")
    assert response.text
    assert response.usage.input_tokens
    assert response.usage.input_tokens > 20
    assert response.usage.output_tokens
    assert 0 < response.usage.output_tokens <= 16
    assert response.provider_data is not None
    assert response.provider_data["cpu_seconds"] > 0
    assert response.provider_data["latency_seconds"] > response.provider_data["queue_seconds"] >= 0


def test_the_system_message_reaches_the_model(lm: Any) -> None:
    server = pool()._servers[lm.model.removeprefix("embedded/")][0]
    rendered = server.render([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    assert (
        rendered == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert server.token_ids(rendered)[:2] == server.token_ids("<|im_start|>system")


@pytest.mark.parametrize("sampled", [False, True])
def test_each_caller_of_a_batch_gets_the_reply_to_its_own_request(lm: Any, sampled: bool) -> None:
    """In what words is not compared with replies to single requests: the shape of a batch decides the last bits."""
    prompts = [f"{prompt} {'Please. ' * index}" for index, prompt in enumerate(PROMPTS)]

    def ask(index: int, **config: Any) -> Response:
        sampling = {"temperature": 1.0, "top_p": 0.95, "seed": index} if sampled else {}
        return _ask(lm, prompts[index], **sampling, **config)

    def marked(index: int) -> Response:
        only = {"type": "object", "properties": {"id": {"enum": [f"number-{index}"]}}}
        return ask(index, max_tokens=32, response_format={"type": "json_schema", "schema": only})

    alone = [ask(index, max_tokens=1).usage.input_tokens for index in range(len(prompts))]
    assert len(set(alone)) == len(prompts)
    order = list(range(len(prompts))) * 2
    with ThreadPoolExecutor(24) as executor:
        constrained = [executor.submit(marked, index) for index in order]
        together = list(executor.map(ask, order))
    assert [json.loads(each.result().text or "") for each in constrained] == [{"id": f"number-{n}"} for n in order]
    assert [reply.usage.input_tokens for reply in together] == alone * 2
    assert all(reply.text and reply.usage.output_tokens for reply in together)


def test_seed_chooses_the_sample_and_repeats_without_one_differ(lm: Any) -> None:
    # The first reads the prompt and the others its cache, which on some CPUs changes the last bits.
    seeded = [_ask(lm, "Tell a joke.", temperature=1.0, seed=seed).text for seed in (0, 1, 1, 2)]
    assert seeded[1] == seeded[2] != seeded[3]
    three = lm("Invent a name.", temperature=1.0, n=3)
    assert len(set(three)) == 3


def test_stop_and_budget_end_a_reply_and_say_so(lm: Any) -> None:
    counted = _ask(lm, "Count from one to twenty in digits: 1, 2, 3, 4,", max_tokens=5)
    assert counted.finish_reason == "length"
    assert counted.usage.output_tokens == 5
    whole = _ask(lm, PROMPTS[0], max_tokens=40)
    assert whole.text
    assert " " in whole.text
    stop = whole.text.split()[2]
    stopped = _ask(lm, PROMPTS[0], max_tokens=40, stop=(stop,))
    assert stopped.finish_reason == "stop"
    assert stopped.text is not None
    assert stopped.text.strip() == whole.text.split(stop)[0].strip()
    nothing = _ask(lm, PROMPTS[0], max_tokens=40, stop=(whole.text[:1],))
    assert (nothing.text, nothing.finish_reason) == ("", "stop")


SCHEMA = {
    "type": "object",
    "properties": {
        "reasoning": {"type": "string"},
        "kind": {"enum": ["good", "bad"]},
        "score": {"type": "integer"},
        "short": {"type": "string", "maxLength": 12},
        "long": {"type": "string", "maxLength": 70},
        "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
    },
}


def test_constrained_replies_parse_and_keep_the_schema(lm: Any) -> None:
    schema = {"type": "json_schema", "schema": SCHEMA}
    with ThreadPoolExecutor(6) as executor:
        prompts_sent = [
            executor.submit(_ask, lm, prompt, max_tokens=240, response_format=schema, temperature=t, seed=0)
            for prompt in PROMPTS[:3]
            for t in (0.0, 0.8)
        ]
        replies = [each.result() for each in prompts_sent]
    assert all(json.loads(reply.text or "") for reply in replies)
    # Of a reply that the budget cut, only the beginning is there; how many are cut is the model's doing.
    whole = [reply for reply in replies if reply.finish_reason == "stop"]
    assert len(whole) >= 2
    for reply in whole:
        assert reply.text is not None
        value = json.loads(reply.text)
        assert list(value) == list(SCHEMA["properties"])
        assert value["kind"] in ("good", "bad")
        assert isinstance(value["score"], int)
        assert len(value["short"]) <= 12
        assert len(value["long"]) <= 70
        assert 1 <= len(value["tags"]) <= 2
        # No free white space: as json.dumps writes it, but for escapes that have two spellings.
        assert "\n" not in reply.text


def test_a_constrained_reply_that_the_budget_cuts_is_closed_and_marked(lm: Any) -> None:
    schema = {
        "type": "json_schema",
        "schema": {"type": "object", "properties": {"essay": {"type": "string", "minLength": 90}}},
    }
    reply = _ask(lm, "Write a long essay about rain.", max_tokens=12, response_format=schema)
    assert reply.finish_reason == "length"
    assert reply.text
    assert len(json.loads(reply.text)["essay"]) > 8


CALLS = calls_schema(
    [
        Function(
            "weather.at",
            "The weather of a place.",
            {
                "type": "object",
                "properties": {
                    "place": {"type": "string"},
                    "day": {"type": "string", "format": "date"},
                    "units": {"type": "array", "items": {"enum": ["C", "F"]}},
                    "hours": {"type": "integer", "minimum": 1, "maximum": 48},
                },
                "required": ["place"],
            },
        ),
        Function("stop", "Stop.", {"type": "object", "properties": {}}),
    ]
)


@pytest.mark.parametrize("syntax", ["json", "python"])
def test_at_any_temperature_only_valid_calls_can_be_written(lm: Any, syntax: Syntax) -> None:
    if syntax == "python":
        response_format = grammar_format(python_calls_grammar(CALLS, 64))
    else:
        response_format = {"type": "json_schema", "json_schema": {"name": "calls", "schema": CALLS}}

    def ask(seed: int) -> str:
        text: str = lm(
            PROMPTS[seed % len(PROMPTS)],
            response_format=response_format,
            temperature=1.0,
            seed=seed,
            max_tokens=64,
        )[0]
        return text

    with ThreadPoolExecutor(16) as executor:
        replies = list(executor.map(ask, range(16)))
    calls = [call for reply in replies for call in parse_calls(reply, syntax)]
    assert calls
    for call in calls:
        assert call.name in ("weather.at", "stop")
        assert set(call.arguments) <= {"place", "day", "units", "hours"}
        assert call.arguments.get("hours", 1) in range(1, 49)


def test_dspy_programs_get_their_fields(lm: Any) -> None:
    with dspy.context(lm=lm.copy(max_tokens=96), adapter=dspy.JSONAdapter()):
        prediction = dspy.ChainOfThought("question -> answer, sure: bool")(question="What is the capital of France?")
    assert isinstance(prediction.sure, bool)
    assert isinstance(prediction.answer, str)


def test_beyond_the_context_window_is_dspys_own_error(lm: Any) -> None:
    with pytest.raises(ContextWindowExceededError, match=r"8192 or more tokens.*context window of 8192"):
        _ask(lm, "word " * 9000)
    with pytest.raises(ContextWindowExceededError):
        _ask(lm, "hello", max_tokens=8190)


def test_what_cannot_be_done_is_refused_not_dropped(lm: Any) -> None:
    tool = FunctionTool(name="f", description="d", parameters={"type": "object", "properties": {}})
    with pytest.raises(LMUnsupportedFeatureError, match="tools"):
        lm(Request(model=lm.model, messages=(Message.user("hi"),), tools=(tool,)))
    with pytest.raises(LMUnsupportedFeatureError):
        _ask(lm, "hi", response_format={"type": "json_schema", "schema": {"type": "tuple"}})
    with pytest.raises(UnsupportedModelError, match="no model"):
        EmbeddedEngine().complete(Request(model="embedded/nope", messages=(Message.user("hi"),)))


def test_async_calls_are_batched_and_a_cancelled_one_leaves(lm: Any) -> None:
    async def main() -> list[list[str]]:
        long = asyncio.create_task(lm.acall("Write a very long story.", max_tokens=4000))
        await asyncio.sleep(0.5)
        replies = await asyncio.gather(*(lm.acall(prompt) for prompt in PROMPTS))
        long.cancel()
        with pytest.raises(asyncio.CancelledError):
            await long
        return replies

    assert all(reply[0] for reply in asyncio.run(main()))
    server = pool()._servers[lm.model.removeprefix("embedded/")][0]
    for _ in range(100):
        if not server.busy:
            break
        threading.Event().wait(0.05)
    assert not server.busy
    assert pool()._users[lm.model.removeprefix("embedded/")] == 0


def test_a_failing_request_fails_alone_and_the_server_lives(lm: Any, student: str) -> None:
    with pool().lease(student) as server:
        good = [server.submit(server.render([{"role": "user", "content": p}]), Sampling(8)) for p in PROMPTS[:2]]
        bad = server.submit("x", Sampling(8, grammar=Grammar("root ::= undefined_rule", {})))
        with pytest.raises(PipelineError, match="undefined_rule"):
            bad.result(timeout=60)
        assert all(future.result(timeout=60).output_tokens for future in good)
    assert _ask(lm, "Still there?").text


def test_programs_save_and_load_as_json(lm: Any, tmp_path: Path) -> None:
    program = dspy.Predict("question -> answer")
    program.lm = lm
    program.save(tmp_path / "program.json")
    state = json.loads((tmp_path / "program.json").read_text())
    assert state["lm"]["engine"] == {"class": "synth_dspy.models.embedded.engine:EmbeddedEngine", "state": {}}
    again = dspy.Predict("question -> answer")
    again.load(tmp_path / "program.json", allow_unsafe_lm_state=True)
    assert isinstance(again.lm.engine, EmbeddedEngine)
    assert again.lm.model == lm.model
    assert _ask(again.lm, PROMPTS[0]).text == _ask(lm, PROMPTS[0]).text


def test_a_tampered_engine_state_is_refused() -> None:
    with pytest.raises(SetupError, match="unknown keys"):
        EmbeddedEngine.load_state({"path": "/etc"})


def test_idle_models_leave_when_memory_is_short(student: str, tmp_path: Path) -> None:
    first, second = tmp_path / "a.gguf", tmp_path / "b.gguf"
    for link in (first, second):
        link.symlink_to(resolve(student))
    models = ModelPool(memory_gib=1.5, settings=ServerSettings(kv_cache_gib=1))
    try:
        for path in (first, second):
            lm = dspy.LM(f"embedded/{path}", engine=EmbeddedEngine(models), cache=False)
            assert _ask(lm, "Hi").text
        assert models.loaded() == [str(second)]
    finally:
        models.close()


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "junk.gguf"
    path.write_bytes(b"not a model")
    with pytest.raises(LMUnsupportedModelError, match="not a GGUF file"):
        embedded_lm(str(path))("hi")


def test_a_damaged_model_is_named_before_it_can_crash_the_reader(student: str, tmp_path: Path) -> None:
    path = tmp_path / "half.gguf"
    path.write_bytes(resolve(student).read_bytes()[:40_000_000])
    with pytest.raises(LMUnsupportedModelError, match="cut short"):
        embedded_lm(str(path))("hi")


def test_a_process_exits_by_itself_and_asks_no_network(student: str) -> None:
    script = f"""
        import socket, threading
        connect = socket.socket.connect
        def guarded(self, address):
            if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
                raise AssertionError(f"connects to {{address}}")
            return connect(self, address)
        socket.socket.connect = guarded
        socket.getaddrinfo = None
        from synth_dspy.models.offline import quiet_libraries
        quiet_libraries(offline=True)
        from synth_dspy.models.embedded.engine import embedded_lm
        lm = embedded_lm({student!r}, max_tokens=4)
        print(lm("Hi")[0])
        threading.Thread(target=lm, args=("Write a book.",), kwargs={{"max_tokens": 4000}}, daemon=True).start()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_tokenizer_that_is_kept_is_the_files_own(student: str) -> None:
    import openvino_genai

    path = readable(resolve(student))
    own, kept = openvino_genai.Tokenizer(str(path)), open_tokenizer(path)
    messages = [
        {"role": "system", "content": "Be brief.  "},
        {"role": "user", "content": "Größe: 12\n\n<|im_end|> 中文"},
    ]
    text = own.apply_chat_template(messages, True)
    assert kept.apply_chat_template(messages, True) == text
    ids = own.encode(text, add_special_tokens=False).input_ids.data[0].tolist()
    assert kept.encode(text, add_special_tokens=False).input_ids.data[0].tolist() == ids
    assert kept.decode(ids) == own.decode(ids)
    assert kept.get_eos_token_id() == own.get_eos_token_id()
