"""A process that decodes pictures for the indexer, and can do little else; started by indexer/isolation.py.

It gets the bytes of each file over the socket that is its stdin, so it needs no file system: before the first file it
gives up opening files and sockets, writing files, starting processes, its capabilities, and memory and time beyond its
limits. This is no filter of system calls: a decoder that a file has taken over can still use what a process without
any file can, such as signals to other processes of the user, and can lie about the pictures that it decodes.
"""

from __future__ import annotations

import codecs
import ctypes
import resource
import socket
import sys
from contextlib import suppress

import pillow_heif
from PIL import AvifImagePlugin, ImageCms  # noqa: F401 - loaded while files can be opened

from clipsearch.errors import PictureError
from clipsearch.media.decode import decode_picture
from clipsearch.media.image_metadata import read_embedded
from indexer.isolation_protocol import ANSWER, DONE, MAX_REASON, NO_MEMORY, READY, REFUSED, REQUEST, pack_facts

_CODECS = ("ascii", "cp1252", "latin-1", "utf-8", "utf-16-be", "utf-16-le")
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITY_VERSION = 0x20080522
"""Of the layout of two words each for effective, permitted and inheritable ones."""


def main() -> None:
    """Serve requests until the indexer closes the socket. Arguments: seconds for a file, bytes of memory."""
    seconds, memory = int(sys.argv[-2]), int(sys.argv[-1])
    connection = socket.socket(fileno=0)
    limit_process(memory)
    connection.sendall(READY)
    while head := _receive(connection, REQUEST.size):
        number, wants_pixels, min_side, max_pixels, length = REQUEST.unpack(head)
        _limit_cpu(seconds)
        data = _receive(connection, length)
        for part in answer(number, data, bool(wants_pixels), min_side, max_pixels):
            connection.sendall(part)


def answer(number: int, data: bytes, wants_pixels: bool, min_side: int, max_pixels: int) -> tuple[bytes, ...]:
    """Return the answer to a request, in parts."""
    try:
        if not wants_pixels:
            facts = pack_facts(None, read_embedded(data))
            return ANSWER.pack(number, DONE, len(facts), 0, 0), facts
        picture, info = decode_picture(data, min_side=min_side, max_pixels=max_pixels)
        facts, pixels = pack_facts(info, read_embedded(data)), picture.tobytes()
        return ANSWER.pack(number, DONE, len(facts), *picture.size), facts, pixels
    except MemoryError:
        return (ANSWER.pack(number, NO_MEMORY, 0, 0, 0),)
    except PictureError as error:
        if isinstance(error.__cause__, MemoryError):
            return (ANSWER.pack(number, NO_MEMORY, 0, 0, 0),)
        reason = str(error).encode("utf-8", "replace")[:MAX_REASON]
        return ANSWER.pack(number, REFUSED, len(reason), 0, 0), reason


def limit_process(memory: int) -> None:
    """Give up, for good, what decoding does not need. memory: bytes on top of what is in use now."""
    for name in _CODECS:  # which are modules, that could not be loaded later
        codecs.lookup(name)
    # One thread decodes: there is a worker for each core.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    pillow_heif.options.DECODE_THREADS = 1
    _limit(resource.RLIMIT_AS, _address_space() + memory)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        _drop_privileges()
    _limit(resource.RLIMIT_NOFILE, 3)  # stdin, stdout and stderr, which are open


def _limit(kind: int, most: int) -> None:
    with suppress(ValueError, OSError):  # a system may lack it, or a lower limit may hold
        resource.setrlimit(kind, (most, most))


def _limit_cpu(seconds: int) -> None:
    """End this process even where nobody is left to end it: the indexer may have been killed."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    until = int(usage.ru_utime + usage.ru_stime) + seconds + 2
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _address_space() -> int:
    """Return the bytes of address space in use; of what is resident where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _drop_privileges() -> None:
    """Drop every capability, without which root cannot raise limits again either, and gain none by exec."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.capset((ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())


def _receive(connection: socket.socket, count: int) -> bytes:
    """Read so many bytes; none where the indexer is gone."""
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if not got:
            return b""
        view = view[got:]
    return bytes(data)
