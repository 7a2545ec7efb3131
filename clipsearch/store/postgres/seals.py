"""Digests of the catalog's rows in PostgreSQL: taken away by a trigger when a row changes, made again at its commit."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, Table

from clipsearch.store.checksums import COVERED, row_digest
from clipsearch.store.postgres import functions, words

_UNSEALED = " UNION ALL ".join(
    f"SELECT '{table.name}' WHERE EXISTS (SELECT 1 FROM {table.name} WHERE digest IS NULL)" for table in COVERED
)
_TABLES = {table.name: table for table in COVERED}
_PRESENT = (
    "SELECT count(*) FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
    "WHERE relnamespace = current_schema()::regnamespace AND tgname = relname || '_changed'"
)
_BLOCK = 10_000


def create(connection: Connection) -> None:
    """Create what keeps digests, unless it is there: a trigger for each table, and an index of rows without one.

    So are functions and counts that a catalog of an earlier version lacks.
    """
    functions.create(connection)
    words.create_totals(connection)
    if connection.exec_driver_sql(_PRESENT).scalar_one() == len(COVERED):
        return
    for table, columns in COVERED.items():
        names = ", ".join(f'"{column.name}"' for column in columns)
        connection.exec_driver_sql(
            f"CREATE OR REPLACE TRIGGER {table.name}_changed BEFORE UPDATE OF {names} ON {table.name} "
            "FOR EACH ROW EXECUTE FUNCTION clipsearch_unseal()"
        )
        unsealed = f"CREATE INDEX IF NOT EXISTS ix_{table.name}_unsealed ON {table.name} (digest)"
        connection.exec_driver_sql(f"{unsealed} WHERE digest IS NULL")


def seal(connection: Connection) -> None:
    """Give each row that has no digest its own; called at the end of every transaction of a writer."""
    if not _has_digests(connection):
        return
    for (name,) in connection.exec_driver_sql(_UNSEALED).all():
        _seal(connection, _TABLES[name])


def _seal(connection: Connection, table: Table) -> None:
    keys = [column.name for column in table.primary_key]
    names = ", ".join(f'"{column.name}"' for column in (*table.primary_key, *COVERED[table]))
    rows = connection.exec_driver_sql(f"SELECT {names} FROM {table.name} WHERE digest IS NULL").all()
    for start in range(0, len(rows), _BLOCK):
        page = rows[start : start + _BLOCK]
        _store(connection, table, keys, [_sealed(table, row, len(keys)) for row in page])


def _sealed(table: Table, row: Row[Any], keys: int) -> tuple[Any, ...]:
    names = (column.name for column in COVERED[table])
    return (*row[:keys], row_digest(table, dict(zip(names, row[keys:], strict=True))))


def _store(connection: Connection, table: Table, keys: list[str], values: list[tuple[Any, ...]]) -> None:
    types = (*(column.type.compile(connection.dialect) for column in table.primary_key), "BIGINT")
    names = (*keys, "made")
    given = ", ".join([f"({', '.join('?' for _ in names)})"] * len(values))
    casts = ", ".join(f"{name}::{kind} AS {name}" for name, kind in zip(names, types, strict=True))
    same = " AND ".join(f"stored.{name} = fresh.{name}" for name in keys)
    connection.exec_driver_sql(
        f"UPDATE {table.name} AS stored SET digest = fresh.made "
        f"FROM (SELECT {casts} FROM (VALUES {given}) AS given ({', '.join(names)})) AS fresh WHERE {same}",
        tuple(value for row in values for value in row),
    )


def _has_digests(connection: Connection) -> bool:
    """Tell whether the tables are there: a transaction may be the one that makes them."""
    return bool(connection.exec_driver_sql("SELECT to_regclass('collection_items') IS NOT NULL").scalar_one())
