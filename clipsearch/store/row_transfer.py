"""The rows of a catalog, from one database to another: what a backup of a catalog in PostgreSQL consists of.

A digest covers the values of a row and not how a database holds them, so it is copied with them and still matches.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select

from clipsearch.store import full_text, metadata_index
from clipsearch.store.inserts import next_item_id
from clipsearch.store.schema import metadata, metadata_values, settings

_BLOCK = 10_000
_SEQUENCES = "SELECT last_value FROM {}_id_seq"
_KEEP_ID = "UPDATE sqlite_sequence SET seq = max(seq, ?) WHERE name = ?"


def copy_rows_of(source: Connection, target: Connection) -> None:
    """Copy all rows of a catalog in PostgreSQL to a new one in SQLite, which has the same schema version.

    What is derived from others is made again there. No id is ever given again.
    """
    target.execute(delete(settings))
    for table in metadata.sorted_tables:
        if table is not metadata_values:
            _copy(source, target, table)
        if table.dialect_kwargs.get("sqlite_autoincrement"):
            _keep_ids(source, target, table)
    full_text.fill(target)
    metadata_index.rebuild(target)


def _copy(source: Connection, target: Connection, table: Table) -> None:
    rows = source.execute(select(table).execution_options(yield_per=_BLOCK))
    for block in rows.partitions(_BLOCK):
        target.execute(insert(table), [dict(row._mapping) for row in block])


def _keep_ids(source: Connection, target: Connection, table: Table) -> None:
    """Have the ids of a table go on after the last one that was ever given."""
    last: Any = source.exec_driver_sql(_SEQUENCES.format(table.name)).scalar_one()
    if table.name == "items":
        last = next_item_id(source) - 1
    target.exec_driver_sql(
        "INSERT INTO sqlite_sequence (name, seq) SELECT ?, 0 WHERE NOT EXISTS "
        "(SELECT 1 FROM sqlite_sequence WHERE name = ?)",
        (table.name, table.name),
    )
    target.exec_driver_sql(_KEEP_ID, (last, table.name))
