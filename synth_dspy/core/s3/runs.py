"""A run's copy in S3: objects named by their content, and one manifest that says which of them are the run.

    <destination>/<task>/<id>/manifest.json       the files of the run with their SHA-256, and who writes it
                             /objects/<SHA-256>    their contents
                             /report.html ...      readable copies of what a finished run shows

The manifest is written last and replaced in one step, so a copy is always one state of the run, never half of one. It
is written on the condition that it is still the one that this process wrote or read before (`If-Match`), so of two
machines that write the same run the one that comes later takes it over, and the other stops.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from synth_dspy.core.aws import code_of
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import remove, sha256_of, write_whole
from synth_dspy.core.s3.address import Address, relative_name
from synth_dspy.core.s3.client import Store, explained
from synth_dspy.core.s3.transfer import Remote, download, list_objects, refuse_too_much, upload

MANIFEST = "manifest.json"
OBJECTS = "objects"
STATE = ".s3.json"
"""File in the run's folder here: whose manifest it equals or is ahead of."""
_MISSING = ("NoSuchKey", "404")
_CONFLICT = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")
_LARGEST_MANIFEST = 50_000_000


class File(BaseModel):
    """A file of a run."""

    model_config = ConfigDict(frozen=True)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int = Field(ge=0)


class Writer(BaseModel):
    """The process that writes a run."""

    model_config = ConfigDict(frozen=True)
    host: str
    pid: int
    token: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Manifest(BaseModel):
    """One state of a run.

    Attributes:
        files: by their path in the run's folder.
        writer: who wrote it.
        at: when, in seconds since 1970.
        stopped: whether that process has ended in order.
    """

    model_config = ConfigDict(frozen=True)
    files: dict[str, File] = {}
    writer: Writer
    at: float = 0.0
    stopped: bool = False


class ManifestError(SetupError):
    """A file is not the manifest of a run."""


class TakenOverError(SetupError):
    """Another process writes the run now."""


@dataclass
class RunCopy:
    """The copy of a run that this process writes.

    Attributes:
        address: of the run.
        folder: the run's, here.
        store: where it is.
        manifest: the last one that was written; None before the first.
    """

    address: Address
    folder: Path
    store: Store
    manifest: Manifest | None = None
    _etag: str | None = None
    _writer: Writer = field(
        default_factory=lambda: Writer(host=socket.gethostname(), pid=os.getpid(), token=secrets.token_hex(8))
    )

    def open(self) -> Manifest | None:
        """Become the run's writer; the manifest that was there before.

        Raises:
            SetupError: it cannot be written.
        """
        with explained(self.address, "write"):
            before = read_manifest(self.address, self.store)
        if before is not None:
            self.manifest, self._etag = before
        self.write(self.manifest.files if self.manifest else {}, {})
        return before[0] if before else None

    def write(self, files: Mapping[str, File], sources: Mapping[str, Path], *, stopped: bool = False) -> None:
        """Make the copy one of these files.

        Args:
            files: all files of the run.
            sources: files here, by SHA-256, for what is not in S3 yet. They must not change meanwhile.
            stopped: whether nothing more will be written.

        Raises:
            TakenOverError: another process writes the run.
            SetupError: it cannot be written; the copy stays as it was.
        """
        before = {each.sha256 for each in self.manifest.files.values()} if self.manifest else set()
        after = {each.sha256 for each in files.values()}
        with explained(self.address, "write"):
            for digest in sorted(after - before):
                upload(self.store, self._object(digest), sources[digest])
            self._replace(Manifest(files=dict(files), writer=self._writer, at=time.time(), stopped=stopped))
        with suppress(SetupError), explained(self.address, "clean up"):
            for digest in before - after:
                self._delete(self._object(digest))

    def publish(self, name: str, content_type: str) -> None:
        """Write a readable copy of a file of the run.

        Raises:
            SetupError: it cannot be written.
        """
        with explained(self.address, "write"):
            upload(self.store, self.address / name, self.folder / name, content_type)

    def remove(self) -> None:
        """Remove the copy of a run that never began."""
        with suppress(SetupError), explained(self.address, "remove"):
            self._delete(self.address / MANIFEST)
            for each in self.manifest.files.values() if self.manifest else ():
                self._delete(self._object(each.sha256))

    def remove_leftovers(self) -> None:
        """Remove the objects of uploads that a killed process did not finish."""
        used = {each.sha256 for each in self.manifest.files.values()} if self.manifest else set()
        folder = self.address / OBJECTS
        with suppress(SetupError), explained(self.address, "clean up"):
            for each in list_objects(self.store, folder):
                if each.key.removeprefix(folder.inside) not in used:
                    self._delete(Address(folder.bucket, each.key))

    def _replace(self, manifest: Manifest) -> None:
        from botocore.exceptions import ClientError

        condition = {"IfNoneMatch": "*"} if self._etag is None else {"IfMatch": self._etag}
        there = self.address / MANIFEST
        body = manifest.model_dump_json(indent=1).encode()
        # Stores that do not know the condition ignore it: so look first.
        now = read_manifest(self.address, self.store)
        if (now[1] if now else None) != self._etag:
            raise self._taken_over(now)
        try:
            reply = self.store.client.put_object(
                Bucket=there.bucket,
                Key=there.key,
                Body=body,
                ContentType="application/json",
                **condition,
                **self.store.payer,
                **self.store.encryption,
            )
            etag = str(reply["ETag"])
        except ClientError as error:
            if code_of(error) not in _CONFLICT:
                raise
            now = read_manifest(self.address, self.store)
            if now is None or now[0] != manifest:  # else the reply to an earlier attempt was lost
                raise self._taken_over(now) from error
            etag = now[1]
        self.manifest, self._etag = manifest, etag
        write_whole(self.folder / STATE, json.dumps({"address": str(self.address), "token": self._writer.token}))

    def _taken_over(self, now: tuple[Manifest, str] | None) -> TakenOverError:
        if now is None:
            return TakenOverError(f"The copy {self.address} of this run was removed while the run was written.")
        return TakenOverError(
            f"The run {self.address} is now written by {now[0].writer}, so this process stopped; no answer is lost: "
            "let one of them finish it."
        )

    def _object(self, digest: str) -> Address:
        return self.address / OBJECTS / digest

    def _delete(self, address: Address) -> None:
        self.store.client.delete_object(Bucket=address.bucket, Key=address.key, **self.store.payer)


def read_manifest(address: Address, store: Store) -> tuple[Manifest, str] | None:
    """The manifest of a run with its ETag; None if there is none.

    Raises:
        ManifestError: it is not a manifest.
        botocore.exceptions.ClientError: S3 refused the request.
    """
    from botocore.exceptions import ClientError

    there = address / MANIFEST
    try:
        reply = store.client.get_object(Bucket=there.bucket, Key=there.key, **store.payer)
    except ClientError as error:
        if code_of(error) in _MISSING:
            return None
        raise
    try:
        return Manifest.model_validate_json(reply["Body"].read(_LARGEST_MANIFEST)), str(reply["ETag"])
    except ValidationError as error:
        raise ManifestError(f"{there} is not the manifest of a run: name the folder of a run, or remove it.") from error


def is_run(address: Address, store: Store) -> bool:
    """Whether there is a run at an address, rather than other files.

    Raises:
        SetupError: S3 cannot be asked.
    """
    if not address.key:
        return False
    try:
        with explained(address, "read"):
            return read_manifest(address, store) is not None
    except ManifestError:  # a file of the user's own
        return False


def pull(address: Address, folder: Path, store: Store) -> Path:
    """Make a folder here equal to a run's copy in S3.

    Args:
        address: of the run.
        folder: is replaced; files of it with equal contents are not fetched again.
        store: where the run is.

    Raises:
        SetupError: there is no such run, or it cannot be read.
    """
    from botocore.exceptions import ClientError

    with explained(address, "read"):
        for _ in range(5):
            current = read_manifest(address, store)
            if current is None:
                raise SetupError(f"There is no run at {address}: name it as s3://bucket/runs/<task>/<id>.")
            try:
                return _pull(address, current[0], folder, store)
            except ClientError as error:
                if code_of(error) not in _MISSING:  # it is being written: an object of the former state is gone
                    raise
    raise SetupError(f"Could not read {address}: it changes all the time; wait until the process that writes it ends.")


def _pull(address: Address, manifest: Manifest, folder: Path, store: Store) -> Path:
    staged = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    remove(staged)
    staged.mkdir(parents=True)
    staged.chmod(0o700)  # questions and answers of the user
    try:
        refuse_too_much(address, [Remote("", each.size) for each in manifest.files.values()], staged, store)
        wanted: dict[str, Remote] = {}
        names: dict[str, list[str]] = {}
        for name, each in manifest.files.items():
            relative_name(name, replace(address, key=""))  # whoever wrote the manifest may have named any path
            target, here = staged / name, folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if _is_file(here) and here.stat().st_size == each.size and sha256_of(here) == each.sha256:
                os.link(here, target)
                continue
            wanted[each.sha256] = Remote((address / OBJECTS / each.sha256).key, each.size)
            names.setdefault(each.sha256, []).append(name)
        for digest, path in download(store, address.bucket, wanted, staged / ".objects.partial"):
            if sha256_of(path) != digest:
                raise SetupError(f"Could not read {address}: {names[digest][0]} in it is damaged.")
            for name in names[digest]:
                remove(staged / name)
                os.link(path, staged / name)
        write_whole(staged / STATE, json.dumps({"address": str(address), "token": manifest.writer.token}))
        remove(folder)
        staged.replace(folder)
    finally:
        remove(staged)
    return folder


def bring_up_to_date(address: Address, folder: Path, store: Store, say: Callable[[str], None]) -> Path:
    """Bring a run's folder here up to its copy in S3 before it is resumed.

    A folder that has what the copy has, or more, stays. If another machine has gone on with the run, the folder is kept
    under another name.

    Args:
        address: of the run.
        folder: the run's, here; may be missing.
        store: where the copy is.
        say: called with a sentence for the user.

    Raises:
        SetupError: there is no such run, or it cannot be read.
    """
    if folder.exists():
        with explained(address, "read"):
            current = read_manifest(address, store)
        state = _read_state(folder)
        if current is None or state == {"address": str(address), "token": current[0].writer.token}:
            return folder
        aside = folder.with_name(f"{folder.name}.before-{time.strftime('%Y%m%d-%H%M%S')}")
        folder.rename(aside)
        say(f"{address} was continued elsewhere; what was here is kept in {aside}")
    return pull(address, folder, store)


def _read_state(folder: Path) -> dict[str, Any] | None:
    with suppress(OSError, ValueError):
        value = json.loads((folder / STATE).read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else None
    return None


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
