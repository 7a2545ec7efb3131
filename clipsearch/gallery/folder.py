"""The files of an answer in a folder of their own, as copies or links, named in order of rank."""

from __future__ import annotations

import errno
import filecmp
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import BinaryIO

from clipsearch.errors import InvalidInputError, MediaError
from clipsearch.gallery.tiles import Tile

_MAX_NAME = 255
"""Bytes of a file name, in nearly every file system."""


@dataclass(frozen=True, slots=True)
class Filled:
    """What was put into a folder. there: were in it already. skipped: path and reason."""

    made: int
    there: int
    skipped: tuple[tuple[str, str], ...]


def copy_files(tiles: Sequence[Tile], folder: str) -> Filled:
    """Copy the files of hits, with their times, to 001_NAME and so on; a file of several hits once, by its best.

    The folder is made where it is not there. Nothing is overwritten: where another file has the name, the copy is
    called 001_NAME-2. Raises OSError where the folder cannot be written.
    """
    return _fill(tiles, folder, _copy)


def link_files(tiles: Sequence[Tile], folder: str) -> Filled:
    """Make symbolic links, by absolute path; the rest is as in `copy_files`.

    Symbolic, since a hard link cannot lead to another drive and does not show what it is of. Raises InvalidInputError
    where the system makes no links there.
    """
    return _fill(tiles, folder, _link)


def _fill(tiles: Sequence[Tile], folder: str, put: Callable[[str, str], bool]) -> Filled:
    os.makedirs(folder, exist_ok=True)
    best: dict[str, int] = {}
    for tile in tiles:
        best.setdefault(tile.path, tile.rank)
    digits = max(3, len(str(max(best.values(), default=0))))
    made, skipped = [], []
    for path, rank in best.items():
        try:
            made.append(_put(path, folder, f"{rank:0{digits}}_", put))
        except MediaError as error:
            skipped.append((path, str(error)))
    return Filled(sum(made), len(made) - sum(made), tuple(skipped))


def _put(path: str, folder: str, prefix: str, put: Callable[[str, str], bool]) -> bool:
    """Put a file under the first name that is free; False if it is there already."""
    for name in _names(prefix, os.path.basename(path)):
        try:
            return put(path, os.path.join(folder, name))
        except FileExistsError:
            continue
    raise AssertionError("names do not end")


def _names(prefix: str, name: str) -> Iterator[str]:
    stem, suffix = os.path.splitext(name)
    for number in count(1):
        end = suffix if number == 1 else f"-{number}{suffix}"
        while len(os.fsencode(prefix + stem + end)) > _MAX_NAME and stem:
            stem = stem[:-1]
        yield prefix + stem + end


def _copy(source: str, target: str) -> bool:
    with _open_file(source) as file:
        try:
            copy = open(target, "xb")
        except FileExistsError:
            if filecmp.cmp(source, target, shallow=False):
                return False
            raise
        try:
            with copy:
                shutil.copyfileobj(file, copy, 1 << 20)
        except BaseException:
            os.unlink(target)
            raise
    with suppress(OSError):
        shutil.copystat(source, target)
    return True


def _link(source: str, target: str) -> bool:
    _open_file(source).close()
    try:
        os.symlink(source, target)
    except FileExistsError:
        if os.path.islink(target) and os.readlink(target) == source:
            return False
        raise
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise InvalidInputError(
            f"No link can be made in {os.path.dirname(target)}: {error.strerror}. Use --copy-to."
        ) from error
    return True


def _open_file(path: str) -> BinaryIO:
    """Open a regular file, never waiting for a pipe. Raises MediaError with a short reason."""
    if not os.path.isabs(path):
        raise MediaError("a record of a collection, not a file")
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise MediaError("there is no such file") from error
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise MediaError("not a regular file")
    return os.fdopen(descriptor, "rb")
