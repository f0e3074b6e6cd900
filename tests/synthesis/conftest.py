"""What the tests of synthesis share."""

from __future__ import annotations

import pytest
from embedders import WordEmbedder


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()
