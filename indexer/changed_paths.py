"""Paths that have changed while folders are watched, gathered until they settle."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from clipsearch.media.extras import picture_suffixes
from clipsearch.media.films.live import LIVE_SUFFIXES
from clipsearch.paths import suffix
from indexer.sources.captions import STILL_SUFFIXES, TABLES
from indexer.sources.folder import read_suffixes

MOST_PATHS = 1000
"""Paths that are kept one by one. Of more their folders are kept, and of more folders nothing but that all may have
changed: walking a folder costs less than comparing so many paths."""


@dataclass(frozen=True, slots=True)
class Settling:
    """When changes are taken: once nothing changed for `quiet` seconds, and `latest` seconds after the first one."""

    quiet: float = 1.0
    latest: float = 4.0


class ChangedPaths:
    """What has changed since it was taken last; one thread adds, another takes."""

    def __init__(self, settling: Settling | None = None) -> None:
        """Start without a change."""
        self._settling = settling or Settling()
        self._lock = threading.Lock()
        self._paths: set[str] = set()
        self._folders: set[str] = set()
        self._is_all = False
        self._first = self._last = 0.0

    def add(self, paths: Iterable[str]) -> None:
        """Add absolute paths of files and folders."""
        with self._lock:
            self._touch()
            self._paths |= set(paths)
            if len(self._paths) > MOST_PATHS:
                self._folders |= set(map(os.path.dirname, self._paths))
                self._paths = set()
            if self._is_all or len(self._folders) > MOST_PATHS:
                self._take_all()

    def add_all(self) -> None:
        """Note that anything may have changed."""
        with self._lock:
            self._touch()
            self._take_all()

    def _take_all(self) -> None:
        self._is_all, self._paths, self._folders = True, set(), set()

    def _touch(self) -> None:
        self._last = time.monotonic()
        if not self._has_any():
            self._first = self._last

    def _has_any(self) -> bool:
        return bool(self._paths or self._folders or self._is_all)

    def take(self) -> set[str] | None:
        """Return what has changed, and forget it: an empty set while nothing has settled, None where all may have."""
        with self._lock:
            now = time.monotonic()
            is_settled = now - self._last >= self._settling.quiet or now - self._first >= self._settling.latest
            if not is_settled or not self._has_any():
                return set()
            taken = None if self._is_all else self._paths | self._folders
            self._paths, self._folders, self._is_all = set(), set(), False
            return taken


def to_index(paths: Collection[str]) -> list[str]:
    """Return what is to be indexed where paths have changed.

    Beside what is indexed itself these are the pictures that another file may say something of: those of its name, and
    all below a table of captions; and the films that a picture may belong to. Of a link it is the folder, since what it
    leads to is a path of its own.
    """
    found: set[str] = set()
    pictures: dict[str, dict[str, list[str]]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if os.path.islink(path) or name in TABLES:
            found.add(folder)
            continue
        if os.path.isdir(path) or suffix(name) in read_suffixes() or not os.path.splitext(name)[1]:
            found.add(path)  # what has no ending may have been a folder
        if suffix(name) in STILL_SUFFIXES:
            found |= set(_films_of(path))
        if suffix(name) not in picture_suffixes():
            if folder not in pictures:
                pictures[folder] = _pictures_by_stem(folder)
            beside = (other for stem in _stems(name) for other in pictures[folder].get(stem, ()))
            found |= {os.path.join(folder, other) for other in beside}
    return sorted(path for path in found if not os.path.lexists(path) or os.path.isfile(path) or os.path.isdir(path))


def _pictures_by_stem(folder: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    try:
        names = os.listdir(folder)
    except OSError:
        return found
    for name in names:
        if suffix(name) in picture_suffixes():
            found[os.path.splitext(name)[0]].append(name)
    return found


def _films_of(path: str) -> Iterator[str]:
    """Yield the films that a picture may make a Live Photo with."""
    stem = os.path.splitext(path)[0]
    for ending in sorted(LIVE_SUFFIXES):
        names = (stem + middle + each for middle in ("", "_HEVC") for each in (ending, ending.upper()))
        yield from filter(os.path.isfile, names)


def _stems(name: str) -> Iterator[str]:
    """Yield what stands before each dot of a name."""
    end = name.find(".", 1)
    while end > 0:
        yield name[:end]
        end = name.find(".", end + 1)
