"""The S3 client: credentials, region and endpoint are those of the AWS tools on this machine; a few settings are ours.

    SYNTH_DSPY_S3_KMS_KEY            encrypt what is written with this KMS key (an id, an ARN or an alias)
    SYNTH_DSPY_S3_REQUESTER_PAYS=1   pay for requests to buckets whose owner does not
    SYNTH_DSPY_S3_MAX_GB             most that one address may bring here; by default 50

They belong to the machine and the account, not to a run, and so are environment variables: a run that somebody else
started cannot name an endpoint to which this user's requests go.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from synth_dspy.core.aws import client
from synth_dspy.core.errors import SetupError
from synth_dspy.core.s3.address import Address
from synth_dspy.core.s3.explain import explain

MAX_GB = 50.0
PART = 32 * 2**20
"""Bytes of a part of a large object, up and down."""


@dataclass(frozen=True, slots=True)
class Store:
    """A client with what every request takes.

    Attributes:
        client: boto3's S3 client; safe for threads.
        payer: arguments of every request.
        encryption: arguments of every request that writes.
        max_bytes: most that one address may bring here.
    """

    client: Any
    payer: dict[str, str] = field(default_factory=dict)
    encryption: dict[str, str] = field(default_factory=dict)
    max_bytes: float = MAX_GB * 1e9

    @property
    def kms_key(self) -> str | None:
        """The key that encrypts what is written."""
        return self.encryption.get("SSEKMSKeyId")

    @property
    def endpoint(self) -> str:
        """The server's address, which is part of a local copy's identity."""
        return str(self.client.meta.endpoint_url)


def open_store() -> Store:
    """The client of this process and what the environment asks for.

    Raises:
        SetupError: boto3 is missing, or a setting is wrong.
    """
    kms, payer = os.environ.get("SYNTH_DSPY_S3_KMS_KEY"), os.environ.get("SYNTH_DSPY_S3_REQUESTER_PAYS", "")
    try:
        max_bytes = float(os.environ.get("SYNTH_DSPY_S3_MAX_GB") or MAX_GB) * 1e9
        attempts = int(os.environ.get("AWS_MAX_ATTEMPTS") or 5)
    except ValueError as error:
        raise SetupError(f"SYNTH_DSPY_S3_MAX_GB and AWS_MAX_ATTEMPTS should be numbers: {error}.") from error
    return Store(
        client("s3", connections=32, attempts=attempts),
        {"RequestPayer": "requester"} if payer.lower() in ("1", "true", "yes", "on") else {},
        {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms} if kms else {},
        max_bytes,
    )


@contextmanager
def explained(address: Address, doing: str) -> Iterator[None]:
    """Turn what boto3 raises into one sentence.

    Args:
        address: what the requests are about.
        doing: completes "could not ...", such as "read".

    Raises:
        SetupError: a request failed, after the client's own retries.
    """
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (Boto3Error, BotoCoreError, ClientError) as error:
        raise explain(error, address, doing) from error
