"""Trainings in SageMaker's training jobs: the real entry point in a temporary /opt/ml, with S3 on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dspy
import pytest
from s3_server import account, s3_server
from sagemaker_double import SageMaker, sagemaker

import synth_dspy
from synth_dspy.core.aws_record import recorded
from synth_dspy.core.budget import Budget
from synth_dspy.core.config import SageMaker as Settings
from synth_dspy.core.errors import ArmError, BudgetReached, SetupError
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.s3.objects import addresses_in
from synth_dspy.evaluation.spending import spending_of
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
        account(S3=storage, SAGEMAKER=double.url, CLOUDWATCH_LOGS=double.url),
    ):
        yield double


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


def jobs(run: Path, said: list[str], ledger: Ledger | None = None, **settings: Any) -> SageMakerJobs:
    return SageMakerJobs(Settings(**settings), S3, ROLE, run, said.append, ledger=ledger, poll_s=0.05)


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
    assert not addresses_in(S3)
    assert recorded(run) == []


@pytest.mark.slow
def test_a_failure_in_the_container_is_its_sentence(cloud: SageMaker, base: Path, tmp_path: Path) -> None:
    run, said = tmp_path / "run-2", []
    folder = write_training(base, run / "adapters" / "sft-2", reward="rewards:nothing", method="grpo")
    with pytest.raises(ArmError, match=r"^grpo needs training.options.grpo.reward, a function of the workspace"):
        jobs(run, said)(folder).run()
    clean(run, said.append)
    assert not addresses_in(S3)


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
        assert not addresses_in(S3)
    finally:
        cloud.runs = True


def test_a_job_gets_what_is_left_of_the_budget_and_its_cost_counts(
    cloud: SageMaker, base: Path, tmp_path: Path
) -> None:
    run, said = tmp_path / "run-6", []
    folder = write_training(base, run / "adapters" / "sft-6")
    cloud.runs = False

    def end_jobs(stopped: threading.Event) -> None:
        """Let jobs run for their longest time, of which half is billed."""
        while not stopped.wait(0.02):
            for job in [job for name, job in cloud.jobs.items() if "sft-6" in name]:
                if job["TrainingJobStatus"] == "InProgress":
                    billed = job["StoppingCondition"]["MaxRuntimeInSeconds"] // 2
                    job |= {"BillableTimeInSeconds": billed, "TrainingTimeInSeconds": 2 * billed}
                    job |= {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxRuntimeExceeded"}

    stopped = threading.Event()
    thread = threading.Thread(target=end_jobs, args=(stopped,))
    thread.start()
    try:
        none_left = (
            r"of \$1 \(--max-usd\) has no room for 10 minutes of ml\.g5\.xlarge \(at least \$0\.33\): "
            r"\$0\.7500 spent in 0 priced calls and 2 training jobs"
        )
        before = len(cloud.calls("CreateTrainingJob"))
        for _ in range(2):  # the second start makes no job
            with Ledger(run / "ledger.sqlite", budget=Budget(max_usd=1.0)) as ledger:
                with pytest.raises(BudgetReached, match=none_left):
                    jobs(run, said, ledger, price=2.0)(folder).run()
                (training,) = spending_of(ledger)
                assert (training["role"], training["cost_usd"]) == ("training", 0.75)
        requests = cloud.calls("CreateTrainingJob")[before:]
        assert [request["StoppingCondition"]["MaxRuntimeInSeconds"] for request in requests] == [1800, 900]
        with (
            Ledger(run / "ledger.sqlite", budget=Budget(max_usd=1.0)) as ledger,
            pytest.raises(SetupError, match=r"--max-usd needs the price of ml\.p9\.xlarge"),
        ):
            jobs(run, said, ledger, instance="ml.p9.xlarge")
        clean(run, said.append)
    finally:
        stopped.set()
        thread.join()
        cloud.runs = True


@pytest.mark.slow
def test_a_compile_trains_in_a_job_and_counts_its_cost(
    cloud: SageMaker, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"question": f"How long is notice {n}?", "answer": "thirty days"} for n in range(12)]
    run = synth_dspy.compile_task(
        program=dspy.Predict("question -> answer"),
        trainset=rows,
        arms=["sft"],
        models=dict.fromkeys(("student", "teacher"), f"embedded/{base}"),
        training={"backend": "sagemaker", "options": {"sft": {"parity": 0.0}}},
        aws={"s3": S3, "role": ROLE},
        workspace=tmp_path,
        quick=True,
        max_usd=1.0,
    )
    shown = capsys.readouterr().err
    assert "training: at most 20 min, 1 job on ml.g5.xlarge with 10 minutes of start each, $1.408 an hour" in shown
    assert "at most $1.00 (0.71 hours at $1.408" in shown
    assert "90 seconds billed of 300 (spot saved 70%), about $0.04" in shown
    (name,) = [name for name in cloud.jobs if "sft" in name and run.folder.name in str(cloud.jobs[name])]
    (training,) = run.folder.glob("adapters/sft-*")
    assert weights(training)
    assert run.results["sft"].score.n == run.results["zero_shot"].score.n > 0
    spending = json.loads((run.folder / "measurements.json").read_text())["spending"]
    (spent,) = [role["cost_usd"] for role in spending if role["role"] == "training"]
    assert spent == pytest.approx(90 / 3600 * 1.408)
    assert {made.name for made in recorded(run.folder)} == {name, f"{S3}/{run.folder.name}/sagemaker/"}
    clean(run.folder, [].append)
    assert not addresses_in(S3)


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
