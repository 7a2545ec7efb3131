"""Vectors on disk: append-only segments of unit-length float16 rows, memory-mapped.

A segment file may be longer than what is committed (a torn write); it is never shorter. Readers look only at
committed rows. Appending fsyncs the file, and its folder when the file is new, before it returns.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.durable import fsync_path
from clipsearch.errors import LibraryError, StoreCorruptError
from clipsearch.halves import widen
from clipsearch.store.refusals import REPAIR, unreadable
from clipsearch.types import Modality

ROW_DTYPE = np.dtype("<f2")
SEGMENT_ROWS = 1 << 20
SUFFIX = ".f16"


@dataclass(frozen=True, slots=True)
class Segment:
    """A file that holds committed_rows rows of its modality, from number first_row on. id 0: not in the catalog yet."""

    id: int
    modality: Modality
    name: str
    first_row: int
    committed_rows: int


def new_segment(modality: Modality, first_row: int) -> Segment:
    """Return an empty segment, under a name that no other ever has: readers keep their maps by it."""
    return Segment(0, modality, f"{modality}-{first_row:012d}-{time.time_ns():x}{SUFFIX}", first_row, 0)


class VectorStore:
    """The segment files of a library. Reading is thread-safe; only the holder of the writer lock may append."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self._maps: dict[tuple[Modality, str], NDArray[np.float16]] = {}
        self._lock = threading.Lock()

    def append(self, segment: Segment, rows: NDArray[np.float16]) -> None:
        """Write rows (n, dim) right after the committed ones and make them durable.

        Raises LibraryError when the disk refuses; the segment's committed rows are untouched then.
        """
        if rows.shape[1] != self.dim:
            raise LibraryError(f"Vectors of {rows.shape[1]} dimensions do not fit a library of {self.dim}.")
        path = self._path(segment)
        start = segment.committed_rows * self._row_bytes
        try:
            is_new = not path.exists()
            with open(path, "r+b" if path.exists() else "xb", buffering=0) as file:
                file.truncate(start)
                file.seek(start)
                _write_all(file.fileno(), np.ascontiguousarray(rows, ROW_DTYPE).tobytes())
                os.fsync(file.fileno())
            if is_new:
                fsync_path(self.folder)
        except OSError as error:
            raise LibraryError(
                f"Vectors could not be written to {path}: {error.strerror}. "
                "Free some space or mend the disk and run again; nothing committed is lost."
            ) from error

    def recover(self, segments: Sequence[Segment]) -> None:
        """Cut off what does not count: torn writes past the committed rows, and files that are no segment.

        Those were never committed, or a compaction replaced them: readers that still need one have it mapped.
        Raises StoreCorruptError if a segment is shorter than what is committed, LibraryError when the disk refuses.
        """
        try:
            if not self.folder.exists():
                self.folder.mkdir()
                fsync_path(self.folder.parent)
            for segment in segments:
                size = self._checked_size(segment)
                if size > segment.committed_rows * self._row_bytes:
                    os.truncate(self._path(segment), segment.committed_rows * self._row_bytes)
            known = {segment.name for segment in segments}
            for path in self.folder.glob(f"*{SUFFIX}"):
                if path.name not in known:
                    with suppress(PermissionError):  # Windows deletes no file that is mapped; a later writer will
                        path.unlink()
        except OSError as error:
            raise LibraryError(f"The vectors in {self.folder} cannot be used: {error.strerror}.") from error

    def discard(self, segments: Sequence[Segment]) -> None:
        """Delete the files of uncommitted segments, as far as the disk lets; the next writer does the rest."""
        for segment in segments:
            with suppress(OSError):
                self._path(segment).unlink()

    def view(self, segments: Sequence[Segment]) -> Rows:
        """Map the committed rows of one modality's segments, and let go of the maps of segments that it had before.

        Raises StoreCorruptError if a segment is missing or shorter than what is committed.
        """
        with self._lock:
            maps = [self._map(segment) for segment in segments]
            if segments:  # a map holds the space of a file that was deleted
                now = {segment.name for segment in segments}
                modality = segments[0].modality
                self._maps = {key: m for key, m in self._maps.items() if key[0] is not modality or key[1] in now}
        return Rows(maps, [segment.first_row for segment in segments], self.dim)

    @property
    def _row_bytes(self) -> int:
        return self.dim * ROW_DTYPE.itemsize

    def _path(self, segment: Segment) -> Path:
        return self.folder / segment.name

    def _checked_size(self, segment: Segment) -> int:
        path = self._path(segment)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            size = 0
        if size < segment.committed_rows * self._row_bytes:
            raise StoreCorruptError(
                f"{path} holds {size // self._row_bytes} rows, the catalog has {segment.committed_rows}. {REPAIR}"
            )
        return size

    def _map(self, segment: Segment) -> NDArray[np.float16]:
        key = (segment.modality, segment.name)
        mapped = self._maps.get(key)
        if mapped is None or len(mapped) < segment.committed_rows:
            shape = (segment.committed_rows, self.dim)
            if segment.committed_rows == 0:
                return np.empty(shape, ROW_DTYPE)
            try:
                self._checked_size(segment)
                mapped = np.memmap(self._path(segment), dtype=ROW_DTYPE, mode="r", shape=shape)
            except OSError as error:
                raise unreadable(self._path(segment), error) from error
            self._maps[key] = mapped
        return mapped[: segment.committed_rows]


class Rows:
    """The committed rows of one modality at one moment; immutable and thread-safe."""

    def __init__(self, maps: Sequence[NDArray[np.float16]], first_rows: Sequence[int], dim: int) -> None:
        self._maps = [np.asarray(rows) for rows in maps]  # a memmap is slow to pick rows from
        self._first = np.asarray(first_rows, np.int64)
        self.dim = dim

    def __len__(self) -> int:
        return int(self._first[-1]) + len(self._maps[-1]) if self._maps else 0

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read rows by number: float32 (n, dim), in the order asked for."""
        if len(self._maps) == 1:
            return widen(self._maps[0][rows])
        out = np.empty((len(rows), self.dim), ROW_DTYPE)
        which = np.searchsorted(self._first, rows, side="right") - 1
        for segment in set(which.tolist()):
            chosen = which == segment
            out[chosen] = self._maps[segment][rows[chosen] - self._first[segment]]
        return widen(out)

    def blocks(
        self, start: int = 0, stop: int | None = None, size: int = 16384
    ) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Yield (number of the first row, float16 (n, dim)) over rows start to stop, at most `size` at a time."""
        stop = len(self) if stop is None else min(stop, len(self))
        for first, rows in zip(self._first.tolist(), self._maps, strict=True):
            low, high = max(start - first, 0), min(stop - first, len(rows))
            for begin in range(low, high, size):
                yield first + begin, rows[begin : min(begin + size, high)]


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
