"""The standard streams as the commands find them: open, whatever the shell or a service manager closed."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper

_UTF8 = frozenset({"utf-8", "utf8", "UTF-8", "UTF8"})


def open_streams() -> None:
    """Open the null device in the place of each standard stream that was closed.

    Else the next file that is opened, such as a segment of a library, gets the number of the stream, and what a C
    library writes to stderr lands in it. What a stream cannot encode is escaped.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
            os.set_inheritable(number, True)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))
        elif isinstance(stream, TextIOWrapper) and mode == "w":
            stream.reconfigure(errors="backslashreplace")


def begin_in_utf8() -> None:
    """Start Python again in its UTF-8 mode (PEP 540) if its encoding of file names is ASCII, which fits few names.

    This happens with LC_ALL=C and PYTHONUTF8=0.
    """
    if sys.getfilesystemencoding() in _UTF8 or sys.flags.utf8_mode or os.name != "posix" or not sys.executable:
        return
    import codecs

    if codecs.lookup(sys.getfilesystemencoding()).name == "ascii":
        os.environ["PYTHONUTF8"] = "1"  # for what is started from here
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def to_stdout(data: bytes) -> None:
    """Write text in UTF-8, such as JSON, to stdout; nowhere if that was closed before we started.

    If stdout has another encoding, what is not ASCII is written as JSON escapes it, which suits all encodings.
    """
    if sys.stdout is None or not data:
        return
    if sys.stdout.encoding not in _UTF8 and not data.isascii():
        text = data.decode("utf-8", "backslashreplace").encode("utf-16-be", "surrogatepass")
        units = (int.from_bytes(text[at : at + 2], "big") for at in range(0, len(text), 2))
        data = "".join(chr(unit) if unit < 0x80 else f"\\u{unit:04x}" for unit in units).encode()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def drop_unwritable() -> None:
    """Drop what stderr holds and cannot write, such as to a full disk, or Python would exit with code 120 for it."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
