"""Pictures with captions, from a table: .csv, or .jsonl with an object a line; both have `image` and `caption`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from clipsearch.errors import InvalidInputError

COLUMNS = ("image", "caption")
_JSON_LINES = (".jsonl", ".ndjson")


class Pair(NamedTuple):
    """A picture as the file names it, one caption of it, and the line where they stand, from 1."""

    image: str
    caption: str
    line: int


def read_captions(path: Path) -> list[Pair]:
    """Read all pairs of a file in UTF-8.

    Raises InvalidInputError, which names the line, for what is no such table or has an empty field; and for a file
    that cannot be read or has no pairs in it.
    """
    if path.suffix.lower() not in (".csv", *_JSON_LINES):
        raise InvalidInputError(f"{path} is neither .csv nor .jsonl.")
    try:
        text = _decode(path.read_bytes(), path)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.") from error
    rows = _json_rows(text, path) if path.suffix.lower() in _JSON_LINES else _csv_rows(text, path)
    pairs = [_pair(fields, line, path) for line, fields in rows]
    if not pairs:
        raise InvalidInputError(f"{path} has no captions in it. Each line names an image and a caption of it.")
    return pairs


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidInputError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8, or convert it, "
            "as with: iconv -f GB18030 -t UTF-8"
        ) from error


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        if not set(COLUMNS) <= set(names):
            found = ", ".join(names) if any(names) else "nothing"
            raise InvalidInputError(f"{path}, line 1: the columns must be image,caption; there is {found}.")
        line = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(names):
                problem = f"{len(row)} fields where there are {len(names)} columns"
                raise InvalidInputError(f'{path}, line {line}: {problem}. Put "" around a caption with a comma in it.')
            if row:
                yield line, dict(zip(names, row, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInputError(f"{path}, line {line}: not CSV: {error}.") from error


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    for line, written in enumerate(text.split("\n"), 1):
        if not written.strip():
            continue
        try:
            fields = json.loads(written)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError(f"{path}, line {line}: not JSON: {error}.") from error
        if not isinstance(fields, dict):
            raise InvalidInputError(f"{path}, line {line}: each line must be a JSON object.")
        yield line, fields


def _pair(fields: Mapping[str, object], line: int, path: Path) -> Pair:
    values = []
    for name in COLUMNS:
        value = fields.get(name)
        if not isinstance(value, str) or not value.strip():
            wrong = "is missing" if value is None else "is empty" if value in ("", None) else f"cannot be {value!r}"
            raise InvalidInputError(f"{path}, line {line}: `{name}` {wrong}. Each line names an image and a caption.")
        values.append(value.strip())
    return Pair(values[0], values[1], line)
