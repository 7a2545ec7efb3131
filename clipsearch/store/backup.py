"""Backups: a state of a library in another folder, which is a library itself; the next one adds what is new.

A backup reads one state and needs no lock of the library: segments only grow, and the catalog is copied inside one
reading transaction. In the backup's folder segments are appended to, everything else is written under another name and
renamed, and a state counts when its catalog is renamed into place; see clipsearch.store.manifest.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete

from clipsearch.durable import fsync_path
from clipsearch.errors import InvalidInputError, LibraryError, StoreCorruptError
from clipsearch.locations import LOCAL_LIBRARY
from clipsearch.store import catalog, migrations
from clipsearch.store import generations as generations_on_disk
from clipsearch.store.catalog import Generation
from clipsearch.store.copying import CopyProgress, FileEntry, SilentCopy, copy_grown, copy_new, file_entry
from clipsearch.store.damage import find_damage
from clipsearch.store.database import mapped_errors, transaction, writer_engine
from clipsearch.store.folder import Folder, open_folder
from clipsearch.store.generations import FOLDER as ANN
from clipsearch.store.identity import get_library_id
from clipsearch.store.library import Library, locked
from clipsearch.store.manifest import (
    MANIFEST,
    VECTORS,
    BackupState,
    Manifest,
    is_temporary,
    read_backup,
    read_manifest,
    temporary_name,
)
from clipsearch.store.names import is_generation_name, is_segment_name
from clipsearch.store.reading import CATALOG
from clipsearch.store.roots import BASE_KEY
from clipsearch.store.schema import generations
from clipsearch.store.source import REPAIR, Source, open_source
from clipsearch.types import Modality

_PAGES = 4096
_LOCK = "lock"


@dataclass(slots=True)
class BackupReport:
    """What a backup did.

    files, bytes: of the whole backup. copied_files, copied_bytes: what was written for it. indexes: how many
    approximate indexes are in it.
    """

    library: str
    backup: str
    revision: int = 0
    files: int = 0
    bytes: int = 0
    copied_files: int = 0
    copied_bytes: int = 0
    indexes: int = 0
    seconds: float = 0.0


def back_up(
    library: Library, folder: Path, *, with_index: bool = False, progress: CopyProgress | None = None
) -> BackupReport:
    """Bring the backup of a library in a folder up to date, or make one in a new or empty folder.

    with_index: also copy approximate indexes, which can be built again. Raises InvalidInputError for a folder that is
    something else, StoreCorruptError for a damaged library, or where the backup was changed; LibraryLockedError,
    LibraryError when the disk refuses. The backup before is as it was then.
    """
    started = time.monotonic()
    check_apart(library.folder, folder)
    if folder.name == LOCAL_LIBRARY:
        raise InvalidInputError(
            f"A folder called {LOCAL_LIBRARY} is the library of the folder around it, so it cannot hold a "
            "backup. Give the backup another name."
        )
    _make(folder)
    with _disk_errors(folder), open_folder(folder) as root:
        backup = _Backup(library, root, with_index, progress or SilentCopy())
        backup.identify()  # before anything is written, and be it the lock
        _check_lock(root)
        with locked(folder):
            backup.run()
    backup.report.seconds = round(time.monotonic() - started, 3)
    return backup.report


def check_apart(library: Path, folder: Path) -> None:
    """Raise InvalidInputError if a library and a backup lie in each other."""
    first, second = (os.path.realpath(path) for path in (library, folder))
    if os.path.splitdrive(first)[0] == os.path.splitdrive(second)[0] and (
        os.path.commonpath([first, second]) in (first, second)
    ):
        raise InvalidInputError(
            f"The library {first} and the backup {second} contain each other. Name a folder outside the library."
        )


class _Backup:
    """One run, under the lock of the backup's folder."""

    def __init__(self, library: Library, root: Folder, with_index: bool, progress: CopyProgress) -> None:
        self._library = library
        self._root = root
        self._with_index = with_index
        self._progress = progress
        self.report = BackupReport(str(library.folder), str(root.path))

    def run(self) -> None:
        """Copy what is new, then make it count."""
        manifest = self.identify()
        before = None
        if self._root.status(CATALOG) is not None:  # else the first backup was cut off
            before = read_backup(self._root)[1]
        self._check_source()
        manifest.library = os.path.realpath(self._library.folder)
        if not manifest.states:
            manifest.write(self._root)  # so that what a crash leaves is known to be a backup
        known = dict(before.files) if before else {}
        for name in filter(is_temporary, self._root.names()):
            self._root.unlink(name)
        with open_source(self._library) as source:
            manifest.library_id = get_library_id(source.connection)
            entries = self._copy_segments(source, known)
            index, whole = self._copy_indexes(source, known)
            temporary, copied = self._copy_catalog(source, whole)
            made = datetime.now(UTC).isoformat(timespec="seconds")
            state = BackupState(made, source.revision, copied, {**entries, **index})
        self._flip(manifest, state, temporary)
        self.report.revision = state.revision
        self.report.files, self.report.bytes = len(state.files) + 1, state.size

    def identify(self) -> Manifest:
        """Read what backup the folder holds. Raises InvalidInputError unless it is empty or one of this library."""
        with self._library.query() as connection:
            library_id = get_library_id(connection)
        place = os.path.realpath(self._library.folder)
        names = {name for name in self._root.names() if not is_temporary(name)} - {_LOCK}
        if not names:
            return Manifest(library_id, place)
        if MANIFEST not in names:
            raise InvalidInputError(
                f"{self._root.path} is not empty and is not a backup. Name a new or an empty folder."
            )
        manifest = read_manifest(self._root)
        if not manifest.is_of(library_id, place):
            raise InvalidInputError(
                f"{self._root.path} holds the backup of another library, {manifest.library}. Name another folder."
            )
        return manifest

    def _check_source(self) -> None:
        """Raise StoreCorruptError for a damaged library: damage must not take the place of a good backup."""
        self._progress.stage("checking the library", 0)
        if damage := replace(find_damage(self._library), indexes=()):  # which are not needed
            found = "; ".join(damage.describe())
            raise StoreCorruptError(f"The library in {self._library.folder} is damaged ({found}). {REPAIR}")

    def _copy_segments(self, source: Source, known: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
        sizes = {segment: source.size(segment) for segment in source.segments}
        self._progress.stage("copying vectors", sum(sizes.values()))
        self._root.make(VECTORS)
        entries = {}
        with self._root.child(VECTORS) as folder:
            for segment, descriptor in source.segments.items():
                path = f"{VECTORS}/{segment.name}"
                entries[path] = self._copy(descriptor, sizes[segment], folder, segment.name, known.get(path))
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
        self.report.copied_files += known is None or written > 0
        self.report.copied_bytes += written
        return entry

    def _copy_indexes(self, source: Source, known: Mapping[str, FileEntry]) -> tuple[dict[str, FileEntry], set[str]]:
        """Copy the files of the active indexes; return their entries, and the names of the indexes that are whole."""
        entries: dict[str, FileEntry] = {}
        whole = set()
        for generation in filter(None, (catalog.get_generation(source.connection, m) for m in Modality)):
            if not generation.checksums:  # it searches the vectors and has no files of its own
                whole.add(generation.name)
            elif self._with_index and is_generation_name(generation.name):
                with suppress(StoreCorruptError, FileNotFoundError):  # it is built again from the vectors
                    generations_on_disk.verify(self._library.folder, generation)
                    entries |= self._copy_index(generation, known)
                    whole.add(generation.name)
                    self.report.indexes += 1
        return entries, whole

    def _copy_index(self, generation: Generation, known: Mapping[str, FileEntry]) -> dict[str, FileEntry]:
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
                entry, present = known.get(path), folder.status(file)
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
        with mapped_errors(), closing(sqlite3.connect(path)) as copy:
            self._progress.stage("copying the catalog", 0)
            _driver_connection(source.connection).backup(copy, pages=_PAGES)
        engine = writer_engine(path)
        migrations.migrate(engine)
        with engine.connect() as connection, transaction(connection):
            catalog.set_setting(connection, BASE_KEY, self._library.base or None)
            connection.execute(delete(generations).where(generations.c.name.not_in(whole)))
        engine.dispose()
        with mapped_errors(), closing(sqlite3.connect(path)) as copy:
            copy.execute("PRAGMA journal_mode=DELETE")  # a backup is one file, and may lie on a medium without writing
        entry = file_entry(self._root, name)
        fsync_path(path)
        self.report.copied_files += 1
        self.report.copied_bytes += entry.size
        return name, entry

    def _flip(self, manifest: Manifest, state: BackupState, temporary: str) -> None:
        """Make a state the one that the backup holds, and delete what only the one before had."""
        manifest.states[state.catalog.blake2b] = state
        manifest.write(self._root)
        self._root.rename(temporary, CATALOG)
        self._root.sync()
        manifest.states = {state.catalog.blake2b: state}
        manifest.write(self._root)
        _sweep(self._root, state)


def _sweep(root: Folder, state: BackupState) -> None:
    """Delete segments and indexes that a state does not have; files of any other name are left alone."""
    with root.child(VECTORS) as folder:
        for name in filter(is_segment_name, folder.names()):
            if f"{VECTORS}/{name}" not in state.files:
                folder.unlink(name)
    if root.status(ANN) is None:
        return
    with root.child(ANN) as parent:
        used = {path.split("/")[1] for path in state.files if path.startswith(f"{ANN}/")}
        for name in filter(is_generation_name, parent.names()):
            if name not in used:
                with parent.child(name) as folder:
                    for file in folder.names():
                        folder.unlink(file)
                parent.rmdir(name)


def _driver_connection(connection: Connection) -> sqlite3.Connection:
    found: Any = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found


def _make(folder: Path) -> None:
    """Make the folder of a backup, durably."""
    try:
        if not folder.exists():
            folder.mkdir(parents=True)
            fsync_path(folder.parent)
        elif not folder.is_dir():
            raise InvalidInputError(f"{folder} is not a folder. Name a new or an empty one.")
    except OSError as error:
        raise LibraryError(f"The folder {folder} cannot be made: {error.strerror}. Name another folder.") from error


def _check_lock(root: Folder) -> None:
    """Raise LibraryError if the name of the lock is a link or a special file, before it is opened for writing."""
    if root.status(_LOCK) is not None:
        os.close(root.open(_LOCK, os.O_RDONLY, own=True))


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LibraryError(
            f"The backup could not be written to {folder}: {error.strerror}. Free some space there or name another "
            "folder, and run again; the previous backup is unchanged."
        ) from error
