"""What the terminal is: its size, and how it takes pictures. It is asked, and does not have to answer."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
import time
from dataclasses import dataclass
from typing import TextIO

from clipsearch.errors import InvalidInputError

PROTOCOLS = ("kitty", "iterm2", "sixel", "blocks")
ANSWER_SECONDS = 1.0
"""A terminal that has not answered by then is taken for one of plain text."""

_CELL = (10, 20)
_GRAPHICS_QUERY = "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\"
_QUERY = "\x1b[>q\x1b[16t\x1b[c\r\x1b[K"
"""Its name, the size of a cell, what it can do. Every terminal answers the last; where one shows the rest as text, that
is wiped away."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """Where pictures are drawn. columns, rows: in cells; cell: width and height of one, in pixels."""

    stream: TextIO
    columns: int
    rows: int
    cell: tuple[int, int]
    protocol: str


def find_terminal() -> TextIO:
    """Return the stream to draw on: stdout, or stderr where that is redirected. Raises InvalidInputError."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None and stream.isatty()]
    if not streams or os.environ.get("TERM") == "dumb":
        raise InvalidInputError(
            "There is no terminal to draw a preview in. Use --sheet out.png or --html out.html instead."
        )
    return streams[0]


def look_at(stream: TextIO, protocol: str) -> Terminal:
    """Find out what a terminal can do; protocol: one of PROTOCOLS, or `auto` to ask it."""
    if protocol not in {"auto", *PROTOCOLS}:
        raise InvalidInputError(f"Setting 'preview' is {protocol!r}; it must be auto, {', '.join(PROTOCOLS)}.")
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8")  # as the table is written, whatever the locale says
    size = os.get_terminal_size(stream.fileno())
    reply = _ask(stream) if protocol == "auto" else b""
    protocol = _protocol_of(reply) if protocol == "auto" else protocol
    return Terminal(stream, size.columns or 80, size.lines or 24, _cell_size(stream, reply), protocol)


def _protocol_of(reply: bytes) -> str:
    """Tell from its reply how a terminal takes pictures, the best way first."""
    if re.search(rb"\x1bP>\|iTerm2", reply):
        return "iterm2"
    if b"\x1b_Gi=31;OK" in reply:
        return "kitty"
    features = re.search(rb"\x1b\[\?([\d;]+)c", reply)
    return "sixel" if features and b"4" in features[1].split(b";") else "blocks"


def _cell_size(stream: TextIO, reply: bytes) -> tuple[int, int]:
    if (said := re.search(rb"\x1b\[6;(\d+);(\d+)t", reply)) and int(said[1]) and int(said[2]):
        return int(said[2]), int(said[1])
    if sys.platform != "win32":
        import fcntl
        import struct
        import termios

        packed = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("4H", packed)
        if rows and columns and width >= columns and height >= rows:
            return width // columns, height // rows
    return _CELL


def _ask(stream: TextIO) -> bytes:
    """Return the reply of a terminal; empty where it cannot be asked, or somebody else might read the reply."""
    if sys.platform == "win32" or _is_piped():
        return b""
    try:
        descriptor = os.open(os.ttyname(stream.fileno()), os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        # A process in the background would be stopped for changing the terminal.
        return _exchange(descriptor) if os.tcgetpgrp(descriptor) == os.getpgrp() else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _is_piped() -> bool:
    """Tell whether another program gets our output: a pager reads the terminal too."""
    return sys.stdout is None or stat.S_ISFIFO(os.fstat(sys.stdout.fileno()).st_mode)


def _exchange(descriptor: int) -> bytes:
    import select
    import termios

    # Inside a multiplexer the query for graphics would become the title of the pane.
    is_inside = os.environ.get("TERM", "").startswith(("screen", "tmux"))
    before = termios.tcgetattr(descriptor)
    quiet = [*before[:3], before[3] & ~(termios.ECHO | termios.ICANON), *before[4:]]
    reply, when = b"", termios.TCSAFLUSH  # a reply that is late is thrown away
    try:
        termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
        os.write(descriptor, (("" if is_inside else _GRAPHICS_QUERY) + _QUERY).encode())
        end = time.monotonic() + ANSWER_SECONDS
        while (left := end - time.monotonic()) > 0 and select.select([descriptor], [], [], left)[0]:
            reply += os.read(descriptor, 4096)
            if re.search(rb"\x1b\[\?[\d;]*c", reply):
                when = termios.TCSANOW
                break
    finally:
        termios.tcsetattr(descriptor, when, before)
    return reply
