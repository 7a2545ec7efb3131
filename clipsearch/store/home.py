"""Where the catalog of a library is, and how it is opened: a file in its folder, or a schema of a PostgreSQL server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Engine

from clipsearch.durable import fsync_path
from clipsearch.errors import InvalidInputError
from clipsearch.store import migrations
from clipsearch.store.database import mapped_errors, reader_engine, writer_engine
from clipsearch.store.reading import CATALOG, catalog_file
from clipsearch.store.refusals import unreadable


class CatalogHome(Protocol):
    """The place of a catalog. A reader sees one state in each transaction; a writer holds the lock of the library."""

    def is_there(self) -> bool:
        """Tell whether the folder has a catalog, or says where it is."""

    def is_current(self) -> bool:
        """Tell whether the catalog is still there, as far as the folder says: it may have been moved."""

    def reader(self) -> Engine:
        """Return an engine for reading."""

    def writer(self, timeout: float = 0.0) -> Engine:
        """Return an engine for writing, at the newest schema version; timeout: seconds to wait for another writer."""

    def create(self, check: Callable[[], None], timeout: float = 0.0) -> None:
        """Make the catalog unless it is there, under the lock of the folder; check: called before one is made."""


class CatalogFile:
    """A file of SQLite in the folder of the library. The lock is that of the folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CATALOG

    def is_there(self) -> bool:
        """Tell whether the file is there."""
        return _is_file(self._path)

    def is_current(self) -> bool:
        """Tell whether the file is still there."""
        return os.path.exists(self._path)

    def reader(self) -> Engine:
        """Return an engine for reading."""
        return reader_engine(self._path)

    def writer(self, timeout: float = 0.0) -> Engine:
        """Return an engine for writing."""
        engine = writer_engine(self._path)
        migrations.migrate(engine)
        return engine

    def create(self, check: Callable[[], None], timeout: float = 0.0) -> None:
        """Make the catalog unless it is there; check: called before one is made."""
        engine = writer_engine(self._path)
        if migrations.schema_version(engine) == 0:
            check()
        migrations.migrate(engine)
        engine.dispose()
        fsync_path(self._path.parent)


def find_home(folder: Path, given: str | None = None, *, create: bool = False) -> CatalogHome:
    """Return where the catalog of a library is; given: the URL that the caller names, or "" for a file all the same.

    create: where there is no library, it is to be made at that URL, or at that in the environment. Raises
    InvalidInputError where the library has its catalog elsewhere.
    """
    if given == "":
        return CatalogFile(folder)
    present = catalog_file(folder)
    if present.name != CATALOG or (given or (create and os.environ.get("CLIPSEARCH_CATALOG"))):
        if _is_file(folder / CATALOG):
            if not given:
                return CatalogFile(folder)
            raise InvalidInputError(
                f"The library in {folder} has its catalog in its folder. Move it to the server: clipsearch "
                "move-catalog URL"
            )
        from clipsearch.store.postgres.home import CatalogSchema

        return CatalogSchema(folder, given)
    return CatalogFile(folder)


@contextmanager
def writing(home: CatalogHome, timeout: float = 0.0) -> Iterator[Engine]:
    """Open an engine for writing, at the newest schema version."""
    with mapped_errors():
        engine = home.writer(timeout)
    try:
        yield engine
    finally:
        engine.dispose()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise unreadable(path, error) from error
