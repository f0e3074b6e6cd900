"""Removes what runs made on SageMaker: training jobs, and endpoints with their configurations, models and alarms."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from synth_dspy.core import aws
from synth_dspy.core.aws_record import Made
from synth_dspy.core.errors import SetupError
from synth_dspy.pipeline.cloud.sagemaker import describe, is_missing

POLL_S = 2.0
STOP_S = 600.0
"""How long a job, or an endpoint that is being made, may take to end."""


def stop_training(made: Made) -> str:
    """Stop a training job and wait until it has ended, as it writes to S3 until then.

    The record of an ended job stays in the account, and costs nothing.
    """
    client = aws.client("sagemaker", region=made.region)
    stopped, end = False, time.monotonic() + STOP_S
    with aws.explained(f"The training job {made.name}"):
        while True:
            try:
                status = client.describe_training_job(TrainingJobName=made.name)["TrainingJobStatus"]
            except Exception as error:
                if not is_missing(error):
                    raise
                return "was never made"
            if status in ("Completed", "Failed", "Stopped"):
                return "training job stopped" if stopped else "training job has ended"
            if status == "InProgress" and not stopped:
                client.stop_training_job(TrainingJobName=made.name)
                stopped = True
            _wait(end, f"The training job {made.name} is still {status.lower()}")


def remove_endpoint(made: Made) -> str:
    """Remove an endpoint, unless it serves other weights by now."""
    client = aws.client("sagemaker", region=made.region)
    endpoint, _, config = made.name.partition("@")
    end = time.monotonic() + STOP_S
    with aws.explained(f"The endpoint {endpoint}"):
        while (state := describe(client, endpoint)) is not None:
            if state["EndpointConfigName"] != config:
                return "endpoint serves other weights by now: left"
            if state["EndpointStatus"] not in ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"):
                client.delete_endpoint(EndpointName=endpoint)
                return "endpoint removed"
            _wait(end, f"The endpoint {endpoint} is {state['EndpointStatus'].lower()}, and cannot be removed")
    return "there is no such endpoint any more"


def remove_config(made: Made) -> str:
    """Remove an endpoint's configuration."""
    client = aws.client("sagemaker", region=made.region)
    return _remove(made, lambda: client.delete_endpoint_config(EndpointConfigName=made.name), "endpoint configuration")


def remove_model(made: Made) -> str:
    """Remove a model, which names the weights and the image."""
    client = aws.client("sagemaker", region=made.region)
    return _remove(made, lambda: client.delete_model(ModelName=made.name), "model")


def remove_alarm(made: Made) -> str:
    """Remove an alarm."""
    client = aws.client("cloudwatch", region=made.region)
    return _remove(made, lambda: client.delete_alarms(AlarmNames=[made.name]), "alarm")


def _remove(made: Made, delete: Callable[[], Any], what: str) -> str:
    with aws.explained(f"The {what} {made.name}"):
        try:
            delete()
        except Exception as error:
            if not is_missing(error):
                raise
            return f"there is no such {what} any more"
    return f"{what} removed"


def _wait(end: float, what: str) -> None:
    if time.monotonic() > end:
        raise SetupError(f"{what}: run the same command again in some minutes.")
    time.sleep(POLL_S)
