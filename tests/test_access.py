"""Who may read what a run writes: its user alone, or the group where that is asked for, whatever the umask."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Behaviour, serving

from synth_dspy.training.provider import prepare

ROOT = Path(__file__).resolve().parents[1]


def modes(folder: Path) -> dict[str, set[int]]:
    """The access of all folders and of all files in a folder."""
    paths = [folder, *folder.rglob("*")]
    return {
        kind: {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir() == (kind == "folders")}
        for kind in ("folders", "files")
    }


def compile_under(umask: int, *args: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "synth_dspy.compile", "contract_qa", *args],
        cwd=ROOT,
        umask=umask,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_is_private_whatever_the_umask_and_shared_where_asked(tmp_path: Path) -> None:
    with serving(Behaviour()) as server:
        flags = ["--models.student", "openai/mock", "--models.teacher", "openai/mock", "--models.api-base", server.url]
        flags += ["--quick", "--evaluation.arms", "rag", "--synthesis.candidates", "4", "--limit", "6"]
        flags += ["--evaluation.held-out", "2"]
        runs = tmp_path / "runs"
        compile_under(0o000, *flags, "--runs", str(runs))
        (private,) = (path.parent for path in runs.glob("contract_qa/*/config.toml"))
        assert modes(private) == {"folders": {0o700}, "files": {0o600}}
        assert {"ledger.sqlite", "ledger.snapshot.sqlite", "run.log", "report.html"} <= set(os.listdir(private))
        assert modes(runs / "contract_qa" / "indexes") == {"folders": {0o700}, "files": {0o600}}
        assert stat.S_IMODE((runs / "contract_qa").stat().st_mode) == 0o755

        compile_under(0o077, *flags, "--share", "--runs", str(runs))
        (shared,) = (path.parent for path in runs.glob("contract_qa/*/config.toml") if path.parent != private)
        assert modes(shared) == {"folders": {0o750}, "files": {0o640}}

        # A copy, or an older version, may have left a run open to others: going on with it closes it.
        shutil.rmtree(shared)
        for path in (private, *private.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        compile_under(0o000, "--resume", private.name, "--runs", str(runs))
        assert modes(private) == {"folders": {0o700}, "files": {0o600}}


CACHED = """
import os, pathlib, sys
os.environ["SYNTH_DSPY_HOME"] = sys.argv[1]
from synth_dspy.files import limit_access
from synth_dspy.lms.cache import kept
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
        path.unlink()  # filelock's own
    assert modes(cache) == {"folders": {folders}, "files": {files}}


@pytest.mark.parametrize(("home", "expected"), [(0o755, 0o700), (0o700, 0o700), (0o750, 0o750)])
def test_what_is_trained_on_is_private_unless_its_run_is_shared(tmp_path: Path, home: int, expected: int) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    folder = tmp_path / "adapters"
    folder.mkdir()
    folder.chmod(home)
    row = {"prompt": [{"role": "user", "content": "?"}], "completion": [{"role": "assistant", "content": "!"}]}
    previous = os.umask(0o000)
    try:
        training = prepare(folder, f"embedded/{tmp_path / 'model.gguf'}", [row], {})
    finally:
        os.umask(previous)
    assert stat.S_IMODE(training.stat().st_mode) == expected
