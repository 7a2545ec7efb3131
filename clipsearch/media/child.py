"""Processes that read one hostile file each: how one is started, and what it gives up before it looks at the file.

Such a process gets the bytes or the open file, and no path. Each message that it sends is its kind (one byte), its
length, and that many bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing, suppress
from struct import Struct

from clipsearch.errors import WorkerUnavailableError

HEAD = Struct("<cI")
"""Kind and length of a message, little-endian."""

PICTURE, REFUSAL = b"F", b"X"

_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {} import main; main()"
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH", "SYSTEMROOT")


def start_child(module: str, request: str, stdin: int) -> subprocess.Popen[bytes]:
    """Start a process that runs `main` of a module of ours; its last argument is the request, its stdout a pipe.

    stdin: a descriptor, or subprocess.PIPE. Raises WorkerUnavailableError.
    """
    places = json.dumps([place for place in sys.path if os.path.isabs(place)])
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOT.format(module), places, request],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"OPENBLAS_NUM_THREADS": "1"},
            cwd="/" if os.name == "posix" else None,
            start_new_session=os.name == "posix",
        )
    except OSError as error:
        raise WorkerUnavailableError(f"No process that decodes can be started: {error.strerror}.") from error


def send(kind: bytes, data: bytes) -> None:
    """Write a message to stdout."""
    view = memoryview(HEAD.pack(kind, len(data)) + data)
    while view:
        view = view[os.write(1, view) :]


def refuse(reason: str) -> None:
    """Say why a file cannot be decoded."""
    send(REFUSAL, reason.encode("utf-8", "replace")[:500])


def read_text(data: bytes) -> str:
    """Return a text of a message as one short line, whatever it is."""
    return " ".join(data.decode("utf-8", "replace").split())[:500]


def limit_process(memory: int, seconds: int) -> None:
    """Give up what decoding one file does not need: other files, and memory and time of the processor beyond these.

    memory: bytes on top of what is in use now. Windows has no such limits.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    with suppress(OSError), closing(open("/proc/self/statm")) as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory,) * 2)
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_NOFILE, 3),
    ):
        with suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))
