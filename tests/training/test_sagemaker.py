"""Trainings in SageMaker's training jobs: the real entry point in a temporary /opt/ml, with S3 on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_server import KEY, SECRET, s3_server
from sagemaker_double import SageMaker, sagemaker

from synth_dspy.core import aws
from synth_dspy.core.aws_record import recorded
from synth_dspy.core.config import SageMaker as Settings
from synth_dspy.core.errors import ArmError, SetupError
from synth_dspy.pipeline.cloud.clean import clean
from synth_dspy.training.job import Cancelled, TrainingProcess, stop_idle_worker
from synth_dspy.training.sagemaker.job import SageMakerJobs
from tests.tiny import tiny_model

ROLE = "arn:aws:iam::123456789012:role/train"
S3 = "s3://bucket/synth"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SageMaker]:
    with (
        sagemaker() as double,
        s3_server(tmp_path_factory.mktemp("s3")) as storage,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL_S3", storage)
        patch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", double.url)
        patch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", double.url)
        aws._client.cache_clear()
        yield double
        aws._client.cache_clear()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def write_training(base: Path, path: Path, rows: int = 6, **settings: Any) -> Path:
    path.mkdir(parents=True)
    values = [
        {"id": f"r{n}", "source": "", "prompt": [{"role": "user", "content": f"How long is notice {n}?"}],
         "completion": [{"role": "assistant", "content": "thirty days"}]}
        for n in range(rows)
    ]  # fmt: skip
    (path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    spec = {"method": "sft", "model": str(base), "rows": "rows.jsonl", "gguf": "F16", "parity": 0.0, "batch": 1}
    (path / "spec.json").write_text(json.dumps(spec | {"save_steps": 2, "epochs": 2.0} | settings))
    return path


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest()


def jobs(run: Path, said: list[str], **settings: Any) -> SageMakerJobs:
    return SageMakerJobs(Settings(**settings), S3, ROLE, run, said.append, poll_s=0.05)


class Killed(BaseException):
    """In place of the death of this process."""


@pytest.mark.slow
def test_an_interrupted_job_of_a_killed_run_gives_the_adapter_that_is_trained_here(
    cloud: SageMaker, base: Path, tmp_path: Path
) -> None:
    run, said = tmp_path / "run-1", []
    cloud.interruptions = [5]
    folder = write_training(base, run / "adapters" / "sft-1")

    def die(step: int, steps: int) -> None:
        if step == 2:
            raise Killed

    with pytest.raises(Killed):
        jobs(run, said)(folder).run(die)
    steps: list[int] = []
    result = jobs(run, said)(folder).run(lambda step, _: steps.append(step))

    here = write_training(base, tmp_path / "here")
    local = TrainingProcess(here).run()
    stop_idle_worker()
    assert weights(folder) == weights(here)
    assert (result["loss"], result["fingerprint"]) == (local["loss"], local["fingerprint"])
    assert (folder / "model.gguf").stat().st_size > 100_000
    assert len(cloud.calls("CreateTrainingJob")) == 1
    (name,) = cloud.jobs
    lines = [line for stream, log in cloud.logs.items() if stream.startswith(name) for line in log]
    assert "resumes from checkpoint-4\n" in lines
    assert steps[-1] == 12
    assert any("at most $5.63 (4 hours at $1.408" in line for line in said)
    assert any("90 seconds billed of 300 (spot saved 70%), about $0.04" in line for line in said)
    assert any("which was made before" in line for line in said)
    assert jobs(run, said)(folder).run() == result  # nothing is trained again
    (request,) = cloud.calls("CreateTrainingJob")
    assert request["EnableManagedSpotTraining"]
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 14400, "MaxWaitTimeInSeconds": 28800}
    assert all(len(word) <= 256 for word in request["AlgorithmSpecification"]["ContainerArguments"])

    assert clean(run, said.append) == 2
    assert not aws.list_s3(S3)
    assert recorded(run) == []


@pytest.mark.slow
def test_a_failure_in_the_container_is_its_sentence(cloud: SageMaker, base: Path, tmp_path: Path) -> None:
    run, said = tmp_path / "run-2", []
    folder = write_training(base, run / "adapters" / "sft-2", reward="rewards:nothing", method="grpo")
    with pytest.raises(ArmError, match=r"^grpo needs training.options.grpo.reward, a function of the workspace"):
        jobs(run, said)(folder).run()
    clean(run, said.append)
    assert not aws.list_s3(S3)


def test_stopping_a_run_stops_its_job_and_the_next_goes_on(cloud: SageMaker, base: Path, tmp_path: Path) -> None:
    run, said = tmp_path / "run-3", []
    folder = write_training(base, run / "adapters" / "sft-3")
    cloud.runs = False
    try:
        training = jobs(run, said, spot=False)(folder)
        errors: list[BaseException] = []

        def train() -> None:
            try:
                training.run()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=train)
        thread.start()
        while not any("waits for" in line for line in said):
            thread.join(0.05)
        assert training.cancel()
        thread.join(20)
        assert isinstance(errors[0], Cancelled)
        (first,) = [name for name in cloud.jobs if "sft-3" in name]
        assert cloud.jobs[first]["TrainingJobStatus"] == "Stopped"
        assert any(f"the training job {first} is being stopped" in line for line in said)
        assert not training.cancel()

        training = jobs(run, said, spot=False, max_hours=1)(folder)
        errors.clear()
        thread = threading.Thread(target=train)
        thread.start()
        while len(names := [name for name in cloud.jobs if "sft-3" in name]) < 2:
            thread.join(0.05)
        second = cloud.jobs[names[-1]]
        assert second["CheckpointConfig"] == cloud.jobs[first]["CheckpointConfig"]
        assert second["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}
        second |= {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"}
        thread.join(20)
        assert "it ran for its longest time: raise training.sagemaker.max_hours" in str(errors[0])
        assert clean(run, said.append) == 3
        assert not aws.list_s3(S3)
    finally:
        cloud.runs = True


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ((400, "AccessDeniedException", "User: x is not authorized to perform: sagemaker:CreateTrainingJob"),
         r"may not be used with these AWS credentials.*`aws plan` prints the policy"),
        ((400, "ExpiredTokenException", "expired"), r"the AWS credentials have expired: renew them"),
        ((400, "ResourceLimitExceeded", "The account-level service limit 'ml.g5.xlarge for spot training job usage' is "
          "0 Instances"), r"was refused: ResourceLimitExceeded: The account-level service limit"),
    ],
)  # fmt: skip
def test_what_aws_refuses_is_one_sentence(
    cloud: SageMaker, base: Path, tmp_path: Path, fault: tuple[int, str, str], sentence: str
) -> None:
    run, said = tmp_path / "run-4", []
    folder = write_training(base, run / "adapters" / "sft-4")
    cloud.faults = [fault]
    with pytest.raises(SetupError, match=sentence):
        jobs(run, said)(folder).run()
    clean(run, said.append)


def test_a_region_without_known_images_asks_for_one(
    cloud: SageMaker, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "mx-central-1")
    folder = write_training(base, tmp_path / "run-5" / "adapters" / "sft-5")
    with pytest.raises(SetupError, match=r"mx-central-1 is not known here: set training.sagemaker.image"):
        jobs(tmp_path / "run-5", [])(folder).run()
