"""The head of a .npy file, read as text of a fixed form (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).

NumPy reads more than rows of numbers: Python objects, which are pickles, structured rows, headers of Python 2. Here a
head says three things or the file is refused, and what it claims is compared with the size of the file.
"""

from __future__ import annotations

import ast
import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from clipsearch.errors import InvalidInputError

MAX_DIM = 65_536
"""Numbers in a vector; models have some thousands."""

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 10_000
_TYPES = frozenset(f"{order}f{size}" for order in "<>=|" for size in (2, 4, 8)) | {"f2", "f4", "f8"}


@dataclass(frozen=True, slots=True)
class ArrayHead:
    """What a head says: a shape of two dimensions, and where the numbers begin. by_column: in Fortran order."""

    shape: tuple[int, int]
    dtype: np.dtype[np.floating]
    by_column: bool
    offset: int


def read_head(path: Path) -> ArrayHead:
    """Read the head of a .npy file of rows of floating-point numbers.

    Raises InvalidInputError for anything else, and for a file that is shorter than its head says.
    """
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _unusable(path, "it is not a regular file")
            return read_open_head(path, file, status.st_size)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_open_head(path: Path, file: BinaryIO, size: int) -> ArrayHead:
    """Read the head of a .npy file that is open at its start and has `size` bytes. Raises as `read_head` does."""
    fields, offset = _read_fields(path, file)
    head = _check(path, fields, offset)
    claimed = offset + head.shape[0] * head.shape[1] * head.dtype.itemsize
    if claimed > size:
        raise _unusable(path, f"its header claims {claimed:,} bytes, but it has {size:,}")
    return head


def write_head(file: BinaryIO, rows: int, dim: int, dtype: str) -> None:
    """Write the head of rows of numbers; NumPy leaves room for `rows` to grow, so that all heads have one length."""
    head = {"descr": dtype, "fortran_order": False, "shape": (rows, dim)}
    np.lib.format.write_array_header_1_0(file, head)


def _read_fields(path: Path, file: BinaryIO) -> tuple[object, int]:
    start = file.read(8)
    if start[:6] != _MAGIC or len(start) < 8:
        what = "an .npz archive" if start[:2] == b"PK" else "in another format"
        raise _unusable(path, f"it is {what}")
    width = {1: "<H", 2: "<I", 3: "<I"}.get(start[6])
    if width is None:
        raise _unusable(path, f"its format version is {start[6]}.{start[7]}, which is not supported")
    try:
        (length,) = struct.unpack(width, file.read(struct.calcsize(width)))
        if length > _MAX_HEADER:
            raise _unusable(path, f"its header has {length:,} bytes, which is too much")
        written = file.read(length)
        if len(written) != length:
            raise _unusable(path, "it ends within its header")
        return ast.literal_eval(written.decode("utf-8" if start[6] == 3 else "latin-1").strip()), file.tell()
    except InvalidInputError:
        raise
    except (struct.error, ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise _unusable(path, "its header cannot be read; Python 2 may have written it. Save it again") from error


def _check(path: Path, fields: object, offset: int) -> ArrayHead:
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise _unusable(path, "its header is not that of an array")
    described, shape, by_column = fields["descr"], fields["shape"], fields["fortran_order"]
    if not isinstance(described, str) or described not in _TYPES:
        kind = _name(described)
        raise InvalidInputError(f"{path} holds numbers of the type {kind}; it must be float16, float32 or float64.")
    is_shape = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    if not is_shape or type(by_column) is not bool:
        raise _unusable(path, "its header gives no shape")
    if len(shape) != 2 or 0 in shape:
        raise InvalidInputError(f"{path} holds an array of shape {shape}; it must be (rows, dimensions).")
    if shape[1] > MAX_DIM:
        raise InvalidInputError(
            f"{path} holds vectors of {shape[1]:,} dimensions, but at most {MAX_DIM:,} are allowed."
        )
    return ArrayHead((shape[0], shape[1]), np.dtype(described), by_column, offset)


def _name(described: object) -> str:
    if not isinstance(described, str):
        return f"{str(described)[:40]}, a structure"
    try:
        return str(np.dtype(described))
    except (TypeError, ValueError):
        return repr(described)[:40]


def _unusable(path: Path, why: str) -> InvalidInputError:
    return InvalidInputError(f"{path} is not a complete .npy file of numbers: {why}.")
