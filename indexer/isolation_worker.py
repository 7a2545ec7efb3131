"""A process that decodes pictures for the indexer, and can do little else; started by indexer/isolation.py.

Its stdin is a socket to the indexer and its stdout the memory that it shares with the indexer. There it finds the bytes
of each file, so it needs no file system: before the first file it gives up opening files and sockets, writing files,
starting processes, its capabilities, and memory and time beyond its limits. This is no filter of system calls: a
decoder that a file has taken over can still use what a process without any file can, such as signals to other processes
of the user, and can lie about the pictures that it decodes.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import socket
import sys
import time
from contextlib import suppress

import pillow_heif
from PIL import AvifImagePlugin, Image, ImageCms  # noqa: F401 - loaded while files can be opened

from clipsearch.encoders.preprocessing import Transforms, read_transforms
from clipsearch.errors import DocumentError, MediaError
from clipsearch.media.decode import decode_picture
from clipsearch.media.documents.base import Document
from clipsearch.media.documents.opening import open_document
from clipsearch.media.image_metadata import Embedded, read_embedded
from clipsearch.media.loading import load_codecs, load_extras
from clipsearch.types import PictureInfo
from indexer.isolation_protocol import (
    ANSWER,
    CAREFUL,
    DONE,
    FILE_AT,
    MAX_REASON,
    NO_MEMORY,
    PREPARED,
    READY,
    REFUSED,
    REQUEST,
    TEXTS,
    WORDS,
    Request,
    Texts,
    pack_facts,
    pack_texts,
)

_SOCKET, _MEMORY = 0, 1
"""File descriptors."""

_TEXT_SECONDS, _TEXT_SIZE = 1.0, 1 << 20
"""Seconds and characters after which the texts of a document that were read are sent."""

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_CAPABILITY_VERSION = 0x20080522
"""Of the layout of two words each for effective, permitted and inheritable ones."""


def main() -> None:
    """Serve requests until the indexer closes the socket. Arguments: seconds for a file, bytes of memory."""
    seconds, memory = int(sys.argv[-2]), int(sys.argv[-1])
    if CAREFUL in sys.argv:
        load_extras()
    connection, opened = socket.socket(fileno=_SOCKET), OpenDocument()
    with mmap.mmap(_MEMORY, FILE_AT) as prepared:  # before the limits: it duplicates the descriptor
        limit_process(memory)
        connection.sendall(READY)
        while head := receive(connection, REQUEST.size):
            request = Request._make(REQUEST.unpack(head))
            _limit_cpu(seconds)
            transforms = receive(connection, request.transforms_length)
            data = read_file(_MEMORY, request.file_length)
            parts = (
                opened.answer(request, transforms, data, prepared)
                if request.page
                else answer(request, transforms, data, prepared)
            )
            for part in parts:
                connection.sendall(part)


def answer(request: Request, transforms: bytes, data: bytes, prepared: mmap.mmap) -> tuple[bytes, ...]:
    """Return the answer to a request, in parts.

    transforms: as JSON. data: the bytes of the file. prepared: where the pixels go that the transforms made.
    """
    try:
        if request.wants == WORDS:
            facts = pack_facts(None, read_embedded(data))
            return (ANSWER.pack(request.number, DONE, len(facts), 0, 0) + facts,)
        picture, info = decode_picture(data, min_side=request.min_side, max_pixels=request.max_pixels)
        facts = pack_facts(info, read_embedded(data))
        if request.wants == PREPARED:
            prepare(picture, read_transforms(transforms), prepared)
            return (ANSWER.pack(request.number, DONE, len(facts), 0, 0) + facts,)
        return ANSWER.pack(request.number, DONE, len(facts), *picture.size) + facts, picture.tobytes()
    except MemoryError:
        return (ANSWER.pack(request.number, NO_MEMORY, 0, 0, 0),)
    except MediaError as error:
        return (_refusal(request, error),)


class OpenDocument:
    """The document of the requests that are answered; it stays open until the next one comes."""

    def __init__(self) -> None:
        """Begin without one."""
        self._document: Document | None = None

    def answer(self, request: Request, transforms: bytes, data: bytes, prepared: mmap.mmap) -> tuple[bytes, ...]:
        """Return the answer to a request for texts or for a page; the rest as in `answer`."""
        try:
            if data:
                self._open(data)
            if self._document is None:
                raise DocumentError("no document is open")
            if request.wants == TEXTS:
                facts = pack_texts(read_some(self._document, request.page))
                return (ANSWER.pack(request.number, DONE, len(facts), 0, 0) + facts,)
            picture = self._document.render(request.page, request.min_side, request.max_pixels)
            facts = pack_facts(PictureInfo(picture.width, picture.height), Embedded())
            if request.wants == PREPARED:
                prepare(picture, read_transforms(transforms), prepared)
                return (ANSWER.pack(request.number, DONE, len(facts), 0, 0) + facts,)
            return ANSWER.pack(request.number, DONE, len(facts), *picture.size) + facts, picture.tobytes()
        except MemoryError:
            return (ANSWER.pack(request.number, NO_MEMORY, 0, 0, 0),)
        except MediaError as error:
            return (_refusal(request, error),)

    def _open(self, data: bytes) -> None:
        if self._document is not None:
            self._document.close()
            self._document = None
        self._document = open_document(data)


def read_some(document: Document, first: int) -> Texts:
    """Read texts from a page on, as many as a message should have: at least one, and no more than some seconds take."""
    texts: list[str] = []
    until, size = time.monotonic() + _TEXT_SECONDS, 0
    for page in range(first, document.pages + 1):
        texts.append(document.text(page))
        size += len(texts[-1])
        if size > _TEXT_SIZE or time.monotonic() > until:
            break
    return Texts(document.pages, document.has_pages, document.can_draw, texts)


def _refusal(request: Request, error: MediaError) -> bytes:
    if isinstance(error.__cause__, MemoryError):
        return ANSWER.pack(request.number, NO_MEMORY, 0, 0, 0)
    reason = str(error).encode("utf-8", "replace")[:MAX_REASON]
    return ANSWER.pack(request.number, REFUSED, len(reason), 0, 0) + reason


def prepare(picture: Image.Image, transforms: Transforms, prepared: mmap.mmap) -> None:
    """Write the inputs of the encoder, one behind the other."""
    prepared.seek(0)
    for transform in transforms:
        prepared.write(transform.apply(picture).tobytes())


def read_file(memory: int, length: int) -> bytes:
    """Read the bytes of a file from the shared memory, in one go but for those of more than 2 GiB."""
    data = os.pread(memory, length, FILE_AT)
    while len(data) < length:
        more = os.pread(memory, length - len(data), FILE_AT + len(data))
        if not more:
            break  # decoding will find that it is cut off
        data += more
    return data


def limit_process(memory: int) -> None:
    """Give up, for good, what decoding does not need. memory: bytes on top of what is in use now."""
    load_codecs()  # no file can be opened later
    # One thread decodes: there is a worker for each core.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    pillow_heif.options.DECODE_THREADS = 1
    _limit(resource.RLIMIT_AS, _address_space() + memory)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    if sys.platform == "linux":
        _drop_privileges()
    _limit(resource.RLIMIT_NOFILE, 3)  # those of stdin, stdout and stderr, which are taken


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


def receive(connection: socket.socket, count: int) -> bytes:
    """Read so many bytes; none where the indexer is gone."""
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if not got:
            return b""
        view = view[got:]
    return bytes(data)
