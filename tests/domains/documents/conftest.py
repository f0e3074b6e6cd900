"""Shared by the corpus tests."""

from __future__ import annotations

import pytest
from hashing_embedder import HashingEmbedder


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder()
