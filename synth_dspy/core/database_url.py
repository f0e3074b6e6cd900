"""Which file a database's URL names: `sqlite:///FILE`, `duckdb:///FILE`, or a file whose ending says what it is.

Three slashes come before a relative path, four before an absolute one; people write three there too.
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
    """The kind of a database that is a file, and its absolute path, be it there or not.

    Returns:
        `DUCKDB`, `SQLITE` or `SCRIPT` (of `CREATE TABLE`s) with the path; None where no file is named.
    """
    parts = urlsplit(url)
    kind = parts.scheme.partition("+")[0]
    if kind in (DUCKDB, SQLITE):
        written = unquote(parts.netloc + parts.path)
        path = Path(written.removeprefix("/")).expanduser()
        meant = Path(written) if Path(written).is_file() and not path.is_file() else path
        return kind, meant.resolve()
    path = Path(url).expanduser()
    if "://" in url or path.suffix.lower() not in _ENDINGS:
        return None
    return _ENDINGS[path.suffix.lower()], path.resolve()


def refuse_password(url: str) -> None:
    """Refuse a URL that holds a password: runs store and show the URLs of their databases.

    Raises:
        ValueError: it does, or is no URL at all.
    """
    try:
        parts = urlsplit(url)
        # A password may hold a slash, where the host then seems to end.
        rest = url.partition("://")[2]
        password = parts.password or (not rest.startswith("/") and ":" in rest.rpartition("@")[0])
    except ValueError:
        raise ValueError("it is not a database's URL") from None
    if password or any("passw" in name.lower() for name in parse_qs(parts.query)):
        raise ValueError("a database's URL holds no password, which runs would store: put it into PGPASSWORD")


def absolute_url(url: str) -> str:
    """The same database by a URL (or path) that means it in any folder; what names no file is given back as it is.

    Raises:
        ValueError: the URL holds a password.
    """
    refuse_password(url)
    found = file_of(url)
    if found is None:
        return url
    kind, path = found
    return f"{kind}:///{quote(str(path))}" if urlsplit(url).scheme else str(path)
