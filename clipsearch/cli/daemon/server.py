"""The daemon: libraries held open, and the queries of one user answered from them over a socket."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipsearch import __version__
from clipsearch.cli.daemon.client import identify
from clipsearch.cli.daemon.protocol import (
    ACKNOWLEDGEMENT,
    MAX_QUESTION,
    is_private,
    is_same_user,
    receive,
    runtime_folder,
    send,
    socket_path,
)
from clipsearch.cli.requests import SearchRequest, answer
from clipsearch.config import Settings
from clipsearch.encoders import trust
from clipsearch.errors import ClipSearchError
from clipsearch.locations import cache_dir
from clipsearch.query.engine import SearchEngine
from clipsearch.query.opening import open_library
from clipsearch.store.reading import catalog_file

MAX_LIBRARIES = 4
"""So many are held open; of more, those that were not asked for longest are closed."""

MAX_CLIENTS = 32
_QUESTION_SECONDS = 5.0


class DaemonServer:
    """Answers queries. Whatever it cannot answer it declines, and whoever asked finds out why by himself."""

    def __init__(self, idle_seconds: float) -> None:
        """Make a daemon that ends after so long without a query."""
        self._idle = idle_seconds
        self._engines: OrderedDict[tuple[object, ...], SearchEngine] = OrderedDict()
        self._engines_lock = threading.Lock()
        self._state_lock = threading.Lock()
        self._clients = 0
        self._answered = 0
        self._last = time.monotonic()

    def serve(self, listener: socket.socket) -> None:
        """Answer until nobody has asked for long enough, or SIGTERM comes."""
        while (left := self._seconds_left()) > 0:
            listener.settimeout(left)
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            except OSError:  # the client has gone already, or there are no descriptors left
                time.sleep(0.1)
                continue
            with self._state_lock:
                self._clients += 1
            threading.Thread(target=self._serve_client, args=(connection,)).start()

    def _seconds_left(self) -> float:
        with self._state_lock:
            return self._idle if self._clients else self._last + self._idle - time.monotonic()

    def _serve_client(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError, ValueError, RecursionError):
                connection.settimeout(_QUESTION_SECONDS)
                if is_same_user(connection) and self._clients <= MAX_CLIENTS:
                    connection.sendall(ACKNOWLEDGEMENT)
                    send(connection, self._reply(receive(connection, MAX_QUESTION)))
        finally:
            with self._state_lock:
                self._clients -= 1
                self._last = time.monotonic()

    def _reply(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a message; an empty one declines it."""
        if question.get("do") == "status":
            return {"process": os.getpid(), "libraries": len(self._engines), "answered": self._answered}
        if question.get("do") == "stop":
            os.kill(os.getpid(), signal.SIGTERM)
            return {"process": os.getpid()}
        if question.get("version") != __version__ or question.get("cache") != str(cache_dir()):
            return {}
        try:
            return self._answer(question)
        except (ClipSearchError, OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        # Who asks must not name an encoder for this process: it loads what is trusted here, and declines all else.
        asked = SearchRequest.from_values(question["asked"])
        settings = replace(Settings(**question["settings"]), model=Settings().model)
        picture = None
        if asked.image is not None:
            picture = os.path.join(asked.folder, asked.image)
            if identify(picture) != question["picture"]:
                return {}
        given = answer(self._engine(Path(question["library"]), settings), asked, picture)
        with self._state_lock:
            self._answered += 1
        values = {"out": given.out.decode("latin-1"), "notes": given.notes}
        return {**values, "payload": given.payload, "confident": given.confident}

    def _engine(self, library: Path, settings: Settings) -> SearchEngine:
        """Return the engine of a library; another one once its catalog is replaced, or what the user trusts changes."""
        status = os.stat(catalog_file(library))
        key = (library, settings, status.st_dev, status.st_ino, trust.stamp())
        with self._engines_lock:
            if key not in self._engines:
                self._engines[key] = open_library(library, settings)
            self._engines.move_to_end(key)
            while len(self._engines) > MAX_LIBRARIES:
                self._engines.popitem(last=False)  # not closed: another thread may be about to search it
            return self._engines[key]


@contextmanager
def listening() -> Iterator[socket.socket | None]:
    """Listen for this user alone; None where another daemon does. Raises OSError where that is not possible.

    The lock tells whether a daemon is at work: the system lets go of it however the process ends. A socket without
    one was left by a process that was killed.
    """
    path, folder = socket_path(), runtime_folder()
    with suppress(FileExistsError):  # and what it is, is looked at below
        folder.mkdir(mode=0o700, parents=True)
    if not is_private(folder):
        raise PermissionError(
            f"the folder {folder} is not yours alone, or others can replace it; it must be a folder of yours that "
            "nobody else may enter (chmod 700)"
        )
    with open(folder / "daemon.lock", "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(os.fsencode(path))
            os.chmod(path, 0o600)
            listener.listen(MAX_CLIENTS)
            try:
                yield listener
            finally:
                path.unlink(missing_ok=True)


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as it should: the socket goes, whoever waits is answered."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
