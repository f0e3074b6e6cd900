"""Shared by the tests of the embedded models: the real student, loaded once for all of them."""

from __future__ import annotations

import pytest

STUDENT = "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def student() -> str:
    """The name of the default student, with its weights in the cache."""
    from synth_dspy.core.errors import SetupError
    from synth_dspy.models.weights.registry import resolve

    try:
        resolve(STUDENT)
    except SetupError as error:
        pytest.skip(str(error))
    return STUDENT
