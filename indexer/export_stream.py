"""An export as a stream of lines of JSON, as a server sends it.

Each line is an object that begins with what it is: the `header`, then an `item` for each item and a `vector` for each
vector, whose numbers are its `data`, in the order of the files of an export, and the `end`. A `problem` may come at any
time, as the last line. A stream without its end is no export.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict

from clipsearch.filtering import Filter
from clipsearch.linalg import to_base64
from clipsearch.store.library import Library
from indexer.export_rows import ExportRows, export_rows
from indexer.export_tables import ITEM_COLUMNS, VECTOR_COLUMNS, to_line

FORMAT, VERSION = "clipsearch-export-stream", 1
HEADER, ITEM, VECTOR, END, PROBLEM, DATA = "header", "item", "vector", "end", "problem", "data"
"""What lines hold, and the member of a vector that has its numbers."""

AT_ONCE = 64
"""Items, and vectors, that are read together: fewer than for files, since several streams may be under way."""

_PIECE = 1 << 18
"""Bytes of lines that are sent together."""


def stream_export(library: Library, filters: Filter | None) -> Generator[bytes]:
    """Yield the lines of an export of the items that a filter allows, some at a time; None for all. It blocks.

    The state of the library is that of the first piece. Raises as `export_library` does.
    """
    with export_rows(library, filters) as rows:
        yield _header(rows)
        yield from _pieces(_lines(rows))


def problem_line(problem: bytes) -> bytes:
    """Return the line that ends a stream before its end. problem: JSON."""
    return _wrapped(PROBLEM, problem)


def _header(rows: ExportRows) -> bytes:
    made = rows.manifest("jsonl")
    said = {"encoder": asdict(made.encoder), "items": made.items, "vectors": made.vectors, "settings": made.settings}
    return _line(HEADER, {"format": FORMAT, "version": VERSION, **said, "collections": [*made.collections.items()]})


def _lines(rows: ExportRows) -> Iterator[bytes]:
    for items in rows.items(AT_ONCE):
        for item in items:
            yield _wrapped(ITEM, to_line(item, ITEM_COLUMNS))
    for _, said, vectors in rows.vectors(AT_ONCE):
        for each, vector in zip(said, vectors, strict=True):
            yield _wrapped(VECTOR, to_line(each, VECTOR_COLUMNS), f', "{DATA}": "{to_base64(vector)}"')
    made = rows.manifest("jsonl")
    yield _line(END, {"kept": made.kept, "roots": [asdict(root) for root in made.roots]})


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    part: list[bytes] = []
    size = 0
    for line in lines:
        part.append(line)
        size += len(line)
        if size >= _PIECE:
            yield b"".join(part)
            part, size = [], 0
    yield b"".join(part)


def _line(name: str, value: object) -> bytes:
    return _wrapped(name, json.dumps(value, allow_nan=False).encode())


def _wrapped(name: str, value: bytes, more: str = "") -> bytes:
    return b'{"%s": %s%s}\n' % (name.encode(), value.rstrip(b"\n"), more.encode())
