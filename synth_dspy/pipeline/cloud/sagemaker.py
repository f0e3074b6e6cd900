"""Endpoints of Amazon SageMaker: merged weights on S3, served by a stock container in the chat format.

By default every set of weights has an endpoint of its own. A named endpoint is made once, and then updated (blue/green)
to other weights; if an alarm on server errors, or one of the user's, goes off meanwhile, SageMaker goes back.

https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails.html
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth_dspy.core import aws
from synth_dspy.core.aws_record import Made, record
from synth_dspy.core.errors import SetupError
from synth_dspy.core.sagemaker import PREFIX, SERVING_IMAGE, hourly_price, image_address
from synth_dspy.pipeline.cloud.deploy import Say, Upload

VARIANT = "tuned"
"""An update needs the same name before and after."""
BAKE_S = 600
"""Seconds that alarms are watched after all requests go to the new weights."""
START_S = 1800
"""Longest time that a container may take to load the weights."""
_OWN = {"Key": "made-by", "Value": "synth-dspy"}


@dataclass(frozen=True, slots=True)
class Hosting:
    """How an endpoint is hosted.

    Attributes:
        role: ARN of the role that it takes to read the weights.
        instance: the type of its machines.
        count: how many.
        image: address of a container image that serves `/opt/ml/model` in the chat format; None: AWS's for vLLM.
        endpoint: name of an endpoint to make or update; None: one of its own for these weights.
        alarms: names of CloudWatch alarms that roll an update back, beside the one on server errors.
        price: US dollars an hour of one machine, if the list's is not right.
    """

    role: str
    instance: str = "ml.g5.xlarge"
    count: int = 1
    image: str | None = None
    endpoint: str | None = None
    alarms: Sequence[str] = ()
    price: float | None = None

    def hourly(self) -> str:
        """What it costs while it exists."""
        price, source = hourly_price(self.instance, self.price)
        if price is None:
            return f"a price that is not known here, for {self.count} {self.instance}, until `aws clean`"
        return f"${price * self.count:g} an hour ({source}) for {self.count} {self.instance}, until `aws clean`"


class SageMakerEndpoint:
    """Serves weights by an endpoint.

    Args:
        hosting: how.
        poll_s: seconds between two looks at it.
    """

    name = "sagemaker"
    service = "sagemaker"
    architectures: frozenset[str] = frozenset()

    def __init__(self, hosting: Hosting, *, poll_s: float = 30.0) -> None:
        self.hosting = hosting
        self.poll_s = poll_s
        self._client = aws.client("sagemaker")

    def serve(self, upload: Upload, say: Say) -> str:
        """Make or update the endpoint; `sagemaker/<endpoint>`, with the weights' digest after `@` if it was named.

        Raises:
            SetupError: it does not come up, an alarm rolled it back, or AWS refused something.
        """
        region = aws.region_of(self._client)
        endpoint = self.hosting.endpoint or upload.name
        with aws.explained(f"The endpoint {endpoint}"):
            current = describe(self._client, endpoint)
            self._refuse_foreign(endpoint, current)
            record(upload.run, Made("sagemaker-model", upload.name, region))
            self._make(self._client.create_model, model_request(upload, self.hosting, region))
            record(upload.run, Made("sagemaker-config", upload.name, region))
            self._make(self._client.create_endpoint_config, config_request(upload, self.hosting))
            if current is None:
                record(upload.run, Made("sagemaker-endpoint", f"{endpoint}@{upload.name}", region))
                say(f"endpoint {endpoint}: {self.hosting.hourly()}; it starts in about ten minutes")
                names = {"EndpointName": endpoint, "EndpointConfigName": upload.name}
                self._client.create_endpoint(**names, Tags=[_OWN, {"Key": "run", "Value": upload.run.name}])
            elif current["EndpointConfigName"] != upload.name:
                self._update(endpoint, upload, say)
            self._wait(endpoint, upload.name)
        digest = upload.name.rpartition("-")[2]
        return f"{PREFIX}{endpoint}@{digest}" if self.hosting.endpoint else f"{PREFIX}{endpoint}"

    def _refuse_foreign(self, endpoint: str, current: Mapping[str, Any] | None) -> None:
        if current is None:
            return
        if _OWN not in self._client.list_tags(ResourceArn=current["EndpointArn"])["Tags"]:
            raise SetupError(f"The endpoint {endpoint} was not made by this package: name another with --endpoint.")

    def _make(self, create: Any, request: dict[str, Any]) -> None:
        """Make something, unless it exists: its name has the weights' digest."""
        try:
            create(**request)
        except Exception as error:
            if "existing" not in aws.text_of(error):
                raise

    def _update(self, endpoint: str, upload: Upload, say: Say) -> None:
        region = aws.region_of(self._client)
        record(upload.run, Made("sagemaker-endpoint", f"{endpoint}@{upload.name}", region))
        alarm = alarm_request(endpoint)
        record(upload.run, Made("cloudwatch-alarm", alarm["AlarmName"], region))
        aws.client("cloudwatch").put_metric_alarm(**alarm)
        say(f"endpoint {endpoint}: is updated, and goes back to the weights before if {alarm['AlarmName']} goes off")
        self._client.update_endpoint(
            EndpointName=endpoint,
            EndpointConfigName=upload.name,
            DeploymentConfig=deployment([alarm["AlarmName"], *self.hosting.alarms]),
        )

    def _wait(self, endpoint: str, config: str) -> None:
        while True:
            state = describe(self._client, endpoint)
            if state is None:
                raise SetupError(f"The endpoint {endpoint} was removed while it was made: run the same command again.")
            status, why = state["EndpointStatus"], " ".join(str(state.get("FailureReason") or "").split())
            if status == "InService" and state["EndpointConfigName"] == config:
                return
            if status in ("InService", "UpdateRollbackFailed"):
                raise SetupError(
                    f"SageMaker rolled the endpoint {endpoint} back to the weights before ({why or 'an alarm went off'}"
                    "): see the endpoint's log in CloudWatch."
                )
            if status in ("Failed", "OutOfService"):
                raise SetupError(
                    f"The endpoint {endpoint} did not come up ({(why or status).rstrip('.')}): `aws clean` removes it; "
                    "see its log in CloudWatch, then try another --instance or --image."
                )
            time.sleep(self.poll_s)


def describe(client: Any, endpoint: str) -> dict[str, Any] | None:
    """The state of an endpoint, None if there is none."""
    try:
        state: dict[str, Any] = client.describe_endpoint(EndpointName=endpoint)
        return state
    except Exception as error:
        if is_missing(error):
            return None
        raise


def is_missing(error: BaseException) -> bool:
    """Whether SageMaker answered that there is no such thing, for which it has no error code of its own."""
    text = aws.text_of(error).lower()
    return aws.code_of(error) in {*aws.MISSING, "ResourceNotFound"} or "not found" in text or "could not find" in text


def model_request(upload: Upload, hosting: Hosting, region: str) -> dict[str, Any]:
    """The arguments of `CreateModel`."""
    source = {"S3Uri": upload.uri, "S3DataType": "S3Prefix", "CompressionType": "None"}
    return {
        "ModelName": upload.name,
        "ExecutionRoleArn": hosting.role,
        "PrimaryContainer": {
            "Image": image_address(hosting.image, SERVING_IMAGE, region, "--image"),
            "ModelDataSource": {"S3DataSource": source},
        },
        "Tags": [_OWN, {"Key": "run", "Value": upload.run.name}],
    }


def config_request(upload: Upload, hosting: Hosting) -> dict[str, Any]:
    """The arguments of `CreateEndpointConfig`."""
    variant: dict[str, Any] = {
        "VariantName": VARIANT,
        "ModelName": upload.name,
        "InstanceType": hosting.instance,
        "InitialInstanceCount": hosting.count,
        "ModelDataDownloadTimeoutInSeconds": START_S,
        "ContainerStartupHealthCheckTimeoutInSeconds": START_S,
    }
    if hosting.image is None:  # AWS's image needs the driver of CUDA 12.9
        variant["InferenceAmiVersion"] = "al2-ami-sagemaker-inference-gpu-3-1"
    return {
        "EndpointConfigName": upload.name,
        "ProductionVariants": [variant],
        "Tags": [_OWN, {"Key": "run", "Value": upload.run.name}],
    }


def alarm_request(endpoint: str) -> dict[str, Any]:
    """The arguments of `PutMetricAlarm`: any server error within a minute."""
    dimensions = {"EndpointName": endpoint, "VariantName": VARIANT}
    return {
        "AlarmName": f"{endpoint}-server-errors",
        "Namespace": "AWS/SageMaker",
        "MetricName": "Invocation5XXErrors",
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
        "Tags": [_OWN],
    }


def deployment(alarms: Sequence[str]) -> dict[str, Any]:
    """A blue/green update that alarms roll back."""
    return {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
            "TerminationWaitInSeconds": BAKE_S,
            "MaximumExecutionTimeoutInSeconds": START_S + 2 * BAKE_S,
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in alarms]},
    }
