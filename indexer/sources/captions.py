"""Captions that lie beside pictures: a text of the same name, or a table in the folder or in one above it.

`a.jpg` has the sidecar `a.jpg.txt`, else `a.txt`, of at most MAX_SIDECAR bytes; a longer text is one of its own. A
table is `captions.csv`, `.tsv` or `.jsonl`; it names pictures by their paths from its folder, as
indexer/sources/picture_names.py finds them. What the rules of a root leave out is neither.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from itertools import filterfalse, islice
from pathlib import Path
from typing import NamedTuple

from clipsearch.errors import InvalidInputError, LibraryError
from clipsearch.media.captions import read_pairs
from clipsearch.media.decode import is_picture
from clipsearch.media.extras import picture_suffixes
from clipsearch.media.films.live import LIVE_SUFFIXES
from clipsearch.media.sidecars import MAX_DESCRIBED, SidecarNames
from clipsearch.metadata import NONE, check_metadata, parse_metadata
from clipsearch.paths import suffix
from clipsearch.store.caption_table import open_table
from clipsearch.store.records import CaptionSource, FileIdentity
from clipsearch.types import MetadataValue
from indexer.sources.picture_names import PictureNames, name_key

TABLES = ("captions.csv", "captions.jsonl", "captions.tsv")

MAX_SIDECAR = 8192
"""Bytes: a text beside a picture that is longer than this is no caption of it."""

MAX_TABLE = 1 << 30
"""Bytes: a table of more is not read."""

LARGE = 4 << 20
"""Bytes from which on a table is not held in memory, nor read by a run that finds it as it was."""

_SIDECAR = ".txt"
BESIDE = frozenset({".aae", ".json", ".xmp"})
"""The endings of files that programs put beside a picture, named like it."""

STILL_SUFFIXES = tuple(
    each for ending in (".heic", ".heif", ".hif", ".jpg", ".jpeg", ".jpe") for each in (ending, ending.upper())
)
"""Endings of what a camera writes beside a RAW, or beside the film of a Live Photo."""

_HEAD = 64
_NOTHING = CaptionSource()

_MANY = 32
"""From so many captions of one picture on they are looked up in a set."""

_NAMED = 3
"""Rows of a table that a note names; the others are counted."""

_MANY_MISSING = 100_000
"""Names without a picture that are counted in a large table."""

_SHOWN = 200
"""Characters of each of these."""


class Said(NamedTuple):
    """What a table says of a picture: captions, and the values of its other columns."""

    texts: list[str]
    metadata: dict[str, MetadataValue]


Table = Mapping[str, Said]


class BadRows:
    """The rows of a table that cannot be read: how many, and the first of them."""

    def __init__(self) -> None:
        self.count = 0
        self._first: list[str] = []

    def __call__(self, line: int, reason: str) -> None:
        """Count a row."""
        self.count += 1
        if self.count <= _NAMED:
            self._first.append(f"line {line}: {reason}")

    def note(self) -> str:
        """Say it in a sentence."""
        return f"{self.count:,} row{'s' * (self.count != 1)} cannot be read: {_listed(self._first, self.count)}"


class LargeTable(Mapping[str, Said]):
    """A table that stays on disk; see `store/caption_table.py`. A bare name in it is that of a file beside it.

    notes: what is wrong with its rows, where it was read now.
    """

    def __init__(self, path: str, names: PictureNames) -> None:
        """Open the copy of a table. names: finds its pictures. Raises InvalidInputError, LibraryError, OSError."""
        self._folder = os.path.dirname(path)
        bad = BadRows()
        pairs = read_pairs(Path(path), bad)
        self._table = open_table(path, ((name_key(pair.image), pair.caption, pair.metadata) for pair in pairs))
        if bad.count and not any(True for _ in self._table.new_names()):
            raise InvalidInputError(f"{path}: {bad.note()}")
        missing = list(islice(filterfalse(names.has, self._table.new_names()), _MANY_MISSING))
        self.notes = [bad.note()] * bool(bad.count) + [_note_missing(missing)] * bool(missing)

    def __getitem__(self, key: str) -> Said:
        lines = [line for line in self._table.lines_of(key) if line[0] == key]
        lines = lines or [line for line in self._table.lines_of(key) if self._may_mean(line[0], key)]
        if not lines:
            raise KeyError(key)
        said = Said(list(dict.fromkeys(caption for _, caption, _ in lines if caption)), {})
        for _, _, metadata in lines:
            if metadata != NONE:
                said.metadata.update(parse_metadata(metadata))
        return said

    def __iter__(self) -> Iterator[str]:
        raise TypeError("A large table is only looked up in.")

    def __len__(self) -> int:
        raise TypeError("A large table is only looked up in.")

    def _may_mean(self, written: str, key: str) -> bool:
        """Tell whether a name that differs in case is that of a file, and not of another that has just this name."""
        own, other = (os.path.join(self._folder, *each.split("/")) for each in (key, written))
        try:
            return os.path.samefile(own, other)
        except (OSError, ValueError):
            return True  # there is no other


class FolderCaptions:
    """The captions beside the pictures of one walk, which asks folder by folder, each before those below it.

    Paths are below the root of the walk, with "/". `unreadable` fills with the tables that cannot be read, and why;
    `notes` with those of which some rows say nothing, and what is wrong with these.
    """

    def __init__(self, absolute: Callable[[str], str], is_wanted: Callable[[str], bool]) -> None:
        """Prepare; absolute: the path on disk of one below the root; is_wanted: whether the rules leave it in."""
        self._absolute = absolute
        self._is_wanted = is_wanted
        self._tables: dict[str, list[Table | None]] = {}
        self._listed: Collection[str] = ()
        self._named = SidecarNames(())
        self._has_texts = False
        self.unreadable: list[tuple[str, str]] = []
        self.notes: list[tuple[str, str]] = []

    def of(self, path: str, names: Collection[str]) -> CaptionSource:
        """Find what captions a picture; names: of all that is in its folder."""
        folder, _, name = path.rpartition("/")
        self._notice(names)
        sidecar, status = self._sidecar(folder, name, names) if self._has_texts else ("", None)
        described = self._described(folder, name)
        stills = self._stills(folder, name, names) if name[-4:].lower() in LIVE_SUFFIXES else {}
        if not (sidecar or described or stills or any(map(self._load, _ancestors(folder)))):
            return _NOTHING
        files = [*described.values(), *([status] if status else [])]
        ctime_ns = max((FileIdentity.of(each).ctime_ns or 0 for each in files), default=None)
        seal = (status.st_size, status.st_mtime_ns) if status else None
        seals = [(os.path.basename(path), each.st_size, each.st_mtime_ns) for path, each in described.items()]
        seals += [(still, each.st_size, each.st_mtime_ns) for still, each in stills.items()]
        texts: list[str] = []
        metadata: dict[str, MetadataValue] = {}
        is_whole = True
        for above in _ancestors(folder):
            tables = self._load(above)
            is_whole = is_whole and None not in tables
            below = path[len(above) + 1 :] if above else path
            for said in (table.get(name_key(below)) for table in tables if table is not None):
                if said is not None:
                    texts += said.texts
                    metadata = said.metadata | metadata  # the table that is nearest counts
        values = check_metadata(metadata) if metadata else NONE
        if not is_whole:
            return CaptionSource(sidecar, tuple(texts), None, NONE, tuple(described), ctime_ns, tuple(stills))
        if not sidecar and not texts and not metadata and not described and not stills:
            return _NOTHING
        stamp = repr((seal, texts, *([values] if metadata else []), *seals)).encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(stamp, digest_size=16).hexdigest()
        return CaptionSource(sidecar, tuple(texts), digest, values, tuple(described), ctime_ns, tuple(stills))

    def _notice(self, names: Collection[str]) -> None:
        """Look through the names of a folder once for all its files."""
        if names is not self._listed:
            self._listed, self._named = names, SidecarNames(names)
            self._has_texts = any(name.endswith((_SIDECAR, _SIDECAR.upper())) for name in names)

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

    def _described(self, folder: str, name: str) -> dict[str, os.stat_result]:
        """Return the files of metadata beside a picture, by their absolute paths."""
        found: dict[str, os.stat_result] = {}
        for other in self._named.of(name):
            path = f"{folder}/{other}" if folder else other
            picture = f"{folder}/{name}" if folder else name
            if not self._is_wanted(path) or os.path.islink(self._absolute(picture)):
                continue
            with suppress(OSError):
                status = os.lstat(self._absolute(path))
                if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= MAX_DESCRIBED:
                    found[self._absolute(path)] = status
        return found

    def _stills(self, folder: str, name: str, names: Collection[str]) -> dict[str, os.stat_result]:
        """Return the pictures that a film may make a Live Photo with: those of its stem, by their names.

        `IMG_1_HEVC.MOV` is what icloudpd calls the film of `IMG_1.HEIC`.
        """
        found: dict[str, os.stat_result] = {}
        start = f"{folder}/" if folder else ""
        if os.path.islink(self._absolute(start + name)):
            return found
        stem = os.path.splitext(name)[0]
        for own in dict.fromkeys((stem, stem.removesuffix("_HEVC"))):
            for other in (own + ending for ending in STILL_SUFFIXES):
                if other in names and self._is_wanted(start + other):
                    with suppress(OSError):
                        status = os.lstat(self._absolute(start + other))
                        if stat.S_ISREG(status.st_mode):
                            found[other] = status
        return found

    def _load(self, folder: str) -> list[Table | None]:
        """Return the tables of a folder; None for one that cannot be read."""
        if folder not in self._tables:
            for known in [*self._tables]:
                if not (_is_above(known, folder) or _is_above(folder, known)):
                    del self._tables[known]
            paths = [f"{folder}/{name}" if folder else name for name in TABLES]
            self._tables[folder] = [
                self._read(path) for path in paths if self._is_wanted(path) and os.path.isfile(self._absolute(path))
            ]
        return self._tables[folder]

    def _read(self, path: str) -> Table | None:
        absolute = self._absolute(path)
        above = path[: path.rfind("/") + 1]
        try:
            if (size := os.path.getsize(absolute)) > MAX_TABLE:
                raise InvalidInputError(f"{size:,} bytes, over the limit of {MAX_TABLE:,}. Split it over folders.")
            names = PictureNames(os.path.dirname(absolute), lambda below: self._is_wanted(above + below))
            table, notes = _read_table(absolute, names) if size < LARGE else _open_large(absolute, names)
        except OSError as error:
            self.unreadable.append((path, f"its captions cannot be read: {error.strerror}"))
            return None
        except (InvalidInputError, LibraryError) as error:
            self.unreadable.append((path, f"its captions cannot be read: {error}"))
            return None
        if notes:
            self.notes.append((path, "; ".join(notes)))
        return table


def _read_table(path: str, names: PictureNames) -> tuple[Table, list[str]]:
    """Read a table; return what it says by the paths of pictures, and what is wrong with its rows."""
    bad = BadRows()
    written = _by_name(path, bad)
    notes = [bad.note()] if bad.count else []
    if bad.count and not written:
        raise InvalidInputError(f"{path}: {bad.note()}")
    found = names.find(written)
    table: dict[str, Said] = {}
    for key, paths in found.items():
        # One that was not found may have come since.
        _merge(table.setdefault(name_key(paths[0]) if len(paths) == 1 else key, Said([], {})), written[key])
    missing = [key for key, paths in found.items() if not paths]
    if missing:
        notes.append(_note_missing(missing))
    several = [f"{key} ({', '.join(sorted(paths)[:2])})" for key, paths in found.items() if len(paths) > 1]
    if several:
        notes.append(f"{_names(several)} more than one picture: {_listed(several, len(several))}")
    return table, notes


def _open_large(path: str, names: PictureNames) -> tuple[Table, list[str]]:
    table = LargeTable(path, names)
    return table, table.notes


def _merge(into: Said, said: Said) -> None:
    known = set(into.texts)
    into.texts.extend(text for text in said.texts if text not in known)
    into.metadata.update(said.metadata)


def _by_name(path: str, bad: BadRows) -> dict[str, Said]:
    """Return what the rows of a table say by the keys of the names that they give."""
    table: dict[str, Said] = {}
    many: dict[str, set[str]] = {}
    for pair in read_pairs(Path(path), bad):
        key = name_key(pair.image)
        texts, metadata = table.setdefault(key, Said([], {}))
        if pair.metadata != NONE:
            metadata |= parse_metadata(pair.metadata)
        known = many.get(key)
        if not pair.caption or pair.caption in (texts if known is None else known):
            continue
        texts.append(pair.caption)
        if known is not None:
            known.add(pair.caption)
        elif len(texts) == _MANY:
            many[key] = set(texts)
    return table


def _note_missing(names: list[str]) -> str:
    return f"{_names(names)} no picture: {_listed(names, len(names))}"


def _names(names: list[str]) -> str:
    count = f"{len(names):,}{' or more' * (len(names) == _MANY_MISSING)}"
    return f"{count} name in it stands for" if len(names) == 1 else f"{count} names in it stand for"


def _listed(first: list[str], count: int) -> str:
    """Return the first of several, each cut to a line, and that there are more."""
    shown = [each if len(each) <= _SHOWN else each[:_SHOWN] + "…" for each in first[:_NAMED]]
    return ", ".join(shown) + (", …" if count > len(shown) else "")


def is_beside(name: str, names: Collection[str]) -> bool:
    """Tell whether a file is of a kind that is put beside pictures, and there is the picture; names: of its folder."""
    stem, ending = os.path.splitext(name)
    return ending.lower() in BESIDE and any(True for _ in _pictures_named(stem, names))


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
    if suffix(stem) in picture_suffixes() and stem in names:
        yield stem
    for kind in sorted(picture_suffixes()):
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
