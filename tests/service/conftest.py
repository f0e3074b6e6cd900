"""See `served`."""

from __future__ import annotations

from pathlib import Path

import pytest
from served import Serve, serving_from, versions

from synth_dspy.loop.registry import Registry


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return versions(tmp_path)


@pytest.fixture
def serve(registry: Registry) -> Serve:
    return serving_from(registry)
