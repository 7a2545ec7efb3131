"""The catalog's schema versions. A migration and the record of it share one transaction.

The first step makes a catalog as it is today; the others add what an older one lacks. Only a writer migrates: a reader
sees an older catalog as if it were of today.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Connection, Engine, Table, event, insert, inspect, select, text, update
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.schema import CreateColumn

from clipsearch.errors import SchemaVersionError, StoreCorruptError
from clipsearch.store import catalog, checksums, full_text, schema
from clipsearch.store.database import mapped_errors, transaction
from clipsearch.store.dialect import is_postgres
from clipsearch.store.identity import LIBRARY_ID_KEY, ensure_library_id
from clipsearch.store.refusals import REPAIR

VERSION_KEY = "schema_version"

_LATER = (
    schema.recognised_text,
    schema.item_metadata,
    schema.record_contents,
    schema.record_pictures,
    schema.collections,
    schema.collection_items,
    schema.shards,
    schema.shard_items,
    schema.second_segments,
    schema.second_generations,
    schema.second_settings,
    schema.item_media,
)
"""The sealed tables that came after there were digests."""

_IDENTITY = ("ctime_ns", "inode", "beside_ctime_ns")


def _create(connection: Connection) -> None:
    if is_postgres(connection):
        from clipsearch.store.postgres import functions

        functions.create(connection)
    schema.metadata.create_all(connection)
    full_text.create(connection)
    checksums.create(connection)
    connection.execute(insert(schema.settings).values(key=VERSION_KEY, value="0"))
    ensure_library_id(connection)


def _add_collections(connection: Connection) -> None:
    for column in (schema.roots.c.kind, schema.items.c.caption):
        _add_column(connection, column)


def _index_words(connection: Connection) -> None:
    schema.record_contents.create(connection, checkfirst=True)  # the words of a record are in it
    full_text.create(connection)
    full_text.fill(connection)


def _add_tags(connection: Connection) -> None:
    _add_column(connection, schema.items.c.caption_stamp)
    schema.tags.create(connection, checkfirst=True)


def _add_checksums(connection: Connection) -> None:
    """Add digests, which this transaction fills in; those of vectors come when a writer has read the rows."""
    for table in _LATER:
        table.create(connection, checkfirst=True)  # sealing looks at all tables of today
    for table in schema.SEALED:
        _add_column(connection, table.c.digest)
    _add_column(connection, schema.vectors.c.checksum)
    checksums.create(connection)
    ensure_library_id(connection)


def _add_recognised_text(connection: Connection) -> None:
    for table in _LATER:
        table.create(connection, checkfirst=True)
    checksums.create(connection)


def _add_records(connection: Connection) -> None:
    for table in (schema.metadata_values, *_LATER):
        table.create(connection, checkfirst=True)
    checksums.create(connection)


def _add_collections_of_users(connection: Connection) -> None:
    for table in _LATER:
        table.create(connection, checkfirst=True)
    checksums.create(connection)


def _add_shards_and_second_set(connection: Connection) -> None:
    for table in (*_LATER, *schema.SECOND):
        table.create(connection, checkfirst=True)
    checksums.create(connection)


def _add_identities_and_parts(connection: Connection) -> None:
    """Add what a file system says of files, and where the parts of films and documents lie."""
    positions = (schema.vectors.c.position, schema.second_vectors.c.position)
    for column in (*(schema.items.c[name] for name in _IDENTITY), schema.failures.c.ctime_ns, *positions):
        _add_column(connection, column)
    schema.item_media.create(connection, checkfirst=True)
    checksums.create(connection)


def _add_column(connection: Connection, column: Column[Any]) -> None:
    table = column.table.name
    if not _has_column(connection, table, column.name):
        definition = CreateColumn(column).compile(dialect=connection.dialect)
        connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {definition}"))


def _has_column(connection: Connection, table: str, name: str) -> bool:
    if is_postgres(connection):
        query = "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass(?) AND attname = ? AND NOT attisdropped"
        return connection.exec_driver_sql(query, (table, name)).first() is not None
    return name in {present["name"] for present in inspect(connection).get_columns(table)}


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (
    _create,
    _add_collections,
    _index_words,
    _add_tags,
    _add_checksums,
    _add_recognised_text,
    _add_records,
    _add_collections_of_users,
    _add_shards_and_second_set,
    _add_identities_and_parts,
)
"""Migration i takes a catalog from version i to i + 1, and the first makes one of today. Once released, one of the
others is never edited."""


def _view(table: Table, *missing: str) -> str:
    """Build the view that shows a table with columns that it lacks, all NULL unless they say otherwise."""
    columns = ", ".join(f"{name if ' AS ' in name else f'NULL AS {name}'}" for name in missing)
    return f"CREATE TEMPORARY VIEW {table.name} AS SELECT *, {columns} FROM main.{table.name}"


_UNSEALED = (
    *(_view(table, "digest") for table in (schema.settings, schema.segments, schema.generations)),
    _view(schema.failures, "digest", "ctime_ns"),
    _view(schema.vectors, "checksum", "position"),
)
_ROOTS, _UNSTAMPED = _view(schema.roots, "digest"), _view(schema.items, "caption_stamp", "digest", *_IDENTITY)


def _empty_view(table: Table) -> str:
    """Build the view that shows a table which is not there as an empty one."""
    columns = ", ".join(f"NULL AS {name}" for name in table.c.keys())
    return f"CREATE TEMPORARY VIEW {table.name} AS SELECT {columns} WHERE 0"


_NO_PARTS = (_empty_view(schema.item_media),)
_NEWEST = (*map(_empty_view, (schema.shards, schema.shard_items, *schema.SECOND)), *_NO_PARTS)
_NO_COLLECTIONS = (*map(_empty_view, (schema.collections, schema.collection_items)), *_NEWEST)
_NO_RECORDS = (
    *map(_empty_view, (schema.item_metadata, schema.metadata_values, schema.record_contents, schema.record_pictures)),
    *_NO_COLLECTIONS,
)
_OLD_FILES = (
    _view(schema.items, *_IDENTITY),
    _view(schema.failures, "ctime_ns"),
    _view(schema.vectors, "position"),
)
_UNREAD = (_empty_view(schema.recognised_text), *_NO_RECORDS)

VIEWS: tuple[tuple[str, ...], ...] = (
    (),
    (
        *_UNREAD,
        *_UNSEALED,
        _view(schema.roots, "'folder' AS kind", "digest"),
        _view(schema.items, "caption", "caption_stamp", "digest", *_IDENTITY),
    ),
    (*_UNREAD, *_UNSEALED, _ROOTS, _UNSTAMPED),
    (*_UNREAD, *_UNSEALED, _ROOTS, _UNSTAMPED),
    (*_UNREAD, *_UNSEALED, _ROOTS, _view(schema.items, "digest", *_IDENTITY), _view(schema.tags, "digest")),
    (*_UNREAD, *_OLD_FILES),
    (*_NO_RECORDS, *_OLD_FILES),
    (*_NO_COLLECTIONS, *_OLD_FILES),
    (*_NEWEST, *_OLD_FILES),
    (*_NO_PARTS, *_OLD_FILES, _view(schema.second_vectors, "position")),
)
"""Views i show the tables of version i as those of today. Where a column is there after all, because a writer has
migrated meanwhile, its own values come first and count; a table that is there after all is seen by the connections
that a library opens then. What an older version has no table of, full_text and tags tell."""


def migrate(
    engine: Engine, migrations: tuple[Callable[[Connection], None], ...] = MIGRATIONS, library_id: str = ""
) -> None:
    """Bring a catalog to the newest version, one transaction a step.

    library_id: of a catalog that is made; one of its own if "". Raises SchemaVersionError if it was written by a
    newer clipsearch.
    """
    version = schema_version(engine)
    while version < len(migrations):
        with transaction(engine) as connection:
            migrations[version](connection)
            if library_id and not version:
                catalog.set_setting(connection, LIBRARY_ID_KEY, library_id)
            version = version + 1 if version else len(MIGRATIONS)
            row = update(schema.settings).where(schema.settings.c.key == VERSION_KEY)
            connection.execute(row.values(value=str(version)))
    check_version(version, len(migrations))


def show_as_newest(engine: Engine, version: int) -> None:
    """Let a reader's connections see an older catalog as one of today; nothing is written to it."""
    if version >= len(VIEWS) or not version:
        return
    if is_postgres(engine):
        raise SchemaVersionError(
            f"The library has schema version {version}, which this clipsearch reads only in SQLite. Bring it up to "
            "date: clipsearch index"
        )

    @event.listens_for(engine, "connect")
    def _add_views(connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        for view in VIEWS[version]:
            connection.execute(view)

    engine.dispose()  # the connections that were made before


def check_version(version: int, newest: int = len(MIGRATIONS)) -> None:
    """Raise SchemaVersionError unless this clipsearch reads that version as it is."""
    if version > newest:
        raise SchemaVersionError(
            f"The library has schema version {version}, but this clipsearch reads up to {newest}. Upgrade clipsearch."
        )


def _has_settings(connection: Connection) -> bool:
    if is_postgres(connection):  # in a hundredth of the time that SQLAlchemy takes to look
        return bool(connection.exec_driver_sql("SELECT to_regclass('settings') IS NOT NULL").scalar_one())
    return inspect(connection).has_table(schema.settings.name)


def schema_version(engine: Engine) -> int:
    """Return the version of a catalog, 0 for an empty file."""
    with mapped_errors(), engine.connect() as connection:
        if not _has_settings(connection):
            return 0
        row = connection.execute(select(schema.settings.c.value).where(schema.settings.c.key == VERSION_KEY))
        value = row.scalar_one_or_none() or 0
    try:
        return int(value)
    except ValueError as error:
        raise StoreCorruptError(f"The catalog says that its schema version is {value!r}. {REPAIR}") from error
