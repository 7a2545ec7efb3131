"""Inserting many rows at once: plain SQL, without what SQLAlchemy does to each row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Table, bindparam, func, insert, select

from clipsearch.store.schema import items

_ROWS = 64
"""Rows per INSERT statement. The sqlite3 module releases the interpreter lock at each step of a statement; an INSERT of
many rows is one step, so a commit waits less often for other threads."""

_LAST = select(func.coalesce(func.max(items.c.id), 0))
_AFTER = select(items.c.id).where(items.c.id > bindparam("last")).order_by(items.c.id)


def insert_items(connection: Connection, values: Sequence[dict[str, Any]]) -> Sequence[int]:
    """Insert items, dicts as `insert_many` takes them; return their ids, ascending, in the same order."""
    if not values:
        return []
    last = last_item_id(connection)
    insert_many(connection, items, values)
    ids = connection.execute(_AFTER, {"last": last}).scalars().all()
    assert len(ids) == len(values), "another writer inserted items"
    return ids


def last_item_id(connection: Connection) -> int:
    """Return the highest id of an item, 0 without items."""
    last: int = connection.execute(_LAST).scalar_one()
    return last


def insert_many(connection: Connection, table: Table, values: Sequence[dict[str, Any]]) -> None:
    """Insert rows: dicts of plain values with the same keys."""
    for start in range(0, len(values), _ROWS):
        page = values[start : start + _ROWS]
        statement, order = _statement(table, connection.dialect, tuple(page[0]), len(page))
        connection.exec_driver_sql(statement, tuple(chain.from_iterable(map(itemgetter(*order), page))))


@lru_cache
def _statement(table: Table, dialect: Dialect, columns: tuple[str, ...], rows: int) -> tuple[str, list[str]]:
    """Return a parameterized INSERT statement for `rows` rows, and the column order of each row's parameters."""
    compiled = insert(table).compile(dialect=dialect, column_keys=list(columns))
    start, _, values = str(compiled).partition(" VALUES ")
    return f"{start} VALUES {', '.join([values] * rows)}", compiled.positiontup or []
