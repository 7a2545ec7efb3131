"""The tables of an export, as JSON Lines, CSV or Parquet: written and read as a stream of rows.

CSV has no types and no NULL, and spreadsheets run what begins like a formula. So a text that is empty, or begins with
one of `= + - @ '`, a tab or a carriage return, has a `'` before it, which reading takes away; nothing at all is NULL.
"""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from clipsearch.errors import ClipSearchError, InvalidInputError
from clipsearch.present import encodable
from indexer.sources import parquet

INTEGER, NUMBER, TEXT, JSON = "integer", "number", "text", "json"
"""What the values of a column are."""

ITEM_COLUMNS: Mapping[str, str] = {
    "id": INTEGER, "key": TEXT, "path": TEXT, "root": INTEGER, "name": TEXT, "modality": TEXT, "size": INTEGER,
    "mtime_ns": INTEGER, "content_hash": TEXT, "width": INTEGER, "height": INTEGER, "taken_at": TEXT, "camera": TEXT,
    "latitude": NUMBER, "longitude": NUMBER, "caption": TEXT, "caption_stamp": TEXT, "text": TEXT, "source": TEXT,
    "tags": JSON, "collections": JSON, "metadata": JSON, "beside": JSON, "media": TEXT, "duration": NUMBER,
    "pages": INTEGER, "recognised": JSON,
}  # fmt: skip
VECTOR_COLUMNS: Mapping[str, str] = {
    "modality": TEXT, "row": INTEGER, "item": INTEGER, "part": INTEGER, "time": NUMBER, "page": INTEGER,
    "line": INTEGER, "end_line": INTEGER, "text": TEXT,
}  # fmt: skip

MAX_LINE = 64 << 20
"""Bytes of a row; characters of one of CSV."""

_FORMULA = ("=", "+", "-", "@", "'", "\t", "\r")
_limit = threading.Lock()

Row = Mapping[str, Any]


class TableWriter(Protocol):
    """Writes rows to a file that is open, and is done with `close`."""

    def write(self, rows: Sequence[Row]) -> None:
        """Append rows; what a row lacks is NULL."""

    def close(self) -> None:
        """Write what is left; the file itself stays open."""


class _Lines:
    def __init__(self, file: BinaryIO, columns: Mapping[str, str]) -> None:
        self._file, self._columns = file, columns

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            self._file.write(to_line(row, self._columns))

    def close(self) -> None:
        pass


class _Csv:
    def __init__(self, file: BinaryIO, columns: Mapping[str, str]) -> None:
        self._columns = columns
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(columns)

    def write(self, rows: Sequence[Row]) -> None:
        for row in rows:
            cells = [_to_cell(row.get(name), kind) for name, kind in self._columns.items()]
            _check_size(row, sum(map(len, cells)), MAX_LINE // 2)
            self._writer.writerow(cells)

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


class _Parquet:
    def __init__(self, file: BinaryIO, columns: Mapping[str, str]) -> None:
        try:
            import pyarrow
            from pyarrow import parquet as written
        except ModuleNotFoundError as error:
            raise ClipSearchError(
                "Writing Parquet needs pyarrow, which is not installed. Run: pip install 'clipsearch[parquet]'"
            ) from error
        kinds = {INTEGER: pyarrow.int64(), NUMBER: pyarrow.float64()}
        self._arrow, self._columns = pyarrow, columns
        self._schema = pyarrow.schema([(name, kinds.get(kind, pyarrow.string())) for name, kind in columns.items()])
        self._writer = written.ParquetWriter(file, self._schema)

    def write(self, rows: Sequence[Row]) -> None:
        columns = {name: [_to_value(row.get(name), kind) for row in rows] for name, kind in self._columns.items()}
        for row in rows:
            longest = max((len(each) for each in row.values() if isinstance(each, str)), default=0)
            _check_size(row, longest, parquet.MAX_VALUE)
        self._writer.write_table(self._arrow.table(columns, self._schema))

    def close(self) -> None:
        self._writer.close()


WRITERS: Mapping[str, Callable[[BinaryIO, Mapping[str, str]], TableWriter]] = {
    "jsonl": _Lines, "csv": _Csv, "parquet": _Parquet,
}  # fmt: skip
"""What writes a table, by the ending of its file."""


def check_format(table: str) -> None:
    """Raise InvalidInputError for a format of tables that there is not."""
    if table not in WRITERS:
        raise InvalidInputError(f"There is no format {table!r:.40}. Use one of: {', '.join(WRITERS)}.")


def to_line(row: Row, columns: Mapping[str, str]) -> bytes:
    """Return a row as a line of JSON, without what it lacks. Raises InvalidInputError for one that is too long."""
    line = _dump({name: row[name] for name in columns if row.get(name) is not None}).encode() + b"\n"
    _check_size(row, len(line), MAX_LINE)
    return line


def parse_line(line: bytes) -> dict[str, Any]:
    """Return the object that a line of JSON holds. Raises ValueError for anything else."""
    row = _load(line.decode())
    if not isinstance(row, dict):
        raise ValueError("it is not a JSON object")
    return row


def check_row(row: object, columns: Mapping[str, str]) -> dict[str, Any]:
    """Return a row that any format can hold. Raises ValueError for other columns, and for values of other kinds."""
    if not isinstance(row, dict) or row.keys() - columns.keys():
        raise ValueError(f"a row has other columns than {', '.join(columns)}")
    for name, value in row.items():
        if value is not None and not _KINDS[columns[name]](value):
            raise ValueError(f"its {name} is {value!r:.40}")
    return row


def read_table(path: Path, file: BinaryIO, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, with None for NULL. path: of the file, which is open and whose ending says its format.

    Raises InvalidInputError for a table of other columns, and for rows that cannot be read; values are not checked.
    """
    rows = {".jsonl": _read_lines, ".csv": _read_csv, ".parquet": _read_parquet}[path.suffix]
    number = 0
    try:
        for row in rows(path, file, columns):
            number += 1
            if row.keys() - columns.keys():
                raise ValueError(f"it has a column {min(row.keys() - columns.keys())!r:.80}")
            yield {name: row.get(name) for name in columns}
    except (ValueError, RecursionError, csv.Error, parquet.UnreadableError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{path}, row {number + 1}: {error}.") from error
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}.") from error


def _read_lines(path: Path, file: BinaryIO, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    while line := file.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise ValueError(f"it is longer than {MAX_LINE:,} bytes")
        yield parse_line(line)


def _read_csv(path: Path, file: BinaryIO, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    try:
        yield from _read_cells(_Counted(text), columns)
    finally:
        text.detach()  # the file is the caller's to close


def _read_cells(lines: _Counted, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    reader = csv.reader(lines, strict=True)
    if _next_row(reader, lines) != list(columns):
        raise ValueError(f"its columns are not {', '.join(columns)}")
    while (cells := _next_row(reader, lines)) is not None:
        if len(cells) != len(columns):
            raise ValueError(f"it has {len(cells)} cells instead of {len(columns)}")
        yield {name: _of_cell(cell, kind) for cell, (name, kind) in zip(cells, columns.items(), strict=True)}


def _next_row(reader: Any, lines: _Counted) -> list[str] | None:  # noqa: ANN401 - csv has no type for it
    """Return the next row; the limit of a cell is one of the process, and is changed for this row alone."""
    lines.count = 0
    with _limit:
        before = csv.field_size_limit(MAX_LINE)
        try:
            return next(reader, None)
        finally:
            csv.field_size_limit(before)


class _Counted:
    """The lines of a file, as long as the row that they make is not too long. count: characters of the row so far."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.count = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._text.readline(MAX_LINE):
            self.count += len(line)
            if self.count >= MAX_LINE:
                raise ValueError(f"it is longer than {MAX_LINE:,} characters")
            yield line


def _read_parquet(path: Path, file: BinaryIO, columns: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    try:
        for row in parquet.read_rows(str(path), list(columns)):
            yield {name: _load(value) if columns.get(name) == JSON and value else value for name, value in row.items()}
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"Reading {path} needs pyarrow, which is not installed. Run: pip install 'clipsearch[parquet]'"
        ) from error


def _to_value(value: Any, kind: str) -> Any:  # noqa: ANN401
    if value is None or kind in (INTEGER, NUMBER):
        return value
    return _dump(value) if kind == JSON else encodable(value)


def _to_cell(value: Any, kind: str) -> str:  # noqa: ANN401
    text = _to_value(value, kind)
    if text is None:
        return ""
    if kind == TEXT and (not text or text.startswith(_FORMULA)):
        return f"'{text}"
    return text if isinstance(text, str) else repr(text)


def _of_cell(cell: str, kind: str) -> Any:  # noqa: ANN401
    if not cell:
        return None
    if kind == TEXT:
        return cell.removeprefix("'")
    if kind == JSON:
        return _load(cell)
    return int(cell[:20]) if kind == INTEGER else _finite(float(cell))


def _finite(number: float) -> float:
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a number")
    return number


_KINDS: Mapping[str, Callable[[Any], bool]] = {
    INTEGER: lambda value: type(value) is int and abs(value) < 2**63,
    NUMBER: lambda value: type(value) in (int, float) and abs(value) <= sys.float_info.max,
    TEXT: lambda value: isinstance(value, str),
    JSON: lambda value: True,
}
"""Whether a value is of a kind."""


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


_dump = json.JSONEncoder(allow_nan=False).encode  # made once: json.dumps would make one for each row
_load = json.JSONDecoder(parse_constant=_refuse).decode


def _check_size(row: Row, size: int, most: int) -> None:
    if size > most:
        number = row.get("id", row.get("item"))
        raise InvalidInputError(
            f"Item {number} has a text of {size:,} characters, but a row of this format holds {most:,} of them. Export "
            "as jsonl, or leave the item out with a filter."
        )


def chunked(rows: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield lists of rows."""
    part: list[dict[str, Any]] = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
