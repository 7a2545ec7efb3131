"""Walk a folder: every picture and text in it once, whatever else lies there."""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase, translate
from functools import partial

from clipsearch.media.extras import RAW_SUFFIXES, extra_suffixes, picture_suffixes
from clipsearch.paths import printable, suffix
from clipsearch.store.records import CaptionSource, FileIdentity, FileRecord, mtime_ns
from clipsearch.store.roots import Rules, relative
from clipsearch.types import PICTURE_SUFFIXES, TEXT_SUFFIXES
from indexer.sources.captions import STILL_SUFFIXES, TABLES, FolderCaptions, is_beside

logger = logging.getLogger("clipsearch")

LITTER = (
    "._*", ".DS_Store", ".AppleDouble", ".Spotlight-V100", ".fseventsd", ".Trash*", "__MACOSX", "Thumbs.db",
    "desktop.ini", "~$*", "$RECYCLE.BIN", "System Volume Information", "@eaDir", "#recycle", "#snapshot", "lost+found",
    ".thumbnails", ".git", ".hg", ".svn", "node_modules", "__pycache__", ".clipsearch",
)  # fmt: skip
"""Names that operating systems and tools leave behind; never indexed, not even with --include-hidden."""

_IS_LITTER = re.compile("|".join(map(translate, LITTER))).match

_KEPT = 2
"""A root that is a file has a place of its own and one beside it."""


def read_suffixes() -> frozenset[str]:
    """Return the endings of all files that are read here."""
    return TEXT_SUFFIXES | PICTURE_SUFFIXES | extra_suffixes()


class SiblingCache:
    """What lies beside files that are named one by one, shared by the walks of a run: there may be thousands of them.

    What was asked for last is remembered.
    """

    def __init__(self) -> None:
        self._folder: str | None = None
        self._names: frozenset[str] = frozenset()
        self._captions: OrderedDict[tuple[str, Rules], FolderCaptions] = OrderedDict()
        self._told: set[tuple[int, str]] = set()

    def names(self, folder: str) -> frozenset[str]:
        """Return the names of all that is in a folder, an absolute path. Raises OSError."""
        if folder != self._folder:
            self._names, self._folder = frozenset(os.listdir(folder)), folder
        return self._names

    def captions(
        self, folder: str, rules: Rules, absolute: Callable[[str], str], is_wanted: Callable[[str], bool]
    ) -> FolderCaptions:
        """Return the captions of pictures below a folder, an absolute path; the rest as FolderCaptions takes it."""
        key = (folder, rules)
        if key not in self._captions:
            self._captions[key] = FolderCaptions(absolute, is_wanted)
        self._captions.move_to_end(key)
        while len(self._captions) > _KEPT:
            self._captions.popitem(last=False)
        return self._captions[key]

    def is_first(self, root_id: int, path: str) -> bool:
        """Tell whether a file is asked about for the first time."""
        is_first = (root_id, path) not in self._told
        self._told.add((root_id, path))
        return is_first


class FolderWalk:
    """One walk of a root, or of a part of it.

    Symbolic links are followed where they lead to what no root covers; each real folder is entered once, and each
    real file is found once. Pictures come with where their captions stand, and a text that captions one is
    no file of its own. `unreadable` fills while walking: paths below the root of folders that could not be listed, and
    of tables of captions that could not be read, with the reason; those beside the root are absolute. A link that leads
    to where this walk may not look counts as one that could not be read. `passed_over` counts files that are not
    indexed, by the endings of their names; those that belong to pictures do not count; RAW files
    beside their JPEGs are counted in `beside`.
    """

    def __init__(
        self,
        root_id: int,
        root: str,
        prefix: str,
        rules: Rules,
        *,
        covered: Collection[str],
        skip: str | None = None,
        siblings: SiblingCache | None = None,
        within: Sequence[str] | None = None,
    ) -> None:
        """Prepare a walk of `prefix` in a root.

        covered: the paths of all roots. skip: a folder to leave out. siblings: what this walk shares with others;
        a file that several of them are asked for is found by the first alone. within: resolved folders; links that
        lead out of all of them are not followed. None follows all.
        """
        self._root_id = root_id
        self._root = root
        self._start = os.path.join(root, "")
        self._prefix = prefix
        self._rules = rules
        self._suffixes = read_suffixes()
        self._covered = frozenset(covered)
        self._skip = skip
        self._foreign: set[tuple[int, int]] = set()
        self._linked: set[str] = set()
        self._siblings = siblings or SiblingCache()
        self._captions = self._siblings.captions(root, rules, self._absolute, self._is_wanted)
        self._told, self._noted = len(self._captions.unreadable), len(self._captions.notes)
        self._unlisted: list[tuple[str, str]] = []
        self.passed_over: Counter[str] = Counter()
        self._within = within
        self._outside: set[str] = set()
        self.beside = 0
        self._used: set[str] = set()
        self._others: list[str] = []

    @property
    def unreadable(self) -> list[tuple[str, str]]:
        """What could not be read so far, as (path below the root, reason)."""
        return [*self._unlisted, *self._captions.unreadable[self._told :]]

    @property
    def notes(self) -> list[tuple[str, str]]:
        """What is wrong with rows of tables of captions, as (path below the root of the table, note)."""
        return self._captions.notes[self._noted :]

    def __iter__(self) -> Iterator[FileRecord]:
        start = self._absolute(self._prefix)
        try:
            status = os.stat(start)
        except OSError as error:
            self._cannot_look(self._prefix, error)
            return
        if stat.S_ISREG(status.st_mode):
            yield from self._single(status) if self._prefix else self._root_file(status)
            return
        folders = [(self._prefix, False)]
        while folders:
            folder, foreign = folders.pop()
            below: list[tuple[str, bool]] = []
            yield from self._list(folder, foreign, below)
            folders += reversed(below)

    def _single(self, status: os.stat_result) -> Iterator[FileRecord]:
        """Yield a file, or the pictures that it captions."""
        names = self._beside(self._prefix.rpartition("/")[0])
        for path in list(self._captions.pictures_of(self._prefix, names)) or [self._prefix]:
            with suppress(OSError):  # it went while we walked
                status = status if path == self._prefix else os.stat(self._absolute(path))
                if self._siblings.is_first(self._root_id, path):
                    yield self._record(path, status, names)

    def _root_file(self, status: os.stat_result) -> Iterator[FileRecord]:
        """Yield a file that is a root itself; what captions it lies beside the root."""
        folder, name = os.path.split(self._root)
        beside = CaptionSource()
        if _is_named_picture(name):
            absolute = partial(os.path.join, folder)
            captions = self._siblings.captions(folder, Rules(), absolute, lambda path: self._stays(absolute(path)))
            reported = len(captions.unreadable)
            try:
                names = self._siblings.names(folder)
            except OSError:
                names = frozenset()
            beside = captions.of(name, names)
            self._unlisted += [(absolute(path), reason) for path, reason in captions.unreadable[reported:]]
        yield self._make(status, "", beside)

    def _record(self, path: str, status: os.stat_result, names: Collection[str]) -> FileRecord:
        beside = self._captions.of(path, names) if _is_named_picture(path) else CaptionSource()
        self._used.update(beside.described)
        return self._make(status, path, beside)

    def _make(self, status: os.stat_result, path: str, beside: CaptionSource) -> FileRecord:
        seen = FileIdentity.of(status)
        return FileRecord(self._root_id, path, status.st_size, mtime_ns(status), beside, seen)

    def _list(self, folder: str, foreign: bool, below: list[tuple[str, bool]]) -> Iterator[FileRecord]:
        """Yield the files of one folder and note its folders in `below`."""
        listed = self._names(folder)
        names = frozenset(listed)
        for name in listed:
            path = f"{folder}/{name}" if folder else name
            if not self._is_wanted(path):
                continue
            try:
                status = os.lstat(self._absolute(path))
                is_link = stat.S_ISLNK(status.st_mode)
                if (is_link and self._is_covered(path)) or (foreign and not is_link and self._is_elsewhere(path)):
                    continue
                status = os.stat(self._absolute(path)) if is_link else status
            except OSError as error:
                self._cannot_look(path, error)
                continue
            if stat.S_ISDIR(status.st_mode):
                if self._enter(path, status, foreign or is_link):
                    below.append((path, foreign or is_link))
            elif stat.S_ISREG(status.st_mode) and self._is_indexed(path, name, names):
                if not is_link or self._is_first_link(path):
                    yield self._record(path, status, names)
        self._pass_over_unused()

    def _has_twin(self, path: str, names: frozenset[str]) -> bool:
        """Tell whether a RAW lies beside a picture of its name that the camera wrote too, and that is indexed."""
        folder, _, name = path.rpartition("/")
        stem, start = name.rpartition(".")[0], f"{folder}/" if folder else ""
        twins = (stem + ending for ending in STILL_SUFFIXES)
        return any(twin in names and self._is_wanted(start + twin) for twin in twins)

    def _is_indexed(self, path: str, name: str, names: frozenset[str]) -> bool:
        """Tell whether a file is indexed as one of its own; note one of another kind, but for a sidecar."""
        ending = suffix(name)
        if ending in self._suffixes:
            has_twin = ending in RAW_SUFFIXES and self._has_twin(path, names)
            self.beside += has_twin
            return not has_twin and not self._captions.is_sidecar(path, names)
        if name not in TABLES and not is_beside(name, names):
            self._others.append(self._absolute(path))
        return False

    def _pass_over_unused(self) -> None:
        """Count the files of a folder that are not indexed, but for metadata that a picture was found to have."""
        for path in self._others:
            if path not in self._used:
                self.passed_over[suffix(path)] += 1
                if logger.isEnabledFor(logging.DEBUG):
                    logger.debug("passed over: %s", printable(path))
        self._others.clear()
        self._used.clear()

    def _names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self._absolute(folder)))
        except FileNotFoundError:
            return []  # it went while we walked
        except OSError as error:
            self._note_unreadable(folder, error)
            return []

    def _beside(self, folder: str) -> frozenset[str]:
        try:
            return self._siblings.names(self._absolute(folder))
        except OSError as error:
            self._cannot_look(folder, error)
            return frozenset()

    def _is_wanted(self, path: str) -> bool:
        if _is_excluded(path, self._rules):
            return False
        if self._stays(self._absolute(path)):
            return True
        self._note_outside(path)
        return False

    def _stays(self, absolute: str) -> bool:
        """Tell whether a path is no link, or one that leads to where this walk may look."""
        if self._within is None or not os.path.islink(absolute):
            return True
        target = os.path.realpath(absolute)
        return any(relative(target, folder) is not None for folder in self._within)

    def _note_outside(self, path: str) -> None:
        """Report a link to what would be indexed; once, though captions ask for it too."""
        absolute = self._absolute(path)
        is_wanted = os.path.isdir(absolute) or (suffix(path) in read_suffixes() and os.path.isfile(absolute))
        if is_wanted and path not in self._outside:
            self._outside.add(path)
            self._unlisted.append((path, "a link that leads out of the folders that may be indexed"))

    def _is_covered(self, link: str) -> bool:
        """Tell whether a link leads to what a walk of some root finds by itself. Raises OSError if it leads nowhere."""
        target = os.path.realpath(self._absolute(link))
        os.lstat(target)
        own = relative(target, self._root)
        if own is not None:
            parts = own.split("/") if own else []
            return all(self._is_wanted("/".join(parts[: i + 1])) for i in range(len(parts)))
        return any(relative(target, root) is not None for root in self._covered if root != self._root)

    def _is_elsewhere(self, path: str) -> bool:
        """Tell whether what lies in a linked folder is a root, or was found through a link of its own."""
        target = os.path.realpath(self._absolute(path))
        return target in self._linked or target in self._covered

    def _is_first_link(self, link: str) -> bool:
        """Tell whether the file that a link leads to was not found before, by another link or in a linked folder."""
        target = os.path.realpath(self._absolute(link))
        if target in self._linked or _identity(os.path.dirname(target)) in self._foreign:
            return False
        self._linked.add(target)
        return True

    def _enter(self, path: str, status: os.stat_result, foreign: bool) -> bool:
        """Tell whether to walk a folder: not the library itself, and nothing outside the root twice."""
        if self._skip is not None and os.path.realpath(self._absolute(path)) == self._skip:
            return False
        if not foreign:
            return True
        identity = (status.st_dev, status.st_ino)
        if identity in self._foreign:
            return False
        self._foreign.add(identity)
        return True

    def _cannot_look(self, path: str, error: OSError) -> None:
        if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            self._note_unreadable(path, error)

    def _note_unreadable(self, path: str, error: OSError) -> None:
        self._unlisted.append((path, f"cannot be read: {error.strerror}"))

    def _absolute(self, path: str) -> str:
        return self._start + path.replace("/", os.sep) if path else self._root


def is_left_out(path: str, rules: Rules) -> bool:
    """Tell whether a path below a root, with `/`, or a folder that it lies in, is one that no walk of it enters."""
    parts = path.split("/") if path else []
    return any(_is_excluded("/".join(parts[: i + 1]), rules) for i in range(len(parts)))


def _is_excluded(path: str, rules: Rules) -> bool:
    name = path.rpartition("/")[2]
    if name.startswith(".") and not rules.include_hidden:
        return True
    if _IS_LITTER(name):
        return True
    return bool(rules.exclude) and any(_matches(path, name, pattern) for pattern in rules.exclude)


def _is_named_picture(path: str) -> bool:
    return suffix(path) in picture_suffixes()


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        status = os.stat(folder)
    except OSError:
        return None  # it went while we walked
    return status.st_dev, status.st_ino


def _matches(path: str, name: str, pattern: str) -> bool:
    """Tell whether a pattern names a file or folder: by its name, or by its path below the root if it has a slash."""
    pattern = pattern.rstrip("/")
    return fnmatchcase(path, pattern.lstrip("/")) if "/" in pattern else fnmatchcase(name, pattern)
