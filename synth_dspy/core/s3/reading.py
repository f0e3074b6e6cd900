"""Local copies of what lies in S3, in the cache; only objects whose ETag has changed are fetched again.

    s3/<bucket>/<hash of endpoint and address>/<name>     the copy: a file, or a folder of files
                                              /etags.json its objects' ETags and sizes, by path
                                              /partial/   downloads that are not complete
                                              /.lock      held while the copy is changed
                                              /copy/<name> the copy, if it has the name of one of these three

Objects that are no longer in S3 are removed from the copy. Every request for an object's content names the ETag that
was listed, so that a copy never mixes two versions of an object.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from synth_dspy.core.aws import code_of
from synth_dspy.core.cache import cache_home
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import remove, write_whole
from synth_dspy.core.io.locks import lock_file
from synth_dspy.core.s3.address import Address, address_of, relative_name
from synth_dspy.core.s3.client import Store, explained, open_store
from synth_dspy.core.s3.runs import is_run, pull
from synth_dspy.core.s3.transfer import ChangedError, Remote, download, list_objects, refuse_too_much

_ETAGS, _PARTIAL, _LOCK = "etags.json", "partial", ".lock"
_DEPTH = 3
"""Folders above an address that may be the run that it is in, as in `<run>/programs/<arm>`."""
MOST_OBJECTS = 200_000
"""Most objects of one address."""
log = logging.getLogger("synth_dspy.core.s3")


def local(place: str | Path) -> Path:
    """The path on this machine of a file or folder, which may be an address in S3.

    Args:
        place: a path, which is returned as it is, or an address: an object, a folder of objects, or a run.

    Raises:
        SetupError: it cannot be read from S3; says why.
    """
    address = address_of(place)
    if address is None:
        return Path(place)
    store = open_store()
    for attempt in range(2):
        with explained(address, "read"):
            objects = _listed(address, store)
        if "manifest.json" in objects and is_run(address, store):
            return _run_copy(address, address, store)
        if not objects:
            return _inside_run(address, store)
        try:
            with copy_of(address, store) as folder:
                return _refresh(address, objects, folder, store)
        except ChangedError as error:
            if attempt:
                raise SetupError(
                    f"Could not read {address}: {error.name or 'it'} changed while it was read: run it again once it "
                    "is no longer written."
                ) from error
    raise AssertionError  # the second attempt returns or raises


def _run_copy(run: Address, address: Address, store: Store) -> Path:
    """The path of an address that is a run, or is in one."""
    with copy_of(run, store) as folder:
        return pull(run, _place(run, folder), store) / address.key.removeprefix(run.key).lstrip("/")


def _inside_run(address: Address, store: Store) -> Path:
    """The path of an address without objects, which may be in a run.

    Raises:
        SetupError: it is not.
    """
    run = address
    for _ in range(_DEPTH):
        run = Address(run.bucket, run.key.rpartition("/")[0])
        with suppress(SetupError):  # the credentials may be for the address alone
            if is_run(run, store):
                return _run_copy(run, address, store)
    with explained(address, "read"):
        _raise_missing(address, store)


@contextmanager
def copy_of(address: Address, store: Store) -> Iterator[Path]:
    """The folder of an address's copy, locked against other processes and threads.

    Raises:
        SetupError: the cache cannot be written.
    """
    digest = hashlib.sha256(f"{store.endpoint} {address}".encode()).hexdigest()[:16]
    home = cache_home() / "s3"
    folder = home / address.bucket.replace(":", "_") / digest
    try:
        folder.mkdir(parents=True, exist_ok=True)
        home.chmod(0o700)  # documents of the user, and runs
        lock = lock_file(folder / _LOCK, wait_s=math.inf)
    except OSError as error:
        raise SetupError(
            f"The cache {folder} cannot be written: {error.strerror or error}; name another folder in SYNTH_DSPY_HOME."
        ) from error
    assert lock is not None
    try:
        yield folder
    except OSError as error:
        raise SetupError(
            f"Could not copy {address} to {folder}: {error.strerror or error}; free some space, or name another folder "
            "in SYNTH_DSPY_HOME."
        ) from error
    finally:
        os.close(lock)


def _place(address: Address, folder: Path) -> Path:
    """Where the copy of an address lies in its folder: never where this module keeps files of its own."""
    return (folder / "copy" if address.name in (_ETAGS, _PARTIAL, _LOCK) else folder) / address.name


def _refresh(address: Address, objects: Mapping[str, Remote], folder: Path, store: Store) -> Path:
    """Bring a copy up to date with the objects that were listed; its path."""
    target = _place(address, folder)
    single = list(objects) == [""]
    copied = _read_etags(folder)
    changed = {
        name: each
        for name, each in objects.items()
        if copied.get(name) != [each.etag, each.size] or _size(target / name) != each.size
    }
    refuse_too_much(address, changed.values(), folder, store)
    if single != target.is_file():
        remove(target)
    if not single:
        target.mkdir(parents=True, exist_ok=True)
        _remove_others(target, objects)
    kept = {name: entry for name, entry in copied.items() if name in objects and name not in changed}
    try:
        with explained(address, "read"):
            for name, path in download(store, address.bucket, changed, folder / _PARTIAL):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                path.replace(target / name)
                kept[name] = [changed[name].etag, changed[name].size]
    finally:
        write_whole(folder / _ETAGS, json.dumps(kept))
    log.info("%s: %d of %d objects fetched", address, len(changed), len(objects))
    return target


def _listed(address: Address, store: Store) -> dict[str, Remote]:
    """The objects of an address by their path in its copy: "" for an object of exactly this key.

    Raises:
        SetupError: there are too many objects or impossible names.
    """
    client, bucket = store.client, address.bucket
    if address.key:
        page = client.list_objects_v2(Bucket=bucket, Prefix=address.key, MaxKeys=1, **store.payer)
        for each in page.get("Contents", ()):  # a key comes before those that it begins
            if each["Key"] == address.key:
                return {"": Remote(each["Key"], each["Size"], each["ETag"])}
    objects: dict[str, Remote] = {}
    for remote in list_objects(store, address):
        if not remote.key.endswith("/"):  # a console's marker of an empty folder
            objects[relative_name(remote.key, address)] = remote
        if len(objects) > MOST_OBJECTS:
            raise SetupError(f"{address} holds more than {MOST_OBJECTS:,} objects: name a folder with fewer.")
    for name in objects:
        parent = name
        while parent := parent.rpartition("/")[0]:
            if parent in objects:
                raise SetupError(
                    f"{address}/{parent} is an object and a folder at once, which no file system holds: rename one."
                )
    return objects


def _raise_missing(address: Address, store: Store) -> NoReturn:
    """Raise the error about an address without objects."""
    from botocore.exceptions import ClientError

    if address.key:
        try:
            store.client.head_object(Bucket=address.bucket, Key=address.key, **store.payer)
        except ClientError as error:
            headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            if headers.get("x-amz-delete-marker") == "true" or code_of(error) not in ("404", "NoSuchKey"):
                raise
    raise SetupError(f"There is nothing at {address}, neither an object nor a folder of objects: check the address.")


def _read_etags(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        value = json.loads((folder / _ETAGS).read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else {}
    return {}


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return -1


def _remove_others(target: Path, objects: Mapping[str, Remote]) -> None:
    """Remove what is no longer in S3, and the folders that are empty then."""
    for path in sorted(target.rglob("*"), reverse=True):
        name = path.relative_to(target).as_posix()
        if path.is_dir() and not path.is_symlink():
            if name in objects or not any(path.iterdir()):
                remove(path)
        elif name not in objects:
            path.unlink()
