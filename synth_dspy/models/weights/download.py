"""Downloads a file over HTTP, with resuming and verification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from synth_dspy.core.cache import cache_home
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import sha256_of

_BLOCK = 1 << 20
_ATTEMPTS = 4  # attempts to resume a broken connection
_TIMEOUT = 30.0  # seconds without a byte


class UnreachableError(Exception):
    """The server could not be reached directly: a login, a proxy or a certificate may help."""


def download(url: str, name: str, sha256: str | None, source: str, headers: Mapping[str, str] | None = None) -> Path:
    """Fetch `url` into the downloads folder, resuming an earlier attempt.

    Raises:
        SetupError: It broke off (the part is kept for the next attempt), or its hash is wrong (nothing is kept).
        UnreachableError: Nothing was received without a login or another certificate.
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
                    raise UnreachableError(f"status {status}") from error
                if status == 416:  # the part is longer than the file: it belongs to another file
                    part.unlink()
                elif status < 500 or attempt == _ATTEMPTS:
                    raise SetupError(f"{source} answered {status} for {name}") from error
            except httpx.HTTPError as error:
                received = part.stat().st_size if part.exists() else 0
                if received == started == 0:
                    raise UnreachableError(str(error)) from error
                if attempt == _ATTEMPTS:
                    raise SetupError(
                        f"the download of {name} from {source} broke off after {received:,} bytes; "
                        "check your network and run it again, it goes on from there"
                    ) from error
    if sha256 is not None and sha256_of(part) != sha256:
        part.unlink()
        raise SetupError(
            f"{name} from {source} does not have the SHA-256 it should: it was changed or damaged on the way and was "
            "not kept; try again"
        )
    return part


def _attempt(client: Any, url: str, part: Path, name: str, headers: dict[str, str]) -> None:
    received_bytes = part.stat().st_size if part.exists() else 0
    headers["Accept-Encoding"] = "identity"  # so that lengths are those of the file
    if received_bytes:
        headers["Range"] = f"bytes={received_bytes}-"
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code == 416 and response.headers.get("Content-Range", "").endswith(f"/{received_bytes}"):
            return  # it was complete already
        response.raise_for_status()
        if response.status_code != 206:
            received_bytes = 0  # the server starts over, and so do we
        total = received_bytes + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if received_bytes else "wb") as file, _progress(name, received_bytes, total) as advance:
            for block in response.iter_raw():
                _write(file, block)
                advance(len(block))


def _write(file: IO[bytes], block: bytes) -> None:
    file.write(block)


@contextmanager
def _progress(name: str, done: int, total: int) -> Iterator[Any]:
    """A progress bar on a terminal; nothing elsewhere."""
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
