"""Captions that lie beside pictures: a text of the same name, or a table in the folder or in one above it.

`a.jpg` has the sidecar `a.jpg.txt`, else `a.txt`, of at most MAX_SIDECAR bytes; a longer text is one of its own. A
table is `captions.csv` or `captions.jsonl`; it names pictures by their paths from its folder. What the rules of a root
leave out is neither.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from clipsearch.errors import InvalidInputError, LibraryError
from clipsearch.media.captions import read_pairs
from clipsearch.media.decode import is_picture
from clipsearch.metadata import NONE, check_metadata, parse_metadata
from clipsearch.paths import suffix
from clipsearch.store.caption_table import open_table
from clipsearch.store.records import CaptionSource, FileIdentity
from clipsearch.types import PICTURE_SUFFIXES, MetadataValue
from clipsearch.words import normalize

TABLES = ("captions.csv", "captions.jsonl")

MAX_SIDECAR = 8192
"""Bytes: a text beside a picture that is longer than this is no caption of it."""

MAX_TABLE = 1 << 30
"""Bytes: a table of more is not read."""

LARGE = 4 << 20
"""Bytes from which on a table is not held in memory, nor read by a run that finds it as it was."""

_SIDECAR = ".txt"
_HEAD = 64

_MANY = 32
"""From so many captions of one picture on they are looked up in a set."""


class Said(NamedTuple):
    """What a table says of a picture: captions, and the values of its other columns."""

    texts: list[str]
    metadata: dict[str, MetadataValue]


Table = Mapping[str, Said]


class LargeTable(Mapping[str, Said]):
    """A table that stays on disk; see `store/caption_table.py`."""

    def __init__(self, path: str) -> None:
        """Open the copy of a table. Raises InvalidInputError, LibraryError, OSError."""
        pairs = read_pairs(Path(path))
        self._table = open_table(path, ((_key(pair.image), pair.caption, pair.metadata) for pair in pairs))

    def __getitem__(self, key: str) -> Said:
        lines = self._table.lines_of(key)
        if not lines:
            raise KeyError(key)
        said = Said(list(dict.fromkeys(caption for caption, _ in lines)), {})
        for _, metadata in lines:
            if metadata != NONE:
                said.metadata.update(parse_metadata(metadata))
        return said

    def __iter__(self) -> Iterator[str]:
        raise TypeError("A large table is only looked up in.")

    def __len__(self) -> int:
        raise TypeError("A large table is only looked up in.")


class FolderCaptions:
    """The captions beside the pictures of one walk, which asks folder by folder, each before those below it.

    Paths are below the root of the walk, with "/". `unreadable` fills with the tables that cannot be read, and why.
    """

    def __init__(self, absolute: Callable[[str], str], is_wanted: Callable[[str], bool]) -> None:
        """Prepare; absolute: the path on disk of one below the root; is_wanted: whether the rules leave it in."""
        self._absolute = absolute
        self._is_wanted = is_wanted
        self._tables: dict[str, list[Table | None]] = {}
        self.unreadable: list[tuple[str, str]] = []

    def of(self, path: str, names: Collection[str]) -> CaptionSource:
        """Find what captions a picture; names: of all that is in its folder."""
        folder, _, name = path.rpartition("/")
        sidecar, status = self._sidecar(folder, name, names)
        ctime_ns = FileIdentity.of(status).ctime_ns if status else None
        seal = (status.st_size, status.st_mtime_ns) if status else None
        texts: list[str] = []
        metadata: dict[str, MetadataValue] = {}
        is_whole = True
        for above in _ancestors(folder):
            tables = self._load(above)
            is_whole = is_whole and None not in tables
            below = path[len(above) + 1 :] if above else path
            for said in (table.get(_key(below)) for table in tables if table is not None):
                if said is not None:
                    texts += said.texts
                    metadata = said.metadata | metadata  # the table that is nearest counts
        values = check_metadata(metadata) if metadata else NONE
        if not is_whole:
            return CaptionSource(sidecar, tuple(texts), None, ctime_ns=ctime_ns)
        if not sidecar and not texts:
            return CaptionSource()
        stamp = repr((seal, texts, *([values] if metadata else []))).encode("utf-8", "surrogatepass")
        return CaptionSource(
            sidecar, tuple(texts), hashlib.blake2b(stamp, digest_size=16).hexdigest(), values, ctime_ns
        )

    def is_sidecar(self, path: str, names: Collection[str]) -> bool:
        """Tell whether a file is the sidecar of a picture in its folder."""
        return path[-len(_SIDECAR) :].lower() == _SIDECAR and any(True for _ in self.pictures_of(path, names))

    def pictures_of(self, path: str, names: Collection[str]) -> Iterator[str]:
        """Yield the pictures whose sidecar a file is."""
        folder, _, name = path.rpartition("/")
        stem, suffix = os.path.splitext(name)
        if suffix.lower() != _SIDECAR or not stem:
            return
        for other in _pictures_named(stem, names):
            picture = f"{folder}/{other}" if folder else other
            if self._is_wanted(picture) and _may_be_picture(self._absolute(picture)):
                if self._sidecar(folder, other, names)[0] == self._absolute(path):
                    yield picture

    def _sidecar(self, folder: str, name: str, names: Collection[str]) -> tuple[str, os.stat_result | None]:
        """Return the absolute path of a picture's sidecar, and what stat says of it; ("", None) without one."""
        stem = os.path.splitext(name)[0]
        for ending in (_SIDECAR, _SIDECAR.upper()):
            for other in (name + ending, stem + ending):
                if other not in names:
                    continue
                if os.path.islink(self._absolute(f"{folder}/{name}" if folder else name)):
                    return "", None  # what it leads to may be found elsewhere, and without this text
                path = f"{folder}/{other}" if folder else other
                if self._is_wanted(path):
                    try:
                        status = os.stat(self._absolute(path))
                    except OSError:
                        continue
                    if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= MAX_SIDECAR:
                        return self._absolute(path), status
        return "", None

    def _load(self, folder: str) -> list[Table | None]:
        """Return the tables of a folder; None for one that cannot be read."""
        if folder not in self._tables:
            for known in [known for known in self._tables if not _is_above(known, folder)]:
                del self._tables[known]
            paths = [f"{folder}/{name}" if folder else name for name in TABLES]
            self._tables[folder] = [
                self._read(path) for path in paths if self._is_wanted(path) and os.path.isfile(self._absolute(path))
            ]
        return self._tables[folder]

    def _read(self, path: str) -> Table | None:
        absolute = self._absolute(path)
        try:
            if (size := os.path.getsize(absolute)) > MAX_TABLE:
                raise InvalidInputError(f"{size:,} bytes, over the limit of {MAX_TABLE:,}. Split it over folders.")
            return _table(absolute) if size < LARGE else LargeTable(absolute)
        except OSError as error:
            self.unreadable.append((path, f"its captions cannot be read: {error.strerror}"))
            return None
        except (InvalidInputError, LibraryError) as error:
            self.unreadable.append((path, f"its captions cannot be read: {error}"))
            return None


def _table(path: str) -> Table:
    table: dict[str, Said] = {}
    many: dict[str, set[str]] = {}
    for pair in read_pairs(Path(path)):
        key = _key(pair.image)
        texts, metadata = table.setdefault(key, Said([], {}))
        if pair.metadata != NONE:
            metadata |= parse_metadata(pair.metadata)
        known = many.get(key)
        if pair.caption in (texts if known is None else known):
            continue
        texts.append(pair.caption)
        if known is not None:
            known.add(pair.caption)
        elif len(texts) == _MANY:
            many[key] = set(texts)
    return table


def _key(path: str) -> str:
    """Return a path as tables are asked for it: plain, and in the one of Unicode's forms that most write."""
    return normalize(posixpath.normpath(path))


def _may_be_picture(path: str) -> bool:
    """Tell whether a file begins as a picture does, or cannot be opened now; else a text beside it would be lost."""
    if not os.path.isfile(path):
        return False
    try:
        # Without O_NONBLOCK, what has become a pipe meanwhile would be waited for.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(path, flags), "rb") as file:
            return is_picture(file.read(_HEAD) or b"")
    except OSError:
        return True


def _pictures_named(stem: str, names: Collection[str]) -> Iterator[str]:
    """Yield the pictures in a folder that are named so, with or without their ending."""
    if suffix(stem) in PICTURE_SUFFIXES and stem in names:
        yield stem
    for kind in sorted(PICTURE_SUFFIXES):
        for ending in (kind, kind.upper(), f".{kind[1:].capitalize()}"):
            if stem + ending in names:
                yield stem + ending


def _ancestors(folder: str) -> Iterator[str]:
    """Yield a folder and those above it, up to the root; nearest first."""
    while folder:
        yield folder
        folder = folder.rpartition("/")[0]
    yield ""


def _is_above(folder: str, other: str) -> bool:
    return not folder or other == folder or other.startswith(folder + "/")
