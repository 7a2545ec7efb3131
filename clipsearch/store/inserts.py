"""Inserting many rows at once: plain SQL, without what SQLAlchemy does to each row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Table, bindparam, func, insert, select

from clipsearch.store.schema import items

_LAST = select(func.coalesce(func.max(items.c.id), 0))
_AFTER = select(items.c.id).where(items.c.id > bindparam("last")).order_by(items.c.id)


def insert_items(connection: Connection, values: Sequence[dict[str, Any]]) -> Sequence[int]:
    """Insert items, dicts as `insert_many` takes them; return their ids in order, which rise with every item."""
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
    if not values:
        return
    statement, order = _statement(table, connection.dialect, tuple(values[0]))
    connection.exec_driver_sql(statement, list(map(itemgetter(*order), values)))


@lru_cache
def _statement(table: Table, dialect: Dialect, columns: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the statement that inserts a row, and the order in which it takes the columns."""
    compiled = insert(table).compile(dialect=dialect, column_keys=list(columns))
    return str(compiled), compiled.positiontup or []
