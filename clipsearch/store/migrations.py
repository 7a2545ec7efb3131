"""The catalog's schema versions. A migration and the record of it share one transaction."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from clipsearch.errors import SchemaVersionError
from clipsearch.store import schema
from clipsearch.store.database import mapped_errors, transaction

VERSION_KEY = "schema_version"


def _create(connection: Connection) -> None:
    schema.metadata.create_all(connection)
    connection.execute(insert(schema.settings).values(key=VERSION_KEY, value="0"))


MIGRATIONS: tuple[Callable[[Connection], None], ...] = (_create,)
"""Migration i takes a catalog from version i to i + 1; once released, one is never edited."""


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
        return int(row.scalar_one_or_none() or 0)
