"""Checksums of what the catalog and the segments hold, so that damage is seen and never shown as an answer.

Each vector has one in the catalog, over its bytes and over what it belongs to: item, part and passage. A row that was
changed, or that stands where another should, fails. Each row of the other tables has a digest of its own columns.
Both are BLAKE2b (RFC 7693) of 64 bits, kept as signed integers: they find damage, they do not prove an author.

A digest is made when a transaction that changed its row commits, see `seal`; a trigger takes it away as soon as a
column that it covers changes. So no statement can forget to renew it.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Row, Table

from clipsearch.errors import StoreCorruptError
from clipsearch.store import schema
from clipsearch.store.dialect import is_postgres
from clipsearch.store.refusals import REPAIR

_BYTES = 8
_FUNCTION = "clipsearch_digest"

_UNCOVERED = {"digest", "deleted", "ctime_ns", "inode", "beside_ctime_ns"}
"""Columns without a digest, which stand last. That `deleted` agrees with the tombstones is checked as such; a wrong
time or number of a file has it read again."""

COVERED: Mapping[Table, tuple[Column[Any], ...]] = {
    table: tuple(column for column in table.c if column.name not in _UNCOVERED) for table in schema.SEALED
}
"""The columns that the digest of a table's row covers, in order."""


_PLACES = {
    table: (len(columns), table.c.keys().index("digest"), any(isinstance(c.type, Boolean) for c in columns))
    for table, columns in COVERED.items()
}
"""For each table how many columns its digest covers, where the digest stands, and whether any of them is a boolean."""

_NAMES = {table: tuple(column.name for column in columns) for table, columns in COVERED.items()}
_PLAIN = frozenset({type(None), int, float, str, bytes})


def row_checksum(
    data: bytes | memoryview,
    modality: str,
    item_id: int,
    part: int,
    passage: Iterable[str | int | None] = (None, None, None),
    position: str | None = None,
) -> int:
    """Return the checksum of a vector. data: its float16 bytes. passage: text, first and last line. position: stored.

    Without a position it is as it was before there were positions.
    """
    identity = (str(modality), item_id, part, *passage, *(() if position is None else (position,)))
    hashed = hashlib.blake2b(repr(identity).encode("utf-8", "surrogatepass"), digest_size=_BYTES)
    hashed.update(data)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def digest(*values: object) -> int:
    """Return the digest of a row's columns, as SQLite holds them."""
    hashed = hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=_BYTES)
    return int.from_bytes(hashed.digest(), "big", signed=True)


def row_digest(table: Table, row: Mapping[str, Any]) -> int:
    """Return the digest of a row of a table that is about to be inserted: plain values by column, others are NULL."""
    values = tuple(map(row.get, _NAMES[table]))
    return digest(*(values if _PLAIN.issuperset(map(type, values)) else map(_stored, values)))


def is_sound(row: Row[*tuple[Any, ...]], table: Table) -> bool:
    """Tell whether a row that begins with the columns of a table is as it was written.

    One without a digest counts as sound: it is from before digests.
    """
    covered, place, has_booleans = _PLACES[table]
    stored = row[place]
    if stored is None:
        return True
    values = row[:covered]
    return bool(stored == digest(*(map(_stored, values) if has_booleans else values)))


def require_sound(row: Row[Any], table: Table) -> None:
    """Raise StoreCorruptError for a row of a table that is not as it was written."""
    if not is_sound(row, table):
        raise StoreCorruptError(
            f"The catalog is damaged: a row of its table {table.name} does not match its checksum. {REPAIR}"
        )


def _stored(value: object) -> object:
    """Return a value as SQLite holds it."""
    if value is True or value is False:
        return int(value)
    return str.__str__(value) if isinstance(value, str) else value


def register(connection: sqlite3.Connection) -> None:
    """Let a connection compute digests in SQL."""
    connection.create_function(_FUNCTION, -1, digest, deterministic=True)


def create(connection: Connection) -> None:
    """Create what keeps digests, unless it is there: a trigger for each table, and an index of rows without one."""
    if is_postgres(connection):
        from clipsearch.store.postgres import seals

        seals.create(connection)
        return
    for table, columns in COVERED.items():
        key = " AND ".join(f"{column.name} = NEW.{column.name}" for column in table.primary_key)
        names = ", ".join(f'"{column.name}"' for column in columns)
        connection.exec_driver_sql(
            f"CREATE TRIGGER IF NOT EXISTS {table.name}_changed AFTER UPDATE OF {names} ON {table.name} "
            f"BEGIN UPDATE {table.name} SET digest = NULL WHERE {key}; END"
        )
        unsealed = f"CREATE INDEX IF NOT EXISTS ix_{table.name}_unsealed ON {table.name} (digest)"
        connection.exec_driver_sql(f"{unsealed} WHERE digest IS NULL")


def seal(connection: Connection) -> None:
    """Give each row that has no digest its own; called at the end of every transaction of a writer."""
    raw = connection.connection.dbapi_connection
    assert isinstance(raw, sqlite3.Connection)
    if raw.total_changes != connection.info.get(_FUNCTION, 0) and _has_digests(connection):
        for statement in _SEAL:
            connection.exec_driver_sql(statement)
    connection.info[_FUNCTION] = raw.total_changes


def count_unsound(connection: Connection, table: Table) -> tuple[int, list[int]]:
    """Count the rows of a table that are not as they were written; return the count, and the ids of rows or items.

    A row without a digest counts too: every transaction ends with none.
    """
    names = ", ".join(f'"{column.name}"' for column in COVERED[table])
    key = next((name for name in ("id", "item_id") if name in table.primary_key.columns), "NULL")
    statement = f"SELECT {key}, digest, {names} FROM {table.name}"
    count, ids = 0, []
    for number, stored, *values in connection.exec_driver_sql(statement):
        if stored != digest(*map(_stored, values)):
            count += 1
            ids += [] if number is None else [number]
    return count, ids


def _has_digests(connection: Connection) -> bool:
    """Tell whether the catalog is of a version that keeps digests."""
    query = "SELECT 1 FROM pragma_table_info('items') WHERE name = 'digest'"
    return connection.exec_driver_sql(query).first() is not None


def _seal_statement(table: Table, columns: Iterable[Column[Any]]) -> str:
    names = ", ".join(f'"{column.name}"' for column in columns)
    return f"UPDATE {table.name} SET digest = {_FUNCTION}({names}) WHERE digest IS NULL"


_SEAL = [_seal_statement(table, columns) for table, columns in COVERED.items()]
