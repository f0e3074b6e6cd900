"""What a run or a deployment needs on AWS: resources, their list prices, and the least policy. Sends nothing.

Actions and resources: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonbedrock.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from synth_dspy.core.config import CompileConfig
from synth_dspy.models.bedrock.calls import PREFIX, model_id
from synth_dspy.models.prices import list_price, model_facts
from synth_dspy.pipeline.cloud.policy import STORAGE, Plan, allow, on_s3, pass_role, where
from synth_dspy.pipeline.cloud.sagemaker_plan import add_training

_PROFILE = re.compile(r"(global|us-gov|us|eu|apac|jp|au|ca|sa|me|af)\.")
"""Begins the name of an inference profile, which sends calls to several regions."""
_UNKNOWN = "not in LiteLLM's price list"


def plan_run(config: CompileConfig) -> Plan:
    """What `compile` with a configuration needs.

    Raises:
        SetupError: boto3 or a region is missing.
    """
    plan = Plan()
    models = {role: getattr(config.models, role) for role in ("student", "teacher", "judge", "embedder")}
    models = {role: model for role, model in models.items() if model.startswith(PREFIX)}
    for role, model in models.items():
        plan.resources.append((role, model, _price(model)))
    if models:
        places = dict.fromkeys(place for model in models.values() for place in model_arns(model))
        plan.statements.append(allow(["bedrock:InvokeModel"], [*places]))
    if config.aws.batch and config.aws.s3 and config.aws.role:
        _add_batch(plan, config.models.teacher, config.aws.s3, config.aws.role)
    if config.training.backend == "sagemaker":
        add_training(plan, config)
    for address in dict.fromkeys(_addresses(config.model_dump(mode="json"))):
        if address != config.aws.s3:
            plan.resources.append(("data", address, STORAGE))
            plan.statements += on_s3(address)
    return plan


def plan_import(s3: str, role: str) -> Plan:
    """What an import into Bedrock needs.

    Args:
        s3: `s3://bucket/folder` for the weights.
        role: ARN of the role that Bedrock takes.

    Raises:
        SetupError: boto3 or a region is missing.
    """
    per_unit = "per Custom Model Unit and minute of use, in windows of 5 minutes, and per month of storage (AWS's list)"
    models, jobs = _own("imported-model/*"), _own("model-import-job/*")
    by_anyone = ["bedrock:CreateModelImportJob", "bedrock:ListModelImportJobs"]  # take no resource
    return Plan(
        resources=[("weights", s3, STORAGE), ("imported model", "its ARN is printed", per_unit)],
        statements=[
            allow(by_anyone, ["*"]),
            allow(["bedrock:GetModelImportJob"], [jobs]),
            allow(["bedrock:GetImportedModel", "bedrock:DeleteImportedModel", "bedrock:InvokeModel"], [models]),
            allow(["bedrock:TagResource"], [models, jobs]),
            *on_s3(s3, writes=True),
            pass_role(role, "bedrock.amazonaws.com"),
        ],
        role=on_s3(s3),
        principals=["bedrock.amazonaws.com"],
    )


def _add_batch(plan: Plan, model: str, s3: str, role: str) -> None:
    prices = list_price(f"bedrock/{model_id(model)}", batch=True)
    plan.resources += [("teacher, in batch jobs", model, _per_million(prices)), ("batch files", s3, STORAGE)]
    jobs = _own("model-invocation-job/*")
    plan.statements += [
        allow(["bedrock:CreateModelInvocationJob"], [*model_arns(model), jobs]),
        allow(["bedrock:GetModelInvocationJob", "bedrock:StopModelInvocationJob"], [jobs]),
        allow(["bedrock:ListModelInvocationJobs"], ["*"]),
        *on_s3(s3, writes=True),
        pass_role(role, "bedrock.amazonaws.com"),
    ]
    plan.role = on_s3(s3, writes=True)
    if _PROFILE.match(model_id(model)):
        plan.role.append(allow(["bedrock:InvokeModel"], model_arns(model)))
    plan.principals.append("bedrock.amazonaws.com")


def model_arns(model: str) -> list[str]:
    """The resources that a call to a model string touches."""
    name = model_id(model)
    if name.startswith("arn:"):
        return [name]
    partition, region = where()
    if not _PROFILE.match(name):
        return [f"arn:{partition}:bedrock:{region}::foundation-model/{name}"]
    foundation = name.partition(".")[2]
    return [_own(f"inference-profile/{name}"), f"arn:{partition}:bedrock:*::foundation-model/{foundation}"]


def _own(resource: str) -> str:
    """ARN of a resource of Bedrock in the account of whoever runs the command."""
    partition, region = where()
    return f"arn:{partition}:bedrock:{region}:*:{resource}"


def _price(model: str) -> str:
    name = model_id(model)
    if name.startswith("arn:") and ":imported-model/" in name:
        return "per Custom Model Unit and minute of use (AWS's list)"
    if model_facts(f"bedrock/{name}").get("mode") == "embedding":
        prices = list_price(f"bedrock/{name}")
        return _UNKNOWN if prices is None else f"${1e6 * prices[0]:g} for a million tokens"
    return _per_million(list_price(f"bedrock/{name}"))


def _per_million(prices: Sequence[float] | None) -> str:
    if prices is None:
        return _UNKNOWN
    return f"${1e6 * prices[0]:g} and ${1e6 * prices[1]:g} for a million tokens in and out"


def _addresses(value: Any) -> Iterator[str]:
    """All addresses on S3 in a configuration."""
    if isinstance(value, str):
        if value.startswith("s3://"):
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _addresses(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _addresses(each)
