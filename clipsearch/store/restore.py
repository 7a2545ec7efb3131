"""Restoring: a library made from a backup, beside the place it is for, and put there in one step.

Every byte is compared with the backup's manifest on the way. Where it differs, nothing has changed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clipsearch.durable import exchange, fsync_path
from clipsearch.errors import (
    InvalidInputError,
    LibraryError,
    LibraryNotFoundError,
    SchemaVersionError,
    StoreCorruptError,
)
from clipsearch.progress import SilentStages, Stages
from clipsearch.store.backup import check_apart
from clipsearch.store.copying import FileEntry, copy_new
from clipsearch.store.folder import Folder, open_folder
from clipsearch.store.generations import FOLDER as ANN
from clipsearch.store.identity import get_library_id
from clipsearch.store.library import Library, locked
from clipsearch.store.manifest import (
    MANIFEST,
    BackupState,
    Manifest,
    read_backup,
    read_manifest,
)
from clipsearch.store.names import LOCK, VECTORS, is_generation_name, is_segment_name
from clipsearch.store.reading import CATALOG, catalog_file

_NEW = ".new-"


@dataclass(slots=True)
class RestoreReport:
    """What was restored. made: when it was backed up; kept: where the library is that was there, "" for nowhere."""

    backup: str
    library: str
    made: str = ""
    files: int = 0
    bytes: int = 0
    kept: str = ""
    seconds: float = 0.0


def recorded_place(folder: Path) -> Path:
    """Return where the library was that a folder is a backup of. Raises InvalidInputError, StoreCorruptError."""
    with _backup_errors(folder), open_folder(folder) as root:
        return Path(read_manifest(root).library)


def restore(folder: Path, place: Path, *, replace: bool = False, progress: Stages | None = None) -> RestoreReport:
    """Make the library that a folder is a backup of at a place.

    What is there is kept under the name that the report gives, or with `replace` deleted. Raises StoreCorruptError if
    the backup is damaged, InvalidInputError for a folder that is no backup and for a place that holds something else;
    LibraryLockedError, LibraryError when the disk refuses. Nothing is changed then.
    """
    started = time.monotonic()
    place = Path(os.path.realpath(place))
    check_apart(place, folder)
    with _backup_errors(folder), open_folder(folder) as root:
        manifest, state = read_backup(root)
        with _place(place, manifest) as is_taken:
            if is_taken:
                _sweep(place)
            fresh = place.with_name(f"{place.name}{_NEW}{os.urandom(8).hex()}")
            try:
                _copy(root, state, place, fresh, progress or SilentStages())
                kept = _put(fresh, place, is_taken)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
    if kept is not None and replace:
        _delete(kept)
    report = RestoreReport(str(folder), str(place), state.made, len(state.files) + 1, state.size)
    report.kept = str(kept) if kept is not None and kept.exists() else ""
    report.seconds = round(time.monotonic() - started, 3)
    return report


@contextmanager
def _place(place: Path, manifest: Manifest) -> Iterator[bool]:
    """Hold the lock of the library at a place, and tell whether there is one; its folder may be empty."""
    if not place.parent.is_dir():
        raise InvalidInputError(f"The folder {place.parent} for the library does not exist. Make it first.")
    if not place.exists():
        yield False
        return
    if not place.is_dir() or not ({CATALOG, VECTORS} & {*os.listdir(place)} or not os.listdir(place)):
        raise InvalidInputError(f"{place} is not a library, so it is not replaced. Name another place with --library.")
    if catalog_file(place).name != CATALOG:
        raise InvalidInputError(
            f"The library in {place} has its catalog in PostgreSQL, which a backup does not replace. Name another "
            "place with --library."
        )
    if not os.listdir(place):
        place.rmdir()
        yield False
        return
    _check_same(place, manifest)
    with open_folder(place) as folder:
        if folder.status(LOCK) is not None:
            os.close(folder.open(LOCK, os.O_RDONLY, own=True))
    with locked(place):
        yield True


def _check_same(place: Path, manifest: Manifest) -> None:
    """Raise InvalidInputError if a place holds another library than a backup; one that cannot be read may be it."""
    try:
        present = Library(place)
        with present.query() as connection:
            library_id = get_library_id(connection)
        present.close()
    except (LibraryNotFoundError, StoreCorruptError, SchemaVersionError):
        return
    if library_id and manifest.library_id and library_id != manifest.library_id:
        raise InvalidInputError(
            f"{place} holds another library than the backup, which is of {manifest.library}. Name another place with "
            "--library."
        )


def _sweep(place: Path) -> None:
    """Delete what restores that were cut off have left beside a place, whose lock is held."""
    left = re.compile(re.escape(f"{place.name}{_NEW}") + "[0-9a-f]{16}")
    for path in place.parent.iterdir():
        if left.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def _copy(root: Folder, state: BackupState, place: Path, fresh: Path, progress: Stages) -> None:
    """Copy a backup to a new folder, durably; place: the library whose permissions it is to have."""
    progress.stage("restoring", state.size)
    fresh.mkdir()
    if place.exists():
        os.chmod(fresh, stat.S_IMODE(place.stat().st_mode))
    with open_folder(fresh) as folder:
        for path, entry in {CATALOG: state.catalog, **state.files}.items():
            _copy_file(root, folder, path, entry, progress)
    fsync_path(fresh)
    Library(fresh).close()  # raises SchemaVersionError for one of a newer clipsearch


def _copy_file(root: Folder, target: Folder, path: str, entry: FileEntry, progress: Stages) -> None:
    *folders, name = path.split("/")
    with ExitStack() as stack:
        for part in folders:
            target.make(part)
            root, target = stack.enter_context(root.child(part)), stack.enter_context(target.child(part))
        descriptor = root.open(name, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        try:
            is_same = copy_new(descriptor, entry.size, target, name, progress) == entry
        except StoreCorruptError:  # it is shorter
            is_same = False
        if not is_same:
            raise StoreCorruptError(
                f"The backup is damaged: {root.path / name} does not match its checksum. Nothing was changed. Restore "
                "another backup, or repair the library itself: clipsearch repair"
            )
        target.sync()


def _put(fresh: Path, place: Path, is_taken: bool) -> Path | None:
    """Give a new library its place, and return where the one before is now."""
    kept = place.with_name(f"{place.name}.before-{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}")
    if not is_taken:
        os.rename(fresh, place)
    elif exchange(fresh, place):
        os.rename(fresh, kept)
    else:
        os.rename(place, kept)
        try:
            os.rename(fresh, place)
        except OSError:
            os.rename(kept, place)
            raise
    fsync_path(place.parent)
    return kept if is_taken else None


def _delete(library: Path) -> None:
    """Delete a library; whatever else lies in its folder stays there."""
    with open_folder(library) as folder:
        for name, is_own in ((VECTORS, is_segment_name), (ANN, is_generation_name)):
            if (status := folder.status(name)) is None or not stat.S_ISDIR(status.st_mode):
                continue
            with folder.child(name) as inside:
                for entry in filter(is_own, inside.names()):
                    _delete_entry(inside, entry)
            with suppress(OSError):
                folder.rmdir(name)
        for name in (CATALOG, f"{CATALOG}-wal", f"{CATALOG}-shm", LOCK, MANIFEST):
            if folder.status(name) is not None:
                folder.unlink(name)
    with suppress(OSError):
        library.rmdir()


def _delete_entry(folder: Folder, name: str) -> None:
    status = folder.status(name)
    if status is None or not stat.S_ISDIR(status.st_mode):
        folder.unlink(name)
        return
    with folder.child(name) as inside:
        for file in inside.names():
            inside.unlink(file)
    folder.rmdir(name)


@contextmanager
def _backup_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise InvalidInputError(f"The folder {folder} does not exist. Name the folder of a backup.") from error
        raise StoreCorruptError(
            f"The backup in {folder} is damaged: {error.filename} is missing. Nothing was changed. Restore another "
            "backup, or repair the library itself: clipsearch repair"
        ) from error
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise LibraryError(
            f"The backup in {folder} could not be restored: {error.strerror}{where}. Nothing was changed. Free some "
            "space or name another place with --library, and run again."
        ) from error
