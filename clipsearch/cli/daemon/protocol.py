"""How a query reaches the daemon: a Unix socket in the user's runtime folder, a line of JSON each way.

The daemon acknowledges a connection at once, so that one that hangs costs a query half a second and not its answer.

Imports nothing that a query does not have anyway: a question and its answer take a few milliseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

MAX_QUESTION = 1 << 20
MAX_ANSWER = 1 << 26
"""Bytes of a line. What is longer is not read, and the query answers itself."""

ACKNOWLEDGEMENT = b"\n"
"""What a daemon sends as soon as it has a question's connection."""

ACKNOWLEDGE_SECONDS = 0.5
"""A daemon that has not acknowledged by then hangs: it was stopped, or has more to do than it can."""

ANSWER_SECONDS = 10.0
"""One that is silent for so long after that is left alone; a first query may have to load an encoder."""

_hung = False


def runtime_folder() -> Path:
    """Return the folder of the socket: in the user's runtime folder, else one of its own in the temporary folder.

    The latter anybody may have made before; `is_private` tells.
    """
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(named):
        return Path(named, "clipsearch")
    if sys.platform == "darwin" or not hasattr(os, "geteuid"):
        from platformdirs import user_runtime_path

        return user_runtime_path("clipsearch", appauthor=False)
    user = os.geteuid()
    usual = Path(f"/run/user/{user}")
    if os.access(usual, os.W_OK):
        return usual / "clipsearch"
    return Path(os.environ.get("TMPDIR") or "/tmp", f"clipsearch-{user}")


def socket_path() -> Path:
    """Return where the daemon listens."""
    return runtime_folder() / "daemon.sock"


def is_private(folder: Path) -> bool:
    """Tell whether a folder, and no link, is this user's own, nobody else may enter it, and nobody can replace it.

    Raises OSError if it does not exist.
    """
    status, above, user = os.lstat(folder), os.stat(folder.parent), os.geteuid()
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == user and not status.st_mode & 0o077
    stays = above.st_uid in (0, user) and (not above.st_mode & 0o022 or bool(above.st_mode & stat.S_ISVTX))
    return is_own and stays


def is_same_user(connection: socket.socket) -> bool:
    """Tell whether the other end is this user, where the system says; elsewhere the folder keeps others out."""
    import socket
    import struct

    if not hasattr(socket, "SO_PEERCRED"):
        return True
    kind = struct.Struct("3i")
    _, user, _ = kind.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, kind.size))
    return bool(user == os.geteuid())


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message. Raises OSError."""
    connection.sendall(json.dumps(message).encode() + b"\n")


def receive(connection: socket.socket, limit: int) -> dict[str, Any]:
    """Receive one message. Raises OSError, and ValueError if it is not a message or is longer than the limit."""
    with connection.makefile("rb") as stream:
        line = stream.readline(limit)
    if not line.endswith(b"\n"):
        raise ValueError("a message that does not end")
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message


def ask(message: dict[str, Any]) -> dict[str, Any] | None:
    """Ask the daemon. Returns None if it does not run or does not answer; one that hangs is not asked again."""
    global _hung
    if sys.platform == "win32" or _hung:
        return None
    with contextlib.suppress(OSError, ValueError, RecursionError):
        path = socket_path()
        if not path.exists() or not is_private(path.parent):
            return None
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ACKNOWLEDGE_SECONDS)
            try:
                connection.connect(os.fsencode(path))
                if not is_same_user(connection):
                    return None
                send(connection, message)
                acknowledged = connection.recv(len(ACKNOWLEDGEMENT)) == ACKNOWLEDGEMENT
            except (TimeoutError, BlockingIOError):
                _hung = True
                return None
            if acknowledged:
                connection.settimeout(ANSWER_SECONDS)
                return receive(connection, MAX_ANSWER)
    return None
