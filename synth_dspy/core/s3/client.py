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
from functools import cache
from typing import Any

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
    def endpoint(self) -> str:
        """The server's address, which is part of a local copy's identity."""
        return str(self.client.meta.endpoint_url)


def open_store() -> Store:
    """The client of this process, opened when it is first used.

    Raises:
        SetupError: boto3 is missing, or a setting is wrong.
    """
    names = ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE")
    ours = ("SYNTH_DSPY_S3_KMS_KEY", "SYNTH_DSPY_S3_REQUESTER_PAYS", "SYNTH_DSPY_S3_MAX_GB")
    return _open(tuple(os.environ.get(name) for name in (*names, *keys, *ours)))


@cache
def _open(_environment: tuple[str | None, ...]) -> Store:
    """A store for an environment: a notebook may set other credentials after an error."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise SetupError("For s3:// addresses install boto3: pip install 'synth_dspy[aws]'.") from error
    kms, payer = os.environ.get("SYNTH_DSPY_S3_KMS_KEY"), os.environ.get("SYNTH_DSPY_S3_REQUESTER_PAYS", "")
    try:
        max_bytes = float(os.environ.get("SYNTH_DSPY_S3_MAX_GB") or MAX_GB) * 1e9
        attempts = int(os.environ.get("AWS_MAX_ATTEMPTS") or 5)
    except ValueError as error:
        raise SetupError(f"SYNTH_DSPY_S3_MAX_GB and AWS_MAX_ATTEMPTS should be numbers: {error}.") from error
    retries = {"mode": os.environ.get("AWS_RETRY_MODE") or "standard", "total_max_attempts": attempts}
    try:
        # A session of its own: boto3's default one is shared with whatever else runs in this process.
        client = boto3.session.Session().client(
            "s3", config=Config(retries=retries, connect_timeout=10, read_timeout=60, max_pool_connections=32)
        )
    except (BotoCoreError, ValueError) as error:
        raise explain(error, None, "open a connection to S3") from error
    return Store(
        client,
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


def code_of(error: BaseException) -> str:
    """The code of an error that S3 answered with, such as `NoSuchKey` or `412`; empty for other errors."""
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))
