"""Vectors on disk: append-only segments of unit-length float16 rows.

A segment file may be longer than what is committed (a torn write); it is never shorter. Readers look only at
committed rows. Appending fsyncs the file, and its folder when the file is new, before it returns.

How the files are read: clipsearch.store.segment_file.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import LibraryError, StoreCorruptError
from clipsearch.float16 import widen
from clipsearch.store.folder import Folder, open_folder
from clipsearch.store.names import is_segment_name, segment_name
from clipsearch.store.refusals import REPAIR, unreadable
from clipsearch.store.segment_file import SegmentFile
from clipsearch.types import Modality

ROW_DTYPE = np.dtype("<f2")
SEGMENT_ROWS = 1 << 20
MAX_DIM = 1 << 16

_BRIDGED = 3
"""Rows so far apart are read in one, with those between them: a call of the system costs more."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A file that holds committed_rows rows of its modality, from number first_row on. id 0: not in the catalog yet."""

    id: int
    modality: Modality
    name: str
    first_row: int
    committed_rows: int


def new_segment(modality: Modality, first_row: int) -> Segment:
    """Return an empty segment with a name that is never used again: readers keep files open by name."""
    return Segment(0, modality, segment_name(modality, first_row), first_row, 0)


class VectorStore:
    """The segment files of a library. Reading is thread-safe; only the holder of the writer lock may append."""

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        self.dim = dim
        self._files: dict[tuple[Modality, str], SegmentFile] = {}
        self._lock = threading.Lock()

    def append(self, segment: Segment, rows: NDArray[np.float16]) -> None:
        """Write rows (n, dim) right after the committed ones and make them durable.

        Raises LibraryError when the disk refuses; the segment's committed rows are untouched then.
        """
        if rows.shape[1] != self.dim:
            raise LibraryError(f"Vectors of {rows.shape[1]} dimensions do not fit a library of {self.dim} dimensions.")
        start = segment.committed_rows * self._row_bytes
        try:
            with self._open_folder() as folder:
                is_new = folder.status(segment.name) is None
                flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if is_new else 0)
                with open(folder.open(segment.name, flags, own=True), "r+b", buffering=0) as file:
                    file.truncate(start)
                    file.seek(start)
                    _write_all(file.fileno(), np.ascontiguousarray(rows, ROW_DTYPE).tobytes())
                    os.fsync(file.fileno())
                if is_new:
                    folder.sync()
        except OSError as error:
            raise LibraryError(
                f"Vectors could not be written to {self.folder / segment.name}: {error.strerror}. "
                "Free some space or repair the disk, and run again; nothing committed is lost."
            ) from error

    def readable_rows(self, segment: Segment) -> int:
        """Count the whole rows in the file of a segment; 0 if it is missing or cannot be read."""
        try:
            with self._open_folder() as folder, open(folder.open(segment.name, os.O_RDONLY), "rb") as file:
                return os.fstat(file.fileno()).st_size // max(self._row_bytes, 1)
        except (OSError, LibraryError):
            return 0

    def recover(self, segments: Sequence[Segment], *, pad: bool = False, others: Collection[str] = ()) -> None:
        """Remove what is not committed: torn writes past the committed rows, and segments that no catalog names.

        Those were never committed, or a compaction replaced them: readers that still need one have it open. Files of
        any other name are left alone. pad: fill what is missing of a segment with zeros, which fail their checksums,
        so that it can be repaired. others: names of segments that belong to another set. Raises StoreCorruptError if a
        segment is shorter than what is committed, LibraryError when the disk refuses or a segment is a link.
        """
        try:
            with open_folder(self.folder.parent) as library:
                library.make(self.folder.name)
            with self._open_folder() as folder:
                for segment in segments:
                    self._cut(folder, segment, pad)
                known = {segment.name for segment in segments} | {*others}
                for name in folder.names():
                    if is_segment_name(name) and name not in known:
                        with suppress(PermissionError):  # Windows deletes no file that is open; a later writer will
                            folder.unlink(name)
        except OSError as error:
            raise LibraryError(f"The vectors in {self.folder} cannot be used: {error.strerror}.") from error

    def discard(self, segments: Sequence[Segment]) -> None:
        """Delete the files of uncommitted segments; the next writer deletes those that could not be deleted."""
        self.unlink(segment.name for segment in segments)

    def unlink(self, names: Iterable[str]) -> None:
        """Delete segments by their names, as far as that is possible; the next writer deletes the others."""
        with suppress(OSError, LibraryError), self._open_folder() as folder:
            for name in names:
                with suppress(OSError):
                    folder.unlink(name)

    def view(self, segments: Sequence[Segment]) -> Rows:
        """Open the committed rows of one modality's segments, and close the segments that it had before.

        Raises StoreCorruptError if a segment is missing or shorter than what is committed.
        """
        _check_order(segments)
        if segments and not 0 < self.dim <= MAX_DIM:
            raise StoreCorruptError(f"The catalog says that a vector has {self.dim} dimensions. {REPAIR}")
        with self._lock:
            files = [self._file(segment) for segment in segments]
            if segments:  # an open file holds the space of one that was deleted
                now = {segment.name for segment in segments}
                modality = segments[0].modality
                self._files = {key: f for key, f in self._files.items() if key[0] is not modality or key[1] in now}
        return Rows(files, [segment.committed_rows for segment in segments], self.dim)

    @property
    def _row_bytes(self) -> int:
        return self.dim * ROW_DTYPE.itemsize

    @contextmanager
    def _open_folder(self) -> Iterator[Folder]:
        with open_folder(self.folder.parent) as library, library.child(self.folder.name) as folder:
            yield folder

    def _cut(self, folder: Folder, segment: Segment, pad: bool) -> None:
        """Truncate a segment to its committed rows; pad: extend it if it is shorter."""
        end = segment.committed_rows * self._row_bytes
        status = folder.status(segment.name)
        size = status.st_size if status else 0
        if size < end and not pad:
            raise self._short(segment, size)
        if size != end:
            flags = os.O_RDWR | (0 if status else os.O_CREAT | os.O_EXCL)
            with open(folder.open(segment.name, flags, own=True), "r+b", buffering=0) as file:
                file.truncate(end)

    def _file(self, segment: Segment) -> SegmentFile:
        """Return the open file of a segment, which is as long as it must be."""
        key = (segment.modality, segment.name)
        try:
            file = self._files.get(key)
            if file is None:
                with self._open_folder() as folder:
                    file = SegmentFile(folder.path / segment.name, folder.open(segment.name, os.O_RDONLY))
                self._files[key] = file
            size = file.size()
        except FileNotFoundError:
            size = 0
            file = None
        except OSError as error:
            raise unreadable(self.folder / segment.name, error) from error
        if file is None or size < segment.committed_rows * self._row_bytes:
            if segment.committed_rows == 0:
                return SegmentFile(self.folder / segment.name, -1)
            raise self._short(segment, size)
        return file

    def _short(self, segment: Segment, size: int) -> StoreCorruptError:
        held = size // max(self._row_bytes, 1)
        return StoreCorruptError(
            f"{self.folder / segment.name} holds {held} rows, but the catalog has {segment.committed_rows}. {REPAIR}"
        )


class SegmentReader:
    """The segments of a library, for its readers. The encoder's dimension may change once the library is empty."""

    def __init__(self, folder: Path) -> None:
        self._store = VectorStore(folder, 0)

    def view(self, segments: Sequence[Segment], dim: int) -> Rows:
        """Open the committed rows, of `dim` dimensions, of one modality's segments; see `VectorStore.view`."""
        store = self._store
        if store.dim != dim:
            self._store = store = VectorStore(store.folder, dim)
        return store.view(segments)


@dataclass(frozen=True, slots=True)
class _Ranges:
    """Ranges of bytes of one file. places: of the rows that are wanted among those that are read; None for all."""

    file: SegmentFile
    offsets: list[int]
    sizes: list[int]
    places: NDArray[np.int64] | None = None

    def prefetch(self) -> None:
        self.file.prefetch(self.offsets, self.sizes)

    def read(self, dim: int) -> NDArray[np.float16]:
        read = np.frombuffer(self.file.read(self.offsets, self.sizes), ROW_DTYPE).reshape(-1, dim)
        return read if self.places is None else read[self.places]


class Rows:
    """The committed rows of one modality at one moment; immutable and thread-safe."""

    def __init__(self, files: Sequence[SegmentFile], counts: Sequence[int], dim: int) -> None:
        """Take the files of the segments in order, and how many rows each of them holds."""
        self._files = list(files)
        self._first = np.cumsum([0, *counts])
        self._starts = self._first[:-1].tolist()
        self._count = int(self._first[-1])
        self.dim = dim

    def __len__(self) -> int:
        return self._count

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read rows by number: float32 (n, dim), in the order asked for."""
        return widen(self.take(rows))

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Read rows by number as they are stored: float16 (n, dim), in the order asked for.

        Raises StoreCorruptError for a row that is not there.
        """
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self):
            raise StoreCorruptError(f"The catalog names row {int(rows.max()):,} of {len(self):,}. {REPAIR}")
        if len(self._files) == 1:
            ranges = self._ranges(0, rows)
            ranges.prefetch()
            return ranges.read(self.dim)
        out = np.empty((len(rows), self.dim), ROW_DTYPE)
        which = np.searchsorted(self._first, rows, side="right") - 1
        masks = {segment: which == segment for segment in set(which.tolist())}
        parts = {s: self._ranges(s, rows[chosen] - self._first[s]) for s, chosen in masks.items()}
        for ranges in parts.values():  # of all segments, before the first is waited for
            ranges.prefetch()
        for segment, ranges in parts.items():
            out[masks[segment]] = ranges.read(self.dim)
        return out

    def row(self, number: int) -> NDArray[np.float16]:
        """Read one row as it is stored: float16 (dim,)."""
        if not 0 <= number < self._count:
            raise StoreCorruptError(f"The catalog names row {number:,} of {len(self):,}. {REPAIR}")
        segment = bisect_right(self._starts, number) - 1
        offset = (number - self._starts[segment]) * self._row_bytes
        return np.frombuffer(self._files[segment].read_one(offset, self._row_bytes), ROW_DTYPE)

    def _ranges(self, segment: int, rows: NDArray[np.int64]) -> _Ranges:
        """Find rows of a segment by their numbers in it; if most of them lie close after each other, as runs."""
        gaps = np.diff(rows)
        is_near = (gaps >= 0) & (gaps <= _BRIDGED)
        if 2 * np.count_nonzero(is_near) <= len(rows):
            return _Ranges(self._files[segment], (rows * self._row_bytes).tolist(), [self._row_bytes] * len(rows))
        first = np.flatnonzero(np.concatenate([[True], ~is_near]))
        counts = np.diff(first, append=len(rows))
        lengths = rows[first + counts - 1] - rows[first] + 1
        places = None
        if (lengths != counts).any():
            places = rows + np.repeat(np.cumsum(lengths) - lengths - rows[first], counts)
        offsets, sizes = rows[first] * self._row_bytes, lengths * self._row_bytes
        return _Ranges(self._files[segment], offsets.tolist(), sizes.tolist(), places)

    def blocks(
        self, start: int = 0, stop: int | None = None, size: int = 16384
    ) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Yield (number of the first row, float16 (n, dim)) over rows start to stop, at most `size` at a time.

        A block is valid until the next one is requested, which reuses its memory.
        """
        stop = len(self) if stop is None else min(stop, len(self))
        buffer = np.empty((max(min(size, stop - start), 0), self.dim), ROW_DTYPE)
        for segment, file in enumerate(self._files):
            first, end = self._first[segment : segment + 2].tolist()
            for begin in range(max(start, first), min(stop, end), size):
                block = buffer[: min(size, stop - begin, end - begin)]
                file.read_into(block.reshape(-1).view(np.uint8).data, (begin - first) * self._row_bytes)
                yield begin, block

    @property
    def _row_bytes(self) -> int:
        return self.dim * ROW_DTYPE.itemsize


def _check_order(segments: Sequence[Segment]) -> None:
    """Raise StoreCorruptError unless each segment begins where the one before ends."""
    end = 0
    for segment in segments:
        if segment.first_row != end or segment.committed_rows < 0:
            raise StoreCorruptError(
                f"The catalog says that segment {segment.name} begins at row {segment.first_row}. {REPAIR}"
            )
        end += segment.committed_rows


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
