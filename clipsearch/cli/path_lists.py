"""Paths that another program names, on stdin or in a file: one per line, or each followed by NUL."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO

import click

from clipsearch.cli.options import note, read_settings
from clipsearch.errors import InvalidInputError
from clipsearch.paths import is_url, printable

if TYPE_CHECKING:
    from clipsearch.client.client import Client
    from clipsearch.query.joint.engine import JointEngine

STDIN = "-"
MAX_NAME = 1 << 16
"""Bytes of a name; no system has longer ones, and a name that does not end must not fill the memory."""

_SHOWN = 5
"""Names that are of no item of which a remark has the first."""


def read_names(source: str, *, null: bool = False) -> Iterator[str]:
    """Yield the names that a file lists, or stdin for `-`, as os.fsdecode gives them; empty ones are passed over.

    null: NUL ends each. Else a NUL among the first bytes says the same, since no name has one; otherwise it is a line.
    Raises InvalidInputError for a file that cannot be read, and for an invalid name.
    """
    try:
        with _open(source) as file:
            block = file.read(MAX_NAME)
            end = b"\0" if null or b"\0" in block else b"\n"
            number, rest = 0, b""
            while block:
                *names, rest = (rest + block).split(end)
                for name in names:
                    number += 1
                    yield from _name(name, number, source)
                _check_name(rest, number + 1, source)
                block = file.read(MAX_NAME)
            yield from _name(rest, number + 1, source)
    except OSError as error:
        raise InvalidInputError(f"{_called(source)} cannot be read: {error.strerror or error}.") from error


def read_keys(source: str) -> dict[str, tuple[str, ...]]:
    """Return what a list of paths, or of ids of records, names: each name, and the keys that its item may have.

    A relative path starts from the current folder. Of a path through links it is also the one without, which items have
    that were indexed by a folder. Raises as `read_names` does.
    """
    folders = lru_cache(maxsize=1024)(_folders)
    return {name: tuple(dict.fromkeys(_keys_of(name, folders))) for name in read_names(source)}


def note_unknown(
    named: Mapping[str, tuple[str, ...]], server: Client | JointEngine | None, library: str | None
) -> None:
    """Say on stderr how many of the names that `read_keys` returned are of no item, and the first of them.

    A folder is no item, and `find` lists those that it looks into: they do not count. server: what was asked in place
    of a library on this machine.
    """
    known = _known_keys((key for keys in named.values() for key in keys), server, library)
    unknown = [name for name, keys in named.items() if known.isdisjoint(keys)]
    files = [name for name in unknown if not os.path.isdir(name)]
    if files:
        count = len(named) - len(unknown) + len(files)
        more = ", ..." if len(files) > _SHOWN else ""
        shown = ", ".join(map(printable, files[:_SHOWN])) + more
        note(f"{len(files):,} of {count:,} {'path is' if count == 1 else 'paths are'} not in the library: {shown}")


def _known_keys(keys: Iterable[str], server: Client | JointEngine | None, library: str | None) -> set[str]:
    """Return those keys that an item has."""
    from clipsearch.store.keys import KEYS_AT_ONCE
    from clipsearch.store.library import Library
    from clipsearch.store.sql_values import chunks

    parts = chunks(keys, KEYS_AT_ONCE)
    if server is not None:
        found = (pair for part in parts for pair in zip(part, server.get(part), strict=True))
        return {key for key, item in found if item is not None}
    _, folder = read_settings(library=library)
    with closing(Library(folder)) as opened, opened.read() as snapshot:
        return {key for part in parts for key in snapshot.ids_of_keys(part)}


def _keys_of(name: str, folders: Callable[[str], tuple[str, str]]) -> Iterator[str]:
    yield name
    if not is_url(name):
        folder, last = os.path.split(name)
        yield from (os.path.normpath(os.path.join(each, last)) for each in folders(folder))


def _folders(folder: str) -> tuple[str, str]:
    """Return a folder as an absolute path, and as the one without links."""
    try:
        return os.path.abspath(folder), os.path.realpath(folder)
    except OSError:  # the current folder is gone
        return folder, folder


def _name(name: bytes, number: int, source: str) -> Iterator[str]:
    _check_name(name, number, source)
    if name:
        yield os.fsdecode(name)


def _check_name(name: bytes, number: int, source: str) -> None:
    if len(name) > MAX_NAME or b"\0" in name:
        fault = "has a NUL in it" if b"\0" in name else f"is longer than {MAX_NAME:,} bytes"
        raise InvalidInputError(
            f"Name {number:,} of {_called(source)} {fault}. Write one name per line, or end each with NUL, as "
            "`find -print0` does."
        )


def _open(source: str) -> BinaryIO:
    """Open a list. Raises InvalidInputError where stdin was read before."""
    if source != STDIN:
        return open(source, "rb")
    done = click.get_current_context().meta
    if __name__ in done:
        raise InvalidInputError("Names can be read from stdin once. Use - once, and name a file for other lists.")
    done[__name__] = True
    return open(sys.stdin.fileno(), "rb", closefd=False)


def _called(source: str) -> str:
    return "stdin" if source == STDIN else repr(source)
