"""Keeps a run's copy in S3 up to date while the run is written here.

The copy is renewed after each stage of the run, every `EVERY_S` seconds in between, and when the run ends: in order, by
an error, by Ctrl-C or by SIGTERM. A killed run can so be resumed elsewhere with all answers up to the last copy.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from synth_dspy.core.errors import AwaitingReview, SetupError
from synth_dspy.core.io.files import remove, sha256_of
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.ledger_file import LEDGER
from synth_dspy.core.s3.address import Address
from synth_dspy.core.s3.client import open_store
from synth_dspy.core.s3.runs import STATE, File, Manifest, RunCopy, TakenOverError
from synth_dspy.core.snapshots import snapshot_of

EVERY_S = 30.0
"""Seconds between two copies within a stage."""
_REST = 3.0
"""How many times as long as a copy took the thread rests after it: a trained model is large, and copied once."""
_RECENT_S = 120.0
_SHOWN = {"report.html": "text/html", "report.md": "text/markdown", "results.json": "application/json"}
log = logging.getLogger("synth_dspy.core.s3")


class Mirror:
    """A run's copy in S3 and the thread that renews it.

    Args:
        copy: the copy.
        say: called with a sentence for the user.

    Attributes:
        started: whether this process writes the copy.
        before: the copy's manifest before that; None if there was no copy.
    """

    def __init__(self, copy: RunCopy, say: Callable[[str], None]) -> None:
        self.copy = copy
        self.started = False
        self.before: Manifest | None = None
        self._say = say
        self._ledger: Ledger | None = None
        self._lock = threading.Lock()
        self._wake, self._ended = threading.Event(), threading.Event()
        self._digests: dict[tuple[int, int, int], str] = {}
        self._warned = False
        self._thread = threading.Thread(target=self._renew, name="synth-dspy-s3", daemon=True)

    def start(self, ledger: Ledger) -> None:
        """Become the copy's writer, and renew it from now on.

        Args:
            ledger: the run's. It is open, so no other process of this machine writes the run. It stops if a process of
                another machine takes the run over.

        Raises:
            SetupError: the copy cannot be written.
        """
        self._ledger = ledger
        ledger.on_close(self._forget_ledger)
        self.before = before = self.copy.open()
        self.started = True
        if before is not None and not before.stopped and (ago := time.time() - before.at) < _RECENT_S:
            self._say(f"{before.writer} wrote {self.copy.address} {ago:.0f} s ago; if it still runs, it stops now")
        self.push()
        if before is not None:
            self.copy.remove_leftovers()
        self._thread.start()

    def renew_soon(self) -> None:
        """Renew the copy in the background, since a stage has ended."""
        self._wake.set()

    def push(self, *, stopped: bool = False) -> None:
        """Renew the copy.

        Raises:
            SetupError: it cannot be written, or another process writes the run.
        """
        with self._lock:
            with suppress(SetupError):  # a damaged ledger: its last good snapshot is copied
                if self._ledger is not None:
                    self._ledger.snapshot()
            staging = self.copy.folder / ".s3.partial"
            remove(staging)
            staging.mkdir()
            try:
                files, sources = self._state(staging)
                before = self.copy.manifest
                if before is None or files != before.files or stopped != before.stopped:
                    self.copy.write(files, sources, stopped=stopped)
            except OSError as error:
                raise SetupError(
                    f"Could not copy the run {self.copy.folder} to {self.copy.address}: {error.strerror or error}."
                ) from error
            finally:
                remove(staging)

    def finish(self) -> None:
        """Copy the run's last state, and what it shows to people.

        Raises:
            SetupError: as `push`.
        """
        self.stop()
        self.push(stopped=True)
        for name, content_type in _SHOWN.items():
            if (self.copy.folder / name).is_file():
                self.copy.publish(name, content_type)

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _forget_ledger(self) -> None:
        with self._lock:
            self._ledger = None

    def _renew(self) -> None:
        wait = EVERY_S
        while not self._ended.is_set():
            self._wake.wait(wait)
            self._wake.clear()
            if self._ended.is_set():
                return
            began = time.monotonic()
            try:
                self.push()
                self._warned = False
            except TakenOverError as error:
                with self._lock:
                    if self._ledger is not None:
                        self._ledger.stop(error)
                return
            except SetupError as error:
                if not self._warned:
                    self._say(f"{error} The run goes on here, and this is tried again.")
                self._warned = True
            wait = max(EVERY_S, (time.monotonic() - began) * _REST)

    def _state(self, staging: Path) -> tuple[dict[str, File], dict[str, Path]]:
        """The files of the run as they are now, and a source for each content that does not change meanwhile."""
        folder = self.copy.folder
        files: dict[str, File] = {}
        sources: dict[str, Path] = {}
        snapshot = snapshot_of(folder / LEDGER)
        paths = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
        if snapshot.is_file():
            paths[LEDGER] = snapshot
        for number, (name, path) in enumerate(sorted(paths.items())):
            kept = staging / str(number)
            try:
                _keep(path, kept)
                status = kept.stat()
                identity = (status.st_ino, status.st_size, status.st_mtime_ns)
                digest = self._digests.get(identity) or sha256_of(kept)
            except FileNotFoundError:  # removed meanwhile
                continue
            if status.st_nlink > 1:
                self._digests[identity] = digest
            files[name] = File(sha256=digest, size=status.st_size)
            sources[digest] = kept
        if LEDGER not in files and self.copy.manifest is not None and LEDGER in self.copy.manifest.files:
            files[LEDGER] = self.copy.manifest.files[LEDGER]  # fetched, and not yet copied here
        return files, sources


@contextmanager
def mirrored(
    address: Address, folder: Path, say: Callable[[str], None], *, begun: Callable[[], bool]
) -> Iterator[Mirror]:
    """Keep a run's copy up to date inside the block, once the mirror is started.

    Args:
        address: of the run.
        folder: the run's, here.
        say: called with a sentence for the user.
        begun: whether the run has made any call; the copy of one that fails before is removed.

    Raises:
        SetupError: the copy cannot be written.
    """
    copy = RunCopy(address, folder, open_store())
    mirror = Mirror(copy, say)
    with _sigterm_stops():
        try:
            yield mirror
        except BaseException as error:
            if not mirror.started:
                pass
            elif isinstance(error, SetupError | AwaitingReview) and mirror.before is None and not begun():
                mirror.stop()
                copy.remove()
            elif not isinstance(error, TakenOverError):
                try:
                    mirror.finish()
                except SetupError as failure:
                    say(str(failure))
            raise
        else:
            try:
                if mirror.started:
                    mirror.finish()
            except SetupError as error:
                raise SetupError(f"The run is finished in {folder}. {error}") from error


@contextmanager
def _sigterm_stops() -> Iterator[None]:
    """Let SIGTERM, as a machine sends that is taken away, end the block like Ctrl-C; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _files(folder: Path) -> Iterator[Path]:
    """The files of a run that make it up: without locks, the open ledger, links, and files that are being written."""
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or path.name.endswith((".partial", ".lock")) or path.name == STATE:
            continue
        if path.is_dir():
            yield from _files(path)
        elif not path.name.startswith(("ledger.sqlite", "ledger.snapshot.sqlite", "ledger.count")):
            yield path


def _keep(path: Path, target: Path) -> None:
    """Keep a file's present contents under another name: files of a run are replaced, and only logs are written on."""
    if path.suffix != ".log":
        with suppress(OSError):  # a file system without links
            os.link(path, target)
            return
    shutil.copyfile(path, target)
