"""Statements of IAM policies, and the plan that they are part of.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from synth_dspy.core import aws
from synth_dspy.core.s3.address import require_address
from synth_dspy.core.s3.client import open_store

STORAGE = "S3's storage price"

Statement = dict[str, Any]


@dataclass
class Plan:
    """What something needs on AWS.

    Attributes:
        resources: (what it is for, its name, its price).
        statements: of the policy of whoever runs the command.
        role: of the policy of the role that a service takes, if one is needed.
        principals: the services that take it.
    """

    resources: list[tuple[str, str, str]] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    role: list[Statement] = field(default_factory=list)
    principals: list[str] = field(default_factory=list)

    def policies(self) -> dict[str, Any]:
        """The policies as IAM takes them, by whose they are."""
        found: dict[str, Any] = {"yours": policy(self.statements)}
        if self.role:
            trust = {"Effect": "Allow", "Principal": {"Service": self.principals}, "Action": "sts:AssumeRole"}
            found |= {"the role's": policy(self.role), "who may take the role": policy([trust])}
        return found


def policy(statements: Sequence[Statement]) -> dict[str, Any]:
    """A policy document."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(actions: Sequence[str], resources: Sequence[str], condition: Mapping[str, Any] | None = None) -> Statement:
    """A statement of a policy."""
    statement: Statement = {"Effect": "Allow", "Action": [*actions], "Resource": [*resources]}
    return {**statement, "Condition": dict(condition)} if condition else statement


def on_s3(uri: str, *, writes: bool = False) -> list[Statement]:
    """Statements on a folder of S3: to read it, or also to write and remove there."""
    folder = require_address(uri)
    partition, _ = where()
    inside = f"{folder.inside}*"
    actions = ["s3:GetObject", *(["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"] if writes else [])]
    statements = [
        allow(["s3:ListBucket"], [f"arn:{partition}:s3:::{folder.bucket}"], {"StringLike": {"s3:prefix": [inside]}}),
        allow(actions, [f"arn:{partition}:s3:::{folder.bucket}/{inside}"]),
    ]
    if (key := open_store().kms_key) is not None:  # a policy names keys by their ARN only
        uses = ["kms:Decrypt", *(["kms:GenerateDataKey"] if writes else [])]
        statements.append(allow(uses, [key if key.startswith("arn:") else "*"]))
    return statements


def pass_role(role: str, service: str) -> Statement:
    """The statement that lets a service take a role."""
    return allow(["iam:PassRole"], [role], {"StringEquals": {"iam:PassedToService": service}})


def where() -> tuple[str, str]:
    """The partition and the region of whoever runs the command."""
    meta = aws.client("bedrock").meta
    return str(meta.partition), str(meta.region_name)
