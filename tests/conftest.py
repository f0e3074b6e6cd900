"""Shared by all tests: the repository as the workspace, and shared data where it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synth_dspy.lms.offline import quiet_libraries

ROOT = Path(__file__).resolve().parents[1]
quiet_libraries()
os.environ.setdefault("TERM", "dumb")


@pytest.fixture(scope="session")
def workspace() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the shared data is not here")
    return folder
