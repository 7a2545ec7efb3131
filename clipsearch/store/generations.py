"""Generations: approximate indexes on disk, derived from the rows, each in a folder of its own.

A generation is written under a temporary name, made durable, renamed, and only then made active by the catalog,
which also keeps a checksum of every file: FAISS silently accepts most damaged files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, insert

from clipsearch.errors import LibraryError, StoreCorruptError
from clipsearch.store.catalog import DAMAGED, Generation
from clipsearch.store.folder import Folder, open_folder
from clipsearch.store.names import (
    generation_name,
    is_generation_name,
    is_index_file_name,
    is_temporary_name,
    temporary_name,
)
from clipsearch.store.schema import generations
from clipsearch.store.verified import has_digest
from clipsearch.types import Modality

FOLDER = "ann"


def generation_path(library: Path, name: str) -> Path:
    """Return the folder of a generation."""
    return library / FOLDER / name


def publish(library: Path, modality: Modality, write: Callable[[Path], None]) -> tuple[str, dict[str, str]]:
    """Write a generation durably; write: fills the empty folder it is given.

    Returns its name and the checksum of each file. Raises LibraryError when the disk refuses or `ann` is a link.
    """
    name = generation_name(modality)
    try:
        with open_folder(library) as own:
            own.make(FOLDER)
            with own.child(FOLDER) as parent:
                return name, _write(parent, name, write)
    except OSError as error:
        raise LibraryError(
            f"The index could not be written to {library / FOLDER}: {error.strerror}. Search stays exact."
        ) from error


def _write(parent: Folder, name: str, write: Callable[[Path], None]) -> dict[str, str]:
    temporary = temporary_name(name)
    parent.make(temporary)
    try:
        with parent.child(temporary) as folder:
            write(folder.path)
            checksums = {file: _checksum(folder, file, durable=True) for file in folder.names()}
            folder.sync()
        parent.rename(temporary, name)
        parent.sync()
    finally:
        _remove(parent, temporary)
    return checksums


def activate(connection: Connection, generation: Generation) -> None:
    """Make a generation the one that answers for its modality; its files must be durable."""
    deactivate(connection, generation.modality)
    connection.execute(insert(generations).values(**columns_of(generation)))


def columns_of(generation: Generation) -> dict[str, Any]:
    """Return the columns of a generation but for its id and digest."""
    return {
        "modality": generation.modality,
        "name": generation.name,
        "kind": generation.kind,
        "params": json.dumps(dict(generation.params)),
        "watermark": generation.watermark,
        "checksums": json.dumps(dict(generation.checksums)),
    }


def deactivate(connection: Connection, modality: Modality) -> None:
    """Go back to exact search for a modality."""
    connection.execute(delete(generations).where(generations.c.modality == modality))


def verify(library: Path, generation: Generation, *, once: bool = False) -> None:
    """Compare a generation's files with the catalog. Raises StoreCorruptError for a missing, changed or linked one.

    once: a file that this user compared before and that is the same still is not read again; see `store/verified.py`.
    """
    if generation.name == DAMAGED:
        raise StoreCorruptError(f"The catalog has a wrong entry for the {generation.modality} index.")
    folder = generation_path(library, generation.name)
    try:
        with open_folder(library) as own, own.child(FOLDER) as parent, parent.child(generation.name) as files:
            for name, expected in generation.checksums.items():
                if not is_index_file_name(name) or not _matches(files, name, expected, once):
                    raise StoreCorruptError(f"The index file {folder / name} is damaged.")
    except OSError as error:
        where = folder / error.filename if isinstance(error.filename, str) else folder
        raise StoreCorruptError(f"The index file {where} cannot be read: {error.strerror}.") from error
    except LibraryError as error:
        raise StoreCorruptError(str(error)) from error


def _matches(files: Folder, name: str, expected: str, once: bool) -> bool:
    return has_digest(files, name, expected) if once else _checksum(files, name) == expected


def sweep(library: Path, active: Collection[str]) -> None:
    """Delete the generations that are not active, and incomplete ones left by a crash.

    Only folders with the name of a generation are touched, and in them only files with the name of an index file.
    Raises LibraryError if `ann` is a link: what it leads to is not the library's.
    """
    try:
        with open_folder(library) as own, own.child(FOLDER) as parent:
            for name in parent.names():
                if (is_generation_name(name) and name not in active) or is_temporary_name(name):
                    _remove(parent, name)
    except OSError:  # it does not exist, or cannot be listed: the next run sweeps
        return


def _remove(parent: Folder, name: str) -> None:
    """Delete a generation's folder with its files; anything else in it stays, and the folder with it."""
    with suppress(OSError, LibraryError):
        with parent.child(name) as folder:
            for file in filter(is_index_file_name, folder.names()):
                folder.unlink(file)
        parent.rmdir(name)


def _checksum(folder: Folder, name: str, *, durable: bool = False) -> str:
    with open(folder.open(name, os.O_RDWR if durable else os.O_RDONLY), "rb") as file:
        if durable:  # Windows refuses what may only be read
            os.fsync(file.fileno())
        return hashlib.file_digest(file, hashlib.blake2b).hexdigest()
