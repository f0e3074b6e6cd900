"""Who may read what a run writes: its user alone, or the group where that is asked for, whatever the umask."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Behaviour, serving

from synth_dspy.core import run as runs
from synth_dspy.core.config import CompileConfig
from synth_dspy.core.errors import SetupError
from synth_dspy.core.io.files import limit_access_to, restoring_umask
from synth_dspy.core.ledger import Ledger
from synth_dspy.core.usage import ModelCall
from synth_dspy.training.provider import prepare

ROOT = Path(__file__).resolve().parents[1]


def modes(folder: Path) -> dict[str, set[int]]:
    """The access of all folders and of all files in a folder."""
    paths = [folder, *folder.rglob("*")]
    return {
        kind: {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir() == (kind == "folders")}
        for kind in ("folders", "files")
    }


@pytest.fixture
def under() -> Iterator[Callable[[int], int]]:
    """Sets the umask, until the test ends."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


PRIVATE = {"folders": {0o700}, "files": {0o600}}
SHARED = {"folders": {0o750}, "files": {0o640}}


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize(("share", "expected"), [(False, PRIVATE), (True, SHARED)])
def test_a_run_is_private_or_shared_as_it_says_whatever_the_umask(
    tmp_path: Path, under: Callable[[int], int], umask: int, share: bool, expected: dict[str, set[int]]
) -> None:
    under(umask)
    run = runs.start(tmp_path / "runs", "demo", CompileConfig(share=share))
    runs.log_to(run)
    with Ledger(run.folder / "ledger.sqlite") as ledger:
        ledger.record(ModelCall("k", "{}", "m", "student"))
        assert (run.folder / "ledger.sqlite-wal").exists()
        assert modes(run.folder) == expected
    run.write_json("programs/rag/program.json", {})
    run.write_texts({"results.json": "{}", "report.md": "."}, ".results")
    assert modes(run.folder) == expected
    assert (run.folder / "ledger.snapshot.sqlite").exists()
    assert stat.S_IMODE(run.folder.parent.stat().st_mode) == 0o755

    # A copy, or an older version, may have left it open: going on with it closes it.
    under(umask)
    for path in (run.folder, *run.folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    limit_access_to(run.folder, share=share)
    run.write_text("report.md", "new")
    assert modes(run.folder) == expected


def test_the_umask_is_restored_after_a_call_that_fails_too(under: Callable[[int], int], tmp_path: Path) -> None:
    @restoring_umask()
    def call() -> None:
        limit_access_to(tmp_path, share=False)
        raise SetupError("on purpose")

    under(0o022)
    for _ in range(2):
        with pytest.raises(SetupError, match="on purpose"):
            call()
    assert under(0o022) == 0o022


@pytest.mark.slow
def test_nothing_that_a_compile_writes_is_left_open(tmp_path: Path) -> None:
    with serving(Behaviour()) as server:
        flags = ["--models.student", "openai/mock", "--models.teacher", "openai/mock", "--models.api-base", server.url]
        flags += ["--quick", "--evaluation.arms", "rag", "--synthesis.candidates", "4", "--limit", "6"]
        flags += ["--evaluation.held-out", "2", "--runs", str(tmp_path)]
        done = subprocess.run(
            [sys.executable, "-m", "synth_dspy.compile", "contract_qa", *flags],
            cwd=ROOT,
            umask=0o000,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    (run,) = (path.parent for path in tmp_path.glob("contract_qa/*/config.toml"))
    assert modes(run) == PRIVATE
    assert {"ledger.sqlite", "ledger.snapshot.sqlite", "run.log", "report.html"} <= set(os.listdir(run))
    assert modes(tmp_path / "contract_qa" / "indexes") == PRIVATE


CACHED = """
import os, pathlib, sys
os.environ["SYNTH_DSPY_HOME"] = sys.argv[1]
from synth_dspy.core.io.files import limit_access
from synth_dspy.models.weights.cache import kept
limit_access(share=False)
kept("model.gguf", lambda part: part.write_text("weights"))
def folder(part):
    part.mkdir()
    (part / "model.xml").write_text("weights")
kept("folder", folder)
"""


@pytest.mark.parametrize("umask", [0o000, 0o077])
@pytest.mark.parametrize(("home", "folders", "files"), [(None, 0o700, 0o600), (0o755, 0o755, 0o644)])
def test_what_is_cached_is_as_open_as_the_cache_which_is_private_by_default(
    tmp_path: Path, umask: int, home: int | None, folders: int, files: int
) -> None:
    cache = tmp_path / "cache"
    if home is not None:
        cache.mkdir()
        cache.chmod(home)
    subprocess.run([sys.executable, "-c", CACHED, str(cache)], umask=umask, check=True)
    for path in cache.rglob("*.lock"):
        path.unlink()  # which nobody reads
    assert modes(cache) == {"folders": {folders}, "files": {files}}


@pytest.mark.parametrize(("home", "expected"), [(0o755, 0o700), (0o700, 0o700), (0o750, 0o750)])
def test_what_is_trained_on_is_private_unless_its_run_is_shared(
    tmp_path: Path, under: Callable[[int], int], home: int, expected: int
) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    folder = tmp_path / "adapters"
    folder.mkdir()
    folder.chmod(home)
    row = {"prompt": [{"role": "user", "content": "?"}], "completion": [{"role": "assistant", "content": "!"}]}
    under(0o000)
    training = prepare(folder, f"embedded/{tmp_path / 'model.gguf'}", [row], {})
    assert stat.S_IMODE(training.stat().st_mode) == expected
