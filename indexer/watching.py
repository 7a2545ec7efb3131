"""Keep a library up to date with its folders while they change, by the runs that `clipsearch index` makes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.errors import ClipSearchError, InvalidInputError, LibraryLockedError
from clipsearch.store.library import Library
from clipsearch.store.records import Root, RootKind
from clipsearch.store.roots import get_roots, relative
from indexer.changed_paths import ChangedPaths, Settling, to_index
from indexer.pipeline import IndexOptions, KeptEncoder, index
from indexer.report import IndexReport

logger = logging.getLogger("clipsearch")

_TICK = 0.2
"""Seconds between two looks at what has changed."""

_LOOK_AT_ROOTS = 2.0
"""Seconds between two looks at whether roots are where they were."""

_PATIENCE = 5.0
"""Seconds to wait for another writer, before what changes meanwhile is gathered too."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How to watch. poll: seconds between two looks at all files; None where the system reports changes.

    settling: when changes are indexed. every: seconds between two comparisons of everything, which find what no report
    said. index: how each run is made.
    """

    poll: float | None = None
    settling: Settling = field(default_factory=Settling)
    every: float = 3600.0
    index: IndexOptions = field(default_factory=IndexOptions)


def watch(
    folder: Path,
    paths: Sequence[str],
    settings: Settings,
    options: WatchOptions,
    *,
    on_run: Callable[[IndexReport], None],
    notify: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    """Index folders, and again whatever changes in them, until should_stop says so; without paths, all roots.

    The writer lock is held only while something is indexed. on_run: gets the report of each run. notify: gets remarks.
    Raises what `index` raises, but waits for other writers; ClipSearchError where watchdog is not installed,
    LibraryError where the system watches no more folders.
    """
    try:
        from indexer.folder_events import FolderEvents
    except ModuleNotFoundError as error:
        raise ClipSearchError(
            f"`clipsearch watch` needs {error.name}, which is not installed. Run: pip install 'clipsearch[watch]'"
        ) from error
    watching = _Watching(folder, paths, settings, options, on_run, notify, should_stop)
    watching.index([os.path.realpath(path) for path in paths])
    changes = ChangedPaths(options.settling)
    with closing(FolderEvents(changes, os.path.realpath(folder), options.poll)) as events:
        watching.follow(changes, events.watch)


class _Watching:
    """What the runs share."""

    def __init__(
        self,
        folder: Path,
        paths: Sequence[str],
        settings: Settings,
        options: WatchOptions,
        on_run: Callable[[IndexReport], None],
        notify: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._folder = folder
        self._paths = [os.path.realpath(path) for path in paths]
        self._settings = settings
        self._options = options
        self._run = replace(options.index, timeout=_PATIENCE, keep=KeptEncoder())
        self._on_run = on_run
        self._notify = notify
        self._should_stop = should_stop

    def follow(self, changes: ChangedPaths, watch: Callable[[Sequence[Root]], None]) -> None:
        """Index what changes; watch: is called with the roots, now and then."""
        looked = compared = -float("inf")
        roots: list[Root] = []
        while not self._should_stop():
            now = time.monotonic()
            if now - looked >= _LOOK_AT_ROOTS:
                looked = now
                roots = self._roots()
                watch(roots)
            if now - compared >= self._options.every:
                compared = now
                changes.add_all()
            taken = changes.take()
            changed = to_index(taken or ())
            paths = [path for path in changed if _lies_in(path, roots) and self._is_asked(path)]
            paths = self._paths if taken is None else paths
            if (taken is None or paths) and not self.index(paths):
                changes.add_all() if taken is None else changes.add(taken)
            time.sleep(_TICK)

    def index(self, paths: Sequence[str]) -> bool:
        """Index paths; tell whether that could be done. Else another process is writing."""
        try:
            report = index(
                self._folder, paths, self._settings, self._run, notify=self._notify, should_stop=self._should_stop
            )
        except LibraryLockedError:
            self._notify("Another process is writing to the library. What changes is indexed when it has ended.")
            return False
        except InvalidInputError:  # a path has become something else meanwhile, or its root was forgotten
            if paths == self._paths:
                raise
            return self.index(self._paths)
        self._on_run(report)
        return True

    def _is_asked(self, path: str) -> bool:
        return not self._paths or any(_meet(path, asked) for asked in self._paths)

    def _roots(self) -> list[Root]:
        """List the roots that are watched."""
        library = Library(self._folder)
        try:
            with library.query() as connection:
                roots = [root for root in get_roots(connection, library.base) if root.kind is RootKind.FOLDER]
        finally:
            library.close()
        return [replace(root, offline=False) for root in roots if self._is_asked(root.path)]


def _lies_in(path: str, roots: Sequence[Root]) -> bool:
    """Tell whether a path is in a root: what lies above one must never become a root itself."""
    return any(relative(path, root.path) is not None for root in roots)


def _meet(one: str, other: str) -> bool:
    return relative(one, other) is not None or relative(other, one) is not None
