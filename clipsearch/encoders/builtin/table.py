"""A large table of rows in a file, of which a query reads a few: each block is checked when it is first read."""

from __future__ import annotations

import hashlib
import os
import threading
import weakref
from collections.abc import Sequence
from io import FileIO

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.builtin.cache import DamagedTowerError

_ROWS_A_BLOCK = 128
_DIGEST_BYTES = 32


def block_digests(table: NDArray[np.uint8]) -> bytes:
    """Return the SHA-256 of each block of a table (rows, width), one after the other."""
    starts = range(0, len(table), _ROWS_A_BLOCK)
    return b"".join(hashlib.sha256(table[start : start + _ROWS_A_BLOCK].tobytes()).digest() for start in starts)


class Table:
    """Rows of uint8; safe to use from several threads. It keeps what it has read."""

    def __init__(self, source: bytes | FileIO, digests: bytes, width: int) -> None:
        """Read rows of `width` bytes from a file or from memory. digests: as `block_digests` returns them."""
        self._source = source
        self._digests = digests
        self._width = width
        self._blocks: dict[int, NDArray[np.uint8]] = {}
        self._lock = threading.Lock()
        if not isinstance(source, bytes):
            weakref.finalize(self, source.close)

    def rows(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        """Return rows by number, uint8 (n, width). Raises DamagedTowerError for a block that is not as written."""
        return np.stack([self._block(row // _ROWS_A_BLOCK)[row % _ROWS_A_BLOCK] for row in ids])

    def _block(self, number: int) -> NDArray[np.uint8]:
        with self._lock:
            if number not in self._blocks:
                data = self._read(number * _ROWS_A_BLOCK * self._width, _ROWS_A_BLOCK * self._width)
                expected = self._digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]
                if hashlib.sha256(data).digest() != expected:
                    raise DamagedTowerError(f"block {number} of the table does not match its checksum")
                self._blocks[number] = np.frombuffer(data, np.uint8).reshape(-1, self._width)
            return self._blocks[number]

    def _read(self, offset: int, size: int) -> bytes:
        if isinstance(self._source, bytes):
            return self._source[offset : offset + size]
        try:
            if hasattr(os, "pread"):  # a fork shares the position in the file
                return os.pread(self._source.fileno(), size, offset)
            self._source.seek(offset)
            return self._source.read(size) or b""
        except OSError as error:
            raise DamagedTowerError(str(error)) from error
