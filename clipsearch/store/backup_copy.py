"""Copying one state of a library into the folder of a backup, before it becomes current."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete

from clipsearch.durable import fsync_path
from clipsearch.errors import StoreCorruptError
from clipsearch.progress import Stages
from clipsearch.store import catalog, migrations, second_set
from clipsearch.store.catalog import Generation
from clipsearch.store.copying import FileEntry, copy_grown, copy_new, file_entry
from clipsearch.store.database import mapped_errors, transaction, writer_engine
from clipsearch.store.dialect import is_postgres
from clipsearch.store.folder import Folder, open_folder
from clipsearch.store.generations import FOLDER as ANN
from clipsearch.store.generations import verify
from clipsearch.store.library import Library
from clipsearch.store.manifest import BackupState, temporary_name
from clipsearch.store.names import VECTORS, is_generation_name
from clipsearch.store.roots import BASE_KEY
from clipsearch.store.row_transfer import copy_rows_of
from clipsearch.store.schema import generations
from clipsearch.store.source import Source
from clipsearch.types import Modality

_PAGES = 4096


class StateCopy:
    """The copy of one state. files, bytes: what was written for it. indexes: how many approximate indexes are in it."""

    def __init__(self, library: Library, root: Folder, known: Mapping[str, FileEntry], progress: Stages) -> None:
        """Prepare a copy. root: the folder of the backup. known: the files of the state that it holds, by path."""
        self._library = library
        self._root = root
        self._known = known
        self._progress = progress
        self.files = 0
        self.bytes = 0
        self.indexes = 0

    def run(self, source: Source, *, with_index: bool) -> tuple[BackupState, str]:
        """Copy what is new, durably; return the state, and the temporary name of its catalog."""
        segments = self._copy_segments(source)
        indexes, whole = self._copy_indexes(source, with_index)
        temporary, copied = self._copy_catalog(source, whole)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        return BackupState(made, source.revision, copied, {**segments, **indexes}), temporary

    def _copy_segments(self, source: Source) -> dict[str, FileEntry]:
        sizes = {segment: source.size(segment) for segment in source.segments}
        self._progress.stage("copying vectors", sum(sizes.values()))
        self._root.make(VECTORS)
        entries = {}
        with self._root.child(VECTORS) as folder:
            for segment, descriptor in source.segments.items():
                path = f"{VECTORS}/{segment.name}"
                entries[path] = self._copy(descriptor, sizes[segment], folder, segment.name, self._known.get(path))
            folder.sync()
        return entries

    def _copy(self, descriptor: int, size: int, folder: Folder, name: str, known: FileEntry | None) -> FileEntry:
        if known is None:
            entry = copy_new(descriptor, size, folder, name, self._progress)
        else:
            try:
                entry = copy_grown(descriptor, size, folder, name, known, self._progress)
            except (StoreCorruptError, FileNotFoundError) as error:
                reason = "its copy is missing" if isinstance(error, FileNotFoundError) else error
                raise StoreCorruptError(
                    f"{name} cannot be added to the backup in {self._root.path}: "
                    f"{reason}. Either one is damaged, or the "
                    "library went back to an earlier state. Back up into a new folder."
                ) from error
        written = max(0, entry.size - (known.size if known else 0))
        self.files += known is None or written > 0
        self.bytes += written
        return entry

    def _copy_indexes(self, source: Source, with_index: bool) -> tuple[dict[str, FileEntry], set[str]]:
        """Copy the files of the active indexes; return their entries, and the names of the indexes that are whole."""
        entries: dict[str, FileEntry] = {}
        whole = set()
        for generation in filter(None, (catalog.get_generation(source.connection, m) for m in Modality)):
            if not generation.checksums:  # it searches the vectors and has no files of its own
                whole.add(generation.name)
            elif with_index and is_generation_name(generation.name):
                with suppress(StoreCorruptError, FileNotFoundError):  # it can be rebuilt from the vectors
                    verify(self._library.folder, generation)
                    entries |= self._copy_index(generation)
                    whole.add(generation.name)
                    self.indexes += 1
        return entries, whole

    def _copy_index(self, generation: Generation) -> dict[str, FileEntry]:
        self._progress.stage("copying the index", 0)
        self._root.make(ANN)
        entries = {}
        with ExitStack() as stack:
            library = stack.enter_context(open_folder(self._library.folder))
            origin = stack.enter_context(stack.enter_context(library.child(ANN)).child(generation.name))
            parent = stack.enter_context(self._root.child(ANN))
            parent.make(generation.name)
            folder = stack.enter_context(parent.child(generation.name))
            for file in generation.checksums:
                path = f"{ANN}/{generation.name}/{file}"
                entry, present = self._known.get(path), folder.status(file)
                if entry is None or present is None or present.st_size != entry.size:
                    descriptor = origin.open(file, os.O_RDONLY)
                    stack.callback(os.close, descriptor)
                    entry = self._copy(descriptor, os.fstat(descriptor).st_size, folder, file, None)
                entries[path] = entry
            folder.sync()
        return entries

    def _copy_catalog(self, source: Source, whole: set[str]) -> tuple[str, FileEntry]:
        """Copy the catalog under a temporary name, durably; whole: the indexes that the backup has."""
        name = temporary_name("catalog")
        os.close(self._root.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL))
        path = self._root.path / name
        self._progress.stage("copying the catalog", 0)
        if not is_postgres(source.connection):
            with mapped_errors(), closing(sqlite3.connect(path)) as copy:
                _driver_connection(source.connection).backup(copy, pages=_PAGES)
        engine = writer_engine(path)
        migrations.migrate(engine)
        with engine.connect() as connection, transaction(connection):
            if is_postgres(source.connection):
                copy_rows_of(source.connection, connection)
            catalog.set_setting(connection, BASE_KEY, self._library.base or None)
            connection.execute(delete(generations).where(generations.c.name.not_in(whole)))
            second_set.drop(connection)  # a backup holds the vectors that answer
        engine.dispose()
        with mapped_errors(), closing(sqlite3.connect(path)) as copy:
            copy.execute("PRAGMA journal_mode=DELETE")  # a backup is one file, and may lie on a medium without writing
        entry = file_entry(self._root, name)
        fsync_path(path)
        self.files += 1
        self.bytes += entry.size
        return name, entry


def _driver_connection(connection: Connection) -> sqlite3.Connection:
    found: Any = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found
