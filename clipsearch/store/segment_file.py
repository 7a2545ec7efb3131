"""Reading a segment file.

Files are read, never memory-mapped: if another program truncates a mapped file, the next access kills the process
(SIGBUS). The cost of reading is measured by benchmarks/reliability/reading.py.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from clipsearch.errors import StoreCorruptError
from clipsearch.store.refusals import REPAIR, unreadable

_HAS_PREAD, _HAS_PREADV = hasattr(os, "pread"), hasattr(os, "preadv")
_HAS_ADVICE = hasattr(os, "posix_fadvise")


class SegmentFile:
    """An open segment file; reading is thread-safe. It is closed with its last reference."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        self._lock = threading.Lock()

    def __del__(self) -> None:
        if self.descriptor >= 0:
            with suppress(OSError):
                os.close(self.descriptor)

    def size(self) -> int:
        """Return the size of the file in bytes."""
        return os.fstat(self.descriptor).st_size

    def prefetch(self, offsets: Sequence[int], sizes: Sequence[int]) -> None:
        """Tell the system that ranges of the file will be read, so that it requests them from the disk side by side.

        Read one after the other, rows that are not in memory take as many round trips: benchmarks/cold_rows.py.
        """
        if _HAS_ADVICE and len(offsets) > 1:
            with suppress(OSError):  # such as a file system that takes no advice
                for offset, size in zip(offsets, sizes, strict=True):
                    os.posix_fadvise(self.descriptor, offset, size, os.POSIX_FADV_WILLNEED)

    def read(self, offsets: Sequence[int], sizes: Sequence[int]) -> bytes:
        """Read ranges of the file and concatenate them. Raises StoreCorruptError if the file ends before one."""
        try:
            data = b"".join(map(self._read, offsets, sizes))
        except OSError as error:
            raise unreadable(self.path, error) from error
        if len(data) < sum(sizes):
            raise StoreCorruptError(f"{self.path} was shortened while it was read. {REPAIR}")
        return data

    def read_one(self, offset: int, size: int) -> bytes:
        """Read a range of the file. Raises StoreCorruptError if the file ends before it."""
        try:
            data = self._read(offset, size)
        except OSError as error:
            raise unreadable(self.path, error) from error
        if len(data) < size:
            raise StoreCorruptError(f"{self.path} was shortened while it was read. {REPAIR}")
        return data

    def read_into(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer from an offset on. Raises StoreCorruptError if the file ends before that."""
        while buffer:
            try:
                read = os.preadv(self.descriptor, [buffer], offset) if _HAS_PREADV else self._copy(buffer, offset)
            except OSError as error:
                raise unreadable(self.path, error) from error
            if not read:
                raise StoreCorruptError(f"{self.path} was shortened while it was read. {REPAIR}")
            buffer, offset = buffer[read:], offset + read

    def _copy(self, buffer: memoryview, offset: int) -> int:
        data = self._read(offset, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _read(self, offset: int, size: int) -> bytes:
        if _HAS_PREAD:
            return os.pread(self.descriptor, size, offset)
        with self._lock:
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            return os.read(self.descriptor, size)
