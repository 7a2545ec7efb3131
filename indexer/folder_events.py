"""What the file system reports of folders, by watchdog; and what polling finds where it reports nothing."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingObserver

from clipsearch.errors import LibraryError
from clipsearch.store.records import Root
from clipsearch.store.roots import Rules, relative
from indexer.changed_paths import ChangedPaths
from indexer.sources.folder import is_left_out

_EVENTS: list[type[FileSystemEvent]] = [
    DirCreatedEvent, DirDeletedEvent, DirMovedEvent, FileClosedEvent, FileCreatedEvent, FileDeletedEvent,
    FileModifiedEvent, FileMovedEvent,
]  # fmt: skip


@dataclass(slots=True)
class _Watched:
    """A root that is watched. identity: of its folder, when that began."""

    watch: ObservedWatch
    identity: tuple[int, int]


class FolderEvents:
    """Watches roots until it is closed, and adds what changes in them to `changes`; call it from one thread."""

    def __init__(self, changes: ChangedPaths, library: str, poll: float | None = None) -> None:
        """Start; library: a folder to leave out. poll: seconds between two looks; None where the system reports."""
        self._changes = changes
        self._library = library
        self._observer: BaseObserver = Observer() if poll is None else PollingObserver(timeout=poll)
        self._watched: dict[Root, _Watched] = {}
        self._lost = _Lost(changes.add_all)
        logging.getLogger("watchdog").addHandler(self._lost)
        self._observer.start()

    def close(self) -> None:
        """Stop watching."""
        logging.getLogger("watchdog").removeHandler(self._lost)
        self._observer.stop()
        self._observer.join()

    def watch(self, roots: Sequence[Root]) -> None:
        """Watch these roots, and no others; call it now and then, since a folder may go, or another take its place.

        Where one is watched for the first time, anything in it may have changed. Raises LibraryError where the system
        watches no more folders.
        """
        alive = {emitter.watch for emitter in self._observer.emitters if emitter.is_alive()}
        for root, watched in list(self._watched.items()):
            is_same = root in roots and watched.watch in alive and _identity(root.path) == watched.identity
            if not is_same:
                with suppress(KeyError, OSError):
                    self._observer.unschedule(watched.watch)
                del self._watched[root]
                self._changes.add_all()
        for root in roots:
            identity = _identity(root.path)
            if root not in self._watched and identity is not None:
                self._schedule(root, identity)
                self._changes.add_all()

    def _schedule(self, root: Root, identity: tuple[int, int]) -> None:
        is_folder = os.path.isdir(root.path)
        handler = _Handler(self._changes, root, self._library, is_folder)
        try:
            watch = self._observer.schedule(
                handler,
                root.path if is_folder else os.path.dirname(root.path),
                recursive=is_folder,
                event_filter=_EVENTS,
            )
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EMFILE):
                raise LibraryError(
                    f"The system cannot watch more folders ({error.strerror}), and {root.path} has more. Raise "
                    "fs.inotify.max_user_watches and max_user_instances by sysctl, or run: clipsearch watch --poll"
                ) from error
            return  # it went meanwhile, or cannot be read; the next call tries again
        self._watched[root] = _Watched(watch, identity)


class _Handler(FileSystemEventHandler):
    """Adds the paths of a root that may be indexed."""

    def __init__(self, changes: ChangedPaths, root: Root, library: str, is_folder: bool) -> None:
        self._changes = changes
        self._is_folder = is_folder
        self._root = root
        self._library = library
        self._rules = Rules(root.exclude, root.include_hidden)

    def dispatch(self, event: FileSystemEvent) -> None:
        paths = {os.fsdecode(path) for path in (event.src_path, event.dest_path) if path}
        if not self._is_folder:  # what lies beside it may caption it
            stem = os.path.splitext(self._root.path)[0] + "."
            wanted = [self._root.path] if any(path.startswith(stem) for path in paths) else []
        else:
            wanted = [path for path in paths if self._is_wanted(path)]
        if wanted:
            self._changes.add(wanted)

    def _is_wanted(self, path: str) -> bool:
        below = relative(path, self._root.path)
        if below is None or relative(path, self._library) is not None:
            return False
        return not is_left_out(below, self._rules)


class _Lost(logging.Handler):
    """Calls a function when watchdog warns: it says in no other way that the system has dropped reports."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._call = call

    def emit(self, record: logging.LogRecord) -> None:
        self._call()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
