"""Which pictures of a library, and which texts, belong together, by a file of captions."""

from __future__ import annotations

import os
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError
from clipsearch.media.captions import Pair
from clipsearch.store.pictures import PictureRow

SHOWN_LINES = 5


@dataclass(frozen=True, slots=True)
class Found:
    """Where the pictures of a caption file stand in a library.

    rows: name in the file -> row. gallery: rows of all different pictures, int64, ascending. Copies of one file are one
    picture, and have the row of the first of them.
    """

    rows: Mapping[str, int]
    gallery: NDArray[np.int64]


@dataclass(slots=True)
class _Wanted:
    """Names to look for, by the path that they may mean, and by the last part of them."""

    paths: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    endings: dict[str, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))


def find_pictures(pictures: Iterable[PictureRow], copied: frozenset[str], pairs: Sequence[Pair], folder: Path) -> Found:
    """Find the pictures that a caption file in a folder names; copied: content hashes of files that are there twice.

    A name is a path from that folder; where the library has no such picture, one whose path ends with it. Raises
    InvalidInputError, which names the line, for a name that several pictures have which are not copies of each other.
    """
    wanted = _wanted(pairs, folder)
    exact: dict[str, list[PictureRow]] = defaultdict(list)
    named: dict[str, list[PictureRow]] = defaultdict(list)
    first: dict[str, int] = {}
    gallery = array("q")
    for picture in pictures:
        if picture.content_hash not in first:
            gallery.append(picture.row)
        if picture.content_hash in copied:
            first.setdefault(picture.content_hash, picture.row)
        for name in wanted.paths.get(picture.path, ()):
            exact[name].append(picture)
        for name, ending in wanted.endings.get(os.path.basename(picture.path), ()):
            if picture.path.endswith(ending):
                named[name].append(picture)
    lines = {pair.image: pair.line for pair in reversed(pairs)}
    rows: dict[str, int] = {}
    for name in lines:
        candidates = exact.get(name) or named.get(name, [])
        _check_single(name, lines[name], candidates)
        if candidates:
            rows[name] = first.get(candidates[0].content_hash, candidates[0].row)
    return Found(rows, np.array(gallery, np.int64))


def _wanted(pairs: Sequence[Pair], folder: Path) -> _Wanted:
    wanted = _Wanted()
    for name in dict.fromkeys(pair.image for pair in pairs):
        path = os.path.join(folder, os.path.expanduser(name))
        for meant in {os.path.normpath(path), os.path.realpath(path), name}:  # a record may be a URL
            wanted.paths[meant].append(name)
        ending = os.path.normpath(name)
        if not os.path.isabs(ending) and not ending.startswith(os.pardir):
            wanted.endings[os.path.basename(ending)].append((name, os.sep + ending))
    return wanted


def _check_single(name: str, line: int, candidates: Sequence[PictureRow]) -> None:
    if len({picture.content_hash for picture in candidates}) > 1:
        paths = " and ".join(picture.path for picture in candidates[:2])
        raise InvalidInputError(
            f"Line {line}: {name!r} matches {len(candidates)} pictures of the library, such as {paths}. "
            "Write more of its path."
        )


@dataclass(frozen=True, slots=True)
class BenchmarkSet:
    """Texts and pictures that belong together, each once.

    texts: the captions. names: one name of each picture. text_of, picture_of: int64 (pairs,), which of them belong
    together; each pair once. left_out: lines of pictures that a library lacks. repeated: lines that say what one
    before said.
    """

    texts: tuple[str, ...]
    names: tuple[str, ...]
    text_of: NDArray[np.int64]
    picture_of: NDArray[np.int64]
    left_out: tuple[int, ...]
    repeated: tuple[int, ...]


def pair_up(pairs: Sequence[Pair], found: Sequence[Found]) -> BenchmarkSet:
    """Give numbers to the texts, and to the pictures that all libraries have.

    A caption of several pictures is one text with several right answers; names of copies are one picture. Raises
    InvalidInputError if no caption has a picture.
    """
    texts: dict[str, int] = {}
    pictures: dict[int, tuple[int, str]] = {}
    together: dict[tuple[int, int], None] = {}
    left_out, repeated = [], []
    for pair in pairs:
        if not all(pair.image in each.rows for each in found):
            left_out.append(pair.line)
            continue
        picture, _ = pictures.setdefault(found[0].rows[pair.image], (len(pictures), pair.image))
        key = texts.setdefault(pair.caption, len(texts)), picture
        if key in together:
            repeated.append(pair.line)
        together[key] = None
    if not together:
        raise InvalidInputError(
            f"None of the {len({pair.image for pair in pairs}):,} pictures that the captions name is in the library, "
            f"such as {pairs[0].image!r} in line {pairs[0].line}. Index them first: clipsearch index FOLDER"
        )
    numbers = np.array(list(together), np.int64)
    names = tuple(name for _, name in pictures.values())
    return BenchmarkSet(tuple(texts), names, numbers[:, 0], numbers[:, 1], tuple(left_out), tuple(repeated))


def shown_lines(lines: Sequence[int]) -> str:
    """Write numbers of lines for a person: the first few."""
    more = ", ..." if len(lines) > SHOWN_LINES else ""
    return ("line " if len(lines) == 1 else "lines ") + ", ".join(map(str, lines[:SHOWN_LINES])) + more
