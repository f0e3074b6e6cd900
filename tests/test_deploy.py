"""A tuned model on Bedrock, back in its program; the plan of what that needs, and its removal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bedrock_double import Bedrock, bedrock
from s3_server import account, s3_server
from servers import Behaviour, serving
from tiny import tiny_model

from synth_dspy import load
from synth_dspy.cli import aws as aws_cli
from synth_dspy.cli import deploy as deploy_cli
from synth_dspy.core.aws_record import FILE
from synth_dspy.core.config import compile_settings
from synth_dspy.core.errors import SetupError
from synth_dspy.core.run import Run
from synth_dspy.core.s3.objects import addresses_in, read_lines
from synth_dspy.core.workspace import task_file
from synth_dspy.models import roles
from synth_dspy.models.weights.hf_folder import write_gguf
from synth_dspy.pipeline import saved
from synth_dspy.pipeline.cloud import bedrock as importing
from synth_dspy.pipeline.cloud.clean import clean
from synth_dspy.pipeline.cloud.deploy import deploy
from synth_dspy.training.base import load_tokenizer

ROLE = "arn:aws:iam::123456789012:role/import"
S3 = "s3://bucket/models"
EMBEDDER = "bedrock/amazon.titan-embed-text-v2:0"
QUESTION = {"question": "Which law governs the lease?", "document": "lease"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bedrock]:
    """S3, and Bedrock before a model that answers "Oregon"."""
    with (
        serving(Behaviour(reply="Oregon")) as server,
        bedrock(server.url) as double,
        s3_server(tmp_path_factory.mktemp("s3")) as storage,
        account(S3=storage, BEDROCK=double.url, BEDROCK_RUNTIME=double.url),
    ):
        yield double


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "tiny")


def make_run(folder: Path, workspace: Path, student: str, *, tuned: Path | None = None) -> Path:
    """A run as compile leaves it, whose program `sft` runs on tuned weights; its folder."""
    documents = folder / "documents"
    documents.mkdir(parents=True)
    (documents / "lease.txt").write_text("The lease ends in May. It is governed by the laws of Oregon.")
    model = compile_settings(task_file(workspace, "contract_qa"))
    models = {"student": student, "teacher": student, "embedder": EMBEDDER}
    config = model.model_validate({"runs": folder / "runs", "task": {"documents": documents}, "models": models})
    run = Run("contract_qa", folder / "runs" / "contract_qa" / "run-1")
    task = saved.build_task(workspace, "contract_qa", config)
    program = task.program(SimpleNamespace(retriever=None, words=60, noun="document", abstain="", steps="off"))
    if tuned is not None:
        training = run.folder / "adapters" / "sft-0123456789abcdef"
        training.mkdir(parents=True)
        (training / "spec.json").write_text("{}")
        write_gguf(tuned, training / "model.gguf")
        program.set_lm(roles.lm_for(f"embedded/{training / 'model.gguf'}", role="student"))
    saved.save(run, "sft", program, config, workspace)
    return run.folder


def test_a_tuned_model_is_imported_and_answers_in_its_program(
    stack: Bedrock, base: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(importing.BedrockImport.__init__, "__kwdefaults__", {"poll_s": 0.01})
    run = make_run(tmp_path, workspace, "embedded/smollm2-135m-instruct", tuned=base)
    words = ["bedrock", f"{run}:sft", "--s3", S3, "--role", ROLE]
    deploy_cli.main(words)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == str(run / "programs" / "sft-bedrock")
    assert "evaluate" in printed[1]
    (name,) = stack.models
    assert load(printed[0])(**QUESTION).answer == "Oregon"
    (asked,) = [call for call in stack.calls("InvokeModel") if "messages" in call]
    assert asked["modelId"].endswith(f":imported-model/{name}")
    assert (asked["max_tokens"], asked["temperature"]) == (48, 0.0)  # as the embedded student had
    deploy_cli.main(words)  # finds the model
    assert len(stack.calls("CreateModelImportJob")) == 1

    uploaded = addresses_in(f"{S3}/run-1/weights/{name}/")
    assert {uri.rpartition("/")[2] for uri in uploaded} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    texts = {uri.rpartition("/")[2]: "\n".join(read_lines(uri)) for uri in uploaded if uri.endswith(".json")}
    config = json.loads(texts["config.json"])
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]  # for readers of transformers 4
    assert json.loads(texts["tokenizer_config.json"])["chat_template"] == load_tokenizer(base).chat_template

    aws_cli.main(["clean", str(run)])
    assert capsys.readouterr().out.endswith("nothing is left\n")
    assert not stack.models
    assert not addresses_in(S3)
    assert (run / FILE).read_text() == ""
    with pytest.raises(SetupError, match=r"imported-model/.* does not exist in us-east-1"):
        load(printed[0])(**QUESTION)


def test_a_stopped_import_is_taken_up_and_a_failed_one_says_why(
    stack: Bedrock, base: Path, workspace: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path, workspace, f"embedded/{base}")
    program, said = run / "programs" / "sft", []
    stack.import_failure = "the tokenizer is missing"
    backend = importing.BedrockImport(ROLE, poll_s=0.01)
    with pytest.raises(SetupError, match=r"could not import contract-qa-sft-\w+ \(the tokenizer is missing\): mend"):
        deploy(program, backend, S3, said.append)
    uploads = len(said)
    stack.import_failure = ""
    stack.polls = 10**9

    class Stopped(importing.BedrockImport):
        def _wait(self, job: str, name: str) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        deploy(program, Stopped(ROLE), S3, said.append)
    assert len(said) == uploads + 1  # nothing is uploaded twice
    with pytest.raises(SetupError, match=r"is still being imported"):
        clean(run, said.append)
    for job in stack.imports.values():
        job["polls"] = 0
    jobs = len(stack.imports)
    assert deploy(program, backend, S3, said.append).name == "sft-bedrock"
    assert len(stack.imports) == jobs
    assert clean(run, said.append) == 2
    assert not addresses_in(S3)


def test_what_cannot_be_deployed_is_one_sentence(stack: Bedrock, base: Path, workspace: Path, tmp_path: Path) -> None:
    hosted = make_run(tmp_path / "hosted", workspace, "bedrock/amazon.nova-pro-v1:0") / "programs" / "sft"
    backend = importing.BedrockImport(ROLE)
    with pytest.raises(SetupError, match=r"which is hosted: it has no weights to deploy"):
        deploy(hosted, backend, S3, print)
    local = make_run(tmp_path / "local", workspace, f"embedded/{base}") / "programs" / "sft"
    backend.architectures = frozenset({"MistralForCausalLM"})  # type: ignore[misc]
    with pytest.raises(SetupError, match=r"bedrock serves no LlamaForCausalLM; it serves MistralForCausalLM"):
        deploy(local, backend, S3, print)
    with pytest.raises(SetupError, match=r"'bucket' is not an address on S3"):
        deploy(local, backend, "bucket", print)
    stack.faults = [
        (403, "AccessDeniedException", "User: x is not authorized to perform: bedrock:CreateModelImportJob")
    ]
    with pytest.raises(SetupError, match=r"may not be used with these AWS credentials.*`aws plan` prints the policy"):
        deploy(local, importing.BedrockImport(ROLE), S3, print)
    clean(local.parent.parent, print)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere"], "name TASK:VERSION, such as contract_qa:champion, RUN:ARM"),
        (["{run}:dpo"], "has no program of 'dpo'; it has sft"),
        (["contract_qa:v9"], "has no version"),
    ],
)
def test_a_program_that_does_not_exist_is_one_sentence(
    stack: Bedrock, base: Path, workspace: Path, tmp_path: Path, monkeypatch: Any, words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(workspace)
    run = make_run(tmp_path, workspace, f"embedded/{base}")
    named = [word.format(run=run) for word in words]
    with pytest.raises(SetupError, match=sentence):
        deploy_cli.main(["bedrock", *named, "--s3", S3, "--role", ROLE, "--runs", str(tmp_path / "none")])


def test_plans_list_prices_and_the_least_policy(stack: Bedrock, workspace: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(workspace)
    sent = len(stack.requests)
    batch = ["--aws.batch", "--aws.s3", "s3://mine/place", "--aws.role", ROLE]
    teacher = "bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0"
    aws_cli.main(["plan", "compile", "contract_qa", "--models.teacher", teacher, "--models.embedder", EMBEDDER, *batch])
    text = capsys.readouterr().out
    assert "$1.1 and $5.5 for a million tokens in and out" in text
    assert "$0.55 and $2.75 for a million tokens" in text
    own = json.loads(text.partition("policy, yours:\n")[2].partition("\n\npolicy")[0])
    allowed = {
        (action, resource)
        for statement in own["Statement"]
        for action in statement["Action"]
        for resource in statement["Resource"]
    }
    model = "anthropic.claude-haiku-4-5-20251001-v1:0"
    assert {
        ("bedrock:InvokeModel", f"arn:aws:bedrock:us-east-1:*:inference-profile/us.{model}"),
        ("bedrock:InvokeModel", f"arn:aws:bedrock:*::foundation-model/{model}"),
        ("s3:PutObject", "arn:aws:s3:::mine/place/*"),
        ("iam:PassRole", ROLE),
    } <= allowed
    assert {action for action, resource in allowed if resource == "*"} == {"bedrock:ListModelInvocationJobs"}
    aws_cli.main(["plan", "deploy", "bedrock", "contract_qa:champion", "--s3", S3, "--role", ROLE])
    assert "bedrock:CreateModelImportJob" in capsys.readouterr().out
    aws_cli.main(["plan", "compile", "contract_qa"])
    assert capsys.readouterr().out == "This needs nothing on AWS.\n"
    assert len(stack.requests) == sent
    with pytest.raises(SetupError, match=r"neither plan nor clean"):
        aws_cli.main(["price"])


def test_cleaning_a_run_without_anything_on_aws_says_so(tmp_path: Path, capsys: Any) -> None:
    aws_cli.main(["clean", str(tmp_path)])
    assert "has made nothing on AWS" in capsys.readouterr().out
    with pytest.raises(SetupError, match=r"There is no run"):
        aws_cli.main(["clean", str(tmp_path / "none")])
    (tmp_path / FILE).write_text('{"kind": "moon", "name": "m", "region": "r"}\n')
    with pytest.raises(SetupError, match=r"lists a moon, m, which this version cannot remove"):
        aws_cli.main(["clean", str(tmp_path)])
