"""The file that a database URL names: `sqlite:///FILE`, `duckdb:///FILE`, or a path with a known suffix.

A relative path follows three slashes and an absolute one four, but people often write three for both.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit

DUCKDB, SQLITE, SCRIPT = "duckdb", "sqlite", "script"
_ENDINGS = {
    ".duckdb": DUCKDB,
    ".ddb": DUCKDB,
    ".sqlite": SQLITE,
    ".sqlite3": SQLITE,
    ".db": SQLITE,
    ".sql": SCRIPT,
}


def file_of(url: str) -> tuple[str, Path] | None:
    """The kind and the absolute path of a database file, whether or not it exists.

    Returns:
        `DUCKDB`, `SQLITE` or `SCRIPT` (SQL with `CREATE TABLE`) and the path; None if the URL does not name a file.
    """
    parts = urlsplit(url)
    kind = parts.scheme.partition("+")[0]
    if kind in (DUCKDB, SQLITE):
        location = unquote(parts.netloc + parts.path)
        path = Path(location.removeprefix("/")).expanduser()
        actual = Path(location) if Path(location).is_file() and not path.is_file() else path
        return kind, actual.resolve()
    path = Path(url).expanduser()
    if "://" in url or path.suffix.lower() not in _ENDINGS:
        return None
    return _ENDINGS[path.suffix.lower()], path.resolve()


def refuse_password(url: str) -> None:
    """Refuse a URL that contains a password: runs store and show the URLs of their databases.

    Raises:
        ValueError: it contains one, or is not a valid URL.
    """
    try:
        parts = urlsplit(url)
        # A slash in a password looks like the end of the host.
        rest = url.partition("://")[2]
        password = parts.password or (not rest.startswith("/") and ":" in rest.rpartition("@")[0])
    except ValueError:
        raise ValueError("it is not a valid database URL") from None
    if password or any("passw" in name.lower() for name in parse_qs(parts.query)):
        raise ValueError("a database URL must not contain a password, since runs store it: put it into PGPASSWORD")


def absolute_url(url: str) -> str:
    """The URL (or path) with the database file's path made absolute; other URLs are returned unchanged.

    Raises:
        ValueError: the URL contains a password.
    """
    refuse_password(url)
    database_file = file_of(url)
    if database_file is None:
        return url
    kind, path = database_file
    return f"{kind}:///{quote(str(path))}" if urlsplit(url).scheme else str(path)
