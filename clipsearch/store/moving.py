"""Moving the catalog of a library: from its folder to a PostgreSQL server, or back.

All of it happens under the lock of the writer. The copy is compared with the catalog row by row before it counts, and
one step makes it count: the file `catalog.db` is deleted, or gets its name. Before that step the library answers from
where its catalog was, after it from where it is. What a process that died left behind is deleted by the next move.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection, Engine

from clipsearch.durable import fsync_path
from clipsearch.errors import InvalidInputError, LibraryError, StoreCorruptError
from clipsearch.progress import SilentStages, Stages
from clipsearch.store import migrations
from clipsearch.store.database import mapped_errors, transaction, writer_engine
from clipsearch.store.folder import open_folder
from clipsearch.store.identity import get_library_id
from clipsearch.store.library import Library
from clipsearch.store.manifest import is_temporary, temporary_name
from clipsearch.store.postgres import address as addresses
from clipsearch.store.postgres import home as server
from clipsearch.store.postgres.address import Marker
from clipsearch.store.postgres.statistics import refresh_all
from clipsearch.store.reading import CATALOG, MARKER, catalog_file
from clipsearch.store.row_transfer import copy_rows_of, require_same

_NOTE = "clipsearch is copying a catalog to here"
"""The comment of a schema whose catalog does not count yet."""

_BESIDE = ("-wal", "-shm", "-journal")


@dataclass(slots=True)
class MoveReport:
    """What a move did. before, after: where the catalog was and is. left: what could not be deleted, "" for nothing."""

    library: str
    before: str
    after: str
    rows: int = 0
    left: str = ""
    seconds: float = 0.0


def move_catalog(
    library: Library, url: str | None, *, timeout: float = 0.0, progress: Stages | None = None
) -> MoveReport:
    """Move the catalog of a library to a server, or into the library's folder, and delete it where it was.

    url: of a PostgreSQL server; None for the folder. Nothing happens where the catalog is there already. timeout:
    seconds to wait for another writer. Raises InvalidInputError where it is on another server, or the server's schema
    holds something; LibraryLockedError; LibraryError where the server or the disk refuses; StoreCorruptError where the
    copy is not the same. The library is as before then.
    """
    started = time.monotonic()
    if (place := _place_already(library.folder, url)) is not None:
        return MoveReport(str(library.folder), place, place)
    stages = progress or SilentStages()
    with library.writer(timeout=timeout) as writer:
        target = _ToServer(library.folder, url) if url is not None else _ToFile(library.folder)
        report = MoveReport(str(library.folder), target.before, target.after)
        source, _ = writer.storage
        with transaction(source):
            with target.opened(get_library_id(source)) as engine, engine.connect() as copy:
                stages.stage("copying the catalog", 0)
                with transaction(copy):
                    report.rows = copy_rows_of(source, copy)
                stages.stage("comparing the copy", 0)
                with transaction(copy):
                    require_same(source, copy)
                    target.complete(copy)
            target.flip(source)
    report.left = target.clean()
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _place_already(folder: Path, url: str | None) -> str | None:
    """Return where the catalog is, if that is where it is to be moved to."""
    if catalog_file(folder).name == CATALOG:
        return str(folder / CATALOG) if url is None else None
    marker = addresses.read_marker(folder)
    is_there = marker is not None and url is not None and addresses.parse(url).url == marker.address.url
    return marker.address.place if marker is not None and is_there else None


class _ToServer:
    """A move to a server: its schema is complete when the file in the folder is deleted."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        if catalog_file(folder).name != CATALOG:
            raise InvalidInputError(
                f"The library in {folder} has its catalog on a server already. To move it to another one, move it into "
                "the folder first: clipsearch move-catalog sqlite"
            )
        self._named = addresses.parse(url)
        self._left = ""
        self.before, self.after = str(folder / CATALOG), self._named.url

    @contextmanager
    def opened(self, library_id: str) -> Iterator[Engine]:
        """Make a schema, which the folder names first, so that the next move knows it if this one dies."""
        self._sweep(library_id)
        fresh = addresses.new_marker(self._named)
        marker = Marker(fresh.address, library_id)
        self._address = marker.address
        self.after = marker.address.place
        server.require_free(marker.address, 0.0)
        addresses.write_marker(self._folder, marker)
        try:
            with mapped_errors():
                engine = server.open_schema(marker, marker.address, 0.0, note=_NOTE)
            try:
                yield engine
            finally:
                engine.dispose()
        except BaseException:
            if not server.drop_schema(marker.address, library_id, note=_NOTE):
                _unlink(self._folder, MARKER)
            raise

    def complete(self, copy: Connection) -> None:
        """Say on the server that the catalog counts."""
        server.set_note(copy, self._address.schema, None)
        refresh_all(copy)

    def flip(self, source: Connection) -> None:
        """Let the server answer."""
        addresses.trust(self._named.url)
        with _disk_errors(self._folder), open_folder(self._folder) as folder:
            folder.unlink(CATALOG)
            folder.sync()

    def clean(self) -> str:
        """Delete what SQLite kept beside the file."""
        for ending in _BESIDE:
            _unlink(self._folder, CATALOG + ending)
        return self._left

    def _sweep(self, library_id: str) -> None:
        """Delete the schema of a move that died."""
        try:
            marker = addresses.read_marker(self._folder)
        except StoreCorruptError:
            return
        if marker is None:
            return
        if marker.address.url != self._named.url:
            self._left = server.left_at(marker.address)
        else:
            self._left = server.drop_schema(replace(self._named, schema=marker.address.schema), library_id, note=_NOTE)


class _ToFile:
    """A move into the folder: the file is complete when it gets its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        marker = addresses.read_marker(folder)
        assert marker is not None
        self._address, self._library_id = addresses.resolve(marker, None), marker.library_id
        self._path = folder / temporary_name("catalog")
        self.before, self.after = marker.address.place, str(folder / CATALOG)

    @contextmanager
    def opened(self, library_id: str) -> Iterator[Engine]:
        """Make a file under a temporary name. Raises StoreCorruptError for the catalog of another library."""
        if library_id != self._library_id:
            raise StoreCorruptError(
                f"The catalog at {self._address.place} is that of another library. Restore {self._folder / MARKER} "
                "from a backup."
            )
        with open_folder(self._folder) as folder:
            for name in folder.names():
                if any(is_temporary(name.removesuffix(ending)) for ending in ("", *_BESIDE)):
                    folder.unlink(name)
            os.close(folder.open(self._path.name, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        engine = writer_engine(self._path)
        try:
            migrations.migrate(engine)
            yield engine
        except BaseException:
            engine.dispose()
            self._path.unlink(missing_ok=True)
            raise
        engine.dispose()

    def complete(self, copy: Connection) -> None:
        """Do nothing: the name of the file tells."""

    def flip(self, source: Connection) -> None:
        """Let the file answer, if this process is still the writer."""
        with mapped_errors(), closing(sqlite3.connect(self._path)) as copy:
            copy.execute("PRAGMA journal_mode=DELETE")
        for ending in _BESIDE:  # of a file that was here before
            _unlink(self._folder, CATALOG + ending)
        with _disk_errors(self._folder), open_folder(self._folder) as folder:
            fsync_path(self._path)
            source.exec_driver_sql("SELECT 1")
            folder.rename(self._path.name, CATALOG)
            folder.sync()

    def clean(self) -> str:
        """Delete the catalog on the server."""
        _unlink(self._folder, MARKER)
        return server.drop_schema(self._address, self._library_id)


def _unlink(folder: Path, name: str) -> None:
    with _disk_errors(folder), open_folder(folder) as own, contextlib.suppress(FileNotFoundError):
        own.unlink(name)


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LibraryError(
            f"The catalog in {folder} could not be moved: {error.strerror}. Free some space there, or give this user "
            "the right to write the folder, and run again."
        ) from error
