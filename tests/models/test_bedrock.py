"""Bedrock's models: shapes of requests as botocore's model of the service has them, errors, batch jobs."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import dspy
import pytest
from bedrock_double import Bedrock, bedrock
from botocore.validate import ParamValidator
from dspy import lm15
from s3_server import KEY, SECRET, s3_server
from servers import Behaviour, Server, serving

from synth_dspy.core import aws
from synth_dspy.core.aws_record import Made, forget, record, recorded
from synth_dspy.core.errors import ModelError, SetupError
from synth_dspy.core.executor import Executor
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import measure
from synth_dspy.models import roles
from synth_dspy.models.bedrock import calls
from synth_dspy.models.bedrock.batch import BatchEngine, job_request
from synth_dspy.models.bedrock.converse import from_converse, to_converse
from synth_dspy.models.bedrock.engine import BedrockEngine
from synth_dspy.models.ledger_lm import LedgerEngine, LedgerLM
from synth_dspy.pipeline.cloud.bedrock import import_request
from synth_dspy.pipeline.cloud.deploy import Upload

NOVA = "bedrock/us.amazon.nova-pro-v1:0"
CLAUDE = "bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0"
LLAMA, UNPRICED = "bedrock/meta.llama3-1-8b-instruct-v1:0", "bedrock/mistral.mistral-7b"
ROLE = "arn:aws:iam::123456789012:role/batch"
SCHEMA = {"type": "object", "properties": {"inner": {"type": "object", "properties": {"a": {"type": "string"}}}}}


def problems(service: str, operation: str, arguments: dict[str, Any]) -> list[str]:
    """What botocore's model of a service has against the arguments of an operation, patterns and lengths included."""
    shape = botocore.session.get_session().get_service_model(service).operation_model(operation).input_shape
    return [ParamValidator().validate(arguments, shape).generate_report(), *_patterns(shape, arguments)]


def _patterns(shape: Any, value: Any) -> Iterator[str]:
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
        for name, inner in value.items():
            yield from _patterns(shape.members[name], inner)
    elif shape.type_name == "list":
        for inner in value:
            yield from _patterns(shape.member, inner)
    elif shape.type_name == "string":
        pattern, longest = shape.metadata.get("pattern"), shape.metadata.get("max", len(value))
        if (pattern and not re.fullmatch(pattern, value)) or len(value) > longest:
            yield f"{shape.name}: {value!r}"
        if shape.enum and value not in shape.enum:
            yield f"{shape.name}: {value!r} is not in {shape.enum}"


def request(model: str = NOVA, messages: tuple[lm15.Message, ...] = (), **settings: Any) -> lm15.Request:
    tools = settings.pop("tools", ())
    given = messages or (lm15.Message.user("What is it?"),)
    return lm15.Request(model, given, tools=tools, config=lm15.Config(**settings))


TOOL = lm15.FunctionTool("look_up", "looks something up", {"type": "object", "properties": {"key": {"type": "string"}}})
TURNS = (
    lm15.Message.developer("Be brief."),
    lm15.Message.user("Look up a."),
    lm15.Message.assistant([lm15.TextPart(" "), lm15.ToolCallPart(id="c1", name="look_up", input={"key": "a"})]),
    lm15.Message("tool", (lm15.ToolResultPart(id="c1", content=(lm15.TextPart("42"),)),)),
    lm15.Message.user("And now?"),
)
JSON = {"response_format": {"type": "json_schema", "schema": SCHEMA}}
REQUESTS = {
    "plain": (request(temperature=2.0, max_tokens=5, top_p=0.5, stop=("x",), seed=1), "none"),
    "further options": (request(top_k=3, extensions={"thinking": {"type": "enabled"}}), "none"),
    "native schema": (request(**JSON), "native"),
    "schema by a tool": (request(**JSON), "tool"),
    "no schema": (request(**JSON), "none"),
    "tools": (request(messages=TURNS, tools=(TOOL,), tool_choice=lm15.ToolChoice("required")), "tool"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_converse_requests_have_the_services_shape(name: str) -> None:
    body = to_converse(*REQUESTS[name])  # type: ignore[arg-type]
    assert not any(problems("bedrock-runtime", "Converse", {"modelId": "amazon.nova-pro-v1:0", **body}))
    assert ("outputConfig" in body, "toolConfig" in body) == (name == "native schema", name.endswith(("tool", "tools")))


def test_turns_alternate_and_native_schemas_are_closed() -> None:
    body = to_converse(request(messages=TURNS, tools=(TOOL,)))
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["system"] == [{"text": "Be brief."}]
    assert [next(iter(block)) for block in body["messages"][2]["content"]] == ["toolResult", "text"]
    native = to_converse(request(**JSON), "native")["outputConfig"]["textFormat"]["structure"]["jsonSchema"]["schema"]
    assert json.loads(native)["properties"]["inner"]["additionalProperties"] is False
    assert to_converse(request(temperature=2.0))["inferenceConfig"] == {"temperature": 1.0}


def test_control_requests_have_the_services_shape() -> None:
    job = job_request("synth-dspy-0123456789abcdef", "amazon.nova-pro-v1:0", ROLE, "s3://bucket/run/batch/x")
    assert not any(problems("bedrock", "CreateModelInvocationJob", job))
    upload = Upload("a" * 36 + "-0123456789ab", "s3://bucket/run/weights/x/", "LlamaForCausalLM", Path("20260101-1-a"))
    assert not any(
        problems("bedrock", "CreateModelImportJob", import_request(upload, ROLE, f"{upload.name}-1999999999"))
    )


def test_replies_keep_tokens_cost_and_what_ended_them() -> None:
    blocks = [{"reasoningContent": {"reasoningText": {"text": "hm"}}}, {"text": "42"}]
    body = {
        "output": {"message": {"role": "assistant", "content": blocks}},
        "stopReason": "max_tokens",
        "usage": {"inputTokens": 10, "outputTokens": 5},
    }
    response = from_converse(body, NOVA, (), [1e-6, 2e-6])
    assert (response.text, response.finish_reason, response.usage.input_tokens) == ("42", "length", 10)
    assert response.provider_data == {"cost_usd": pytest.approx(2e-5)}
    with pytest.raises(ValueError, match="not one of Converse"):
        from_converse({"output": {}}, NOVA, (), None)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(calls, "_FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(calls, "_COLD_WAIT_S", 0.001)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Server]:
    with serving(Behaviour(respond=lambda body: f"upstream: {body['messages'][-1]['content']}")) as server:
        yield server


@pytest.fixture(scope="module")
def running(upstream: Server) -> Iterator[Bedrock]:
    with bedrock(upstream.url) as double:
        yield double


@pytest.fixture
def double(running: Bedrock) -> Bedrock:
    fresh = Bedrock(running.upstream, port=running.port)
    vars(running).update(vars(fresh))
    return running


def lm(double: Bedrock, model: str = NOVA, **params: Any) -> dspy.LM:
    return roles.lm_for(model, role="teacher", api_base=double.url, **params)


@pytest.mark.parametrize("model", [NOVA, CLAUDE, LLAMA, UNPRICED])
def test_answers_are_those_of_the_model_behind_converse(double: Bedrock, model: str) -> None:
    with measure() as usage:
        assert lm(double, model)("Who?") == ["upstream: Who?"]
    (sent,) = double.calls("Converse")
    assert sent["modelId"] == model.removeprefix("bedrock/")
    assert (usage.cost_usd is None) == (model == UNPRICED)
    assert usage.cost_usd is None or usage.cost_usd > 0


def test_imported_models_are_asked_in_the_chat_format(double: Bedrock) -> None:
    double.models["tuned"] = {"modelArn": "x"}
    tuned = lm(double, "bedrock/arn:aws:bedrock:us-east-1:123456789012:imported-model/tuned", max_tokens=7)
    double.faults = [(429, "ModelNotReadyException", "starting")] * 9  # more often than there are attempts
    assert tuned("Who?") == ["upstream: Who?"]
    sent = double.calls("InvokeModel")[-1]
    assert sent["messages"] == [{"role": "user", "content": "Who?"}]
    assert (sent["max_tokens"], "model" in sent) == (7, False)


ERRORS: dict[str, tuple[tuple[int, str, str], type[Exception], str]] = {
    "throttled": ((429, "ThrottlingException", "Too many tokens"), ModelError, r"was throttled 3 times.*--concurrency"),
    "busy": ((503, "ServiceUnavailableException", "busy"), ModelError, r"failed 3 times, at last with"),
    "behind a proxy": ((502, "", "bad gateway"), ModelError, r"failed 3 times, at last with"),
    "expired": ((403, "ExpiredTokenException", "expired"), SetupError, r"credentials have expired: renew them"),
    "wrong key": ((403, "UnrecognizedClientException", "invalid"), SetupError, r"does not accept the credentials"),
    "no access": ((403, "AccessDeniedException", "You don't have access"), SetupError, r"no access to it in us-east-1"),
    "no permission": (
        (403, "AccessDeniedException", "User: a is not authorized to perform: bedrock:InvokeModel"),
        SetupError,
        r"may not be used with these AWS credentials.*aws plan",
    ),
    "no such model": ((404, "ResourceNotFoundException", "?"), SetupError, r"does not exist in us-east-1"),
    "wrong name": ((400, "ValidationException", "The provided model identifier is invalid."), SetupError, "not exist"),
    "profile": ((400, "ValidationException", "on-demand throughput isn't supported"), SetupError, r"bedrock/us\."),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_sentence(double: Bedrock, name: str) -> None:
    fault, kind, sentence = ERRORS[name]
    double.faults = [fault] * 8
    with pytest.raises(kind, match=sentence) as raised:
        lm(double, attempts=3)("Who?")
    text = str(raised.value)
    assert "\n" not in text
    assert SECRET not in text
    assert len(double.requests) == (3 if kind is ModelError else 1)  # a refusal is not repeated


def test_a_throttled_call_is_answered_in_the_end_and_a_long_prompt_is_a_context_error(double: Bedrock) -> None:
    double.faults = [(429, "ThrottlingException", "slow down")] * 2
    with measure() as usage:
        assert lm(double, attempts=3)("Who?") == ["upstream: Who?"]
    assert (usage.calls, usage.retries) == (1, 2)
    double.faults = [(400, "ValidationException", "Input is too long for requested model.")]
    with pytest.raises(dspy.utils.exceptions.ContextWindowExceededError):
        lm(double)("Who?")


def test_missing_credentials_region_and_package_are_one_sentence_each(
    double: Bedrock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    aws._client.cache_clear()
    with pytest.raises(SetupError, match=r"needs AWS credentials, and none were found: run `aws sso login`"):
        lm(double)("Who?")
    monkeypatch.delenv("AWS_REGION")
    aws._client.cache_clear()
    with pytest.raises(SetupError, match=r"needs a region: set AWS_REGION"):
        lm(double)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(SetupError, match=r"pip install 'synth_dspy\[aws\]'"):
        lm(double)
    aws._client.cache_clear()
    assert not double.requests


@pytest.mark.parametrize("model", ["bedrock/amazon.titan-embed-text-v2:0", "bedrock/cohere.embed-english-v3"])
def test_embedders_return_unit_vectors_in_order(double: Bedrock, model: str) -> None:
    embedder = roles.embedder_for(model, api_base=double.url)
    texts = ["a" * length for length in range(1, 200, 2)]
    vectors = embedder.embed(texts)
    assert vectors.shape == (100, 2)
    assert [round(float(x / y)) for x, y in vectors] == [len(text) for text in texts]
    assert len(double.requests) == (100 if "titan" in model else 2)
    with pytest.raises(SetupError, match="titan-embed"):
        roles.embedder_for(NOVA)


# --- batch jobs


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        aws._client.cache_clear()  # of a server before
        yield address


@pytest.fixture
def s3(storage: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", storage)
    return "s3://bucket/some/folder"


@pytest.fixture
def batched(double: Bedrock, s3: str, tmp_path: Path) -> Iterator[tuple[Ledger, Any]]:
    (tmp_path / "run").mkdir()
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        yield ledger, lambda **settings: batch_lm(double, ledger, s3, **settings)


def batch_lm(double: Bedrock, ledger: Ledger, s3: str, model: str = CLAUDE, **settings: Any) -> dspy.LM:
    settings = {"minimum": 5, "quiet_s": 0.1, "poll_s": 0.02, **settings}
    engine = BatchEngine(BedrockEngine(endpoint=double.url), s3=f"{s3}/runs", role=ROLE, **settings)
    return LedgerLM(model, engine=LedgerEngine(engine, ledger=ledger, role="teacher"))


def ask(teacher: dspy.LM, count: int) -> list[Any]:
    return [outcome.unwrap()[0] for outcome in Executor(32).map(lambda n: teacher(f"q{n}"), range(count))]


def test_calls_become_one_job_at_batch_prices(double: Bedrock, batched: Any) -> None:
    ledger, make = batched
    with measure() as usage:
        assert ask(make(), 12) == [f"upstream: q{n}" for n in range(12)]
    assert len(double.calls("CreateModelInvocationJob")) == 1
    assert not double.calls("Converse")
    in_batches = usage.cost_usd
    with measure() as usage:
        assert roles.lm_for(CLAUDE, role="teacher", api_base=double.url)("q0") == ["upstream: q0"]
    assert in_batches == pytest.approx(12 * usage.cost_usd / 2)
    assert ask(make(), 12)  # from the ledger
    assert len(double.calls("CreateModelInvocationJob")) == 1
    assert not list((ledger.path.parent / "bedrock").glob("*"))
    assert {made.kind for made in recorded(ledger.path.parent)} == {"s3", "bedrock-batch"}


def test_few_calls_and_unanswered_ones_are_made_at_once(double: Bedrock, batched: Any) -> None:
    _, make = batched
    assert ask(make(), 3) == ["upstream: q0", "upstream: q1", "upstream: q2"]
    assert not double.calls("CreateModelInvocationJob")
    double.unanswered = 4
    assert ask(make(), 12) == [f"upstream: q{n}" for n in range(12)]
    assert len(double.calls("Converse")) == 3 + 4


class Killed(BatchEngine):
    """Its process is killed when the job has been made."""

    def _follow(self, job: Any, *_: Any) -> None:
        self._arn(job)
        self.made.set()


def test_a_killed_run_waits_for_its_job_when_it_is_resumed(double: Bedrock, s3: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        killed = Killed(BedrockEngine(endpoint=double.url), s3=s3, role=ROLE, quiet_s=0.2, minimum=5)
        killed.made = threading.Event()  # type: ignore[attr-defined]
        teacher = LedgerLM(CLAUDE, engine=LedgerEngine(killed, ledger=ledger, role="teacher"))
        for number in range(12):
            threading.Thread(target=lambda n: teacher(f"q{n}"), args=(number,), daemon=True).start()
        assert killed.made.wait(20)  # type: ignore[attr-defined]
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        assert ask(batch_lm(double, ledger, s3), 14) == [f"upstream: q{n}" for n in range(14)]
    assert len(double.calls("CreateModelInvocationJob")) == 1
    assert len(double.calls("Converse")) == 2  # new, and too few for a job


def test_a_failed_job_is_one_sentence_and_the_next_run_makes_another(double: Bedrock, s3: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    double.job_status = "Failed"
    told = r"ended as Failed \(the double's reason\): mend that and resume the run"
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger, pytest.raises(SetupError, match=told):
        ask(batch_lm(double, ledger, s3), 12)
    double.job_status = "Completed"
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        assert ask(batch_lm(double, ledger, s3), 12) == [f"upstream: q{n}" for n in range(12)]
    assert len(double.calls("CreateModelInvocationJob")) == 2


def test_batches_need_bedrock_and_a_ledger(double: Bedrock, s3: str) -> None:
    batch = {"s3": s3, "role": ROLE}
    with pytest.raises(SetupError, match=r"Batch jobs are Bedrock's, and the teacher is openai/x"):
        roles.lm_for("openai/x", role="teacher", api_base=double.url, batch=batch)
    with pytest.raises(SetupError, match=r"need a run's ledger"):
        roles.lm_for(CLAUDE, role="teacher", api_base=double.url, batch=batch)("Who?")


def test_the_record_of_what_was_made_is_kept_until_it_is_removed(tmp_path: Path) -> None:
    first, second = Made("s3", "s3://a/b/", "us-east-1"), Made("bedrock-model", "m", "us-east-1")
    for made in (first, second, first):
        record(tmp_path, made)
    assert recorded(tmp_path) == [first, second]
    forget(tmp_path, first)
    assert recorded(tmp_path) == [second]
    (tmp_path / "aws.jsonl").write_text("{")
    with pytest.raises(SetupError, match=r"aws.jsonl, which lists what the run made on AWS, cannot be read"):
        recorded(tmp_path)
