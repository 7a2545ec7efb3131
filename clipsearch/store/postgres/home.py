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
from clipsearch.store.postgres import seals
from clipsearch.store.postgres.address import CatalogAddress, Marker
from clipsearch.store.postgres.connections import reader_engine, writer_engine
from clipsearch.store.reading import CATALOG, MARKER


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
                self._require_own(engine)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def writer(self, timeout: float = 0.0, check: Callable[[], None] = lambda: None) -> Engine:
        """Return an engine for writing, which holds the writer's lock.

        timeout: seconds to wait for it. check: called before a catalog is made.
        """
        engine = open_schema(self._require_marker(), self._address, timeout, check)
        try:
            self._require_own(engine)
        except BaseException:
            engine.dispose()
            raise
        return engine

    def create(self, check: Callable[[], None], timeout: float = 0.0) -> None:
        """Make the catalog unless it is there; the folder names it first, so that no schema is lost.

        check: called before one is made.
        """
        if self._marker is None:
            assert self._word is not None
            marker = addresses.new_marker(self._word)
            self._address = marker.address
            require_free(marker.address, timeout)
            addresses.write_marker(self._folder, marker)
            self._marker, self._state = marker, _state(self._folder)
        self.writer(timeout, check).dispose()
        if self._word is not None and self._word.url == self._address.url:
            addresses.trust(self._word.url)

    def _require_marker(self) -> Marker:
        assert self._marker is not None
        return self._marker

    def _require_own(self, engine: Engine) -> None:
        """Raise StoreCorruptError unless the catalog is that of this library."""
        marker = self._require_marker()
        if not migrations.schema_version(engine):
            return
        with engine.connect() as connection, connection.begin():
            found = get_library_id(connection)
        if found != marker.library_id:
            raise StoreCorruptError(
                f"The catalog at {self._address.place} is that of another library. Name the server that has this "
                "library's: clipsearch index --catalog URL"
            )


def open_schema(
    marker: Marker, address: CatalogAddress, timeout: float, check: Callable[[], None] = lambda: None, note: str = ""
) -> Engine:
    """Open a catalog for writing, and make it where the schema has none; the engine holds the writer's lock.

    address: what to connect to. check: called before a catalog is made. note: a comment that the new schema gets.
    """
    engine = writer_engine(address, timeout)
    try:
        guard(engine)
        event.listen(engine, "commit", seals.seal)
        if not migrations.schema_version(engine):
            check()
            with transaction(engine) as connection:
                connection.execute(CreateSchema(address.schema, if_not_exists=True))
                if note:
                    set_note(connection, address.schema, note)
        migrations.migrate(engine, library_id=marker.library_id)
    except BaseException:
        engine.dispose()
        raise
    return engine


def set_note(connection: Connection, schema: str, note: str | None) -> None:
    """Give a schema a comment; None takes it away."""
    written = "NULL" if note is None else f"'{note}'"
    connection.exec_driver_sql(f'COMMENT ON SCHEMA "{schema}" IS {written}')


def require_free(address: CatalogAddress, timeout: float) -> None:
    """Raise InvalidInputError where the schema that an address names holds something."""
    engine = writer_engine(address, timeout)
    query = "SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace(?) LIMIT 1"
    try:
        with mapped_errors(), engine.connect() as connection:
            if connection.exec_driver_sql(query, (address.schema,)).first() is not None:
                raise InvalidInputError(
                    f"The schema {address.schema} of {address.url} holds something already. Name another by "
                    "?schema=NAME, or none, for one that is made for the library."
                )
    finally:
        engine.dispose()


def drop_schema(address: CatalogAddress, *, note: str = "") -> bool:
    """Delete a catalog from its server; note: only where the schema has that comment. Tell whether it is gone.

    Nothing happens while another process writes to it, or reads from it for longer than half a minute.
    """
    present = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = ?"
    engine = writer_engine(address)
    try:
        with transaction(engine) as connection:
            found = connection.exec_driver_sql(present, (address.schema,)).all()
            if found and note in ("", found[0][0]):
                connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")
                connection.exec_driver_sql(f'DROP SCHEMA "{address.schema}" CASCADE')
        return not found or note in ("", found[0][0])
    except LibraryError:
        return False
    finally:
        engine.dispose()


def _state(folder: Path) -> tuple[bool, int, int]:
    """Return what differs once the catalog was moved: whether it is in the folder, and which file names its server."""
    try:
        status = os.stat(folder / MARKER, follow_symlinks=False)
    except OSError:
        return os.path.exists(folder / CATALOG), 0, 0
    return os.path.exists(folder / CATALOG), status.st_ino, status.st_mtime_ns
