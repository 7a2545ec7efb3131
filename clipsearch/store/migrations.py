"""The catalog's schema versions. A migration and the record of it share one transaction.

A new catalog is made as it is today; the steps after the first add what an older one lacks. Only a writer migrates:
a reader sees an older catalog as if it were of today.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Connection, Engine, event, insert, inspect, select, text, update
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import CreateColumn

from clipsearch.errors import SchemaVersionError, StoreCorruptError
from clipsearch.store import full_text, schema
from clipsearch.store.database import mapped_errors, transaction
from clipsearch.store.refusals import REPAIR

VERSION_KEY = "schema_version"


def _create(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    connection.execute(insert(schema.settings).values(key=VERSION_KEY, value="0"))


def _add_collections(connection: Connection) -> None:
    for column in (schema.roots.c.kind, schema.items.c.caption):
        _add_column(connection, column)


def _index_words(connection: Connection) -> None:
    connection.execute(text(full_text.CREATE))
    full_text.fill(connection)


def _add_tags(connection: Connection) -> None:
    _add_column(connection, schema.items.c.caption_stamp)
    schema.tags.create(connection, checkfirst=True)


def _add_column(connection: Connection, column: Column[Any]) -> None:
    table = column.table.name
    if column.name not in {present["name"] for present in inspect(connection).get_columns(table)}:
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {definition}"))


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_create, _add_collections, _index_words, _add_tags)
"""Migration i takes a catalog from version i to i + 1; once released, one is never edited."""

_UNSTAMPED = ("CREATE TEMPORARY VIEW items AS SELECT *, NULL AS caption_stamp FROM main.items",)

VIEWS: tuple[tuple[str, ...], ...] = (
    (),
    (
        "CREATE TEMPORARY VIEW roots AS SELECT *, 'folder' AS kind FROM main.roots",
        "CREATE TEMPORARY VIEW items AS SELECT *, NULL AS caption, NULL AS caption_stamp FROM main.items",
    ),
    _UNSTAMPED,
    _UNSTAMPED,
)
"""Views i show the tables of version i as those of today. Where a column is there after all, because a writer has
migrated meanwhile, its own values come first and count. What an older version has no table of, full_text
and tags tell."""


def migrate(engine: Engine, migrations: tuple[Callable[[Connection], None], ...] = MIGRATIONS) -> None:
    """Bring a catalog to the newest version, one transaction a step.

    Raises SchemaVersionError if it was written by a newer clipsearch.
    """
    while (version := schema_version(engine)) < len(migrations):
        with transaction(engine) as connection:
            migrations[version](connection)
            row = update(schema.settings).where(schema.settings.c.key == VERSION_KEY)
            connection.execute(row.values(value=str(version + 1)))
    check_version(version, len(migrations))


def show_as_newest(engine: Engine, version: int) -> None:
    """Let a reader's connections see an older catalog as one of today; nothing is written to it."""
    if version >= len(VIEWS):
        return

    @event.listens_for(engine, "connect")
    def _add_views(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        for view in VIEWS[version]:
            connection.execute(view)

    engine.dispose()  # the connections that were made before


def check_version(version: int, newest: int = len(MIGRATIONS)) -> None:
    """Raise SchemaVersionError unless this clipsearch reads that version as it is."""
    if version > newest:
        raise SchemaVersionError(
            f"The library has schema version {version}, this clipsearch knows up to {newest}. Upgrade clipsearch."
        )


def schema_version(engine: Engine) -> int:
    """Return the version of a catalog, 0 for an empty file."""
    with mapped_errors(), engine.connect() as connection:
        if not inspect(connection).has_table(schema.settings.name):
            return 0
        row = connection.execute(select(schema.settings.c.value).where(schema.settings.c.key == VERSION_KEY))
        value = row.scalar_one_or_none() or 0
    try:
        return int(value)
    except ValueError as error:
        raise StoreCorruptError(f"The catalog says that its schema version is {value!r}. {REPAIR}") from error
