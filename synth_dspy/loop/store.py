"""Where the loop keeps its records: one database for each task, SQLite by default, PostgreSQL by URL.

Records are only ever added: versions, moves of aliases, requests, feedback, readings of signals, transitions of
cycles. What must go, because a person or a document's owner asks for it, is deleted and the deletion recorded. A
record is one row: the columns that it is looked up by, and its whole as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.schema import CreateIndex, CreateTable

from synth_dspy.core.errors import SetupError
from synth_dspy.loop.records import AliasMove, Deletion, Feedback, Reading, Request, Transition, Version

Record = TypeVar("Record", Version, AliasMove, Request, Feedback, Reading, Transition, Deletion)
Key = tuple[str, ...]

FILE = "production.sqlite"

_KEYS: dict[type[Any], Key] = {  # what a record is unique by, in the order of its table's columns
    Version: ("id",),
    AliasMove: ("alias", "number"),
    Request: ("id",),
    Feedback: ("id",),
    Reading: ("signal", "number"),
    Transition: ("cycle", "number"),
    Deletion: ("number",),
}
_INDEXED: dict[type[Any], Key] = {Request: ("version", "person"), Feedback: ("request", "rater")}
_METADATA = sa.MetaData()
_LOCK = 0x5D59  # any number that others of the database's users are not likely to take


def _table(kind: type[Any]) -> sa.Table:
    keys = [sa.Column(key, sa.Integer if key == "number" else sa.String(200), primary_key=True) for key in _KEYS[kind]]
    references = [sa.Column(name, sa.String(200), index=True, nullable=True) for name in _INDEXED.get(kind, ())]
    return sa.Table(
        kind.__name__.lower(),
        _METADATA,
        sa.Column("task", sa.String(200), primary_key=True),
        *keys,
        *references,
        sa.Column("at", sa.String(40), index=True),
        sa.Column("body", sa.JSON),
    )


_TABLES: dict[type[Any], sa.Table] = {kind: _table(kind) for kind in _KEYS}
_VALUE = _TABLES[Feedback].c.body["value"].as_string()
_IS_BETTER = _TABLES[Feedback].c.body["kind"].as_string() == "better"
_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in _KEYS}


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


class Store:
    """The records of one task. May be used from several threads and processes."""

    def __init__(self, engine: sa.Engine, task: str) -> None:
        self._engine = engine
        self.task = task

    @classmethod
    def open(cls, where: str | Path, task: str) -> Store:
        """Open a database, or make it.

        Args:
            where: the path of an SQLite file, or a URL such as `postgresql+psycopg://user@host/name`.
            task: whose records.

        Raises:
            SetupError: it cannot be opened.
        """
        url = str(where)
        if "://" not in url:
            Path(url).parent.mkdir(parents=True, exist_ok=True)
            url = f"sqlite:///{Path(url).absolute()}"
        try:
            engine = sa.create_engine(url, pool_pre_ping=True, hide_parameters=True)  # errors are logged
            if engine.dialect.name == "sqlite":
                sa.event.listen(engine, "connect", _set_up_sqlite)
            with engine.begin() as connection:
                if engine.dialect.name == "postgresql":  # where "if not exists" fails if two processes make one at once
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
                for table in _TABLES.values():  # "if not exists": another process may be making them too
                    connection.execute(CreateTable(table, if_not_exists=True))
                    for index in table.indexes:
                        connection.execute(CreateIndex(index, if_not_exists=True))
        except ModuleNotFoundError as error:
            raise SetupError(
                f"{error.name} is needed for this store: install it with pip install 'synth_dspy[postgres]'."
            ) from error
        except (SQLAlchemyError, OSError) as error:
            why = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise SetupError(f"The store {_without_password(url)} could not be opened: {why}.") from error
        return cls(engine, task)

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def add(self, record: Record) -> bool:
        """Keep a record; one that is numbered within its key takes the next number.

        Returns:
            False where another process has just added one under the same key.
        """
        return self.add_together([record])

    def add_together(self, records: Sequence[Record]) -> bool:
        """Keep records, all of them or none.

        Returns:
            False where another process has just added one under the same key; then none is kept.
        """
        try:
            with self._engine.begin() as connection:
                for record in records:
                    connection.execute(_TABLES[type(record)].insert(), self._row(connection, record))
        except IntegrityError:
            return False
        return True

    def read(
        self, kind: type[Record], /, *, since: datetime | None = None, last: int | None = None, **keys: Any
    ) -> list[Record]:
        """Records of a kind, the oldest first.

        Args:
            kind: their type.
            since: not those of before this time.
            last: the latest of them only, so many.
            **keys: what they must have: `alias="champion"`, `request="..."`; a list means one of its values.
        """
        table: sa.Table = _TABLES[kind]
        query = sa.select(table.c.body).where(*self._matches(table, keys))
        if since is not None:
            query = query.where(table.c["at"] >= _time(since))
        numbered = "number" in _KEYS[kind] and len(keys) == len(_KEYS[kind]) - 1  # a clock may be set back
        order: list[sa.Column[Any]] = (
            [table.c.number] if numbered else [table.c["at"], *(table.c[key] for key in _KEYS[kind])]
        )
        if last is not None:
            query = query.order_by(*(column.desc() for column in order)).limit(last)
        else:
            query = query.order_by(*order)
        with self._engine.connect() as connection:
            bodies = list(connection.execute(query).scalars())
        return [_ADAPTERS[kind].validate_python(body) for body in (reversed(bodies) if last is not None else bodies)]

    def count(self, kind: type[Record], /, **keys: Any) -> int:
        """How many records of a kind there are."""
        table = _TABLES[kind]
        query = sa.select(sa.func.count()).select_from(table).where(*self._matches(table, keys))
        with self._engine.connect() as connection:
            return int(connection.execute(query).scalar_one())

    def suggestions(self, last: int, *, decided: bool = False) -> list[Request]:
        """Answers that users saw, and that were accepted, edited or rejected, or not yet.

        Args:
            last: the latest so many; the oldest of them comes first.
            decided: which of the two.
        """
        requests, feedback = _TABLES[Request], _TABLES[Feedback]
        judged = sa.select(feedback.c.request).where(*self._matches(feedback, {"kind": "acceptance"}))
        query = (
            sa.select(requests.c.body)
            .where(*self._matches(requests, {"route": ["champion", "challenger"]}))
            .where(requests.c.id.in_(judged) if decided else requests.c.id.not_in(judged))
            .where(requests.c.body["answer"].as_string() != "")
            .order_by(requests.c["at"].desc(), requests.c.id)
            .limit(last)
        )
        with self._engine.connect() as connection:
            bodies = list(connection.execute(query).scalars())
        return [_ADAPTERS[Request].validate_python(body) for body in reversed(bodies)]

    def delete(
        self,
        reason: str,
        by: str,
        *,
        request: str | None = None,
        person: str | None = None,
        document: str | None = None,
    ) -> Deletion:
        """Delete a request, all that a person asked or thought, or all requests that name a document as an input.

        Feedback on what is deleted goes with it, and comparisons of other answers with it. The deletion is recorded.

        Returns:
            What was deleted, by ids, so that what was learned from it can be looked up.
        """
        requests, feedback = _TABLES[Request], _TABLES[Feedback]
        with self._engine.begin() as connection:
            mine = requests.c.task == self.task
            if document is None:
                wanted = requests.c.id == request if request is not None else requests.c.person == person
                asked = list(connection.execute(sa.select(requests.c.id).where(mine, wanted)).scalars())
            else:
                bodies = connection.execute(sa.select(requests.c.body).where(mine)).scalars()
                asked = [str(body["id"]) for body in bodies if document in body["inputs"].values()]
            theirs: sa.ColumnElement[bool] = sa.or_(
                feedback.c.request.in_(asked), sa.and_(_IS_BETTER, _VALUE.in_(asked))
            )
            if person is not None:
                theirs = sa.or_(theirs, feedback.c.rater == person)
            about = sa.and_(feedback.c.task == self.task, theirs)
            given = list(connection.execute(sa.select(feedback.c.id).where(about)).scalars())
            connection.execute(feedback.delete().where(about))
            connection.execute(requests.delete().where(mine, requests.c.id.in_(asked)))
            record = Deletion(now(), by, reason, tuple(asked), tuple(given))
            if asked or given:
                connection.execute(_TABLES[Deletion].insert(), self._row(connection, record))
        return record

    def forget(self, before: datetime) -> int:
        """Delete requests that are older than the retention allows, but not those that somebody gave feedback on, nor
        those that somebody preferred to another.

        Returns:
            How many.
        """
        requests, feedback = _TABLES[Request], _TABLES[Feedback]
        mine = feedback.c.task == self.task
        rated, preferred = sa.select(feedback.c.request).where(mine), sa.select(_VALUE).where(mine, _IS_BETTER)
        with self._engine.begin() as connection:
            old = requests.delete().where(
                requests.c.task == self.task,
                requests.c["at"] < _time(before),
                requests.c.id.not_in(rated),
                requests.c.id.not_in(preferred),
            )
            return int(connection.execute(old).rowcount)

    def _matches(self, table: sa.Table, keys: Mapping[str, Any]) -> list[sa.ColumnElement[bool]]:
        wanted: list[sa.ColumnElement[bool]] = [table.c.task == self.task]
        for name, value in keys.items():
            column = table.c[name] if name in table.c else table.c.body[name].as_string()
            wanted.append(column.in_(value) if isinstance(value, list) else column == value)
        return wanted

    def _row(self, connection: sa.Connection, record: Any) -> dict[str, Any]:
        kind = type(record)
        table, keys = _TABLES[kind], _KEYS[kind]
        row = {name: getattr(record, name) for name in (*keys, *_INDEXED.get(kind, ())) if name != "number"}
        row |= {"task": self.task, "at": _time(getattr(record, "at", None) or record.created)}
        if kind is Transition:  # its author has seen the one before, and knows its number
            row["number"] = record.number
        elif "number" in keys:
            highest = sa.select(sa.func.coalesce(sa.func.max(table.c.number), 0)).where(table.c.task == self.task)
            for name in keys:
                if name != "number":
                    highest = highest.where(table.c[name] == row[name])
            row["number"] = connection.execute(highest).scalar_one() + 1
        return row | {"body": _ADAPTERS[kind].dump_python(record, mode="json")}


def _time(at: datetime) -> str:
    """A time as text that sorts as times do."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _without_password(url: str) -> str:
    return sa.make_url(url).render_as_string(hide_password=True)


def _set_up_sqlite(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")
