"""Copying the files of a library, a block at a time, with a BLAKE2b digest (RFC 7693) of what was read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from clipsearch.errors import StoreCorruptError
from clipsearch.store.folder import Folder

_BLOCK = 1 << 20
_DIGEST_BYTES = 32


class CopyProgress(Protocol):
    """Where a copy says how far it is."""

    def stage(self, name: str, total: int) -> None:
        """Start a stage of so many steps; 0 if their number is unknown."""

    def advance(self, steps: int) -> None:
        """Say that so many more steps are done."""


class SilentCopy:
    """Progress of a copy that goes nowhere."""

    def stage(self, name: str, total: int) -> None:
        """Ignore it."""

    def advance(self, steps: int) -> None:
        """Ignore it."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """How long a file of a backup is, and the hexadecimal BLAKE2b-256 of so many of its bytes."""

    size: int
    blake2b: str


def new_digest() -> hashlib.blake2b:
    """Return an empty digest as `FileEntry` has it."""
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


def read_blocks(descriptor: int, start: int, stop: int) -> Iterator[bytes]:
    """Read bytes start to stop of an open file. Raises StoreCorruptError if it is shorter, OSError."""
    os.lseek(descriptor, start, os.SEEK_SET)
    while start < stop:
        block = os.read(descriptor, min(_BLOCK, stop - start))
        if not block:
            raise StoreCorruptError(f"a file ends at byte {start:,}, before byte {stop:,}")
        start += len(block)
        yield block


def file_entry(folder: Folder, name: str, size: int | None = None) -> FileEntry:
    """Digest a file, or its first `size` bytes. Raises StoreCorruptError if it is shorter, OSError, LibraryError."""
    descriptor = folder.open(name, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size if size is None else size
        digest = new_digest()
        for block in read_blocks(descriptor, 0, size):
            digest.update(block)
        return FileEntry(size, digest.hexdigest())
    finally:
        os.close(descriptor)


def copy_new(source: int, size: int, folder: Folder, name: str, progress: CopyProgress) -> FileEntry:
    """Copy the first `size` bytes of an open file into a new one, durably but for its name."""
    if folder.status(name) is not None:  # left by a copy that was cut off: nothing refers to it
        folder.unlink(name)
    target = folder.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        digest = new_digest()
        _copy(source, 0, size, target, digest, progress)
        return FileEntry(size, digest.hexdigest())
    finally:
        os.close(target)


def copy_grown(
    source: int, size: int, folder: Folder, name: str, known: FileEntry, progress: CopyProgress
) -> FileEntry:
    """Append to a copy what its source has more than `known`, durably; what is there already is compared.

    Raises StoreCorruptError if the source no longer begins with what was copied from it.
    """
    if known.size > size:  # the library went back to an earlier state; the copy keeps what it has more
        known = file_entry(folder, name, size)
    digest = new_digest()
    for block in read_blocks(source, 0, known.size):
        digest.update(block)
        progress.advance(len(block))
    if digest.hexdigest() != known.blake2b:
        raise StoreCorruptError("it no longer begins with the part that was backed up")
    target = folder.open(name, os.O_RDWR, own=True)
    try:
        if os.fstat(target).st_size < known.size:
            raise StoreCorruptError("its copy has become shorter")
        if size > known.size:
            _copy(source, known.size, size, target, digest, progress)
    finally:
        os.close(target)
    return FileEntry(size, digest.hexdigest())


def _copy(source: int, start: int, stop: int, target: int, digest: hashlib.blake2b, progress: CopyProgress) -> None:
    os.lseek(target, start, os.SEEK_SET)
    for block in read_blocks(source, start, stop):
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]
        digest.update(block)
        progress.advance(len(block))
    os.fsync(target)
