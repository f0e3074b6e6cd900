"""Clients of AWS's services, and what their errors mean. Objects on S3 are the matter of `core.s3`.

Credentials come from boto3's standard chain only (environment, profile, SSO, role of the machine): none is read, kept
or passed on here. boto3 is imported when a client is made, and making one sends nothing.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from synth_dspy.core.errors import BusyError, SetupError, SynthDspyError
from synth_dspy.core.masking import mask_message

THROTTLED = frozenset(
    {"ThrottlingException", "Throttling", "ThrottledException", "TooManyRequestsException", "SlowDown",
     "RequestLimitExceeded", "RequestThrottledException"}
)  # fmt: skip
BUSY = THROTTLED | {
    "InternalServerException", "InternalFailure", "InternalError", "ServiceUnavailableException", "ServiceUnavailable",
    "ModelTimeoutException", "ModelErrorException", "ModelError", "ModelNotReadyException", "RequestTimeout",
}  # fmt: skip
"""Error codes after which the same request may succeed."""
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
UNKNOWN_KEYS = frozenset(
    {"UnrecognizedClientException", "InvalidClientTokenId", "InvalidAccessKeyId", "SignatureDoesNotMatch",
     "InvalidSignatureException", "MissingAuthenticationTokenException", "IncompleteSignature"}
)  # fmt: skip
DENIED = frozenset({"AccessDeniedException", "AccessDenied", "403"})
MISSING = frozenset({"ResourceNotFoundException", "NoSuchKey", "NoSuchBucket", "404", "NotFound"})
_making = threading.Lock()


def client(
    service: str,
    *,
    region: str | None = None,
    endpoint: str | None = None,
    connections: int = 10,
    timeout: float = 60.0,
    attempts: int = 8,
) -> Any:
    """A client of an AWS service; thread-safe, and shared by equal arguments.

    Args:
        service: boto3's name of it, such as "bedrock-runtime".
        region: by default `AWS_REGION`, else the profile's.
        endpoint: its address; by default AWS's, or the one in `AWS_ENDPOINT_URL` or `AWS_ENDPOINT_URL_<SERVICE>`.
        connections: maximum number of concurrent requests.
        timeout: seconds to wait for an answer.
        attempts: maximum number of attempts per call, with boto3's own waits between them.

    Raises:
        SetupError: boto3 is not installed, or no region is set.
    """
    with _making:  # a boto3 session is not thread-safe
        environment = tuple(value for name, value in sorted(os.environ.items()) if name.startswith("AWS_"))
        return _client(service, region or _region(), endpoint, connections, timeout, attempts, environment)


@cache
def _client(
    service: str,
    region: str | None,
    endpoint: str | None,
    connections: int,
    timeout: float,
    attempts: int,
    _environment: tuple[str, ...],  # a notebook sets other credentials after an error
) -> Any:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise SetupError(
            "AWS's services need boto3, which is not installed: `pip install 'synth_dspy[aws]'`."
        ) from None
    config = Config(
        retries={"total_max_attempts": attempts, "mode": "standard"},
        max_pool_connections=connections,
        read_timeout=timeout,
        connect_timeout=min(timeout, 10.0),
    )
    try:
        return boto3.Session(region_name=region).client(service, endpoint_url=endpoint, config=config)
    except (BotoCoreError, ValueError) as error:
        raise explain(error, f"AWS's {service}") from error


def _region() -> str | None:
    """`AWS_REGION`, which AWS's other SDKs read and boto3 does not; None: boto3's own order."""
    return os.environ.get("AWS_REGION") or None


def code_of(error: BaseException) -> str:
    """The error code of a service's answer, "" for any other error."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed later: throttling, a busy service, a lost connection."""
    from botocore.exceptions import ConnectionError, HTTPClientError

    return _is_busy(error) or isinstance(error, HTTPClientError | ConnectionError)


def _is_busy(error: BaseException) -> bool:
    """Whether a service answered that it is busy or failed: by its code, or as a server between by the status alone."""
    response = getattr(error, "response", None)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) if isinstance(response, dict) else 0
    return code_of(error) in BUSY or status in (429, 500, 502, 503, 504)


def explain(error: BaseException, what: str, *, attempts: int = 1) -> SynthDspyError:
    """An error of boto3 as one sentence that says how to mend it.

    Args:
        error: boto3's.
        what: what was asked, as the sentence's subject: "The student model bedrock/...".
        attempts: how often it was tried.
    """
    from botocore import exceptions as boto

    code = code_of(error)
    text = mask_message(text_of(error))
    if isinstance(error, boto.NoRegionError):
        return SetupError(f"{what} needs a region: set AWS_REGION, such as us-east-1.")
    if isinstance(error, boto.ProfileNotFound):
        return SetupError(f"{what} cannot be used: {text}; correct AWS_PROFILE.")
    login = "run `aws sso login` or `aws configure`, or set AWS_PROFILE, or give the machine a role"
    lacking = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.NoAuthTokenError)
    if isinstance(error, lacking):
        return SetupError(f"{what} needs AWS credentials, and none were found: {login}.")
    renewal = "renew them (`aws sso login`, or new AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN)"
    expired = (boto.TokenRetrievalError, boto.UnauthorizedSSOTokenError, boto.SSOTokenLoadError)
    if code in EXPIRED or isinstance(error, (*expired, boto.CredentialRetrievalError)):
        return SetupError(
            f"{what} cannot be used, because the AWS credentials have expired: {renewal}, then run the same command "
            "again; no answered call is lost."
        )
    if code in UNKNOWN_KEYS:
        return SetupError(f"{what} cannot be used, because AWS does not accept the credentials ({text}): {renewal}.")
    if code in THROTTLED:
        return BusyError(
            f"{what} was throttled {attempts} times, at last with: {text} Lower --concurrency, or have the quota "
            "raised."
        )
    if _is_busy(error):
        return BusyError(f"{what} failed {attempts} times, at last with: {code}: {text}")
    if code in DENIED:
        return SetupError(f"{what} may not be used with these AWS credentials: {text} `aws plan` prints the policy.")
    if isinstance(error, boto.ParamValidationError):
        return SetupError(f"{what} was asked for something that its interface does not have: {text}")
    if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
        return SetupError(
            f"{what} could not be reached: {text}. Check the network and the region, or correct the address."
        )
    return SetupError(f"{what} was refused: {f'{code}: ' if code else ''}{text}")


def text_of(error: BaseException) -> str:
    """The message of an error on one line that ends with a full stop."""
    response = getattr(error, "response", None)
    text = str(response.get("Error", {}).get("Message") or error) if isinstance(response, dict) else str(error)
    text = " ".join(text.split())[:500] or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."


def region_of(made: Any) -> str:
    """The region of a client."""
    return str(made.meta.region_name)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn errors of boto3 into sentences about `what`, their subject."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise explain(error, what) from error
    except Boto3Error as error:  # wraps the service's own
        raise explain(error.__context__ or error, what) from error
    except OSError as error:
        raise SetupError(f"{what} failed: {error.strerror or error}.") from error
