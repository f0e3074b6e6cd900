"""A tuned model behind an endpoint of SageMaker, back in its program; its plan, its update and its removal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import account, s3_server
from sagemaker_double import SageMaker, sagemaker
from servers import Behaviour, serving
from test_deploy import make_run
from tiny import tiny_model

from synth_dspy import load
from synth_dspy.cli import aws as aws_cli
from synth_dspy.cli import deploy as deploy_cli
from synth_dspy.core.aws_record import FILE, Made, record, recorded
from synth_dspy.core.errors import SetupError
from synth_dspy.core.s3.objects import addresses_in, write_text
from synth_dspy.pipeline.cloud import sagemaker as endpoints
from synth_dspy.pipeline.cloud import sagemaker_removal
from synth_dspy.pipeline.cloud.deploy import deploy

ROLE = "arn:aws:iam::123456789012:role/host"
S3 = "s3://bucket/models"
QUESTION = {"question": "Which law governs the lease?", "document": "lease"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SageMaker]:
    """S3, SageMaker before a model that answers "Oregon", and Bedrock for embeddings."""
    from bedrock_double import bedrock

    with (
        serving(Behaviour(reply="Oregon")) as server,
        sagemaker(server.url) as double,
        bedrock(server.url) as embeddings,
        s3_server(tmp_path_factory.mktemp("s3")) as storage,
        account(
            S3=storage,
            BEDROCK_RUNTIME=embeddings.url,
            **dict.fromkeys(("SAGEMAKER", "SAGEMAKER_RUNTIME", "CLOUDWATCH"), double.url),
        ) as patch,
    ):
        patch.setattr(endpoints.SageMakerEndpoint.__init__, "__kwdefaults__", {"poll_s": 0.01})
        patch.setattr(sagemaker_removal, "POLL_S", 0.01)
        yield double


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "tiny")


def words(run: Path, *more: str) -> list[str]:
    return ["sagemaker", f"{run}:sft", "--s3", S3, "--role", ROLE, *more]


def test_a_tuned_model_answers_in_its_program_from_an_endpoint(
    stack: SageMaker, base: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(workspace)
    run = make_run(tmp_path, workspace, "embedded/smollm2-135m-instruct", tuned=base)
    deploy_cli.main(words(run))
    captured = capsys.readouterr()
    folder = captured.out.splitlines()[0]
    assert folder == str(run / "programs" / "sft-sagemaker")
    assert "$1.408 an hour (list price, us-east-1, 2025) for 1 ml.g5.xlarge" in captured.err
    (name,) = stack.endpoints
    assert load(folder)(**QUESTION).answer == "Oregon"
    (call,) = stack.calls("InvokeEndpoint")
    assert (call["EndpointName"], call["max_tokens"], call["temperature"]) == (name, 48, 0.0)
    stack.faults = [(424, "ModelError", "Received server error (500) from primary")]
    assert load(folder)(question="Whose law governs it?", document="lease").answer == "Oregon"  # at the second attempt
    deploy_cli.main(words(run))  # finds the endpoint
    assert len(stack.calls("CreateEndpoint")) == 1
    assert not stack.calls("UpdateEndpoint")

    capsys.readouterr()
    aws_cli.main(["clean", str(run)])
    assert capsys.readouterr().out.endswith("nothing is left\n")
    assert not any((stack.endpoints, stack.configs, stack.models))
    assert not addresses_in(S3)
    with pytest.raises(SetupError, match=r"The endpoint of sagemaker/contract-qa-sft-\w+ does not exist in us-east-1"):
        load(folder)(question="Who lets it?", document="lease")


def test_a_named_endpoint_is_updated_and_an_alarm_rolls_it_back(
    stack: SageMaker, base: Path, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(workspace)
    first = make_run(tmp_path / "first", workspace, "embedded/smollm2-135m-instruct", tuned=base)
    other = tiny_model(tmp_path / "other", seed=3)
    second = make_run(tmp_path / "second", workspace, "embedded/smollm2-135m-instruct", tuned=other)
    deploy_cli.main(words(first, "--endpoint", "contracts"))
    deploy_cli.main(words(second, "--endpoint", "contracts"))
    (update,) = stack.calls("UpdateEndpoint")
    assert update["DeploymentConfig"]["AutoRollbackConfiguration"] == {
        "Alarms": [{"AlarmName": "contracts-server-errors"}]
    }
    about = json.loads((second / "programs" / "sft-sagemaker" / "about.json").read_text())
    student = about["config"]["models"]["student"]
    assert student.startswith("sagemaker/contracts@")
    assert load(second / "programs" / "sft-sagemaker")(**QUESTION).answer == "Oregon"
    assert stack.calls("InvokeEndpoint")[-1]["EndpointName"] == "contracts"

    stack.rolls_back = True
    with pytest.raises(SetupError, match=r"rolled the endpoint contracts back to the weights before"):
        deploy_cli.main(words(first, "--endpoint", "contracts", "--alarms", "contracts-server-errors"))
    stack.rolls_back = False
    capsys.readouterr()
    aws_cli.main(["clean", str(first)])
    assert "contracts@" in (printed := capsys.readouterr().out)
    assert "serves other weights by now: left" in printed
    assert set(stack.endpoints) == {"contracts"}
    aws_cli.main(["clean", str(second)])
    assert not any((stack.endpoints, stack.configs, stack.models, stack.alarms))
    assert not addresses_in(S3)


def test_what_cannot_be_hosted_is_one_sentence(
    stack: SageMaker, base: Path, workspace: Path, tmp_path: Path, capsys: Any
) -> None:
    run = make_run(tmp_path, workspace, f"embedded/{base}")
    program = run / "programs" / "sft"
    stack.endpoint_failure = "CannotStartContainerError"
    backend = endpoints.SageMakerEndpoint(endpoints.Hosting(ROLE))
    with pytest.raises(SetupError, match=r"did not come up \(CannotStartContainerError\): `aws clean` removes it"):
        deploy(program, backend, S3, print)
    stack.endpoint_failure = ""
    aws_cli.main(["clean", str(run)])
    assert not stack.endpoints
    foreign = {"EndpointName": "theirs", "EndpointConfigName": "c", "EndpointStatus": "InService"}
    stack.endpoints["theirs"] = {**foreign, "EndpointArn": "arn:aws:sagemaker:us-east-1:1:endpoint/theirs"}
    with pytest.raises(SetupError, match=r"The endpoint theirs was not made by this package"):
        deploy(program, endpoints.SageMakerEndpoint(endpoints.Hosting(ROLE, endpoint="theirs")), S3, print)
    stack.endpoints.clear()
    aws_cli.main(["clean", str(run)])


def test_plans_state_prices_and_the_least_policies(
    stack: SageMaker, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(workspace)
    sent = len(stack.requests)
    place = ["--aws.s3", "s3://mine/place", "--aws.role", ROLE]
    aws_cli.main(["plan", "train", "sagemaker", "contract_qa", *place])
    text = capsys.readouterr().out
    assert "$1.408 an hour (list price, us-east-1, 2025), less on spot; at most $5.63 for each job" in text
    own, role, trust = (json.loads(part.partition("\n\n")[0]) for part in _policies(text))
    allowed = {(action, each) for line in own["Statement"] for action in line["Action"] for each in line["Resource"]}
    assert ("sagemaker:StopTrainingJob", "arn:aws:sagemaker:us-east-1:*:training-job/synth-dspy-*") in allowed
    assert ("iam:PassRole", ROLE) in allowed
    assert "*" not in {resource for _, resource in allowed}
    assert any("huggingface-pytorch-training" in each for line in role["Statement"] for each in line["Resource"])
    assert trust["Statement"][0]["Principal"] == {"Service": ["sagemaker.amazonaws.com"]}
    priced = ["--training.sagemaker.instance", "ml.p5.48xlarge"]
    aws_cli.main(["plan", "train", "sagemaker", "contract_qa", *place, *priced])
    assert "its price is not known here: set training.sagemaker.price" in capsys.readouterr().out
    with pytest.raises(SetupError, match=r"training.backend = sagemaker needs aws.s3 and aws.role"):
        aws_cli.main(["plan", "train", "sagemaker", "contract_qa"])
    aws_cli.main(["plan", "deploy", "sagemaker", "contract_qa:champion", "--s3", S3, "--role", ROLE, "--price", "2"])
    text = capsys.readouterr().out
    assert "$2 an hour (as set) for 1 ml.g5.xlarge, until `aws clean`" in text
    assert "sagemaker:UpdateEndpoint" not in text
    named = ["--s3", S3, "--role", ROLE, "--endpoint", "contracts"]
    aws_cli.main(["plan", "deploy", "sagemaker", "contract_qa:champion", *named])
    assert "alarm:contracts-server-errors" in capsys.readouterr().out
    assert len(stack.requests) == sent


def _policies(text: str) -> list[str]:
    return [part.partition("\n")[2] for part in text.split("\npolicy, ")[1:]]


def test_what_somebody_else_noted_is_removed_only_with_trust(stack: SageMaker, tmp_path: Path, capsys: Any) -> None:
    write_text("s3://bucket/precious/data.csv", "mine")
    (tmp_path / FILE).write_text('{"kind": "s3", "name": "s3://bucket/precious/", "region": "us-east-1"}\n')
    with pytest.raises(SetupError, match=r"(?s)--trust allows it.*s3 s3://bucket/precious/ in us-east-1: is removed"):
        aws_cli.main(["clean", str(tmp_path)])
    assert addresses_in("s3://bucket/precious")
    aws_cli.main(["clean", str(tmp_path), "--trust"])
    assert not addresses_in("s3://bucket/precious")
    record(tmp_path, Made("s3", "s3://bucket/mine/", "us-east-1"))
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / FILE).write_bytes((tmp_path / FILE).read_bytes())
    with pytest.raises(SetupError, match=r"--trust allows it"):  # a note is valid where it was written
        aws_cli.main(["clean", str(copy)])
    aws_cli.main(["clean", str(tmp_path)])
    assert recorded(tmp_path) == []
    capsys.readouterr()
