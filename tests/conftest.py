"""Shared by all tests: the repository as the workspace, and shared data where it is there."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import hypothesis  # noqa: F401  # before anything is frozen: it looks for what holds a library's random generator
import pytest

from synth_dspy.models.offline import quiet_libraries

ROOT = Path(__file__).resolve().parents[1]


def _take_own_cores() -> None:
    """Each of several workers keeps to its share of the cores: models that run on the same ones stall each other.

    Before torch and OpenVINO count the cores; processes that a test starts inherit it.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if not worker or not hasattr(os, "sched_setaffinity"):
        return
    number, workers = int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[number::workers] or [cores[number % len(cores)]])


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One more than there are cores, since many tests wait for a process or a clock; at most 4, for their memory."""
    return min(4, len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else 2)


_modules_frozen = 0


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """Spare the collector the libraries that a test has imported.

    With torch, transformers and the rest there are two million objects, and every training and every model that is
    closed collects: a third of the time of their tests.
    """
    global _modules_frozen
    if len(sys.modules) > _modules_frozen + 200:
        _modules_frozen = len(sys.modules)
        gc.collect()
        gc.freeze()


_take_own_cores()
quiet_libraries()
os.environ.setdefault("TERM", "dumb")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fuzz", type=int, default=25, help="inputs for each reader in tests/fuzz; thousands take hours (--timeout 0)"
    )


@pytest.fixture(scope="session", autouse=True)
def _own_signing_key(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Runs that tests make are signed with a key of the tests."""
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="session")
def workspace() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data is not here")
    return folder
