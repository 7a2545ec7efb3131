"""The records that go with vectors, one a row: JSONL, or parquet. Read as a stream."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.metadata import NONE, keep_metadata
from clipsearch.paths import name_of_id, quote_path
from clipsearch.store.records import CollectionRecord
from indexer.sources import parquet

NAMES = ("path", "image_path", "url", "id", "key")
"""What may name a record; the first that it has counts. A record without any is named by its number."""

_IDS = frozenset({"id", "key"})

CAPTIONS = ("caption", "text")
_WANTED = (*NAMES, *CAPTIONS, "width", "height", "taken_at")
_KNOWN = frozenset(_WANTED)
_MAX_LINE = 1 << 20


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that cannot be used, and why."""

    reason: str


def read_items(path: Path, first_row: int) -> Iterator[CollectionRecord | BadRecord]:
    """Yield the records of a file in order; first_row: the number of the first, from 0.

    Raises InvalidInputError, some of it only when iterated, for a file that cannot be read at all.
    """
    read = {".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet}.get(path.suffix.lower())
    if read is None:
        raise InvalidInputError(f"{path} is not a .jsonl or .parquet file. Name such a file.")
    return (_record(number, fields) for number, fields in enumerate(read(path), first_row))


def _jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    number = 0
    try:
        with open(path, "rb") as file:
            while line := file.readline(_MAX_LINE):
                number += 1
                if len(line) == _MAX_LINE:
                    raise InvalidInputError(f"{path}, line {number}: longer than {_MAX_LINE:,} bytes.")
                if line.isspace():
                    continue
                fields = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                if not isinstance(fields, dict):
                    raise InvalidInputError(f"{path}, line {number}: each line must be a JSON object.")
                yield fields
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"{path}, line {number}: not a JSON object in UTF-8: {error}.") from error
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.") from error


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    with mapped_errors(path):
        yield from parquet.read_rows(os.fspath(path), _WANTED)


@contextmanager
def mapped_errors(path: Path) -> Iterator[None]:
    """Turn what reading a parquet file raises into InvalidInputError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"Reading {path} needs pyarrow, which is not installed. Run: pip install 'clipsearch[parquet]'"
        ) from error
    except (parquet.UnreadableError, OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read as parquet: {error}.") from error


def _record(number: int, fields: Mapping[str, Any]) -> CollectionRecord | BadRecord:
    try:
        width, height = _pixels(fields, "width"), _pixels(fields, "height")
        if width is None or height is None:
            width = height = None
        more = {name: value for name, value in fields.items() if name not in _KNOWN and value is not None}
        metadata = keep_metadata(more) if more else NONE
        taken_at = _taken_at(fields.get("taken_at"))
        return CollectionRecord(_name(number, fields), _caption(fields), width, height, taken_at, metadata)
    except ValueError as error:
        return BadRecord(str(error))


def _name(number: int, fields: Mapping[str, Any]) -> str:
    for key in NAMES:
        value = fields.get(key)
        if value is None or value == "":
            continue
        if key == "image_path" and fields.get("url") and str(value) == str(fields.get("key")):
            continue  # of a picture from the web clip-retrieval writes only its key there
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(f"{key} is neither text nor a whole number")
        name = str(value)
        if not name.isascii():
            quote_path(name).encode()  # a UnicodeEncodeError is a ValueError
        if "\0" in name:
            raise ValueError(f"{key} holds a NUL character")
        return name_of_id(name) if key in _IDS else name
    return name_of_id(str(number))


def _caption(fields: Mapping[str, Any]) -> str | None:
    for key in CAPTIONS:
        value = fields.get(key)
        if value is None or value == "":
            continue
        if not isinstance(value, str):
            raise ValueError(f"{key} is not text")
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    return None


def _pixels(fields: Mapping[str, Any], key: str) -> int | None:
    value = fields.get(key)
    if value is None or value != value or value == 0:  # a NaN stands for nothing where a column was made by pandas
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**31 or value != int(value):
        raise ValueError(f"{key} is not a number of pixels")
    return int(value)


def _taken_at(value: object) -> datetime | None:
    """Return a local time without a zone, as a camera has it."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        raise ValueError("taken_at is not a time such as 2024-07-31T12:00:00")
    return value.replace(tzinfo=None)
