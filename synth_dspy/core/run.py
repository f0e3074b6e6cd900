"""A run's folder: everything a run reads back or leaves behind, written so that a kill never leaves half a file.

runs/<task>/<id>/
  config.toml  run.log  ledger.sqlite  ledger.snapshot.sqlite  workspace.txt (where --runs leads out of the workspace)
  datasets/*.jsonl  programs/<arm>/program.json
  predictions.jsonl  results.json  measurements.json  report.html  report.md

Questions, passages and answers are in nearly all of these, so a run's folder is its user's alone, whatever the umask;
`--share` lets the user's group read it.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from synth_dspy.core import signing
from synth_dspy.core.config import CompileConfig, read_toml, to_toml
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.io.files import limit_access, write_together, write_whole
from synth_dspy.core.io.reading import read_part
from synth_dspy.core.masking import MaskingFormatter
from synth_dspy.core.workspace import NOTED, find_workspace

CONFIG = "config.toml"
SIGNATURE = ".signature"
"""Says that this user began the run here, see `synth_dspy.core.signing`."""
_MOST_SETTINGS = 10_000_000
"""Bytes of a configuration that is still read."""
log = logging.getLogger("synth_dspy")


@dataclass
class Run:
    """One run of one task. `seconds` collects how long each station took, in order.

    `again` is what a user types to go on with it after it was stopped, in any folder. `begun` is true once settings,
    knowledge and models were found to be there, `in_memory` where no task file declares what is run.
    """

    task: str
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    again: str = "the same command"
    begun: bool = False
    in_memory: bool = False

    @property
    def id(self) -> str:
        """The folder's name, which `--resume` takes."""
        return self.folder.name

    @contextmanager
    def station(self, name: str) -> Iterator[None]:
        """Time a station and write its beginning and end to the log."""
        log.info("%s: begins", name)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began
            log.info("%s: %.1f s", name, self.seconds[name])

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the run whole or not at all."""
        path = self.folder / name
        self._write(path, lambda: write_whole(path, text))
        return path

    def write_texts(self, texts: Mapping[str, str], staged: str) -> None:
        """Write files that belong together, all of them or none; see `files.write_together`."""
        self._write(self.folder / next(iter(texts)), lambda: write_together(self.folder, texts, staged))

    def _write(self, path: Path, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise SetupError(
                f"Could not write {path}: {error.strerror or error}. "
                f"Free some space or rights, then go on with {self.again}."
            ) from error

    def write_json(self, name: str, value: Any) -> Path:
        """Write JSON with sorted keys: equal values give equal files."""
        return self.write_text(name, json_text(value))

    def write_jsonl(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write one JSON object a line."""
        return self.write_text(name, jsonl_text(rows))


def json_text(value: Any) -> str:
    """JSON with sorted keys: equal values give equal texts."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def jsonl_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def start(runs: Path, task: str, config: CompileConfig, workspace: Path | None = None) -> Run:
    """Make the folder of a new run and write its resolved configuration. From then on, what is written is private.

    Args:
        runs: where runs lie.
        task: what it is a run of.
        config: how it is to be run.
        workspace: which workspace the task is from, by default the current folder's; noted where it is given and the
            run does not lie in it.

    Raises:
        SetupError: the folder cannot be made or written.
    """
    folder = runs / task / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    try:
        # These hold names only, and runs that are shared lie in them too.
        _make_reachable(folder.parent)
        limit_access(share=config.share)
        folder.mkdir()
    except OSError as error:
        raise SetupError(f"Could not make the run's folder {folder}: {error.strerror or error}.") from error
    run = Run(task, folder, again=_again(task, folder))
    text = to_toml(config)
    run.write_text(CONFIG, text)
    with suppress(SetupError):  # begun outside of any workspace
        run.write_text(SIGNATURE, signing.sign(workspace or find_workspace(), task, text) or "")
    if workspace is not None and not folder.resolve().is_relative_to(workspace):
        run.write_text(NOTED, f"{workspace}\n")
    return run


def is_own(run: Run, workspace: Path) -> bool:
    """Whether this user began the run, in this workspace, with the configuration that it has."""
    try:
        signature, config = (read_part(run.folder / name, _MOST_SETTINGS) for name in (SIGNATURE, CONFIG))
        return signing.is_own(signature, workspace, run.task, config)
    except (OSError, ValueError):
        return False


def resume(runs: Path, task: str, identifier: str, model: type[CompileConfig]) -> tuple[Run, CompileConfig]:
    """Open an earlier run with the configuration it was started with; nothing of that takes effect yet.

    Args:
        runs: where runs lie.
        task: what it is a run of.
        identifier: the run's id, or its folder's absolute path, wherever that is.
        model: the settings of the task.

    Raises:
        SetupError: there is no such run; names the latest ones.
    """
    folder = runs / task / identifier
    if not (folder / CONFIG).is_file():
        known = sorted(path.parent.name for path in (runs / task).glob(f"*/{CONFIG}"))[-3:]
        raise SetupError(
            f"There is no run {identifier!r} of {task} in {runs / task}. "
            f"{'The latest are: ' + ', '.join(known) + '.' if known else 'No run has been started there yet.'}"
        )
    config = read_toml(folder / CONFIG, model)
    if "retrieval" not in config.model_fields_set:  # begun before there were such steps, which would ask anew
        config = config.model_copy(update={"retrieval": config.retrieval.model_copy(update={"steps": "off"})})
    return Run(task, folder, again=_again(task, folder)), config


def _make_reachable(folder: Path) -> None:
    """Make a folder, and those above it that are missing, such as every user may enter."""
    if not folder.exists():
        _make_reachable(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def _again(task: str, folder: Path) -> str:
    """What goes on with a run, in any folder."""
    return f"{command(f'compile {task}', anywhere=True)} --resume {shlex.quote(str(folder.resolve()))}"


def discard(run: Run) -> None:
    """Remove the folder of a run that never began, and its log's handler."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _LogFile)]:
        if Path(handler.baseFilename).parent == run.folder.resolve():
            root.removeHandler(handler)
            handler.close()
    shutil.rmtree(run.folder, ignore_errors=True)


class _LogFile(logging.FileHandler):
    """A log that a full disk cuts short, in silence: what cannot go on without room says so itself.

    In a folder that somebody else made it may be a link to any file, or a pipe: neither is opened.
    """

    def _open(self) -> TextIOWrapper:
        def opener(name: str, flags: int) -> int:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

        return open(self.baseFilename, "a", encoding="utf-8", opener=opener)

    def handleError(self, record: logging.LogRecord) -> None:
        """Leave the line out."""


def log_to(run: Run) -> None:
    """Send this package's log, and warnings of the libraries below it, to the run's `run.log`."""
    path = run.folder / "run.log"
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"Could not write {path}: {error.strerror or error}; see to it that you may write in the run's folder."
        ) from error
    handler.setFormatter(MaskingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    for other in [h for h in root.handlers if isinstance(h, _LogFile)]:  # of another run of this process
        root.removeHandler(other)
        other.close()
    root.addHandler(handler)
    for name in ("dspy", "LiteLLM", "httpx"):  # these print to the terminal by themselves
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    root.setLevel(logging.WARNING)
    log.setLevel(logging.INFO)
