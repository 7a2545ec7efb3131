"""The files of data sets on this machine, and patterns of them; `remote` has those that fsspec reaches."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from io import BufferedReader
from typing import Protocol

from clipsearch.errors import InvalidInputError
from clipsearch.paths import is_url
from clipsearch.store.roots import relative
from indexer.sources.base import IsWhole, Shard, never

MAX_FILES = 1_000_000
"""Files that a pattern may stand for."""

MAX_PICTURE = 256 << 20
"""Bytes of one picture in a table or a tar file."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file of a data set. path: as its storage opens it. fingerprint: changes with it. size: bytes."""

    path: str
    fingerprint: str
    size: int


class Storage(Protocol):
    """Where the files of a data set are. Safe to use from several threads. is_disk: whether that is a disk here."""

    is_disk: bool

    def path_of(self, address: str) -> str:
        """Return the part of an address that says which kind of file it is."""

    def find(self, address: str) -> Iterator[DataFile]:
        """Yield the files that an address or a pattern stands for, in a stable order.

        Raises InvalidInputError if there are no files, or they cannot be listed.
        """

    def open(self, path: str) -> BufferedReader:
        """Open a file for reading from its start. Raises OSError."""

    def on_disk(self, path: str) -> AbstractContextManager[str]:
        """Give the path of a file on disk with the same content. Raises OSError."""

    def picture(self, table: str, reference: str, folder: str | None) -> str | bytes:
        """Return the picture that a row of a table names: an absolute path on this machine, or its bytes.

        folder: what relative paths start from and paths must not lead out of; None for the folder of the table.
        Raises ValueError for one that lies elsewhere, OSError for one that cannot be read.
        """


class FileSource:
    """What sources share whose shards are files."""

    def __init__(self, address: str, storage: Storage) -> None:
        self._address = address
        self._storage = storage

    @property
    def address(self) -> str:
        """The path, pattern or address of the files."""
        return self._address

    def shards(self, is_whole: IsWhole = never) -> Iterator[Shard]:
        """Yield a shard for each file."""
        return (Shard(file.path, file.fingerprint) for file in self._storage.find(self._address))


def is_address(address: str) -> bool:
    """Tell an address of fsspec, or one that looks like it, from a path."""
    return is_url(address) or "::" in address


def expand(pattern: str) -> Iterator[str]:
    """Yield what a pattern with braces stands for, as bash does: `{000..099}` and `{a,b}`.

    Raises InvalidInputError where that is more than MAX_FILES.
    """
    count = 1
    for found in _BRACES.finditer(pattern):
        count *= len(_choices(found[1]) or [""])
    if count > MAX_FILES:
        raise InvalidInputError(f"{pattern} stands for {count:,} files, over the limit of {MAX_FILES:,}.")
    return _expanded(pattern)


def _expanded(pattern: str) -> Iterator[str]:
    for found in _BRACES.finditer(pattern):
        choices = _choices(found[1])
        if choices:
            for rest in _expanded(pattern[found.end() :]):
                yield from (pattern[: found.start()] + choice + rest for choice in choices)
            return
    yield pattern


def _choices(inside: str) -> list[str] | _Numbers:
    limits = _RANGE.fullmatch(inside)
    if limits is None:
        return inside.split(",") if "," in inside else []
    return _Numbers(int(limits[1]), int(limits[2]), max(len(limits[1]), len(limits[2])))


class _Numbers:
    """The numbers of `{000..099}`, without a list of them."""

    def __init__(self, first: int, last: int, width: int) -> None:
        self._range = range(first, last + 1)
        self._width = width

    def __len__(self) -> int:
        return min(len(self._range), MAX_FILES + 1) if self._range.stop - self._range.start < 2**62 else MAX_FILES + 1

    def __iter__(self) -> Iterator[str]:
        return (f"{number:0{self._width}}" for number in self._range)


class LocalStorage:
    """Files on this machine."""

    is_disk = True

    def path_of(self, address: str) -> str:
        """Return the path or the pattern of paths that an address is."""
        protocol, _, path = address.partition("://")
        return path if protocol.lower() in ("file", "local") else address

    def find(self, address: str) -> Iterator[DataFile]:
        """Yield the files that a path, or a pattern with braces or wildcards, stands for."""
        address = self.path_of(address)
        paths = [address] if os.path.lexists(address) else self._matching(address)
        found = 0
        for path in paths:
            try:
                status = os.stat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                found += 1
                yield DataFile(path, f"{status.st_size}-{status.st_mtime_ns}", status.st_size)
        if not found:
            raise InvalidInputError(f"There is no file {address}. Check the path.")

    def _matching(self, pattern: str) -> Iterator[str]:
        for path in expand(pattern):
            yield from sorted(glob.glob(path)) if glob.has_magic(path) else [path]

    def open(self, path: str) -> BufferedReader:
        """Open a regular file."""
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        file = os.fdopen(descriptor, "rb")
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise OSError(f"{path} is not a regular file")
        return file

    def on_disk(self, path: str) -> AbstractContextManager[str]:
        """Give the path itself."""
        return nullcontext(path)

    def picture(self, table: str, reference: str, folder: str | None) -> str | bytes:
        """Return the absolute path of a picture, resolved, so that no link in it leads elsewhere."""
        start = os.path.realpath(folder if folder is not None else os.path.dirname(table))
        path = os.path.realpath(os.path.join(start, reference))
        if relative(path, start) is None:
            raise ValueError(
                f"its picture {reference!r:.80} lies outside of {start}; to allow another: --pictures FOLDER (in "
                "Python: pictures=FOLDER)"
            )
        return path
