"""Objects to files and back, in parts, with retries where a connection breaks in the middle."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth_dspy.core.aws import code_of
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import remove
from synth_dspy.core.s3.address import Address
from synth_dspy.core.s3.client import PART, Store

THREADS = 8
_ATTEMPTS = 4
"""Attempts at a part whose connection breaks after the reply has begun, which botocore does not repeat."""


@dataclass(frozen=True, slots=True)
class Remote:
    """An object in S3: its key, its size in bytes, and its ETag (None: any version)."""

    key: str
    size: int
    etag: str | None = None


class ChangedError(Exception):
    """An object is not the one that was listed."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def list_objects(store: Store, folder: Address) -> Iterator[Remote]:
    """The objects in a folder, in the order of their keys.

    Raises:
        botocore.exceptions.BotoCoreError: a request failed.
        botocore.exceptions.ClientError: S3 refused a request.
    """
    pages = store.client.get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=folder.bucket, Prefix=folder.inside, **store.payer):
        for each in page.get("Contents", ()):
            yield Remote(each["Key"], each["Size"], each["ETag"])


def refuse_too_much(address: Address, objects: Iterable[Remote], folder: Path, store: Store) -> None:
    """Refuse to fetch more than is allowed, or than the disk holds.

    Raises:
        SetupError: it is too much; says how much it is.
    """
    total = sum(each.size for each in objects)
    if total > store.max_bytes:
        raise SetupError(
            f"{address} holds {total / 1e9:.1f} GB, more than the {store.max_bytes / 1e9:g} GB that are fetched: name "
            "a smaller folder, or raise SYNTH_DSPY_S3_MAX_GB."
        )
    if total > (free := shutil.disk_usage(folder).free):
        raise SetupError(
            f"{address} holds {total / 1e9:.1f} GB, and {folder} has room for {free / 1e9:.1f} GB: free some space, or "
            "name another folder in SYNTH_DSPY_HOME."
        )


def download(store: Store, bucket: str, objects: Mapping[str, Remote], folder: Path) -> Iterator[tuple[str, Path]]:
    """Fetch objects, several parts at a time.

    Args:
        store: where they are.
        bucket: their bucket.
        objects: by the name that they are yielded under.
        folder: for files until the caller moves them; emptied first, and removed at the end.

    Yields:
        A name and the file with the complete object.

    Raises:
        ChangedError: an object is not the listed one.
        botocore.exceptions.BotoCoreError: a request failed.
        botocore.exceptions.ClientError: S3 refused a request.
    """
    remove(folder)
    folder.mkdir(parents=True)
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="synth-dspy-s3")
    try:
        jobs: dict[str, tuple[Path, list[Future[None]]]] = {}
        for number, (name, each) in enumerate(objects.items()):
            path = folder / str(number)
            path.touch()
            starts = range(0, each.size, PART)
            jobs[name] = path, [pool.submit(_fetch_part, store, bucket, name, each, path, start) for start in starts]
        for name, (path, parts) in jobs.items():
            for part in parts:
                part.result()
            yield name, path
    finally:
        pool.shutdown(cancel_futures=True)
        remove(folder)


def _fetch_part(store: Store, bucket: str, name: str, each: Remote, path: Path, start: int) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    end = min(start + PART, each.size)
    arguments: dict[str, Any] = {"Bucket": bucket, "Key": each.key, **store.payer}
    if each.etag is not None:
        arguments["IfMatch"] = each.etag
    if end - start < each.size:
        arguments["Range"] = f"bytes={start}-{end - 1}"
    for attempt in range(_ATTEMPTS):
        try:
            reply = store.client.get_object(**arguments)
            body = reply["Body"].read()
            break
        except ClientError as error:
            changed = code_of(error) in ("PreconditionFailed", "412", "NoSuchKey", "InvalidRange")
            if changed and each.etag is not None:
                raise ChangedError(name) from error
            raise
        except BotoCoreError:  # the connection broke in the middle of the body
            if attempt + 1 == _ATTEMPTS:
                raise
    if len(body) != end - start or (each.etag is not None and reply.get("ETag", each.etag) != each.etag):
        raise ChangedError(name)  # a store that does not know If-Match
    fd = os.open(path, os.O_WRONLY)
    try:
        while body:
            written = os.pwrite(fd, body, start)
            body, start = body[written:], start + written
    finally:
        os.close(fd)


def upload(store: Store, address: Address, path: Path, content_type: str = "application/octet-stream") -> None:
    """Write a file to an address; a large one in parts, which become an object only when all have arrived.

    Raises:
        OSError: the file cannot be read.
        botocore.exceptions.BotoCoreError: a request failed.
        botocore.exceptions.ClientError: S3 refused a request.
    """
    from boto3.s3.transfer import TransferConfig

    config = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=THREADS)
    with path.open("rb") as file:
        store.client.upload_fileobj(
            file,
            address.bucket,
            address.key,
            ExtraArgs={"ContentType": content_type, **store.payer, **store.encryption},
            Config=config,
        )
