"""Pictures with captions, from a table: .csv or .tsv, or .jsonl with an object a line; read line by line.

The columns go by any of the usual names, such as those of the metadata.csv of a Hugging Face imagefolder.
"""

from __future__ import annotations

import csv
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from clipsearch.errors import InvalidInputError
from clipsearch.media.caption_lines import Line, read_csv, read_lines, split_separator
from clipsearch.metadata import NONE, keep_metadata

IMAGE_COLUMNS = ("image", "file", "file_name", "filename", "image_path", "path")
CAPTION_COLUMNS = ("caption", "text", "description")
"""What a column may be called; the first of these that a table has is read."""

_OTHER_IMAGE = ("image_file", "image_name", "file_path", "source_file", "picture", "photo", "img")
_OTHER_CAPTION = ("captions", "alt_text", "image_description", "title", "comment")
"""Names that are read where a table has none of those above. Case, blanks, `_` and `-` do not count in any name."""

_JSON_LINES = (".jsonl", ".ndjson")
_SUFFIXES = (".csv", ".tsv", *_JSON_LINES)
_DELIMITERS = ",\t|;"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,4})?")

BadRow = Callable[[int, str], None]
"""Is called with the line of a row that cannot be read, and why."""


class Pair(NamedTuple):
    """A picture as the file names it, one caption of it, and the line where they stand, from 1.

    caption: "" only where bad rows are reported, of a row that has none. metadata: JSON of the other columns, as
    clipsearch.metadata writes it; what cannot be metadata is left out.
    """

    image: str
    caption: str
    line: int
    metadata: str = NONE


class _RowError(Exception):
    """What is wrong with a row."""


def read_captions(path: Path) -> list[Pair]:
    """Read all pairs of a file, as `read_pairs` does. Raises InvalidInputError also for a file without any."""
    pairs = list(read_pairs(path))
    if not pairs:
        raise InvalidInputError(f"{path} has no captions. Each line must name an image and a caption.")
    return pairs


def read_pairs(path: Path, report: BadRow | None = None) -> Iterator[Pair]:
    """Read the pairs of a file one after the other, so that memory does not grow with the file.

    The file is in UTF-8 or UTF-16. The header of a table says by itself whether commas, semicolons, tabs or | stand
    between its columns. report: what is called for each row that cannot be read, which costs that row alone; a row
    without a caption is then one of metadata. None raises InvalidInputError, which names the line, when it comes to
    such a row; pairs before it may have been yielded by then. Raises InvalidInputError for a file that is not such a
    table, and if it cannot be read.
    """
    is_json = path.suffix.lower() in _JSON_LINES
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidInputError(f"{path} is not a .csv, .tsv or .jsonl file. Name such a file.")
    try:
        # JSON has no line ends within a value; CSV has, and ends its lines as it likes.
        lines = read_lines(path, any_end=not is_json)
        for line, fields in (_json_rows if is_json else _csv_rows)(lines, path):
            try:
                if isinstance(fields, str):
                    raise _RowError(fields)
                yield from _pairs(fields, line, needs_caption=report is None)
            except _RowError as error:
                if report is None:
                    raise InvalidInputError(f"{path}, line {line}: {error}.") from None
                report(line, str(error))
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror}.") from error


_Fields = Mapping[str, object] | str
"""The values of a row by column, or what is wrong with it."""


def _csv_rows(lines: Iterator[Line], path: Path) -> Iterator[tuple[int, _Fields]]:
    header, separator = split_separator(lines)
    delimiter, names = _columns(header, separator or _DELIMITERS, path)
    texts = {name for name in names if _plain(name) in _KNOWN}
    texts |= {_find(names, IMAGE_COLUMNS, _OTHER_IMAGE)[0], _find(names, CAPTION_COLUMNS, _OTHER_CAPTION)[0]}
    for row in read_csv(lines, delimiter, len(names)):
        yield row.line, row.fault or _typed(names, row.fields, texts)


def _columns(header: Line, delimiters: str, path: Path) -> tuple[str, list[str]]:
    """Return the delimiter that makes both columns of a header, and the names of its columns."""
    for delimiter in delimiters:
        try:
            names = [name.strip() for name in next(csv.reader([header.text], delimiter=delimiter), [])]
        except csv.Error:
            continue
        if _find(names, IMAGE_COLUMNS, _OTHER_IMAGE) and _find(names, CAPTION_COLUMNS, _OTHER_CAPTION):
            return delimiter, _without_last_blanks(names)
    problem = header.fault or (
        f"the columns must be image,caption; found {header.text.strip()[:100] or 'nothing'}. "
        f"Other names are {', '.join(IMAGE_COLUMNS[1:])}; {', '.join(CAPTION_COLUMNS[1:])}"
    )
    raise InvalidInputError(f"{path}, line {header.number}: {problem}.")


def _without_last_blanks(names: list[str]) -> list[str]:
    """Drop the empty columns that a spreadsheet adds."""
    while names and not names[-1]:
        names.pop()
    return names


def _json_rows(lines: Iterator[Line], path: Path) -> Iterator[tuple[int, _Fields]]:
    for line in lines:
        if line.fault:
            yield line.number, line.fault
        elif line.text.strip():
            try:
                fields = json.loads(line.text)
            except (ValueError, RecursionError) as error:
                yield line.number, f"not JSON: {error}"
            else:
                yield line.number, fields if isinstance(fields, dict) else "each line must be a JSON object"


def _pairs(fields: Mapping[str, object], line: int, *, needs_caption: bool) -> Iterator[Pair]:
    image = _value(fields, IMAGE_COLUMNS, _OTHER_IMAGE)
    caption = _value(fields, CAPTION_COLUMNS, _OTHER_CAPTION)
    texts = caption[1] if isinstance(caption[1], list) and caption[1] else [caption[1]]
    if not needs_caption:
        texts = [text for text in texts if text is not None and text != ""] or [None]
    said = [
        "" if text is None and not needs_caption else _text(caption[0], text, may_be_blank=not needs_caption)
        for text in texts
    ]
    known = _KNOWN | {image[0], caption[0]}
    more = {name: value for name, value in fields.items() if name not in known and _plain(name) not in _KNOWN}
    metadata = keep_metadata(more) if more else NONE
    name = _text(image[0], image[1])
    for text in said:
        yield Pair(name, text, line, metadata)


def _typed(names: list[str], row: list[str], texts: set[str]) -> dict[str, object]:
    """Give the fields of a row their types: a number where all of it reads as one in JSON; an empty one is left out.

    texts: the columns that are read as they are.
    """
    found: dict[str, object] = {}
    for name, value in zip(names, row, strict=True):
        if name in texts:
            found.setdefault(name, value)
        elif value != "" and name:
            found[name] = read_number(value)
    return found


def read_number(value: str) -> object:
    """Return the number that a field of a table reads as in JSON, or the text as it is."""
    if _NUMBER.fullmatch(value) is None:
        return value
    number = json.loads(value)
    return number if -(2**63) <= number < 2**63 or (isinstance(number, float) and math.isfinite(number)) else value


@lru_cache(maxsize=1024)
def _plain(name: str) -> str:
    """Return the name of a column as its spellings have it in common: `File Name`, `file-name` and `file_name`."""
    return re.sub(r"[\s_-]+", "", name[:100]).lower()


_KNOWN = frozenset(map(_plain, (*IMAGE_COLUMNS, *CAPTION_COLUMNS)))


def _find(names: list[str], usual: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
    """Return the columns of one kind, in the order in which they are read."""
    exact = [name for wanted in usual for name in names if name.lower() == wanted]
    plain = [name for wanted in (*usual, *others) for name in names if _plain(name) == _plain(wanted)]
    return list(dict.fromkeys((*exact, *plain)))


def _value(fields: Mapping[str, object], usual: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, object]:
    """Return the first column of one kind that has a value, and that; the usual name and None without one."""
    for name in _find_cached(tuple(fields), usual, others):
        if fields[name] is not None:
            return name, fields[name]
    return usual[0], None


@lru_cache(maxsize=64)
def _find_cached(names: tuple[str, ...], usual: tuple[str, ...], others: tuple[str, ...]) -> list[str]:
    return _find(list(names), usual, others)


def _text(name: str, value: object, *, may_be_blank: bool = False) -> str:
    if isinstance(value, str) and ((text := value.strip()) or may_be_blank):
        return text
    wrong = "is missing" if value is None else "is empty" if value == "" else f"cannot be {reprlib.repr(value)}"
    raise _RowError(f"`{name}` {wrong}. Each line names an image and a caption")
