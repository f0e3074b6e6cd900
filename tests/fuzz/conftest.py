"""How every reader is fuzzed: as many inputs as `--fuzz` says, the same ones each time."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from synth_dspy.core.errors import SynthDspyError

SLOWEST_S = 10
MOST_MEMORY_MIB = 1024


class Fuzz(Protocol):
    """`fuzz(inputs, read)`: `read` returns, or raises a `SynthDspyError` of one line (or one of `refusals`)."""

    def __call__(
        self, inputs: SearchStrategy[Any], read: Callable[[Any], object], refusals: type[Exception] | None = None
    ) -> None: ...


@pytest.fixture
def fuzz(request: pytest.FixtureRequest) -> Iterator[Fuzz]:
    before = _peak_mib()

    def check(
        inputs: SearchStrategy[Any], read: Callable[[Any], object], refusals: type[Exception] | None = None
    ) -> None:
        refused = (SynthDspyError, refusals or SynthDspyError)

        @settings(
            max_examples=request.config.getoption("--fuzz"),
            deadline=None,  # wall time is the machine's load
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(inputs)
        def reads_or_refuses(value: Any) -> None:
            begun = time.process_time()
            try:
                read(value)
            except refused as error:
                if not str(error) or (isinstance(error, SynthDspyError) and "\n" in str(error)):
                    pytest.fail(f"not one sentence: {error}")
            assert time.process_time() - begun < SLOWEST_S

        reads_or_refuses()

    yield check
    assert _peak_mib() - before < MOST_MEMORY_MIB


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], Path]:
    """A new folder each time: some readers remember what a path held."""
    number = iter(range(10**9))

    def folder() -> Path:
        path = tmp_path / str(next(number))
        path.mkdir()
        return path

    return folder


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
