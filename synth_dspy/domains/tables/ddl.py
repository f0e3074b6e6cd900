"""Parses SQL scripts into tables with comments, writes SQL, and checks that a statement runs.

sqlglot reads some thirty dialects; a comment may be part of the statement (`COMMENT 'x'`, BigQuery's `OPTIONS`) or a
`COMMENT ON`. Features that DuckDB lacks (storage, identity) are lost in translation; columns never are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from synth_dspy.core.errors import SynthDspyError
from synth_dspy.domains.tables.schema import Column, Table

if TYPE_CHECKING:
    from sqlglot import exp

_BARE = frozenset({"DOUBLE", "FLOAT", "INT", "BIGINT", "SMALLINT", "TINYINT", "MEDIUMINT", "UINT", "UBIGINT"})
_INTEGERS = {"SERIAL": "INT", "BIGSERIAL": "BIGINT", "SMALLSERIAL": "SMALLINT"}


class DdlError(SynthDspyError):
    """A statement that does not parse or does not run; `kind` says which."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Statement:
    """A `CREATE TABLE` of a script: the table, and the remarks (`-- x`) before it."""

    table: Table
    remarks: tuple[str, ...] = ()


def parse_script(sql: str, dialect: str) -> list[Statement]:
    """Every table that a script creates, with its comments; other statements are skipped.

    Args:
        sql: any number of statements.
        dialect: sqlglot's name: postgres, mysql, snowflake, ...

    Raises:
        DdlError: the script does not parse.
    """
    from sqlglot import exp

    made: dict[str, Statement] = {}
    with _well_formed():
        for statement in _parsed(sql, dialect):
            if (
                isinstance(statement, exp.Create)
                and statement.kind == "TABLE"
                and isinstance(statement.this, exp.Schema)
            ):
                table = _table(statement, dialect)
                remarks = tuple(remark.strip() for remark in statement.comments or ())
                made[_key(table.schema, table.name)] = Statement(table, remarks)
            elif isinstance(statement, exp.Comment):
                _comment(statement, made)
    return list(made.values())


def parse_table(sql: str, dialect: str) -> Table:
    """The one table that a statement creates.

    Raises:
        DdlError: it does not parse, or does not create exactly one table with columns.
    """
    tables = parse_script(sql, dialect)
    if len(tables) != 1:
        raise DdlError("does not parse", f"it creates {len(tables)} tables, not one")
    table = tables[0].table
    names = [column.name.lower() for column in table.columns]
    if not names or len(set(names)) < len(names):
        raise DdlError("does not parse", "it has no columns, or two of one name")
    return table


def run_in_duckdb(sql: str, dialect: str) -> None:
    """Create the table in an empty in-memory DuckDB, after stand-ins for the tables that it refers to.

    Raises:
        DdlError: it does not parse, or DuckDB refuses it.
    """
    import duckdb
    from sqlglot import exp

    (statement, *others) = _parsed(sql, dialect) or [None]
    of_columns = isinstance(statement, exp.Create) and isinstance(statement.this, exp.Schema)
    if others or not of_columns or statement.expression:  # a query could fill the memory
        raise DdlError("does not parse", "it is not one CREATE TABLE of columns")
    with _well_formed():
        _reduce(statement)
        parents, reduced = list(_parents(statement)), statement.sql("duckdb")
    with _LOCK:  # one database for all statements: opening one takes longer than they do
        connection = _database()
        connection.begin()
        try:
            for prepared in (*parents, reduced):
                connection.execute(prepared)
        except duckdb.Error as error:
            raise DdlError("does not run", str(error).partition("\n")[0]) from error
        finally:
            connection.rollback()


_LOCK = threading.Lock()


@cache
def _database() -> Any:
    import duckdb

    return duckdb.connect(":memory:", config={"threads": 1, "enable_external_access": False})


def literal(text: str, dialect: str) -> str:
    """Any string as a literal of the dialect."""
    from sqlglot import exp

    if dialect == "tsql":  # without the N, SQL Server keeps only the letters of its code page
        return exp.National(this=text).sql(dialect)
    return exp.Literal.string(text).sql(dialect)


def identifier(*names: str, dialect: str, quoted: bool = True) -> str:
    """A dotted name in the dialect's SQL; empty parts are left out.

    Args:
        names: schema, table, column; some may be missing.
        dialect: sqlglot's name.
        quoted: quote every part; False: only the parts that need quotes.
    """
    from sqlglot import exp

    return ".".join(exp.to_identifier(name, quoted=quoted or None).sql(dialect) for name in names if name)


def is_dialect(name: str) -> bool:
    """Whether sqlglot has a dialect of this name."""
    from sqlglot.dialects.dialect import Dialect

    return bool(name) and Dialect.get(name) is not None


@contextmanager
def _well_formed() -> Iterator[None]:
    """Guard for reading sqlglot's tree: unexpected nodes mean that it parsed a malformed statement.

    Raises:
        DdlError: the tree has unexpected nodes.
    """
    try:
        with _quiet():
            yield
    except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise DdlError("does not parse", f"a part is missing or misplaced ({str(error)[:100]})") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence sqlglot's warnings about what the other dialect lacks, which is expected here."""
    logger = logging.getLogger("sqlglot")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _parsed(sql: str, dialect: str) -> list[Any]:
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        with _quiet():
            return [statement for statement in sqlglot.parse(sql, dialect=dialect) if statement is not None]
    except (SqlglotError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise DdlError("does not parse", str(error).partition("\n")[0] or type(error).__name__) from error


def _table(statement: exp.Create, dialect: str) -> Table:
    from sqlglot import exp

    target = statement.this.this
    keys: set[str] = set()
    foreign: dict[str, str] = {}
    for part in statement.this.expressions:
        for key in part.find_all(exp.PrimaryKey):
            keys |= {_name(named).lower() for named in key.expressions}
        for key in part.find_all(exp.ForeignKey):
            there = _referenced(key.args["reference"])
            for here, column in zip(key.expressions, there[1] or [""] * len(key.expressions), strict=False):
                foreign[_name(here).lower()] = f"{there[0]}.{column}".rstrip(".")
    columns = [
        _column(part, keys, foreign, dialect) for part in statement.this.expressions if isinstance(part, exp.ColumnDef)
    ]
    described = _described(statement.args.get("properties"))
    return Table(target.name, tuple(columns), target.db, described, dialect, bool(target.this.quoted))


def _column(part: exp.ColumnDef, keys: set[str], foreign: dict[str, str], dialect: str) -> Column:
    from sqlglot import exp

    references, comment, nullable, key = "", "", True, part.name.lower() in keys
    for constraint in part.constraints:
        kind = constraint.args.get("kind")
        if isinstance(kind, exp.CommentColumnConstraint):
            comment = kind.name
        elif isinstance(kind, exp.NotNullColumnConstraint):
            nullable = bool(kind.args.get("allow_null"))
        elif isinstance(kind, exp.PrimaryKeyColumnConstraint):
            key = True
        elif isinstance(kind, exp.Reference):
            table, names = _referenced(kind)
            references = ".".join([table, *names[:1]])
        elif isinstance(kind, exp.Properties):
            comment = _described(kind) or comment
    with _quiet():
        kind_sql = part.kind.sql(dialect) if part.kind is not None else ""
    references = references or foreign.get(part.name.lower(), "")
    text, quoted = " ".join(comment.split()), bool(part.this.quoted)
    return Column(part.name, kind_sql, nullable and not key, key, references, text, quoted=quoted)


def _referenced(reference: Any) -> tuple[str, list[str]]:
    """The table and columns of a `REFERENCES`."""
    from sqlglot import exp

    target = reference.this
    if isinstance(target, exp.Schema):
        return target.this.name, [_name(column) for column in target.expressions]
    return target.name, []


def _name(node: Any) -> str:
    return str(node.name)


def _described(properties: Any) -> str:
    from sqlglot import exp

    for entry in properties.expressions if properties is not None else ():
        if isinstance(entry, exp.SchemaCommentProperty) or (
            isinstance(entry, exp.Property) and entry.name.lower() == "description"
        ):
            value = entry.args.get("value") or entry.this
            return " ".join(str(value.name).split())
    return ""


def _key(schema: str, name: str) -> str:
    """The key of a script's table: `public.users`, `PUBLIC.Users` and `users` are the same table."""
    return Table(name.lower(), (), schema.lower()).qualified


def _comment(statement: exp.Comment, made: dict[str, Statement]) -> None:
    """Attach a `COMMENT ON` to its table or column, if the script creates the table."""
    from sqlglot import exp

    target, text = statement.this, " ".join(statement.expression.name.split())
    if statement.args.get("kind") == "COLUMN" and isinstance(target, exp.Column):
        name, column = _key(target.db, target.table), target.name
    elif statement.args.get("kind") == "TABLE" and isinstance(target, exp.Table):
        name, column = _key(target.db, target.name), ""
    else:
        return
    held = made.get(name)
    if held is None:
        return
    table = held.table
    if column:
        columns = (replace(c, comment=text) if c.name.lower() == column.lower() else c for c in table.columns)
        table = replace(table, columns=tuple(columns))
    else:
        table = replace(table, comment=text)
    made[name] = replace(held, table=table)


def _reduce(statement: exp.Create) -> None:
    """Reduce a statement to what DuckDB supports: columns, keys, checks, defaults."""
    from sqlglot import exp

    statement.set("properties", None)
    statement.this.this.set("db", None)
    statement.this.this.set("catalog", None)
    for constraint in list(statement.find_all(exp.ColumnConstraint)):
        kind = constraint.args.get("kind")
        gone = (exp.CommentColumnConstraint, exp.AutoIncrementColumnConstraint, exp.Properties)
        if isinstance(kind, (*gone, exp.GeneratedAsIdentityColumnConstraint)):
            constraint.pop()
    for node in list(statement.find_all(exp.DataType)):
        name = node.this.name if isinstance(node.this, exp.DType) else str(node.this)
        if name in ("LOWCARDINALITY", "NULLABLE") and node.expressions:
            node.replace(node.expressions[0])
        elif name in ("ARRAY", "OBJECT", "VARIANT", "MAP", "STRUCT") and not node.expressions:
            node.replace(exp.DataType.build("JSON"))  # of anything, as Snowflake has them
        elif name in _INTEGERS:
            node.replace(exp.DataType.build(_INTEGERS[name]))
        elif name in _BARE or any(isinstance(size.this, exp.Var) for size in node.expressions):
            node.set("expressions", None)  # INT(11) of MySQL, REAL(9, 2) of SQLite, VARCHAR(MAX) of SQL Server
    for key in statement.find_all(exp.PrimaryKey):
        key.set("expressions", [part.this if isinstance(part, exp.Ordered) else part for part in key.expressions])


def _parents(statement: exp.Create) -> Iterable[str]:
    """Statements for stand-ins of the tables that this one refers to, with the referenced columns and types."""
    from sqlglot import exp

    types = {part.name.lower(): part.kind for part in statement.this.expressions if isinstance(part, exp.ColumnDef)}
    own = statement.this.this.name.lower()
    wanted: dict[str, dict[str, str]] = {}
    for reference in statement.find_all(exp.Reference):
        target = reference.this.this if isinstance(reference.this, exp.Schema) else reference.this
        target.set("db", None)
        table, columns = _referenced(reference)
        parent = reference.parent
        if isinstance(parent, exp.ForeignKey):
            here = [_name(column) for column in parent.expressions]
        else:
            definition = reference.find_ancestor(exp.ColumnDef)
            here = [definition.name] if definition is not None else []
        for mine, theirs in zip(here, columns or here, strict=False):
            kind = types.get(mine.lower())
            wanted.setdefault(table, {})[theirs] = "INT" if kind is None else kind.sql("duckdb")
    for table, columns_of in wanted.items():
        if table.lower() == own:
            continue
        # Referenced columns must be unique, alone or together.
        body = ", ".join(f"{identifier(name, dialect='duckdb')} {kind}" for name, kind in columns_of.items())
        unique = ", ".join(identifier(name, dialect="duckdb") for name in columns_of)
        yield f"CREATE TABLE {identifier(table, dialect='duckdb')} ({body}, UNIQUE ({unique}))"
