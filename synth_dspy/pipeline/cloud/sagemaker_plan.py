"""What trainings and endpoints on SageMaker need: resources, prices, and the least policies.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from synth_dspy.core import aws
from synth_dspy.core.config import CompileConfig
from synth_dspy.core.sagemaker import SERVING_IMAGE, TRAINING_IMAGE, hourly_price, image_address
from synth_dspy.pipeline.cloud.policy import STORAGE, Plan, Statement, allow, on_s3, pass_role
from synth_dspy.pipeline.cloud.sagemaker import Hosting
from synth_dspy.training.sagemaker.logs import GROUP
from synth_dspy.training.sagemaker.request import IMAGE_SETTING

SERVICE = "sagemaker.amazonaws.com"
_IMAGE = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[a-z.]+/([^:@]+)")


def add_training(plan: Plan, config: CompileConfig) -> None:
    """Add what the training jobs of a run need to its plan.

    Raises:
        SetupError: the region's images are unknown here.
    """
    settings, s3, role = config.training.sagemaker, config.aws.s3, config.aws.role
    assert s3 is not None  # checked with the settings
    assert role is not None
    price, source = hourly_price(settings.instance, settings.price)
    text = "its price is not known here: set training.sagemaker.price"
    if price is not None:
        most = f"at most ${price * settings.max_hours:.2f} for each job of {settings.max_hours:g} hours"
        text = f"${price:g} an hour ({source}){', less on spot' if settings.spot else ''}; {most}"
    image = image_address(settings.image, TRAINING_IMAGE, _region(), IMAGE_SETTING)
    plan.resources += [
        ("training jobs, one for each arm and fold that trains weights", settings.instance, text),
        ("their image", image, ""),
        ("rows, weights, checkpoints", s3, STORAGE),
    ]
    jobs = ["sagemaker:CreateTrainingJob", "sagemaker:DescribeTrainingJob", "sagemaker:StopTrainingJob"]
    streams = _arn("logs", f"log-group:{GROUP}:*")
    plan.statements += [
        allow([*jobs, "sagemaker:AddTags"], [_arn("sagemaker", "training-job/synth-dspy-*")]),
        allow(["logs:DescribeLogStreams", "logs:GetLogEvents"], [streams]),
        pass_role(role, SERVICE),
    ]
    if not config.aws.batch:
        plan.statements += on_s3(s3, writes=True)
        plan.role += on_s3(s3, writes=True)
    plan.role += [*_pulling(image), *_logging(f"log-group:{GROUP}*")]
    if settings.subnets:
        plan.role.append(_networks())
    plan.principals.append(SERVICE)


def plan_endpoint(s3: str, hosting: Hosting) -> Plan:
    """What an endpoint needs.

    Args:
        s3: `s3://bucket/folder` for the weights.
        hosting: how it is hosted.

    Raises:
        SetupError: boto3 or a region is missing, or the region's images are unknown here.
    """
    image = image_address(hosting.image, SERVING_IMAGE, _region(), "--image")
    endpoint = hosting.endpoint or "*"
    own = [_arn("sagemaker", f"{kind}/{name}") for kind, name in (("model", "*"), ("endpoint-config", "*"))]
    named = _arn("sagemaker", f"endpoint/{endpoint}")
    things = ("Model", "EndpointConfig")
    plan = Plan(
        resources=[
            ("weights", s3, STORAGE),
            ("endpoint", hosting.endpoint or "its name is printed", hosting.hourly()),
            ("its image", image, ""),
        ],
        statements=[
            allow([f"sagemaker:{verb}{thing}" for thing in things for verb in ("Create", "Delete")], own),
            allow(
                [f"sagemaker:{verb}Endpoint" for verb in ("Create", "Describe", "Delete", "Invoke")],
                [named, *own[1:]],
            ),
            allow(["sagemaker:AddTags"], [*own, named]),
            *on_s3(s3, writes=True),
            pass_role(hosting.role, SERVICE),
        ],
        role=[*on_s3(s3), *_pulling(image), *_logging("log-group:/aws/sagemaker/Endpoints/*")],
        principals=[SERVICE],
    )
    if hosting.endpoint is not None:
        alarms = [_arn("cloudwatch", f"alarm:{name}") for name in (f"{endpoint}-server-errors", *hosting.alarms)]
        plan.resources.append(("alarm", f"{endpoint}-server-errors", "CloudWatch's price of an alarm"))
        plan.statements += [
            allow(["sagemaker:UpdateEndpoint", "sagemaker:ListTags"], [named, *own[1:]]),
            allow(["cloudwatch:PutMetricAlarm", "cloudwatch:DeleteAlarms", "cloudwatch:TagResource"], alarms[:1]),
            allow(["cloudwatch:DescribeAlarms"], alarms),
        ]
        plan.role.append(allow(["cloudwatch:DescribeAlarms"], alarms))
    return plan


def _pulling(image: str) -> Sequence[Statement]:
    """To pull an image of ECR."""
    match = _IMAGE.match(image)
    if match is None:
        return []
    account, region, name = match.groups()
    partition = str(aws.client("sagemaker").meta.partition)
    actions = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    return [
        allow(["ecr:GetAuthorizationToken"], ["*"]),
        allow(actions, [f"arn:{partition}:ecr:{region}:{account}:repository/{name}"]),
    ]


def _logging(group: str) -> Sequence[Statement]:
    """To write a log."""
    actions = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    return [allow(actions, [_arn("logs", group)])]


def _networks() -> Statement:
    """To run in a network of the account; these actions take no narrower resource."""
    actions = ("CreateNetworkInterface", "CreateNetworkInterfacePermission", "DeleteNetworkInterface",
               "DeleteNetworkInterfacePermission", "DescribeNetworkInterfaces", "DescribeVpcs", "DescribeDhcpOptions",
               "DescribeSubnets", "DescribeSecurityGroups")  # fmt: skip
    return allow([f"ec2:{action}" for action in actions], ["*"])


def _region() -> str:
    return aws.region_of(aws.client("sagemaker"))


def _arn(service: str, resource: str) -> str:
    meta = aws.client("sagemaker").meta
    return f"arn:{meta.partition}:{service}:{meta.region_name}:*:{resource}"
