"""How a query reaches the daemon: a Unix socket in the user's runtime folder, a line of JSON each way.

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

ANSWER_SECONDS = 10.0
"""A daemon that is silent for so long is left alone; a first query may have to load an encoder."""


def runtime_folder() -> Path:
    """Return the folder of the socket."""
    from platformdirs import user_runtime_path

    return user_runtime_path("clipsearch", appauthor=False)


def socket_path() -> Path:
    """Return where the daemon listens."""
    return runtime_folder() / "daemon.sock"


def is_private(folder: Path) -> bool:
    """Tell whether a folder is this user's own and nobody else may enter it."""
    status = os.lstat(folder)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


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
    """Receive one message. Raises OSError, and ValueError for what is none or longer than the limit."""
    with connection.makefile("rb") as stream:
        line = stream.readline(limit)
    if not line.endswith(b"\n"):
        raise ValueError("a message that does not end")
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("a message that is no object")
    return message


def ask(message: dict[str, Any]) -> dict[str, Any] | None:
    """Ask the daemon; None where there is none, or no answer from it."""
    if sys.platform == "win32":
        return None
    with contextlib.suppress(OSError, ValueError, RecursionError):
        path = socket_path()
        if not path.exists() or not is_private(path.parent):
            return None
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(os.fsencode(path))
            if is_same_user(connection):
                send(connection, message)
                return receive(connection, MAX_ANSWER)
    return None
