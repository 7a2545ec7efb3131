"""Generations: approximate indexes on disk, derived from the rows, each in a folder of its own.

A generation is written under a temporary name, made durable, renamed, and only then made active by the catalog,
which also keeps a checksum of every file: FAISS accepts most damaged files without a word.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from clipsearch.durable import fsync_path
from clipsearch.errors import LibraryError, StoreCorruptError
from clipsearch.store.catalog import Generation

FOLDER = "ann"


def generation_path(library: Path, name: str) -> Path:
    """Return the folder of a generation."""
    return library / FOLDER / name


def publish(library: Path, label: str, write: Callable[[Path], None]) -> tuple[str, dict[str, str]]:
    """Write a generation durably; write: fills the empty folder it is given.

    Returns its name and the checksum of each file. Raises LibraryError when the disk refuses.
    """
    parent = library / FOLDER
    try:
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            fsync_path(library)
        name = f"{label}-{time.time_ns():x}"
        temporary = parent / f".new-{name}"
        temporary.mkdir()
        try:
            write(temporary)
            checksums = {path.name: _checksum(path, durable=True) for path in sorted(temporary.iterdir())}
            fsync_path(temporary)
            os.rename(temporary, parent / name)
            fsync_path(parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise LibraryError(
            f"The index could not be written to {parent}: {error.strerror}. Search stays exact."
        ) from error
    return name, checksums


def verify(library: Path, generation: Generation) -> None:
    """Compare a generation's files with the catalog. Raises StoreCorruptError for a missing or changed one."""
    folder = generation_path(library, generation.name)
    for name, expected in generation.checksums.items():
        try:
            actual = _checksum(folder / name)
        except OSError as error:
            raise StoreCorruptError(f"The index file {folder / name} cannot be read: {error.strerror}.") from error
        if actual != expected:
            raise StoreCorruptError(f"The index file {folder / name} is damaged.")


def sweep(library: Path, active: Mapping[str, Generation] | set[str]) -> None:
    """Delete the folders of generations that are not active, and what a crash left half-written."""
    parent = library / FOLDER
    for path in parent.iterdir() if parent.is_dir() else ():
        if path.name not in active:
            shutil.rmtree(path, ignore_errors=True)


def _checksum(path: Path, *, durable: bool = False) -> str:
    if durable:
        with open(path, "r+b") as file:  # Windows refuses what may only be read
            os.fsync(file.fileno())
    with open(path, "rb") as file:
        return hashlib.file_digest(file, hashlib.blake2b).hexdigest()
