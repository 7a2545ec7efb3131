"""Inserting many rows at once: plain SQL, without what SQLAlchemy does to each row."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select

from clipsearch.store.schema import items


def insert_items(connection: Connection, values: Sequence[dict[str, Any]]) -> Sequence[int]:
    """Insert items, dicts as `insert_many` takes them; return their ids in order, which rise with every item."""
    if not values:
        return []
    last = last_item_id(connection)
    insert_many(connection, items, values)
    ids = connection.execute(select(items.c.id).where(items.c.id > last).order_by(items.c.id)).scalars().all()
    assert len(ids) == len(values), "a writer is alone"
    return ids


def last_item_id(connection: Connection) -> int:
    """Return the highest id of an item, 0 without items."""
    last: int = connection.execute(select(func.coalesce(func.max(items.c.id), 0))).scalar_one()
    return last


def insert_many(connection: Connection, table: Table, values: Sequence[dict[str, Any]]) -> None:
    """Insert rows: dicts of plain values with the same keys."""
    if not values:
        return
    statement = insert(table).compile(dialect=connection.dialect, column_keys=list(values[0]))
    rows = list(map(itemgetter(*(statement.positiontup or ())), values))
    connection.exec_driver_sql(str(statement), rows)
