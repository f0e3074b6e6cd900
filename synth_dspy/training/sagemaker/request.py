"""The request for a training job: `CreateTrainingJob`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from synth_dspy.core.config import SageMaker
from synth_dspy.core.s3.client import open_store
from synth_dspy.core.sagemaker import TRAINING_IMAGE, image_address
from synth_dspy.training.sagemaker.contract import FINGERPRINT, NAME, STANDARD_ROOT
from synth_dspy.training.sagemaker.inputs import Place

ENTRY = "synth_dspy.training.sagemaker.container"
IMAGE_SETTING = "training.sagemaker.image"
_COMMAND = (  # at most 256 characters; `exec`, so that SIGTERM reaches Python
    f"C={STANDARD_ROOT}/input/data/code; python3 -m pip install -q $C/*.whl || "
    f"{{ echo The package cannot be installed: see the log of the job. >{STANDARD_ROOT}/output/failure; exit 1; }}; "
    f"exec python3 -m {ENTRY}"
)


def training_job(
    name: str,
    settings: SageMaker,
    role: str,
    place: Place,
    channels: Mapping[str, str],
    *,
    seconds: int,
    fingerprint: str,
    run: Path,
    region: str,
) -> dict[str, Any]:
    """The arguments of `CreateTrainingJob`.

    Args:
        name: the job's.
        settings: machine, image, limits.
        role: ARN of the role that the job takes.
        place: where the training's files lie.
        channels: the folder of each input channel.
        seconds: how long it may run.
        fingerprint: of the spec.
        run: the run's folder.
        region: where the job runs.
    """
    stopping = {"MaxRuntimeInSeconds": seconds}
    if settings.spot:
        stopping["MaxWaitTimeInSeconds"] = seconds + round(3600 * settings.wait_hours)
    request: dict[str, Any] = {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": image_address(settings.image, TRAINING_IMAGE, region, IMAGE_SETTING),
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["/bin/sh", "-c"],
            "ContainerArguments": [_COMMAND],
        },
        "RoleArn": role,
        "HyperParameters": {FINGERPRINT: fingerprint, NAME: place.training},
        "InputDataConfig": [
            {
                "ChannelName": channel,
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"
                    }
                },
            }
            for channel, uri in channels.items()
        ],
        "OutputDataConfig": {"S3OutputPath": place.output, "CompressionType": "NONE"},
        "CheckpointConfig": {"S3Uri": place.checkpoints, "LocalPath": f"{STANDARD_ROOT}/checkpoints"},
        "ResourceConfig": {
            "InstanceType": settings.instance, "InstanceCount": 1, "VolumeSizeInGB": settings.volume_gb
        },
        "StoppingCondition": stopping,
        "EnableManagedSpotTraining": settings.spot,
        "Tags": [{"Key": "made-by", "Value": "synth-dspy"}, {"Key": "run", "Value": run.name}],
    }  # fmt: skip
    if (key := open_store().kms_key) is not None:
        request["OutputDataConfig"]["KmsKeyId"] = key
    if settings.subnets:
        request["VpcConfig"] = {"Subnets": [*settings.subnets], "SecurityGroupIds": [*settings.security_groups]}
    return request
