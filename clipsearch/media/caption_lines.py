"""The lines of a table as people save it, and its rows: what is wrong with a row says nothing of the next.

UTF-8 with or without a byte order mark, and UTF-16; any line ends; commas, semicolons, tabs or `|` between columns.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterator
from io import BufferedReader, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import NamedTuple

MAX_LINE = 1 << 20
"""Characters of a line, and of a cell of several lines."""

_SNIFFED = 64
_SEPARATOR = re.compile(r"sep=(.)\s*$", re.IGNORECASE)
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_ADVICE = "Save the file as UTF-8 (in Excel: CSV UTF-8), or convert it, for example: iconv -f {} -t UTF-8"
_MANY_BYTES = re.compile(rb"[\x80-\xff]{4}")
"""Letters of Western languages stand among plain ones; those of others come in long runs."""


class Line(NamedTuple):
    """A line of a file, with its end; number: from 1. fault: why it cannot be read, without its text."""

    number: int
    text: str
    fault: str = ""


class CsvRow(NamedTuple):
    """The fields of a row; line: its first. fault: why it has none."""

    line: int
    fields: list[str]
    fault: str = ""


def read_lines(path: Path, *, any_end: bool = True) -> Iterator[Line]:
    r"""Yield the lines of a text file as they are taken. any_end: whether a bare \r ends a line. Raises OSError."""
    with path.open("rb") as file:
        yield from decode_lines(file, any_end=any_end)


def decode_lines(file: BufferedReader, *, any_end: bool = True) -> Iterator[Line]:
    """Yield the lines of an open file from where it stands, as `read_lines` does. The file is closed at the end."""
    encoding = _encoding(file.peek(_SNIFFED)[:_SNIFFED])
    errors = "surrogateescape" if encoding == "utf-8-sig" else "replace"
    with TextIOWrapper(file, encoding=encoding, errors=errors, newline="" if any_end else "\n") as text:
        number = 0
        while line := text.readline(MAX_LINE):
            number += 1
            fault = _byte_fault(line) if not line.isascii() else ""
            while len(line) == MAX_LINE and not line.endswith(("\n", "\r")):
                fault = f"longer than {MAX_LINE:,} characters"
                line = text.readline(MAX_LINE)
            yield Line(number, "" if fault else line, fault)


def split_separator(lines: Iterator[Line]) -> tuple[Line, str]:
    """Return the first line that is not blank, the header, and the delimiter that a line `sep=;` before it says."""
    delimiter = ""
    for line in lines:
        if found := _SEPARATOR.match(line.text):
            delimiter = found[1]
        elif line.text.strip() or line.fault:
            return line, delimiter
    return Line(1, ""), delimiter


def read_csv(lines: Iterator[Line], delimiter: str, columns: int) -> Iterator[CsvRow]:
    """Yield the rows of a table. columns: how many fields each has; empty ones behind them are left out.

    A quote that is never closed costs its line, not those below it. Blank lines are passed over.
    """
    waiting: deque[Line] = deque()
    rest = chain.from_iterable(iter(lambda: _next(waiting, lines), []))  # waiting ones come first again
    for first in rest:
        if first.fault:
            yield CsvRow(first.number, [], first.fault)
        elif first.text.strip("\r\n"):
            row, fault = _parse([first], delimiter, columns)
            if row is None and first.text.count('"') % 2:
                more = _until_closed(rest)
                row, _ = _parse([first, *more], delimiter, columns)
                if row is None:
                    waiting.extendleft(reversed(more))
            yield CsvRow(first.number, row or [], "" if row else fault)


def _next(waiting: deque[Line], lines: Iterator[Line]) -> list[Line]:
    """Return the next line, in a list; an empty one at the end."""
    if waiting:
        return [waiting.popleft()]
    line = next(lines, None)
    return [] if line is None else [line]


def _until_closed(lines: Iterator[Line]) -> list[Line]:
    """Take the lines up to the one that closes a quote, as far as a cell may reach."""
    more: list[Line] = []
    length = 0
    for line in lines:
        more.append(line)
        length += len(line.text)
        if line.fault or length > MAX_LINE or line.text.count('"') % 2:
            break
    return more


def _parse(lines: list[Line], delimiter: str, columns: int) -> tuple[list[str] | None, str]:
    """Return the fields of one row, or why it has none."""
    fault = ""
    for skips_blanks in (False, True):  # `a.jpg, "one, two"` has its quote behind a blank
        reader = csv.reader((line.text for line in lines), delimiter=delimiter, strict=True,
                            skipinitialspace=skips_blanks)  # fmt: skip
        try:
            row = next(reader, [])
            if reader.line_num < len(lines) or any(line.fault for line in lines):
                return None, "a quote is not closed"
        except csv.Error as error:
            fault = fault or f"not CSV: {error}"
            continue
        if not skips_blanks and any(field[:1] == " " and field.lstrip(" ")[:1] == '"' for field in row):
            continue
        if not any(row[columns:]):
            row = row[:columns]
        if len(row) == columns:
            return row, ""
        fault = fault or _miscounted(len(row), columns, delimiter)
    return None, fault


def _miscounted(fields: int, columns: int, delimiter: str) -> str:
    """Say that a row has too many or too few fields, and what to do."""
    shown = {",": "a comma", "\t": "a tab"}.get(delimiter, delimiter)
    put = f'Put "" around a caption with {shown} in it' if fields > columns else f"Put {shown} for each that is empty"
    return f"{fields} field{'s' * (fields != 1)} for {columns} column{'s' * (columns != 1)}. {put}"


def _encoding(head: bytes) -> str:
    """Tell UTF-16 from UTF-8 by its mark, or by the zero bytes that it has between plain letters."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    pairs = len(head) // 2
    for at, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if pairs > 1 and head[at::2].count(0) == pairs and not head[1 - at :: 2].count(0):
            return name
    return "utf-8-sig"


def _byte_fault(line: str) -> str:
    """Say which byte of a line is not UTF-8, and what to do; nothing if all are."""
    found = _NOT_UTF8.search(line)
    if found is None:
        return ""
    written = line.encode("utf-8", "surrogateescape")
    guess = "GB18030" if _MANY_BYTES.search(written) else "WINDOWS-1252"
    return f"byte 0x{ord(found[0]) - 0xDC00:02x} is not UTF-8. {_ADVICE.format(guess)}"
