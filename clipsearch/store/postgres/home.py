"""A catalog in a schema of its own, as a library opens it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, Engine, event
from sqlalchemy.schema import CreateSchema

from clipsearch.errors import InvalidInputError, LibraryError, StoreCorruptError
from clipsearch.store import migrations
from clipsearch.store.database import guard, mapped_errors, transaction
from clipsearch.store.identity import get_library_id
from clipsearch.store.postgres import address as addresses
from clipsearch.store.postgres import functions, seals, words
from clipsearch.store.postgres.address import CatalogAddress, Marker
from clipsearch.store.postgres.connections import reader_engine, writer_engine
from clipsearch.store.reading import CATALOG, MARKER
from clipsearch.store.schema import metadata

_OWN_TABLES = sorted({*metadata.tables, *words.TABLES})
_HOLDS = " UNION ALL ".join(
    f"SELECT 1 FROM {table} WHERE {column} = to_regnamespace(?)"
    for table, column in (("pg_class", "relnamespace"), ("pg_proc", "pronamespace"), ("pg_type", "typnamespace"))
)


class CatalogSchema:
    """A schema of a PostgreSQL server, which `catalog.json` in the folder names. The lock is one of the database."""

    def __init__(self, folder: Path, given: str | None) -> None:
        """Find the catalog of a library. given: the URL that the user names, or None.

        Raises LibraryError for a server that only the folder names, InvalidInputError for an invalid address.
        """
        self._folder = folder
        self._given = given
        self._state = _state(folder)
        self._marker = addresses.read_marker(folder)
        self._word = addresses.named(given)
        if self._marker is not None:
            self._address = addresses.resolve(self._marker, given)

    def is_there(self) -> bool:
        """Tell whether the folder says where the catalog is."""
        return self._marker is not None

    def is_current(self) -> bool:
        """Tell whether the folder still says so."""
        return _state(self._folder) == self._state

    def reader(self) -> Engine:
        """Return an engine for reading."""
        engine = reader_engine(self._address)
        try:
            with mapped_errors():
                if not migrations.schema_version(engine):
                    self._refuse()
                _require_own(engine, self._require_marker(), self._address)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def writer(self, timeout: float = 0.0) -> Engine:
        """Return an engine for writing, which holds the writer's lock.

        timeout: seconds to wait for it. Raises LibraryError where the schema has no catalog; none is made.
        """
        return open_schema(self._require_marker(), self._address, timeout, self._refuse)

    def create(self, check: Callable[[], None], timeout: float = 0.0) -> None:
        """Make the catalog unless it is there; the folder names it first, so that no schema is lost.

        check: called before one is made. What an existing folder names may be a stranger's, so a catalog is made there
        only where the caller names the server. Raises LibraryError elsewhere.
        """
        is_wanted = self._marker is None or bool(self._given)
        if self._marker is None:
            assert self._word is not None
            marker = addresses.new_marker(self._word)
            self._address = marker.address
            require_free(marker.address, timeout)
            addresses.write_marker(self._folder, marker)
            self._marker, self._state = marker, _state(self._folder)
        open_schema(self._require_marker(), self._address, timeout, check if is_wanted else self._refuse).dispose()
        if self._word is not None and self._word.url == self._address.url:
            addresses.trust(self._word.url)

    def _require_marker(self) -> Marker:
        assert self._marker is not None
        return self._marker

    def _refuse(self) -> None:
        raise LibraryError(
            f"There is no catalog at {self._address.place}, which {self._folder / MARKER} names, and none is made for "
            "a library that may be a stranger's. If it is yours, restore the database from its backup, or make an "
            f"empty catalog: clipsearch index --catalog '{self._address.url}'"
        )


def open_schema(
    marker: Marker, address: CatalogAddress, timeout: float, check: Callable[[], None] = lambda: None, note: str = ""
) -> Engine:
    """Open a catalog for writing, and make it where the schema has none; the engine holds the writer's lock.

    address: what to connect to. check: called before a catalog is made. note: a comment that the new schema gets.
    Raises InvalidInputError where the schema has no catalog but holds something: nothing is made in it;
    StoreCorruptError where it has that of another library, which is not brought up to date either.
    """
    engine = writer_engine(address, timeout)
    try:
        guard(engine)
        event.listen(engine, "commit", seals.seal)
        if migrations.schema_version(engine):
            _require_own(engine, marker, address)
        else:
            check()
            with transaction(engine) as connection:
                _require_empty(connection, address)
                connection.execute(CreateSchema(address.schema, if_not_exists=True))
                if note:
                    set_note(connection, address.schema, note)
        migrations.migrate(engine, library_id=marker.library_id)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _require_own(engine: Engine, marker: Marker, address: CatalogAddress) -> None:
    """Raise StoreCorruptError unless the catalog is that of the library whose folder has this marker."""
    with mapped_errors(), engine.connect() as connection, connection.begin():
        found = get_library_id(connection)
    if found != marker.library_id:
        raise StoreCorruptError(
            f"The catalog at {address.place} is that of another library. Name the server that has this library's: "
            "clipsearch index --catalog URL"
        )


def set_note(connection: Connection, schema: str, note: str | None) -> None:
    """Give a schema a comment; None takes it away."""
    written = "NULL" if note is None else f"'{note}'"
    connection.exec_driver_sql(f'COMMENT ON SCHEMA "{schema}" IS {written}')


def require_free(address: CatalogAddress, timeout: float) -> None:
    """Raise InvalidInputError where the schema that an address names holds something."""
    engine = writer_engine(address, timeout)
    try:
        with mapped_errors(), engine.connect() as connection:
            _require_empty(connection, address)
    finally:
        engine.dispose()


def _require_empty(connection: Connection, address: CatalogAddress) -> None:
    if connection.exec_driver_sql(f"{_HOLDS} LIMIT 1", (address.schema,) * 3).first() is not None:
        raise InvalidInputError(
            f"The schema {address.schema} of {address.url} holds something already. Name another by "
            "?schema=NAME, or none, for one that is made for the library."
        )


def drop_schema(address: CatalogAddress, library_id: str, *, note: str = "") -> str:
    """Delete the catalog of a library from its server, and its schema unless that holds something else.

    note: only where the schema has that comment. Return what is left, "" for nothing. Nothing happens to the catalog of
    another library, while another process writes to it, or reads from it for longer than half a minute.
    """
    present = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = ?"
    engine = writer_engine(address)
    try:
        with transaction(engine) as connection:
            found = connection.exec_driver_sql(present, (address.schema,)).all()
            if not found:
                return ""
            if note not in ("", found[0][0]):
                return left_at(address)
            connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")
            if connection.exec_driver_sql("SELECT to_regclass('settings') IS NOT NULL").scalar_one():
                if get_library_id(connection) != library_id:
                    return left_at(address)
                _drop_own(connection, address.schema)
            elif not note:
                return left_at(address)
            return _drop_empty(connection, address)
    except LibraryError:
        return left_at(address)
    finally:
        engine.dispose()


def _drop_own(connection: Connection, schema: str) -> None:
    """Drop what clipsearch makes in a schema, by name; triggers, indexes and sequences go with their tables."""
    tables = ", ".join(f'"{schema}"."{name}"' for name in _OWN_TABLES)
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {tables} RESTRICT")
    query = "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = to_regnamespace(?) AND proname = ANY (?)"
    for (name,) in connection.exec_driver_sql(query, (schema, [*functions.NAMES])).all():
        connection.exec_driver_sql(f"DROP FUNCTION {name} RESTRICT")


def _drop_empty(connection: Connection, address: CatalogAddress) -> str:
    try:
        with transaction(connection):
            connection.exec_driver_sql(f'DROP SCHEMA "{address.schema}" RESTRICT')
    except LibraryError:
        return (
            f"The schema {address.schema} is still at {address.url}: it holds something that clipsearch did not make. "
            f"The catalog in it is deleted. If nobody needs the rest: DROP SCHEMA {address.schema} CASCADE"
        )
    return ""


def left_at(address: CatalogAddress) -> str:
    """Say that a schema may have stayed on its server."""
    return (
        f"The schema {address.schema} may still be at {address.url}. If no library uses it, look at what it holds, "
        f"then: DROP SCHEMA {address.schema} CASCADE"
    )


def _state(folder: Path) -> tuple[bool, int, int]:
    """Return what differs once the catalog was moved: whether it is in the folder, and which file names its server."""
    try:
        status = os.stat(folder / MARKER, follow_symlinks=False)
    except OSError:
        return os.path.exists(folder / CATALOG), 0, 0
    return os.path.exists(folder / CATALOG), status.st_ino, status.st_mtime_ns
