"""The store of a test: an SQLite file, and a database of a PostgreSQL server where one is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import databases
import pytest


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    folder = databases.programs()
    if folder is None:
        pytest.skip("no PostgreSQL server, or no psycopg, is installed")
    with databases.serving(folder) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A path or URL for `Store.open`."""
    if request.param == "sqlite":
        return str(tmp_path / "production.sqlite")
    return databases.new_database(request.getfixturevalue("postgres"), f"t{uuid4().hex}")
