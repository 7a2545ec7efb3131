"""Pictures with captions, from a table: .csv or .tsv, or .jsonl with an object a line; read line by line.

The columns go by any of the usual names, such as those of the metadata.csv of a Hugging Face imagefolder.
"""

from __future__ import annotations

import csv
import json
import math
import re
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TextIO

from clipsearch.errors import InvalidInputError
from clipsearch.metadata import NONE, keep_metadata

IMAGE_COLUMNS = ("image", "file", "file_name", "filename", "image_path", "path")
CAPTION_COLUMNS = ("caption", "text", "description")
"""What a column may be called; the first of these that a table has is read."""

_JSON_LINES = (".jsonl", ".ndjson")
_SUFFIXES = (".csv", ".tsv", *_JSON_LINES)
_DELIMITERS = ",\t|"
_MAX_LINE = 1 << 20
_KNOWN = frozenset((*IMAGE_COLUMNS, *CAPTION_COLUMNS))
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")


class Pair(NamedTuple):
    """A picture as the file names it, one caption of it, and the line where they stand, from 1.

    metadata: JSON of the other columns, as clipsearch.metadata writes it; what cannot be metadata is left out.
    """

    image: str
    caption: str
    line: int
    metadata: str = NONE


def read_captions(path: Path) -> list[Pair]:
    """Read all pairs of a file, as `read_pairs` does. Raises InvalidInputError also for a file without any."""
    pairs = list(read_pairs(path))
    if not pairs:
        raise InvalidInputError(f"{path} has no captions. Each line must name an image and a caption.")
    return pairs


def read_pairs(path: Path) -> Iterator[Pair]:
    """Read the pairs of a file in UTF-8 one after the other, so that memory does not grow with the file.

    The header of a table says by itself whether commas, tabs or | stand between its columns. Raises InvalidInputError
    when it comes to it, which names the line, if the file is not such a table or has an empty field; and if it cannot
    be read. Pairs before the fault may have been yielded by then.
    """
    is_json = path.suffix.lower() in _JSON_LINES
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidInputError(f"{path} is not a .csv, .tsv or .jsonl file. Name such a file.")
    try:
        # JSON has no line ends within a value; CSV has, and ends its lines as it likes.
        with path.open(encoding="utf-8-sig", newline="\n" if is_json else "") as file:
            rows = (_json_rows if is_json else _csv_rows)(_lines(file, path), path)
            for line, fields in rows:
                yield _pair(fields, line, path)
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise _wrong_byte(path) from error


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(_MAX_LINE):
        number += 1
        if len(line) == _MAX_LINE:
            raise InvalidInputError(f"{path}, line {number}: longer than {_MAX_LINE:,} characters.")
        yield line


def _wrong_byte(path: Path) -> InvalidInputError:
    """Look for the line that is not UTF-8, which a text file that is read in blocks does not tell."""
    with suppress(OSError), path.open("rb") as file:  # it may be gone by now
        for line, written in enumerate(iter(partial(file.readline, _MAX_LINE), b""), 1):
            try:
                written.decode("utf-8")
            except UnicodeDecodeError as error:
                return InvalidInputError(
                    f"{path}, line {line}: byte 0x{written[error.start]:02x} is not UTF-8. Save the file as UTF-8, or "
                    "convert it, for example: iconv -f GB18030 -t UTF-8"
                )
    return InvalidInputError(f"{path} changed while it was read. Run again.")


def _csv_rows(lines: Iterator[str], path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    line = 1
    try:
        header = next(lines, "")
        delimiter, names = _columns(header, path)
        reader = csv.reader(chain([header], lines), delimiter=delimiter, strict=True)
        next(reader)
        line = reader.line_num + 1
        for row in reader:
            if row and len(row) != len(names):
                problem = f"{len(row)} fields for {len(names)} columns"
                shown = {",": "a comma", "\t": "a tab"}.get(delimiter, delimiter)
                raise InvalidInputError(f'{path}, line {line}: {problem}. Put "" around a caption with {shown} in it.')
            if row:
                yield line, _typed(names, row)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InvalidInputError(f"{path}, line {line}: not CSV: {error}.") from error


def _columns(header: str, path: Path) -> tuple[str, list[str]]:
    """Return the delimiter that makes both columns of a header, and the names of its columns."""
    for delimiter in _DELIMITERS:
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        names = [name.lower() if name.lower() in _KNOWN else name for name in names]
        if not set(IMAGE_COLUMNS).isdisjoint(names) and not set(CAPTION_COLUMNS).isdisjoint(names):
            return delimiter, names
    raise InvalidInputError(
        f"{path}, line 1: the columns must be image,caption; found {header.strip()[:100] or 'nothing'}. "
        f"Other names are {', '.join(IMAGE_COLUMNS[1:])}; {', '.join(CAPTION_COLUMNS[1:])}."
    )


def _json_rows(lines: Iterator[str], path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    for line, written in enumerate(lines, 1):
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
    image, caption = _field(fields, IMAGE_COLUMNS, line, path), _field(fields, CAPTION_COLUMNS, line, path)
    more = {name: value for name, value in fields.items() if name not in _KNOWN}
    return Pair(image, caption, line, keep_metadata(more) if more else NONE)


def _typed(names: list[str], row: list[str]) -> dict[str, object]:
    """Give the fields of a row their types: a number where all of it reads as one in JSON; an empty one is left out."""
    known = {name: value for name, value in zip(names, row, strict=True) if name in _KNOWN}
    more = {name: value for name, value in zip(names, row, strict=True) if name not in _KNOWN and value != ""}
    return {**known, **{name: read_number(value) for name, value in more.items()}}


def read_number(value: str) -> object:
    """Return the number that a field of a table reads as in JSON, or the text as it is."""
    if _NUMBER.fullmatch(value) is None:
        return value
    number = json.loads(value)
    return number if -(2**63) <= number < 2**63 or (isinstance(number, float) and math.isfinite(number)) else value


def _field(fields: Mapping[str, object], names: tuple[str, ...], line: int, path: Path) -> str:
    for name in names:
        value = fields.get(name)
        if value is not None:
            break
    else:
        name = names[0]
    if isinstance(value, str) and (text := value.strip()):
        return text
    wrong = "is missing" if value is None else "is empty" if value == "" else f"cannot be {reprlib.repr(value)}"
    raise InvalidInputError(f"{path}, line {line}: `{name}` {wrong}. Each line names an image and a caption.")
