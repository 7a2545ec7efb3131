"""Backups: a state of a library in another folder, which is a library itself; the next backup adds what is new.

A backup reads one state and needs no lock of the library: segments only grow, and the catalog is copied inside one
reading transaction. In the backup's folder segments are appended to, everything else is written under another name and
renamed, and a state counts when its catalog is renamed into place; see clipsearch.store.manifest.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from clipsearch.durable import fsync_path
from clipsearch.errors import InvalidInputError, LibraryError, StoreCorruptError
from clipsearch.locations import LOCAL_LIBRARY
from clipsearch.progress import SilentStages, Stages
from clipsearch.store.backup_copy import StateCopy
from clipsearch.store.damage import find_damage
from clipsearch.store.folder import Folder, open_folder
from clipsearch.store.generations import FOLDER as ANN
from clipsearch.store.identity import get_library_id
from clipsearch.store.library import Library, locked
from clipsearch.store.manifest import (
    MANIFEST,
    BackupState,
    Manifest,
    is_temporary,
    read_backup,
    read_manifest,
)
from clipsearch.store.names import LOCK, VECTORS, is_generation_name, is_segment_name
from clipsearch.store.reading import CATALOG
from clipsearch.store.source import REPAIR, open_source


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
    library: Library, folder: Path, *, with_index: bool = False, progress: Stages | None = None
) -> BackupReport:
    """Bring the backup of a library in a folder up to date, or make one in a new or empty folder.

    with_index: also copy approximate indexes, which can be built again. Raises InvalidInputError for a folder that is
    something else, StoreCorruptError for a damaged library, or where the backup was changed; LibraryLockedError,
    LibraryError when the disk refuses. The previous backup is unchanged then.
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
        backup = _Backup(library, root, with_index, progress or SilentStages())
        backup.identify()  # before anything is written, even the lock
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
    """One backup run, under the lock of the backup's folder."""

    def __init__(self, library: Library, root: Folder, with_index: bool, progress: Stages) -> None:
        self._library = library
        self._root = root
        self._with_index = with_index
        self._progress = progress
        self.report = BackupReport(str(library.folder), str(root.path))

    def run(self) -> None:
        """Copy what is new, then make it current."""
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
        copy = StateCopy(self._library, self._root, known, self._progress)
        with open_source(self._library) as source:
            manifest.library_id = get_library_id(source.connection)
            state, temporary = copy.run(source, with_index=self._with_index)
        self._flip(manifest, state, temporary)
        report = self.report
        report.revision, report.files, report.bytes = state.revision, len(state.files) + 1, state.size
        report.copied_files, report.copied_bytes, report.indexes = copy.files, copy.bytes, copy.indexes

    def identify(self) -> Manifest:
        """Read what backup the folder holds. Raises InvalidInputError unless it is empty or one of this library."""
        with self._library.query() as connection:
            library_id = get_library_id(connection)
        place = os.path.realpath(self._library.folder)
        names = {name for name in self._root.names() if not is_temporary(name)} - {LOCK}
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

    def _flip(self, manifest: Manifest, state: BackupState, temporary: str) -> None:
        """Make a state current, and delete what only the previous state had."""
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
    if root.status(LOCK) is not None:
        os.close(root.open(LOCK, os.O_RDONLY, own=True))


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LibraryError(
            f"The backup could not be written to {folder}: {error.strerror}. Free some space there or name another "
            "folder, and run again; the previous backup is unchanged."
        ) from error
