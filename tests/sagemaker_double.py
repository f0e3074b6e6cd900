"""A loopback double of SageMaker, and of the parts of CloudWatch that go with it.

Training jobs run their entry point, from the wheel that they were sent, in a folder that stands for /opt/ml: channels
are copied from S3, checkpoints to S3 and back, and the result to S3, as SageMaker does. Endpoints answer by an
OpenAI-compatible server. Every request is checked against botocore's model of the service.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import httpx
from aiohttp import web
from botocore.validate import ParamValidator
from servers import running

ARN = "arn:aws:sagemaker:us-east-1:123456789012"
SERVICES = {"SageMaker": "sagemaker", "Logs_20140328": "logs", "GraniteServiceVersion20100801": "cloudwatch"}
MISSING = (400, "ValidationException", "Requested resource not found.")


class Refusal(Exception):
    """An error that the double answers with: (status, code, message)."""


@dataclass
class SageMaker:
    """The double's state.

    Attributes:
        upstream: the OpenAI-compatible server that endpoints answer by.
        runs: whether training jobs run; otherwise they wait until they are stopped.
        interruptions: the steps after which a job's machine is taken away, in order.
        faults: (status, error code, message) of the next answers, in order.
        endpoint_failure: why endpoints fail, if they do.
        rolls_back: whether updates of endpoints are rolled back.
    """

    upstream: str = ""
    runs: bool = True
    interruptions: list[int] = field(default_factory=list)
    faults: list[tuple[int, str, str]] = field(default_factory=list)
    endpoint_failure: str = ""
    rolls_back: bool = False
    port: int = 0
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    alarms: dict[str, dict[str, Any]] = field(default_factory=dict)
    machines: list[threading.Thread] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def calls(self, operation: str) -> list[dict[str, Any]]:
        """The bodies of the requests of an operation."""
        return [body for name, body in self.requests if name == operation]

    async def answer(self, request: web.Request) -> web.Response:
        prefix, _, operation = request.headers["X-Amz-Target"].partition(".")
        body = json.loads(await request.read() or b"{}")
        _validate(SERVICES[prefix], operation, body)
        self.requests.append((operation, body))
        try:
            if self.faults:
                raise Refusal(*self.faults.pop(0))
            method = getattr(self, re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower())
            return _json(method(body))
        except Refusal as refusal:
            status, code, message = refusal.args
            return _json({"__type": code, "message": message}, status)

    def create_training_job(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["TrainingJobName"]
        if name in self.jobs:
            raise Refusal(400, "ResourceInUse", f"Training job {name} already exists.")
        self.jobs[name] = {
            **{key: value for key, value in body.items() if key not in ("Tags", "EnableNetworkIsolation")},
            "TrainingJobArn": f"{ARN}:training-job/{name}",
            "TrainingJobStatus": "InProgress",
            "SecondaryStatus": "Starting",
            "CreationTime": time.time(),
            "ModelArtifacts": {"S3ModelArtifacts": ""},
        }
        if self.runs:
            machine = threading.Thread(target=Machine(self, self.jobs[name]).run, daemon=True)
            self.machines.append(machine)
            machine.start()
        return {"TrainingJobArn": self.jobs[name]["TrainingJobArn"]}

    def describe_training_job(self, body: dict[str, Any]) -> dict[str, Any]:
        return _get(self.jobs, body["TrainingJobName"])

    def stop_training_job(self, body: dict[str, Any]) -> dict[str, Any]:
        job = _get(self.jobs, body["TrainingJobName"])
        job |= {"TrainingJobStatus": "Stopping" if self.runs else "Stopped", "SecondaryStatus": "Stopped"}
        return {}

    def add_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": body["Tags"]}

    def describe_log_streams(self, body: dict[str, Any]) -> dict[str, Any]:
        names = [name for name in self.logs if name.startswith(body["logStreamNamePrefix"])]
        return {"logStreams": [{"logStreamName": name} for name in names]}

    def get_log_events(self, body: dict[str, Any]) -> dict[str, Any]:
        lines, start = self.logs[body["logStreamName"]], int(body.get("nextToken", "f/0")[2:])
        events = [{"message": line, "timestamp": 0} for line in lines[start : start + 2]]
        return {"events": events, "nextForwardToken": f"f/{start + len(events)}"}

    def create_model(self, body: dict[str, Any]) -> dict[str, Any]:
        return _make(self.models, "ModelName", body)

    def delete_model(self, body: dict[str, Any]) -> dict[str, Any]:
        return _remove(self.models, body["ModelName"])

    def create_endpoint_config(self, body: dict[str, Any]) -> dict[str, Any]:
        _get(self.models, body["ProductionVariants"][0]["ModelName"])
        return _make(self.configs, "EndpointConfigName", body)

    def delete_endpoint_config(self, body: dict[str, Any]) -> dict[str, Any]:
        return _remove(self.configs, body["EndpointConfigName"])

    def create_endpoint(self, body: dict[str, Any]) -> dict[str, Any]:
        _get(self.configs, body["EndpointConfigName"])
        return _make(self.endpoints, "EndpointName", {**body, "EndpointStatus": "Creating"})

    def update_endpoint(self, body: dict[str, Any]) -> dict[str, Any]:
        endpoint = _get(self.endpoints, body["EndpointName"])
        _get(self.configs, body["EndpointConfigName"])
        for alarm in body["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]:
            _get(self.alarms, alarm["AlarmName"])
        endpoint["EndpointStatus"] = "Updating"
        if not self.rolls_back:
            endpoint["EndpointConfigName"] = body["EndpointConfigName"]
        return {"EndpointArn": endpoint["EndpointArn"]}

    def describe_endpoint(self, body: dict[str, Any]) -> dict[str, Any]:
        endpoint = _get(self.endpoints, body["EndpointName"])
        now = dict(endpoint)
        endpoint["EndpointStatus"] = "Failed" if self.endpoint_failure else "InService"
        times = {"CreationTime": 0, "LastModifiedTime": 0}
        reason = {"FailureReason": self.endpoint_failure} if self.endpoint_failure else {}
        return {key: now[key] for key in ("EndpointName", "EndpointArn", "EndpointConfigName", "EndpointStatus")} | {
            **times,
            **reason,
        }

    def delete_endpoint(self, body: dict[str, Any]) -> dict[str, Any]:
        return _remove(self.endpoints, body["EndpointName"])

    def list_tags(self, body: dict[str, Any]) -> dict[str, Any]:
        kind, _, name = body["ResourceArn"].rpartition(":")[2].partition("/")
        return {"Tags": _get(self.endpoints, name).get("Tags", []) if kind == "endpoint" else []}

    def put_metric_alarm(self, body: dict[str, Any]) -> dict[str, Any]:
        self.alarms[body["AlarmName"]] = body
        return {}

    def delete_alarms(self, body: dict[str, Any]) -> dict[str, Any]:
        for name in body["AlarmNames"]:
            self.alarms.pop(name, None)
        return {}

    async def invoke(self, request: web.Request) -> web.Response:
        name, body = request.match_info["endpoint"], await request.json()
        self.requests.append(("InvokeEndpoint", {"EndpointName": name, **body}))
        if self.faults:
            status, code, message = self.faults.pop(0)
            return web.json_response({"Message": message}, status=status, headers={"x-amzn-ErrorType": code})
        if name not in self.endpoints:
            message = f"Endpoint {name} of account 123456789012 not found."
            return web.json_response({"Message": message}, status=400, headers={"x-amzn-ErrorType": "ValidationError"})
        async with httpx.AsyncClient(timeout=600) as client:
            reply = await client.post(f"{self.upstream}/chat/completions", json={**body, "model": name})
        return web.json_response(reply.json(), status=reply.status_code)


class Machine:
    """Runs a training job: /opt/ml in a folder, the entry point as a process."""

    def __init__(self, double: SageMaker, job: dict[str, Any]) -> None:
        self.double, self.job = double, job
        self.s3 = boto3.client("s3")

    def run(self) -> None:
        name = self.job["TrainingJobName"]
        try:
            for start in range(1, 10):
                with tempfile.TemporaryDirectory(prefix="ml-") as folder:
                    root = Path(folder) / "opt" / "ml"
                    status, interrupted = self._train(root, f"{name}/algo-{start}")
                    if not interrupted:
                        self._end(root, status)
                        return
                self.job["SecondaryStatus"] = "Interrupted"
        except BaseException as error:
            self.job |= {"TrainingJobStatus": "Failed", "FailureReason": f"InternalServerError: {error!r}"}

    def _train(self, root: Path, stream: str) -> tuple[int, bool]:
        """Run the entry point once: its exit status, and whether the machine was taken away."""
        job, lines = self.job, self.double.logs.setdefault(stream, [])
        config = root / "input" / "config"
        config.mkdir(parents=True)
        (root / "output").mkdir()
        channels = {channel["ChannelName"]: channel for channel in job["InputDataConfig"]}
        host = {"current_host": "algo-1", "hosts": ["algo-1"]}
        for part, value in (("hyperparameters", job["HyperParameters"]), ("inputdataconfig", channels)):
            (config / f"{part}.json").write_text(json.dumps(value))
        (config / "resourceconfig.json").write_text(json.dumps(host))
        for channel in channels.values():
            place = root / "input" / "data" / channel["ChannelName"]
            self._download(channel["DataSource"]["S3DataSource"]["S3Uri"], place)
        (root / "checkpoints").mkdir()
        self._download(job["CheckpointConfig"]["S3Uri"], root / "checkpoints")
        (wheel,) = (root / "input" / "data" / "code").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root / "site")
        (command,) = job["AlgorithmSpecification"]["ContainerArguments"]
        module = re.search(r"exec python3 -m ([\w.]+)$", command)
        assert module is not None
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        process = subprocess.Popen(
            [sys.executable, "-m", module[1]],
            cwd=root,
            env={**environment, "SYNTH_DSPY_ML_ROOT": str(root), "PYTHONPATH": str(root / "site")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        job["SecondaryStatus"] = "Training"
        after = self.double.interruptions.pop(0) if self.double.interruptions else None
        interrupted = False
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            event = json.loads(line) if line.startswith("{") else {}
            if after is not None and event.get("step") == after:
                interrupted = True
                process.terminate()
            if job["TrainingJobStatus"] == "Stopping":
                process.terminate()
        status = process.wait(120)
        self._upload(root / "checkpoints", job["CheckpointConfig"]["S3Uri"])
        return status, interrupted

    def _end(self, root: Path, status: int) -> None:
        job = self.job
        if job["TrainingJobStatus"] == "Stopping":
            job |= {"TrainingJobStatus": "Stopped", "SecondaryStatus": "Stopped"}
            job |= {"TrainingTimeInSeconds": 60, "BillableTimeInSeconds": 60}
        elif status:
            failure = root / "output" / "failure"
            reason = failure.read_text() if failure.is_file() else ""
            job["FailureReason"] = f"AlgorithmError: {reason}, exit code: {status}"
            job |= {"TrainingJobStatus": "Failed", "SecondaryStatus": "Failed"}
        else:
            place = f"{job['OutputDataConfig']['S3OutputPath']}{job['TrainingJobName']}/output/model/"
            self._upload(root / "model", place)
            job["ModelArtifacts"] = {"S3ModelArtifacts": place}
            job |= {"TrainingTimeInSeconds": 300, "BillableTimeInSeconds": 90}
            job |= {"TrainingJobStatus": "Completed", "SecondaryStatus": "Completed"}

    def _download(self, uri: str, folder: Path) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        for each in self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ()):
            target = folder / each["Key"].removeprefix(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.s3.download_file(bucket, each["Key"], str(target))

    def _upload(self, folder: Path, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.s3.upload_file(str(path), bucket, f"{prefix}{path.relative_to(folder).as_posix()}")


@functools.cache
def _model(service: str) -> Any:
    """The service's model, which takes a second to read."""
    return botocore.session.get_session().get_service_model(service)


def _validate(service: str, operation: str, body: dict[str, Any]) -> None:
    shape = _model(service).operation_model(operation).input_shape
    report = ParamValidator().validate(body, shape)
    assert not report.has_errors(), report.generate_report()


def _get(things: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    if name not in things:
        raise Refusal(*MISSING)
    return things[name]


def _make(things: dict[str, dict[str, Any]], key: str, body: dict[str, Any]) -> dict[str, Any]:
    kind = key.removesuffix("Name")
    if body[key] in things:
        raise Refusal(400, "ValidationException", f"Cannot create already existing {kind.lower()}.")
    arn = f"{ARN}:{kind.lower()}/{body[key]}"
    things[body[key]] = {**body, f"{kind}Arn": arn}
    return {f"{kind}Arn": arn}


def _remove(things: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    _get(things, name)
    del things[name]
    return {}


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(value), status=status, content_type="application/x-amz-json-1.1")


@contextlib.contextmanager
def sagemaker(upstream: str = "") -> Iterator[SageMaker]:
    """Run the double."""
    double = SageMaker(upstream)
    application = web.Application(client_max_size=1 << 26)
    application.router.add_post("/", double.answer)
    application.router.add_post("/endpoints/{endpoint}/invocations", double.invoke)
    with running(application) as double.port:
        try:
            yield double
        finally:
            for machine in double.machines:
                machine.join(130)
