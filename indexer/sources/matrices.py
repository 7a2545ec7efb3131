"""Matrices of vectors on disk, which are read a few rows at a time: a .npy file, or a column of a parquet file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError
from indexer.sources import parquet
from indexer.sources.arrays import MAX_DIM, read_head
from indexer.sources.items import mapped_errors

VECTOR_COLUMN = "vector"

MAX_RATIO = 1000
"""Bytes of vectors for each byte of a parquet file: vectors hardly compress, but a page can repeat one for ever."""

_SLICE_VALUES = 1 << 18  # so that what is computed of a slice stays in the processor's cache


@dataclass(frozen=True, slots=True)
class Matrix:
    """Vectors on disk, of shape (rows, dim)."""

    path: Path
    rows: int
    dim: int

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield (number of the first row, float64 (n, dim)) over some rows, few at a time.

        A call goes on where the one before it ended, or begins at 0 again. Raises InvalidInputError for a file that
        has become shorter.
        """
        raise NotImplementedError

    def unit_rows(self, start: int, stop: int) -> NDArray[np.float16]:
        """Read rows and give them unit length: float16 (n, dim). Raises InvalidInputError for one without direction."""
        unit = np.empty((stop - start, self.dim), np.float16)
        for first, values in self.blocks(start, stop):
            norms = norms_of(values)
            if not np.all(np.isfinite(norms) & (norms > 0)):
                raise InvalidInputError(f"{self.path} changed while it was read. Run again.")
            unit[first - start : first - start + len(values)] = (values / norms[:, None]).astype(np.float32)
        return unit


@dataclass(frozen=True, slots=True)
class Array(Matrix):
    """An array in a .npy file. offset: bytes before it. by_column: it lies in Fortran order."""

    dtype: np.dtype[np.floating]
    offset: int
    by_column: bool

    @classmethod
    def open(cls, path: Path) -> Array:
        """Read the head of a .npy file. Raises InvalidInputError unless it holds rows of floating-point numbers."""
        head = read_head(path)
        rows, dim = head.shape
        return cls(path, rows, dim, head.dtype, head.offset, head.by_column)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """See Matrix; rows of any place."""
        step = max(1, _SLICE_VALUES // self.dim)
        try:
            with open(self.path, "rb", buffering=0) as file:
                for first in range(start, stop, step):
                    yield first, self._read(file, first, min(step, stop - first))
        except OSError as error:
            raise InvalidInputError(f"{self.path} cannot be read: {error.strerror or error}.") from error

    def _read(self, file: FileIO, first: int, count: int) -> NDArray[np.float64]:
        """Read rows, float64 (count, dim); not mapped: a file that is cut meanwhile would end the process."""
        size = self.dtype.itemsize
        if self.by_column:
            starts = range(self.offset + first * size, self.offset + self.rows * self.dim * size, self.rows * size)
            data = b"".join(self._bytes(file, start, count * size) for start in starts)
            return np.frombuffer(data, self.dtype).reshape(self.dim, count).T.astype(np.float64, order="C")
        data = self._bytes(file, self.offset + first * self.dim * size, count * self.dim * size)
        return np.frombuffer(data, self.dtype).reshape(count, self.dim).astype(np.float64)

    def _bytes(self, file: FileIO, start: int, size: int) -> bytes:
        file.seek(start)
        data = file.read(size)
        if len(data) != size:
            raise InvalidInputError(f"{self.path} became shorter while it was read. Run again.")
        return data


@dataclass(frozen=True, slots=True)
class Column(Matrix):
    """The column `vector` of a parquet file, as `clipsearch embed` writes it."""

    _reading: _Reading

    @classmethod
    def open(cls, path: Path) -> Column:
        """Read the first rows. Raises InvalidInputError without such a column of vectors, and without pyarrow."""
        reading = _Reading(path)
        rows, dim = reading.shape
        if rows < 1:
            raise InvalidInputError(f"{path} holds no vectors.")
        if dim > MAX_DIM:
            raise InvalidInputError(f"{path} holds vectors of {dim:,} dimensions, but at most {MAX_DIM:,} are allowed.")
        claimed, size = rows * dim * 4, os.path.getsize(path)
        if claimed > MAX_RATIO * size:
            raise InvalidInputError(
                f"{path} has {size:,} bytes, but claims to hold {claimed:,} bytes of vectors, which is too much."
            )
        return cls(path, rows, dim, reading)

    def blocks(self, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """See Matrix."""
        if start == 0:
            self._reading.restart()
        while start < stop:
            values = self._reading.take(stop - start)
            if values.shape[1:] != (self.dim,) or not len(values):
                raise InvalidInputError(f"{self.path} changed while it was read. Run again.")
            yield start, values.astype(np.float64)
            start += len(values)


class _Reading:
    """One pass over a column. shape: of the whole, (rows, dim)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.restart()
        self._fill()
        self.shape: tuple[int, int] = self._shape

    def restart(self) -> None:
        self._batches = parquet.read_vectors(os.fspath(self._path), VECTOR_COLUMN)
        self._values = np.empty((0, 0), np.float32)

    def take(self, count: int) -> NDArray[np.float32]:
        """Return the next rows, some of `count`; none at the end."""
        if not len(self._values):
            self._fill()
        taken, self._values = self._values[:count], self._values[count:]
        return taken

    def _fill(self) -> None:
        with mapped_errors(self._path):
            self._shape, data = next(self._batches, ((0, 0), b""))
        self._values = np.frombuffer(data, "<f4").reshape(-1, max(1, self._shape[1]))


def norms_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the lengths of rows (n, dim): float64 (n,)."""
    with np.errstate(all="ignore"):
        norms: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", values, values))
    return norms
