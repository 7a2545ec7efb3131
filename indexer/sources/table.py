"""Tables as data sets: CSV, TSV, JSONL and Parquet, a row a record, read as a stream."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock

from clipsearch.errors import InvalidInputError
from clipsearch.media.caption_lines import Line, decode_lines, split_separator
from clipsearch.media.captions import read_number
from clipsearch.paths import suffix
from indexer.sources import parquet
from indexer.sources.base import BadRow, BrokenShardError, IsWhole, Row, Shard, never
from indexer.sources.cuts import LEAST, cut_groups, cut_lines, parts_of
from indexer.sources.files import DataFile, FileSource, Storage
from indexer.sources.items import mapped_errors
from indexer.sources.rows import RowReader

_FILES = 500
"""Tables that are looked into together."""

_DELIMITERS = ",\t|;"

Fields = Mapping[str, object] | str
"""The fields of a row by column, or why it has none."""


class TableSource(FileSource):
    """The rows of one table, or of each of the tables that a pattern stands for; parts of them are its shards."""

    def __init__(
        self, address: str, storage: Storage, columns: tuple[tuple[str, str], ...] = (), pictures: str | None = None
    ) -> None:
        """Open; columns and pictures are as in SourceOptions."""
        super().__init__(address, storage)
        self._rows = RowReader(columns)
        self._pictures = pictures
        self._lock = Lock()
        self._left: _Stream | None = None

    def shards(self, is_whole: IsWhole = never) -> Iterator[Shard]:
        """Yield a shard for each file, or several for a large one on a disk of this machine."""
        files = self._storage.find(self._address)
        while some := list(islice(files, _FILES)):
            large = {file.path for file in some if self._storage.is_disk and file.size >= LEAST}
            large = {path for path in large if not is_whole(path)}
            groups = parquet.read_groups([path for path in sorted(large) if suffix(path) == ".parquet"])
            for file in some:
                whole = Shard(file.path, file.fingerprint)
                yield from parts_of(whole, self._cuts(file, groups)) if file.path in large else (whole,)

    def _cuts(self, file: DataFile, groups: Mapping[str, list[tuple[int, int]]]) -> list[int]:
        """Return where the parts of a large table begin; that of one that cannot be read is found by who reads it."""
        if suffix(file.path) == ".parquet":
            return cut_groups(groups.get(file.path, ()))
        try:
            with self._storage.open(file.path) as opened:
                return cut_lines(opened, file.size)
        except OSError:
            return []

    def read(self, shard: Shard, start: int = 0) -> Iterator[Row]:
        """Yield the rows of a table from a number on; those before it are skipped without being looked at."""
        path = shard.file
        name = path.rstrip("/").rpartition("/")[2]
        picture = partial(self._picture, path)
        start = max(start, shard.first)
        if shard.stop is not None and start >= shard.stop:
            return
        stream = self._stream(path, start)
        for number, fields in stream.rows:
            stream.position = number + 1
            if number < start:
                continue
            if isinstance(fields, str):
                yield Row(number, BadRow(f"{name}:{number}", fields))
            else:
                yield self._rows.read(number, f"{name}:{number}", fields, picture)
            if stream.position == shard.stop:
                self._left = stream
                return

    def _stream(self, path: str, start: int) -> _Stream:
        """Go on where the part of a table that was read last ended, if that is on the way, or begin."""
        with self._lock:
            left, self._left = self._left, None
        if left is not None and left.path == path and left.position <= start:
            if left.position == start or suffix(path) != ".parquet":  # whose rows can be found
                return left
        return _Stream(path, start, self._fields(path, start))

    def _picture(self, table: str, reference: str) -> str | bytes:
        return self._storage.picture(table, reference, self._pictures)

    def _fields(self, path: str, start: int) -> Iterator[tuple[int, Fields]]:
        kind = suffix(path)
        try:
            if kind == ".parquet":
                with self._storage.on_disk(path) as local:
                    yield from _parquet(local, path, start, self._rows.fits)
                return
            is_csv = kind in (".csv", ".tsv")
            with self._storage.open(path) as file:
                lines = decode_lines(file, any_end=is_csv)
                rows = _csv(lines, path, self._rows.fits) if is_csv else _json(lines, start)
                yield from ((number, fields) for number, fields in enumerate(rows) if number >= start)
        except OSError as error:
            raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}.") from error


@dataclass(slots=True)
class _Stream:
    """A table that is read: the number of its next row, and the rows from there on."""

    path: str
    position: int
    rows: Iterator[tuple[int, Fields]]


class _Texts:
    """The texts of lines, for the reader of CSV; fault: why one of them has none, until that is cleared."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self.fault = ""

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.fault = self.fault or line.fault
            yield line.text


def _json(lines: Iterator[Line], start: int) -> Iterator[Fields]:
    for number, line in enumerate(line for line in lines if line.fault or line.text.strip()):
        if number < start or line.fault:
            yield line.fault
            continue
        try:
            fields = json.loads(line.text)
        except (ValueError, RecursionError) as error:
            yield f"not JSON: {error}"
            continue
        yield fields if isinstance(fields, dict) else "not a JSON object"


def _csv(lines: Iterator[Line], path: str, fits: Callable[[list[str]], bool]) -> Iterator[Fields]:
    header, separator = split_separator(lines)
    usual = "\t" if suffix(path) == ".tsv" else max(_DELIMITERS, key=header.text.count)
    delimiter = separator or usual
    names = [name.strip() for name in next(csv.reader([header.text], delimiter=delimiter), [])]
    if not fits(names):
        raise BrokenShardError(f"{path}: {header.fault}") if header.fault else _no_columns(path, names)
    texts = _Texts(lines)
    reader = csv.reader(iter(texts), delimiter=delimiter)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            texts.fault = ""
            yield f"not CSV: {error}"
            continue
        if row is None:
            return
        if texts.fault:
            yield texts.fault
            texts.fault = ""
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
