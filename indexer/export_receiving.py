"""Receive an export as a stream and write its files. Each line is checked before it is used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import ClipSearchError, ServerError
from clipsearch.linalg import from_base64
from clipsearch.types import Modality
from indexer import export_stream as stream
from indexer.export_files import ExportManifest, ExportWriter, check_target, parse_manifest
from indexer.export_tables import ITEM_COLUMNS, MAX_LINE, VECTOR_COLUMNS, check_format, check_row, parse_line
from indexer.exporting import AT_ONCE, ExportReport
from indexer.report import Progress

_MOST = MAX_LINE + (1 << 20)
"""Bytes of a line: a row, and the numbers of a vector."""

_WAITING = MAX_LINE
"""Bytes of rows that wait to be written together, but for the last of them."""


class ExportReceiver:
    """Writes an export from a stream of bytes; use it as a context manager. Leaving it before `finish` leaves nothing.

    It may be left while another thread is in `add`. Memory stays flat.
    """

    def __init__(
        self,
        folder: Path,
        table: str,
        overwrite: bool,
        progress: Progress,
        error_of: Callable[[object], ClipSearchError | None],
    ) -> None:
        """Prepare. error_of: returns the error that a problem in the stream stands for, a JSON value.

        Raises InvalidInputError as `export_library` does.
        """
        check_format(table)
        folder = Path(folder).absolute()
        check_target(folder, overwrite)
        self._started = time.monotonic()
        self._folder, self._table, self._overwrite = folder, table, overwrite
        self._progress, self._error_of = progress, error_of
        self._line = bytearray()  # that has not ended
        self._reported: int | None = None
        self._growing: _Growing | None = None
        self._made: ExportManifest | None = None
        self._stack, self._lock = ExitStack(), threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stack.close()

    def add(self, data: bytes) -> None:
        """Take the next bytes.

        Raises ServerError for what is not an export, what a problem in the stream stands for, ClipSearchError where
        the disk refuses.
        """
        with self._lock:
            try:
                *ended, rest = data.split(b"\n")
                for part in ended:
                    self._keep(part)
                    line, self._line = bytes(self._line), bytearray()
                    self._take(line)
                self._keep(rest)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                if isinstance(error, ClipSearchError):
                    raise
                why = {RecursionError: "it is nested too deep", KeyError: f"it lacks {error}"}.get(type(error), error)
                raise ServerError(f"The server's export cannot be read: {why}. Nothing is left of it.") from error
            self._report()  # apart, since what the progress raises is not about the stream

    def _report(self) -> None:
        if self._growing is None:
            return
        if self._reported is None:
            self._progress.start(self._growing.total)
            self._reported = 0
        if more := self._growing.written - self._reported:
            self._reported += more
            self._progress.advance(more)

    def finish(self) -> ExportReport:
        """Give the folder its name, and return what it holds. Raises ServerError where the end has not come."""
        with self._lock:
            if self._made is None or self._growing is None:
                raise ServerError("The export broke off before its end. Nothing is left of it. Run again.")
            made, size = self._made, self._growing.writer.finish(self._made, self._overwrite)
        seconds = round(time.monotonic() - self._started, 3)
        return ExportReport(str(self._folder), made.items, sum(made.vectors.values()), made.kept, size, seconds)

    def _keep(self, part: bytes) -> None:
        if len(self._line) + len(part) > _MOST:
            raise ValueError(f"a line has more than {_MOST:,} bytes")
        self._line += part

    def _take(self, line: bytes) -> None:
        said = parse_line(line)
        if stream.PROBLEM in said:
            raise self._error_of(said[stream.PROBLEM]) or ServerError("The server could not end the export. Run again.")
        if self._made is not None:
            raise ValueError("something follows its end")
        if self._growing is None:
            self._growing = self._begin(said[stream.HEADER])
        elif stream.ITEM in said:
            self._growing.add_item(said[stream.ITEM], len(line))
        elif stream.VECTOR in said:
            self._growing.add_vector(said[stream.VECTOR], from_base64(said[stream.DATA]), len(line))
        else:
            self._made = self._growing.end(said[stream.END])

    def _begin(self, said: Mapping[str, Any]) -> _Growing:
        if (said["format"], said["version"]) != (stream.FORMAT, stream.VERSION):
            raise ValueError("another version of clipsearch sends it")
        header = {name: said[name] for name in ("encoder", "items", "vectors", "settings", "collections")}
        header |= {"table": self._table, "roots": [], "kept": 0}
        made = parse_manifest(header)
        counts = {Modality(name): count for name, count in made.vectors.items()}
        writer = self._stack.enter_context(ExportWriter(self._folder, self._table, made.encoder.dim, counts))
        return _Growing(writer, header, made)


class _Growing:
    """The files of an export as its rows come: they are written in blocks as of `export_library`, so to equal files.

    Attributes:
        total: How many items and vectors there will be.
        written: How many of them are written.
    """

    def __init__(self, writer: ExportWriter, header: dict[str, Any], expected: ExportManifest) -> None:
        self.writer = writer
        self.total, self.written = expected.items + sum(expected.vectors.values()), 0
        self._header, self._expected = header, expected
        self._items: list[dict[str, Any]] = []
        self._said: list[dict[str, Any]] = []
        self._vectors: list[NDArray[np.float16]] = []
        self._modality = Modality.IMAGE
        self._waiting = self._count = 0
        self._counts = dict.fromkeys(Modality, 0)

    def add_item(self, row: object, size: int) -> None:
        """Take the next item; size: of its line."""
        self._items.append(check_row(row, ITEM_COLUMNS))
        self._count += 1
        if self._count > self._expected.items:
            raise ValueError(f"it has more than the {self._expected.items:,} items that it announces")
        self._wait(size)

    def add_vector(self, row: object, vector: NDArray[np.float32], size: int) -> None:
        """Take the next vector, float32 (dim,), and what it belongs to; size: of its line."""
        said = check_row(row, VECTOR_COLUMNS)
        modality, dim = Modality(said["modality"]), self._expected.encoder.dim
        if vector.shape != (dim,) or not np.all(np.abs(vector) < 2):  # NaN is not below
            raise ValueError(f"a vector is not of {dim} numbers of unit length")
        if modality is not self._modality:
            self._write()
            self._modality = modality
        if said["row"] != self._counts[modality] or said["row"] >= self._expected.vectors[modality]:
            raise ValueError(f"its vectors of modality {modality} are not the {self._expected.vectors[modality]:,}")
        self._counts[modality] += 1
        self._said.append(said)
        self._vectors.append(vector.astype(np.float16))
        self._wait(size)

    def end(self, said: Mapping[str, Any]) -> ExportManifest:
        """Write what waits, and return what the export says of itself. Raises ValueError where something is missing."""
        self._write()
        if self._count != self._expected.items or self._counts != self._expected.vectors:
            raise ValueError("it has fewer items or vectors than it announces")
        return parse_manifest({**self._header, "roots": said["roots"], "kept": said["kept"]})

    def _wait(self, size: int) -> None:
        self._waiting += size
        if max(len(self._items), len(self._said)) >= AT_ONCE or self._waiting >= _WAITING:
            self._write()

    def _write(self) -> None:
        items, said, vectors = self._items, self._said, self._vectors
        self._items, self._said, self._vectors, self._waiting = [], [], [], 0
        if items:
            self.writer.write_items(items)
        if said:
            self.writer.write_vectors(self._modality, said, np.stack(vectors))
        self.written += len(items) + len(said)
