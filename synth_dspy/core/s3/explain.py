"""What S3 and boto3 raise, as one sentence that says how to mend it."""

from __future__ import annotations

from synth_dspy.core import aws
from synth_dspy.core.aws import code_of, text_of
from synth_dspy.core.errors import SetupError
from synth_dspy.core.masking import mask_message
from synth_dspy.core.s3.address import Address

_DENIED = (
    "access is denied: the credentials need s3:ListBucket, s3:GetObject and, for runs, s3:PutObject and "
    "s3:DeleteObject there, and kms:Decrypt and kms:GenerateDataKey where it is encrypted with a KMS key"
)
_REGION = "the bucket is in {region}: set AWS_REGION to it"
_NO_KMS = "the KMS key cannot be used ({detail}): check SYNTH_DSPY_S3_KMS_KEY and its key policy"
_BUSY = "S3 is throttling requests, even after retries: run it again later"
_CHANGED = "it changed while it was read: run it again once it is no longer written"
_BY_CODE = {
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
    "PreconditionFailed": _CHANGED,
    "412": _CHANGED,
    "SlowDown": _BUSY,
    "503": _BUSY,
    "ServiceUnavailable": _BUSY,
    "RequestLimitExceeded": _BUSY,
    "EntityTooLarge": "a file is larger than the store takes: leave it out, or use another store",
    "QuotaExceeded": "the store is full: free some space there",
}
"""What S3's own codes mean; `core.aws.explain` knows those of every service."""


def explain(error: BaseException, address: Address, doing: str) -> SetupError:
    """The sentence about a failed request.

    Args:
        error: boto3's or botocore's.
        address: what it was about.
        doing: completes "could not ...".
    """
    response = getattr(error, "response", None) or {}
    code, detail = code_of(error), text_of(error).rstrip(".")
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    why = _BY_CODE.get(code)
    if code.startswith("KMS.") or (code in ("AccessDenied", "InvalidArgument") and "kms" in detail.lower()):
        why = _NO_KMS
    if headers.get("x-amz-delete-marker") == "true":
        why = "it was deleted; the bucket keeps versions: remove its delete marker to have it back"
    if why is None:
        return SetupError(str(aws.explain(error, str(address))))
    where = response.get("Error", {}).get("Region") or headers.get("x-amz-bucket-region") or "another region"
    text = why.format(bucket=address.bucket, region=where, detail=mask_message(detail))
    return SetupError(f"Could not {doing} {address}: {text}.")
