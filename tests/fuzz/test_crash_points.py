"""Writers that are killed: at every operation on a file, in SQLite's own work, and at any byte that is written.

Each test does the same work many times, in a child process that dies at another point each time. Then whatever was
acknowledged is there, whatever is there is true, and doing the work again ends as if nothing had happened.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synth_dspy.core import run as runs
from synth_dspy.core import snapshots
from synth_dspy.core.config import CompileConfig, read_toml
from synth_dspy.core.io.files import write_whole
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.run import Run
from synth_dspy.core.usage import ModelCall
from synth_dspy.evaluation.finished_runs import STAGED, read_run
from synth_dspy.models.weights.cache import publish

pytestmark = pytest.mark.slow

POINTS = 10
"""Of each kind, for each writer; spread evenly over all there are."""
KILLED, FAILED = 77, 78
_OPERATIONS = ("open", "os.", "shutil.", "sqlite3.connect", "fcntl.flock")
_STEPS = 20
"""Steps of SQLite's virtual machine between two points."""

Work = Callable[[], None]


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where it can be: it is processes that die here, not machines, and a disk would take minutes."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def in_child(work: Work, prepare: Work) -> int:
    """The exit status of a child process that prepares and works."""
    pid = os.fork()
    if pid == 0:
        try:
            prepare()
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(FAILED)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def die_at_operation(number: int, count: Any = None) -> Work:
    """Die before the operation of that number on a file; `count` is told the number of each."""
    seen = 0

    def point() -> int:
        nonlocal seen
        seen += 1
        if count is not None:
            os.pwrite(count, str(seen).encode(), 0)
        if seen == number:
            os._exit(KILLED)
        return 0

    def hook(event: str, _: tuple[Any, ...]) -> None:
        if event.startswith(_OPERATIONS):
            point()

    def connect(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        db = sqlite_connect(*args, **kwargs)
        db.set_progress_handler(point, _STEPS)
        return db

    def prepare() -> None:
        sys.addaudithook(hook)
        sqlite3.connect = connect

    sqlite_connect = sqlite3.connect
    return prepare


def die_at_byte(number: int) -> Work:
    """Die as soon as a file would grow beyond so many bytes; what fits is written."""

    def prepare() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))

    return prepare


def deaths(work: Work, reset: Work, folder: Path) -> Iterator[str]:
    """Do the work many times from the beginning, dying at another point each time; yields what that point was."""
    reset()
    with (folder.parent / "count").open("w+") as count:
        assert in_child(work, die_at_operation(-1, count.fileno())) == 0
        operations = int(count.read())
    largest = max(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    died = 0
    for index in range(POINTS):
        for kind, most, die in (("operation", operations, die_at_operation), ("byte", largest, die_at_byte)):
            number = 1 + index * most // POINTS
            reset()
            status = in_child(work, die(number))
            assert os.waitstatus_to_exitcode(status) in (0, KILLED, -signal.SIGXFSZ), f"{kind} {number}"
            died += status != 0
            yield f"{kind} {number}"
    assert died > POINTS  # else it was not this that was tested


def emptied(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def answer(number: int) -> ModelCall:
    return ModelCall(f"{number:064x}", json.dumps({"text": f"{number} " * (number % 5) ** 4}), "m", "student")


def test_answers_that_were_acknowledged_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    path = folder / "ledger.sqlite"
    acknowledged, other_end = os.pipe()

    def work() -> None:
        with Ledger(path) as ledger:
            for number in range(40):
                ledger.record(answer(number))
                os.write(other_end, b".")
                if number % 15 == 14:
                    ledger.snapshot()

    def reset() -> None:
        emptied(folder)
        os.write(other_end, b".")
        os.read(acknowledged, 1 << 16)

    for point in deaths(work, reset, folder):
        os.write(other_end, b".")
        seen = len(os.read(acknowledged, 1 << 16)) - 1
        with Ledger(path) as ledger:
            assert ledger.calls() == [answer(number) for number in range(len(ledger.calls()))], point
            assert len(ledger.calls()) >= seen, point
        assert snapshots.describe_snapshot(path) or not seen, point
        work()
        with Ledger(path) as ledger:
            assert ledger.calls() == [answer(number) for number in range(40)], point


def run_files(version: int) -> dict[str, str]:
    """The files of a run, each saying of which version it is."""
    results = {"arms": [{"name": "rag"}], "verdict": {}, "version": version}
    rows = [{"arm": "rag", "id": number, "version": version, "text": "x" * 100} for number in range(100 + version)]
    return {
        "predictions.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "results.json": json.dumps(results),
        "measurements.json": json.dumps({"arms": {}, "version": version}),
        "report.html": f"version {version}",
        "report.md": f"version {version}",
    }


def test_results_are_all_old_or_all_new(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = Run("demo", folder)

    def reset() -> None:
        emptied(folder)
        run.write_texts(run_files(1), STAGED)

    seen = set()
    for point in deaths(lambda: run.write_texts(run_files(2), STAGED), reset, folder):
        read = read_run(folder)
        version = read.results["version"]
        assert {path.name: path.read_text() for path in folder.iterdir() if path.is_file()} == run_files(version), point
        assert read.measurements["version"] == version, point
        assert len(read.rows) == 100 + version, point
        run.write_texts(run_files(3), STAGED)
        assert read_run(folder).results["version"] == 3, point
        assert sorted(path.name for path in folder.iterdir()) == sorted(run_files(3)), point
        seen.add(version)
    assert seen == {1, 2}


def test_a_file_is_old_or_new(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    texts = {"old " * 2000, "new " * 3000}

    def reset() -> None:
        emptied(folder)
        write_whole(folder / "file", "old " * 2000)

    for point in deaths(lambda: write_whole(folder / "file", "new " * 3000), reset, folder):
        assert (folder / "file").read_text() in texts, point


@pytest.mark.parametrize("there", [False, True])
def test_a_published_file_is_whole(tmp_path: Path, there: bool) -> None:
    folder = tmp_path / "cache"
    target = folder / "model.gguf"

    def reset() -> None:
        emptied(folder)
        if there:
            target.write_text("old " * 2000)

    def work() -> None:
        with publish(target) as part:
            part.write_text("new " * 3000)

    for point in deaths(work, reset, folder):
        assert target.exists() or not there, point
        assert not target.exists() or target.read_text() in {"old " * 2000, "new " * 3000}, point


def test_a_published_folder_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    target = folder / "adapter"

    def work() -> None:
        with publish(target) as part:
            part.mkdir()
            for name in ("a", "b", "c"):
                (part / name).write_text(name * 5000)

    for point in deaths(work, lambda: emptied(folder), folder):
        if target.exists():
            assert {path.name: path.read_text() for path in target.iterdir()} == {n: n * 5000 for n in "abc"}, point
        work()
        assert len(list(target.iterdir())) == 3, point


def damaged_ledger(folder: Path) -> Path:
    """A ledger of forty answers with a page of zeros in its middle, and a snapshot of its first twenty."""
    emptied(folder)
    path = folder / "ledger.sqlite"
    with Ledger(path) as ledger:
        for number in range(20):
            ledger.record(answer(number))
        ledger.snapshot()
        kept = snapshots.snapshot_of(path).read_bytes()
        for number in range(20, 40):
            ledger.record(answer(number))
    snapshots.snapshot_of(path).write_bytes(kept)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(bytes(4096))
    return path


def test_restoring_that_was_killed_is_done_again(tmp_path: Path) -> None:
    folder, pristine = tmp_path / "run", tmp_path / "pristine"
    path = folder / "ledger.sqlite"
    damaged_ledger(pristine)

    def reset() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(pristine, folder)

    reset()
    expected = snapshots.restore(path)[0]
    assert expected >= 20

    for point in deaths(lambda: void(snapshots.restore(path)), reset, folder):
        assert snapshots.restore(path)[0] >= expected, point
        with Ledger(path) as ledger:
            calls = ledger.calls()
        assert len(calls) >= expected, point
        assert {call.key for call in calls} >= {answer(number).key for number in range(20)}, point
        assert all(call == answer(int(call.key, 16)) for call in calls), point


def test_bringing_an_old_ledger_up_to_date_is_all_or_nothing(tmp_path: Path) -> None:
    folder, pristine = tmp_path / "run", tmp_path / "pristine"
    path = folder / "ledger.sqlite"
    pristine.mkdir()
    with Ledger(pristine / "ledger.sqlite") as ledger:
        for number in range(40):
            ledger.record(answer(number))
    with sqlite3.connect(pristine / "ledger.sqlite") as db:
        for table in ("calls", "failures", "verdicts", "executions"):
            db.execute(f"alter table {table} drop column checksum")
        db.execute("pragma user_version = 0")
        db.execute("pragma application_id = 0")
    db.close()
    snapshots.snapshot_of(pristine / "ledger.sqlite").unlink()

    def reset() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(pristine, folder)

    for point in deaths(lambda: Ledger(path).close(), reset, folder):
        with Ledger(path) as ledger:
            assert ledger.calls() == [answer(number) for number in range(40)], point


def test_a_new_run_is_there_with_its_configuration_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    config = CompileConfig(seed=3)
    for point in deaths(lambda: void(runs.start(folder, "demo", config)), lambda: emptied(folder), folder):
        for path in folder.glob("demo/*/config.toml"):
            assert read_toml(path, CompileConfig) == config, point


def void(_: object) -> None:
    """Nothing: what is done is done for its effect."""


def test_a_log_of_pages_that_is_cut_anywhere_loses_no_earlier_answer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(path)
    ends = []
    wal = tmp_path / "ledger.sqlite-wal"
    for number in range(12):
        ledger.record(answer(number))
        ends.append(wal.stat().st_size)
    main, pages = path.read_bytes(), wal.read_bytes()
    ledger.close()
    for cut in range(ends[0], len(pages), len(pages) // 100):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / "ledger.sqlite").write_bytes(main)
        (folder / "ledger.sqlite-wal").write_bytes(pages[:cut])
        with Ledger(folder / "ledger.sqlite") as opened:
            calls = opened.calls()
        assert calls == [answer(number) for number in range(len(calls))]
        assert len(calls) >= sum(end <= cut for end in ends)
