"""Inserting many rows at once, with their digests: plain SQL, without what SQLAlchemy does to each row."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Table, insert

from clipsearch.store.checksums import COVERED, row_digest
from clipsearch.store.dialect import is_postgres
from clipsearch.store.schema import items

_ROWS = 64
"""Rows per INSERT statement. The sqlite3 module releases the interpreter lock at each step of a statement; an INSERT of
many rows is one step, so a commit waits less often for other threads."""

_NEXT = (
    "SELECT 1 + max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'items'), 0), "
    "coalesce((SELECT max(id) FROM items), 0))"
)


_NEXT_IN_POSTGRES = (
    "SELECT 1 + greatest(CASE WHEN is_called THEN last_value ELSE last_value - 1 END, "
    "coalesce((SELECT max(id) FROM items), 0)) FROM items_id_seq"
)


def insert_items(connection: Connection, values: Sequence[dict[str, Any]]) -> Sequence[int]:
    """Insert items, dicts as `insert_many` takes them but without ids; return their ids, ascending, in that order."""
    if not values:
        return []
    first = next_item_id(connection)
    ids = range(first, first + len(values))
    insert_many(connection, items, [{"id": item_id, **row} for item_id, row in zip(ids, values, strict=True)])
    if is_postgres(connection):
        connection.exec_driver_sql("SELECT setval('items_id_seq', ?)", (ids[-1],))
    return ids


def next_item_id(connection: Connection) -> int:
    """Return the id of the next item, which none ever had."""
    found: int = connection.exec_driver_sql(_NEXT_IN_POSTGRES if is_postgres(connection) else _NEXT).scalar_one()
    return found


def insert_many(connection: Connection, table: Table, values: Sequence[dict[str, Any]]) -> None:
    """Insert rows: dicts of plain values with the same keys.

    Rows of a table with digests get theirs here if they have its primary key: `checksums.seal` would write them twice.
    """
    if values and table in COVERED and all(column.name in values[0] for column in table.primary_key):
        values = [{**row, "digest": row_digest(table, row)} for row in values]
    if values and is_postgres(connection):
        from clipsearch.store.postgres.copying import copy_rows

        copy_rows(connection, table.name, list(values[0]), map(itemgetter(*values[0]), values))
        return
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
