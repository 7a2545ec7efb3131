"""The rows of a catalog, from one database to another: a move, or a backup of a catalog in PostgreSQL.

A digest covers the values of a row and not how a database holds them, so it is copied with them and still matches.
"""

from __future__ import annotations

from sqlalchemy import Connection, Table, delete, func, insert, select

from clipsearch.errors import StoreCorruptError
from clipsearch.store import full_text, metadata_index
from clipsearch.store.dialect import is_postgres
from clipsearch.store.inserts import next_item_id
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import metadata, metadata_values, settings

_BLOCK = 1_000
_DERIVED = frozenset({metadata_values})
_SEQUENCE = "SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM {}_id_seq"
_SQLITE_SEQUENCE = "SELECT seq FROM sqlite_sequence WHERE name = ?"
_KEEP_ID = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?"


def copy_rows_of(source: Connection, target: Connection) -> int:
    """Copy all rows of a catalog to a new one, which has the same schema version, and return how many there are.

    What is derived from others is made again there. No id is ever given again.
    """
    target.execute(delete(settings))
    count = 0
    for table in metadata.sorted_tables:
        if table not in _DERIVED:
            count += _copy(source, target, table)
        if table.dialect_kwargs.get("sqlite_autoincrement"):
            keep_ids(target, table, _last_id(source, table))
    full_text.fill(target)
    metadata_index.rebuild(target)
    return count


def require_same(source: Connection, target: Connection) -> None:
    """Compare two catalogs row by row, digests too. Raises StoreCorruptError where one has what the other lacks."""
    for table in metadata.sorted_tables:
        is_same = _count(source, table) == _count(target, table)
        if not is_same or (table not in _DERIVED and not _has_same_rows(source, target, table)):
            raise StoreCorruptError(
                f"The copy of the catalog differs in its table {table.name}, so it is not used. Nothing has changed. "
                f"{REPAIR}"
            )


def _copy(source: Connection, target: Connection, table: Table) -> int:
    count, names = 0, table.c.keys()
    rows = source.execute(select(table).execution_options(yield_per=_BLOCK))
    for block in rows.partitions(_BLOCK):
        count += len(block)
        if is_postgres(target):
            from clipsearch.store.postgres.copying import copy_rows

            copy_rows(target, table.name, names, block)
        else:
            target.execute(insert(table), [dict(row._mapping) for row in block])
    return count


def _has_same_rows(source: Connection, target: Connection, table: Table) -> bool:
    query = select(table).order_by(*table.primary_key).execution_options(yield_per=_BLOCK)
    with source.execute(query) as rows, target.execute(query) as others:
        return all(tuple(one) == tuple(other) for one, other in zip(rows, others, strict=False))


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _last_id(source: Connection, table: Table) -> int:
    """Return the last id that a table ever gave, 0 for none."""
    if table.name == "items":
        return next_item_id(source) - 1
    if is_postgres(source):
        return int(source.exec_driver_sql(_SEQUENCE.format(table.name)).scalar_one())
    return int(source.exec_driver_sql(_SQLITE_SEQUENCE, (table.name,)).scalar_one_or_none() or 0)


def keep_ids(target: Connection, table: Table, last: int) -> None:
    """Have the ids of a table go on after the last one that was ever given."""
    if is_postgres(target):
        target.exec_driver_sql(f"SELECT setval('{table.name}_id_seq', ?, ?)", (max(last, 1), last > 0))
        return
    target.exec_driver_sql(
        "INSERT INTO sqlite_sequence (name, seq) SELECT ?, 0 WHERE NOT EXISTS "
        "(SELECT 1 FROM sqlite_sequence WHERE name = ?)",
        (table.name, table.name),
    )
    target.exec_driver_sql(_KEEP_ID, (last, table.name))
