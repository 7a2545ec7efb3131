"""Tables as data sets: CSV, TSV, JSONL and Parquet, a row a record, read as a stream."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

from clipsearch.errors import InvalidInputError
from clipsearch.media.captions import read_number
from clipsearch.paths import suffix
from indexer.sources import parquet
from indexer.sources.base import BadRow, BrokenShardError, Row, Shard
from indexer.sources.files import FileSource, Storage
from indexer.sources.items import mapped_errors
from indexer.sources.rows import RowReader

MAX_LINE = 1 << 20
"""Characters of a line."""

_DELIMITERS = ",\t|;"
_BOM = "\ufeff"

Fields = Mapping[str, object] | str
"""The fields of a row by column, or why it has none."""


class TableSource(FileSource):
    """The rows of one table, or of each of the tables that a pattern stands for, which are its shards."""

    def __init__(
        self, address: str, storage: Storage, columns: tuple[tuple[str, str], ...] = (), pictures: str | None = None
    ) -> None:
        """Open; columns and pictures are as in SourceOptions."""
        super().__init__(address, storage)
        self._rows = RowReader(columns)
        self._pictures = pictures

    def read(self, shard: Shard, start: int = 0) -> Iterator[Row]:
        """Yield the rows of a table from a number on; those before it are skipped without being looked at."""
        name = shard.name.rstrip("/").rpartition("/")[2]
        picture = partial(self._picture, shard.name)
        start = max(start, shard.first)
        for number, fields in self._fields(shard.name, start):
            if shard.stop is not None and number >= shard.stop:
                return
            if isinstance(fields, str):
                yield Row(number, BadRow(f"{name}:{number}", fields))
            else:
                yield self._rows.read(number, f"{name}:{number}", fields, picture)

    def _picture(self, table: str, reference: str) -> str | bytes:
        return self._storage.picture(table, reference, self._pictures)

    def _fields(self, path: str, start: int) -> Iterator[tuple[int, Fields]]:
        kind = suffix(path)
        try:
            if kind == ".parquet":
                with self._storage.on_disk(path) as local:
                    yield from _parquet(local, path, start, self._rows.fits)
                return
            with self._storage.open(path) as file:
                lines = Lines(file)
                rows = _csv(lines, path, self._rows.fits) if kind in (".csv", ".tsv") else _json(lines)
                yield from ((number, fields) for number, fields in enumerate(rows) if number >= start)
        except OSError as error:
            raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}.") from error


class Lines:
    """The lines of a file in UTF-8, each cut at MAX_LINE; is_cut: whether any was since that was last cleared."""

    def __init__(self, file: BinaryIO) -> None:
        """Read from a file as lines are taken."""
        self._file = file
        self.is_cut = False

    def __iter__(self) -> Iterator[str]:
        is_first = True
        while line := self._file.readline(MAX_LINE):
            text = line.decode("utf-8", "surrogateescape")
            while len(line) == MAX_LINE and not line.endswith(b"\n"):
                self.is_cut = True
                line = self._file.readline(MAX_LINE)
            yield text.removeprefix(_BOM) if is_first else text
            is_first = False


def _json(lines: Lines) -> Iterator[Fields]:
    for line in lines:
        if not line.strip():
            continue
        if lines.is_cut:
            lines.is_cut = False
            yield f"its line has more than {MAX_LINE:,} bytes"
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"not JSON: {error}"
            continue
        yield fields if isinstance(fields, dict) else "not a JSON object"


def _csv(lines: Lines, path: str, fits: Callable[[list[str]], bool]) -> Iterator[Fields]:
    header = next(iter(lines), "")
    delimiter = "\t" if suffix(path) == ".tsv" else max(_DELIMITERS, key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    if not fits(names):
        raise _no_columns(path, names)
    reader = csv.reader(iter(lines), delimiter=delimiter)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            lines.is_cut = False
            yield f"not CSV: {error}"
            continue
        if row is None:
            return
        if lines.is_cut:
            lines.is_cut = False
            yield f"a line of it has more than {MAX_LINE:,} bytes"
        elif row and len(row) != len(names):
            yield f"it has {len(row)} fields for {len(names)} columns"
        elif row:
            yield {name: read_number(value) for name, value in zip(names, row, strict=True) if value != ""}


def _parquet(local: str, path: str, start: int, fits: Callable[[list[str]], bool]) -> Iterator[tuple[int, Fields]]:
    try:
        with mapped_errors(Path(path)):
            is_checked = False
            for number, fields in enumerate(parquet.read_records(local, start), start):
                if not is_checked and not fits(list(fields)):
                    raise _no_columns(path, list(fields))
                is_checked = True
                yield number, fields
    except InvalidInputError as error:
        if isinstance(error.__cause__, parquet.UnreadableError):
            raise BrokenShardError(str(error)) from error
        raise


def _no_columns(path: str, names: list[str]) -> InvalidInputError:
    shown = ", ".join(names)[:200] or "nothing"
    return BrokenShardError(
        f"{path} has no column with a picture or a caption; found {shown}. Name them: "
        "--columns image=COLUMN,caption=COLUMN (in Python: columns={'image': 'COLUMN', 'caption': 'COLUMN'})"
    )
