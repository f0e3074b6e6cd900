"""What S3 and boto3 raise, as one sentence that says how to mend it."""

from __future__ import annotations

from synth_dspy.core.errors import SetupError
from synth_dspy.core.s3.address import Address

_EXPIRED = "the AWS credentials have expired: renew them (`aws sso login`, or new session keys), then run it again"
_KEYS = "S3 does not accept the AWS credentials: check the access key and its secret, or the profile in AWS_PROFILE"
_DENIED = (
    "access is denied: the credentials need s3:ListBucket, s3:GetObject and, for runs, s3:PutObject and "
    "s3:DeleteObject there, and kms:Decrypt and kms:GenerateDataKey where it is encrypted with a KMS key"
)
_REGION = "the bucket is in {region}: set AWS_REGION to it"
_NETWORK = "S3 cannot be reached: check the network, the proxy and AWS_ENDPOINT_URL_S3 ({detail})"
_NO_KMS = "the KMS key cannot be used ({detail}): check SYNTH_DSPY_S3_KMS_KEY and its key policy"
_BUSY = "S3 is throttling requests, even after retries: run it again later"

_BY_CODE = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "InvalidAccessKeyId": _KEYS,
    "SignatureDoesNotMatch": _KEYS,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "403": _DENIED,
    "NoSuchBucket": "there is no bucket {bucket!r}: check its name, and the account in AWS_PROFILE",
    "InvalidBucketName": "{bucket!r} cannot be a bucket's name: check it",
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "301": _REGION,
    "RequestTimeTooSkewed": "the clock of this machine is wrong: set it",
    "InvalidObjectState": "it is archived (S3 Glacier): restore it first",
    "NoSuchKey": "the object is not there any more: check the address",
    "404": "there is nothing at that address: check it",
    "PreconditionFailed": "it changed while it was read: run it again once it is no longer written",
    "412": "it changed while it was read: run it again once it is no longer written",
    "SlowDown": _BUSY,
    "503": _BUSY,
    "ServiceUnavailable": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "EntityTooLarge": "a file is larger than the store takes: leave it out, or use another store",
    "QuotaExceeded": "the store is full: free some space there",
}
_BY_TYPE = {
    "NoCredentialsError": "there are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a "
    "profile in AWS_PROFILE, or give the machine a role",
    "PartialCredentialsError": "the AWS credentials are incomplete ({detail}): set all of them",
    "ProfileNotFound": "{detail}: check AWS_PROFILE",
    "CredentialRetrievalError": _EXPIRED,
    "SSOTokenLoadError": _EXPIRED,
    "UnauthorizedSSOTokenError": _EXPIRED,
    "TokenRetrievalError": _EXPIRED,
    "LoginRefreshTokenExpired": _EXPIRED,
    "SSLError": "the server's certificate is not trusted ({detail}): name its authority in AWS_CA_BUNDLE",
    "ParamValidationError": "the address is not valid: write it as s3://bucket/folder",
    "NoRegionError": "no region is set: set AWS_REGION",
    "EndpointConnectionError": _NETWORK,
    "ConnectTimeoutError": _NETWORK,
    "ReadTimeoutError": _NETWORK,
    "ConnectionClosedError": _NETWORK,
    "ProxyConnectionError": _NETWORK,
    "ResponseStreamingError": _NETWORK,
    "IncompleteReadError": _NETWORK,
    "HTTPClientError": _NETWORK,
}


def explain(error: BaseException, address: Address | None, doing: str) -> SetupError:
    """The sentence about a failed request.

    Args:
        error: boto3's or botocore's.
        address: what it was about; None if nothing in particular.
        doing: completes "could not ...".
    """
    response = getattr(error, "response", None) or {}
    given = response.get("Error", {})
    code, detail = str(given.get("Code", "")), str(given.get("Message") or error)
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    why = _BY_CODE.get(code) or next((_BY_TYPE[kind] for kind in _kinds(error) if kind in _BY_TYPE), "")
    if code.startswith("KMS.") or (code in ("AccessDenied", "InvalidArgument") and "kms" in detail.lower()):
        why = _NO_KMS
    if not why:
        why = f"{code}: {{detail}}" if code else "{detail}"
    where = given.get("Region") or headers.get("x-amz-bucket-region") or "another region"
    detail = " ".join(detail.split()).rstrip(".")
    if headers.get("x-amz-delete-marker") == "true":
        why = "it was deleted; the bucket keeps versions: remove its delete marker to have it back"
    text = why.format(bucket=address.bucket if address else "", region=where, detail=detail[:300])
    return SetupError(f"Could not {doing}{f' {address}' if address else ''}: {text}.")


def _kinds(error: BaseException) -> list[str]:
    return [kind.__name__ for kind in type(error).__mro__]
