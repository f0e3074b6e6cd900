"""A run's folder and its files, which are written atomically.

runs/<task>/<id>/
  config.toml  run.log  ledger.sqlite  ledger.snapshot.sqlite  workspace.txt (where --runs leads out of the workspace)
  datasets/*.jsonl  programs/<arm>/program.json
  predictions.jsonl  results.json  measurements.json  report.html  report.md

Nearly all of these contain questions, passages and answers, so only the user can read the folder, whatever the umask
was; `--share` lets the user's group read it.
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
from synth_dspy.core.config import CompileConfig, as_started, read_toml, to_toml
from synth_dspy.core.errors import SetupError
from synth_dspy.core.invocation import command
from synth_dspy.core.io.files import limit_access, write_together, write_whole
from synth_dspy.core.io.reading import read_part
from synth_dspy.core.masking import MaskingFormatter
from synth_dspy.core.workspace import WORKSPACE_FILE, find_workspace

CONFIG = "config.toml"
SIGNATURE = ".signature"
"""Proof that this user started the run here; see `synth_dspy.core.signing`."""
_MOST_SETTINGS = 10_000_000
"""Maximum size of a configuration file in bytes."""
log = logging.getLogger("synth_dspy")


@dataclass
class Run:
    """One run of one task.

    Attributes:
        task: the task's name.
        folder: the run's folder.
        seconds: how long each stage took, in order.
        resume_command: the command that resumes the run, from any folder.
        begun: true once settings, knowledge and models have been checked.
        after_stage: called at the end of each stage.
        in_memory: true if no task file declares what is run.
    """

    task: str
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)
    resume_command: str = "the same command"
    begun: bool = False
    after_stage: Callable[[], None] | None = None
    in_memory: bool = False

    @property
    def id(self) -> str:
        """The folder's name, which `--resume` takes."""
        return self.folder.name

    @contextmanager
    def station(self, name: str) -> Iterator[None]:
        """Time a stage, and log its start and end."""
        log.info("%s: begins", name)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            log.info("%s: %.1f s", name, self.seconds[name])
            if self.after_stage is not None:
                self.after_stage()

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the run atomically."""
        path = self.folder / name
        self._write(path, lambda: write_whole(path, text))
        return path

    def write_texts(self, texts: Mapping[str, str], staged: str) -> None:
        """Write several files atomically, all or none; see `files.write_together`."""
        self._write(self.folder / next(iter(texts)), lambda: write_together(self.folder, texts, staged))

    def _write(self, path: Path, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            raise SetupError(
                f"Could not write {path}: {error.strerror or error}. "
                f"Free some space or check the permissions, then go on with {self.resume_command}."
            ) from error

    def write_json(self, name: str, value: Any) -> Path:
        """Write a value as JSON with sorted keys."""
        return self.write_text(name, json_text(value))

    def write_jsonl(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write one JSON object per line."""
        return self.write_text(name, jsonl_text(rows))


def json_text(value: Any) -> str:
    """JSON with sorted keys, so that equal values give equal texts."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def jsonl_text(rows: Iterable[Mapping[str, Any]]) -> str:
    """One JSON object per line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def start(runs: Path, task: str, config: CompileConfig, workspace: Path | None = None, identifier: str = "") -> Run:
    """Create the folder of a new run and write its resolved configuration. From then on, written files are private.

    Args:
        runs: the folder of all runs.
        task: the task's name.
        config: the run's configuration.
        workspace: the task's workspace, by default the current folder's; recorded in the run if the run lies outside.
        identifier: the folder's name; by default the time and some random digits.

    Raises:
        SetupError: the folder cannot be created or written.
    """
    folder = runs / task / (identifier or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}")
    try:
        # The parents contain only names, and possibly shared runs.
        _make_reachable(folder.parent)
        limit_access(share=config.share)
        folder.mkdir()
    except OSError as error:
        raise SetupError(f"Could not create the run's folder {folder}: {error.strerror or error}.") from error
    run = Run(task, folder, resume_command=_resume_command(task, folder))
    text = to_toml(config)
    run.write_text(CONFIG, text)
    with suppress(SetupError):  # started outside any workspace
        run.write_text(SIGNATURE, signing.sign(workspace or find_workspace(), task, text) or "")
    if workspace is not None and not folder.resolve().is_relative_to(workspace):
        run.write_text(WORKSPACE_FILE, f"{workspace}\n")
    return run


def is_own(run: Run, workspace: Path) -> bool:
    """Whether this user started the run, in this workspace, with its present configuration."""
    try:
        signature, config = (read_part(run.folder / name, _MOST_SETTINGS) for name in (SIGNATURE, CONFIG))
        return signing.is_own(signature, workspace, run.task, config)
    except (OSError, ValueError):
        return False


def resume(runs: Path, task: str, identifier: str, model: type[CompileConfig]) -> tuple[Run, CompileConfig]:
    """Open an earlier run and read its configuration, without applying it.

    Args:
        runs: the folder of all runs.
        task: the task's name.
        identifier: the run's id, or the absolute path of its folder.
        model: the settings model of the task.

    Raises:
        SetupError: there is no such run; names the latest ones.
    """
    folder = runs / task / identifier
    if not (folder / CONFIG).is_file():
        latest = sorted(path.parent.name for path in (runs / task).glob(f"*/{CONFIG}"))[-3:]
        raise SetupError(
            f"There is no run {identifier!r} of {task} in {runs / task}. "
            f"{'The latest are: ' + ', '.join(latest) + '.' if latest else 'No run has been started there yet.'}"
        )
    config = read_toml(folder / CONFIG, model)
    return Run(task, folder, resume_command=_resume_command(task, folder)), as_started(config)


def _make_reachable(folder: Path) -> None:
    """Create a folder and its missing parents so that every user may enter them."""
    if not folder.exists():
        _make_reachable(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)


def _resume_command(task: str, folder: Path) -> str:
    """The command that resumes a run, from any folder."""
    return f"{command(f'compile {task}', anywhere=True)} --resume {shlex.quote(str(folder.resolve()))}"


def discard(run: Run) -> None:
    """Remove the folder of a run that never began, and its log handler."""
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _LogFile)]:
        if Path(handler.baseFilename).parent == run.folder.resolve():
            root.removeHandler(handler)
            handler.close()
    shutil.rmtree(run.folder, ignore_errors=True)


class _LogFile(logging.FileHandler):
    """A log file that ignores a full disk: whatever cannot continue without space reports that itself.

    In a folder made by somebody else the file may be a link or a pipe; neither is opened.
    """

    def _open(self) -> TextIOWrapper:
        def opener(name: str, flags: int) -> int:
            return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

        return open(self.baseFilename, "a", encoding="utf-8", opener=opener)

    def handleError(self, record: logging.LogRecord) -> None:
        """Drop the line."""


def log_to(run: Run) -> None:
    """Send this package's log and the libraries' warnings to the run's `run.log`."""
    path = run.folder / "run.log"
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise SetupError(
            f"Could not write {path}: {error.strerror or error}; make sure that you may write in the run's folder."
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
