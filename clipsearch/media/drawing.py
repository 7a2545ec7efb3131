"""Pictures that the package of an extra draws, and pages of documents, each in a process of its own.

A decoder that crashes, hangs or grows costs one picture: the process gets the bytes and no path, and what it sends is
bounded before it is read. Any other picture is decoded here.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from struct import Struct

from PIL import Image

from clipsearch.errors import PictureError, WorkerUnavailableError
from clipsearch.media.child import HEAD, PICTURE, REFUSAL, read_text, start_child
from clipsearch.media.decode import decode_picture, is_guarded, read_bytes
from clipsearch.media.documents.opening import is_pdf
from clipsearch.media.documents.tiff import has_directories
from clipsearch.media.extras import require_extra

SECONDS = 20
"""How long one picture may take to draw, and as much time of the processor."""

MEMORY = 2 << 30
"""Bytes that it may take."""

SIZE = Struct("<II")
"""How the message of a picture begins: width and height; then its pixels as RGB, row by row."""

_MAX_REASON = 64 << 10
_CHUNK = 1 << 20
_BROKEN = "the process that drew it broke the protocol"


@dataclass(frozen=True, slots=True)
class DrawRequest:
    """What is wanted of a file.

    side, max_pixels: as for `decode_picture`. page: of a document, from 1; None for a picture. seconds, memory: what
    the process may take.
    """

    side: int
    max_pixels: int
    page: int | None
    seconds: int
    memory: int

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> DrawRequest:
        """Read what `dump` returned."""
        return cls(**json.loads(text))


def is_page(data: bytes, page: int | None) -> bool:
    """Tell whether a page of a document is wanted: of a PDF, or of a TIFF of several where one is named."""
    return is_pdf(data[:1024]) or (page is not None and has_directories(data))


def is_drawn_apart(data: bytes, page: int | None = None) -> bool:
    """Tell whether a file, or a page of it, is drawn in a process of its own."""
    return is_guarded(data) or is_page(data, page)


def look(data: bytes, side: int, max_pixels: int, page: int | None = None) -> Image.Image:
    """Decode a picture, or draw a page of a document: upright and RGB, as `decode_picture` does.

    page: from 1; None for the picture itself, or the first page. Raises PictureError with a short reason.
    """
    if is_page(data, page):
        if is_pdf(data[:1024]):
            require_extra("documents", "pages of a PDF")
        return _draw(data, side, max_pixels, page or 1)
    return look_at_picture(data, side, max_pixels)


def look_at_picture(data: bytes, side: int, max_pixels: int) -> Image.Image:
    """Decode a picture as `look` does; a document is none."""
    if is_guarded(data):
        return _draw(data, side, max_pixels, None)
    return decode_picture(data, min_side=side, max_pixels=max_pixels)[0]


def look_at_file(path: str | os.PathLike[str], side: int, max_pixels: int, max_bytes: int) -> Image.Image:
    """Decode a picture file of at most `max_bytes` as `look_at_picture` does. Raises PictureError that names it."""
    try:
        return look_at_picture(read_bytes(path, max_bytes), side, max_pixels)
    except PictureError as error:
        shown = os.fsencode(path).decode("utf-8", "replace")
        raise PictureError(f"{shown}: {error}") from error


def _draw(data: bytes, side: int, max_pixels: int, page: int | None) -> Image.Image:
    """Draw in a process of its own. Raises PictureError, also for whatever becomes of the process."""
    request = DrawRequest(side, max_pixels, page, SECONDS, MEMORY)
    try:
        process = start_child("clipsearch.media.drawing_worker", request.dump(), subprocess.PIPE)
    except WorkerUnavailableError as error:
        raise PictureError(str(error).rstrip(".")) from error
    overdue = threading.Event()
    with _ended(process, request.seconds, overdue):
        threading.Thread(target=_give, args=(process, data), daemon=True).start()
        try:
            return _read_picture(process, max_pixels)
        except EOFError:
            code = process.wait()
    if overdue.is_set() or -code in _OUT_OF_TIME:
        raise PictureError(f"it could not be drawn within {request.seconds} seconds")
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    raise PictureError(f"it could not be drawn within its limits: the process that drew it ended ({ended})")


def _out_of_time() -> frozenset[int]:
    import signal

    return frozenset({signal.SIGXCPU, signal.SIGKILL}) if os.name == "posix" else frozenset()


_OUT_OF_TIME = _out_of_time()
"""The signals by which a system ends what took too much time of the processor."""


@contextmanager
def _ended(process: subprocess.Popen[bytes], seconds: int, overdue: threading.Event) -> Iterator[None]:
    """End a process after some time, or at the end of the block; its pipe then ends, and so does reading."""

    def end() -> None:
        overdue.set()
        process.kill()

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _give(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    with suppress(OSError, ValueError), process.stdin:  # it may have ended
        process.stdin.write(data)


def _read_picture(process: subprocess.Popen[bytes], max_pixels: int) -> Image.Image:
    """Read the answer. Raises PictureError, EOFError where the process ended before."""
    kind, length = HEAD.unpack(_receive(process, HEAD.size))
    if kind == REFUSAL and length <= _MAX_REASON:
        raise PictureError(read_text(_receive(process, length)) or "no reason was given")
    if kind != PICTURE or not SIZE.size < length <= SIZE.size + 3 * max_pixels:
        raise PictureError(_BROKEN)
    width, height = SIZE.unpack(_receive(process, SIZE.size))
    if not (width and height and length == SIZE.size + 3 * width * height):
        raise PictureError(_BROKEN)
    return Image.frombytes("RGB", (width, height), _receive(process, length - SIZE.size))


def _receive(process: subprocess.Popen[bytes], count: int) -> bytes:
    assert process.stdout is not None
    pipe, parts = process.stdout.fileno(), []
    while count:
        part = os.read(pipe, min(count, _CHUNK))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
