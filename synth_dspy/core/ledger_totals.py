"""Totals of a ledger's calls, grouped by role, station, arm, source or model."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

_SUMS = (
    "count(*) as calls, sum(attempts) as attempts, coalesce(sum(input_tokens), 0) as input_tokens,"
    " coalesce(sum(output_tokens), 0) as output_tokens, coalesce(sum(latency_s), 0) as latency_s,"
    " coalesce(sum(cpu_s), 0) as cpu_s,"
    " case when count(cost_usd) = count(*) then sum(cost_usd) end as cost_usd"
)


def require_columns(names: Iterable[str]) -> None:
    """Raise `ValueError` unless calls can be grouped by these columns."""
    unknown = set(names) - {"role", "station", "arm", "source", "model"}
    if unknown:
        raise ValueError(f"cannot group or select calls by {sorted(unknown)}")


def grouped_totals(db: sqlite3.Connection, by: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of `Ledger.totals`; see there.

    Args:
        db: a ledger.
        by: columns of its calls and failures.

    Raises:
        ValueError: there is no such column, or it is not one to group by.
    """
    require_columns(by)
    columns, group = ", ".join(by), f" group by {', '.join(by)} order by {', '.join(by)}" if by else ""
    comma = ", " if by else ""
    cursor = db.execute(f"select {columns}{comma}{_SUMS} from calls{group}")
    names = [column[0] for column in cursor.description]
    groups = [dict(zip(names, row, strict=True)) for row in cursor]
    failed = {tuple(row[:-1]): row[-1] for row in db.execute(f"select {columns}{comma}count(*) from failures{group}")}
    for row in groups:
        row["failures"] = failed.pop(tuple(row[name] for name in by), 0)
    empty: dict[str, Any] = dict.fromkeys(("calls", "attempts", "input_tokens", "output_tokens"), 0)
    empty |= {"latency_s": 0.0, "cpu_s": 0.0, "cost_usd": None}
    for key, count in failed.items():
        if count:
            groups.append(dict(zip(by, key, strict=True)) | empty | {"failures": count})
    return groups
