"""A file of vectors that is written row by row: .npy with a .jsonl beside it, or .parquet.

`clipsearch import-embeddings` reads both. Nothing has its final name before all of it is there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import ClipSearchError, InvalidInputError
from indexer.sources.arrays import write_head

Fields = Mapping[str, str]
"""What is said of a row: `path` or `key`, and `text` where it is one."""

_PART = ".part"


class _Format(Protocol):
    @property
    def files(self) -> Sequence[Path]: ...

    def write(self, vectors: NDArray[np.float32], rows: Sequence[Fields]) -> None: ...

    def finish(self, count: int) -> None: ...

    def close(self) -> None: ...


class VectorFile:
    """Rows on their way into a file; use it as a context manager, which gives the file its name or removes it.

    Attributes:
        count: Rows that were written.
        files: What there is at the end.
    """

    def __init__(self, out: str, dim: int, sources: Sequence[str] = ()) -> None:
        """Start a file.

        sources: what is read meanwhile. Raises InvalidInputError for a name of another ending, a place that cannot be
        written, and a file that would take the place of a source.
        """
        kinds: dict[str, type[_Npy] | type[_Parquet]] = {".npy": _Npy, ".parquet": _Parquet}
        path = Path(out)
        if path.suffix not in kinds:
            raise InvalidInputError(f"{out!r} is neither a .npy nor a .parquet file. Name one that is.")
        taken = {os.path.realpath(source) for source in sources}
        for file in kinds[path.suffix].names(path):
            if os.path.realpath(file) in taken:
                raise InvalidInputError(f"{file} is read, and would be overwritten. Name another file for the vectors.")
        try:
            self._format: _Format = kinds[path.suffix](path, dim)
        except OSError as error:
            raise InvalidInputError(f"{out} cannot be written: {error.strerror or error}.") from error
        self.files = self._format.files
        self.count = 0

    def write(self, vectors: NDArray[np.float32], rows: Sequence[Fields]) -> None:
        """Append vectors, float32 (n, dim), and what is said of them."""
        self._format.write(vectors, rows)
        self.count += len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        done = kind is None and self.count > 0
        try:
            if done:
                self._format.finish(self.count)
        finally:
            self._format.close()
            for file in self.files:
                if done:
                    os.replace(_part(file), file)
                else:
                    with suppress(FileNotFoundError):
                        os.unlink(_part(file))


def _part(file: Path) -> Path:
    return file.with_name(file.name + _PART)


class _Npy:
    """An array, whose head is written again once the number of rows is known, and a JSON object for each row."""

    @staticmethod
    def names(path: Path) -> Sequence[Path]:
        return path, path.with_suffix(".jsonl")

    def __init__(self, path: Path, dim: int) -> None:
        self.files = self.names(path)
        self._dim = dim
        self._array, self._items = (open(_part(file), "wb") for file in self.files)
        write_head(self._array, 0, dim, "<f4")

    def write(self, vectors: NDArray[np.float32], rows: Sequence[Fields]) -> None:
        self._array.write(vectors.astype("<f4").tobytes())
        self._items.writelines(json.dumps(row).encode() + b"\n" for row in rows)

    def finish(self, count: int) -> None:
        self._array.seek(0)
        write_head(self._array, count, self._dim, "<f4")

    def close(self) -> None:
        self._array.close()
        self._items.close()


class _Parquet:
    """A table with the columns `path` or `key`, `text` where rows are texts, and `vector`."""

    @staticmethod
    def names(path: Path) -> Sequence[Path]:
        return (path,)

    def __init__(self, path: Path, dim: int) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ModuleNotFoundError as error:
            raise ClipSearchError(
                f"Writing {path} needs pyarrow, which is not installed. Run: pip install 'clipsearch[parquet]'"
            ) from error
        self.files = self.names(path)
        self._dim = dim
        self._arrow, self._parquet = pyarrow, parquet
        self._file = open(_part(path), "wb")
        self._writer: Any = None

    def write(self, vectors: NDArray[np.float32], rows: Sequence[Fields]) -> None:
        if not rows:
            return
        arrow = self._arrow
        columns = {name: arrow.array([_text(row[name]) for row in rows], arrow.string()) for name in rows[0]}
        columns["vector"] = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), self._dim)
        table = arrow.table(columns)
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(self._file, table.schema)
        self._writer.write_table(table)

    def finish(self, count: int) -> None:
        self._writer.close()

    def close(self) -> None:
        self._file.close()


def _text(value: str) -> str:
    """Escape the bytes of a path that are not UTF-8, which a column of strings cannot hold."""
    return value.encode("utf-8", "backslashreplace").decode()
