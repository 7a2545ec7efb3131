"""Reading a film in a process of its own, so that a decoder that crashes, hangs or grows costs one film.

The process gets the open file and no path. What it sends is bounded before it is read, and checked.
"""

from __future__ import annotations

import json
import math
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PIL import Image

from clipsearch.config import Settings
from clipsearch.errors import MediaError, PictureError
from clipsearch.media.child import HEAD, PICTURE, REFUSAL, read_text, start_child
from clipsearch.media.extras import require_extra
from clipsearch.media.films.base import END, FACTS, FRAME, MAX_TEXT, FilmRequest
from clipsearch.types import Media, MediaInfo, PictureInfo

_LONGEST_SIDE = 40
"""How often the longer side of a frame may be its shorter one."""

_TICK = 1.0
_ONE_FRAME_SECONDS = 30


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """What a film says of itself."""

    picture: PictureInfo
    media: MediaInfo


class FilmReader:
    """The frames of a film, in order of time; `facts` and `note` are there once all were taken."""

    def __init__(self, descriptor: int, request: FilmRequest) -> None:
        """Read an open film. Raises PictureError where the extra is missing, WorkerUnavailableError."""
        require_extra("video", "films")
        self._request = request
        self._deadline = time.monotonic() + request.cpu_seconds
        self.facts: FilmFacts | None = None
        self.note = ""
        os.lseek(descriptor, 0, os.SEEK_SET)
        self._process = start_child("clipsearch.media.films.worker", request.dump(), descriptor)

    def __iter__(self) -> Iterator[tuple[float, Image.Image]]:
        """Yield the time in seconds and the upright RGB picture of each frame. Raises PictureError."""
        count = 0
        while True:
            kind, data = self._message()
            if kind == PICTURE and self.facts is not None and count < self._request.most:
                count += 1
                yield _read_frame(data)
            elif kind == FACTS and self.facts is None:
                self.facts = _read_facts(data)
            elif kind == END and count:
                self.note = read_text(data)
                return
            elif kind == REFUSAL:
                raise PictureError(read_text(data) or "no reason was given")
            else:
                raise PictureError("the process that decoded it broke the protocol")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _message(self) -> tuple[bytes, bytes]:
        kind, length = HEAD.unpack(self._receive(HEAD.size))
        side = self._request.side
        most = FRAME.size + 3 * side * side * _LONGEST_SIDE if kind == PICTURE else MAX_TEXT
        if length > most:
            raise PictureError("the process that decoded it broke the protocol")
        return kind, self._receive(length)

    def _receive(self, count: int) -> bytes:
        assert self._process.stdout is not None
        pipe, parts = self._process.stdout.fileno(), []
        while count:
            if time.monotonic() > self._deadline:
                raise PictureError(
                    f"took longer than {self._request.cpu_seconds} s to decode (setting film_decode_seconds)"
                )
            if os.name == "posix" and not select.select([pipe], [], [], _TICK)[0]:
                continue
            part = os.read(pipe, min(count, 1 << 20))
            if not part:
                code = self._process.wait()
                ended = f"signal {-code}" if code < 0 else f"exit code {code}"
                raise PictureError(f"the process that decoded it ended ({ended})")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


@contextmanager
def open_film(path: str, limit: int) -> Iterator[tuple[int, os.stat_result]]:
    """Open a regular file of at most `limit` bytes; yield its descriptor and what fstat says.

    Never waits for a pipe or a device. Raises OSError, ValueError for a path with a zero byte, MediaError.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags)
    try:
        yield descriptor, check_film(descriptor, limit)
    finally:
        os.close(descriptor)


def check_film(descriptor: int, limit: int) -> os.stat_result:
    """Return what fstat says of an open film.

    Raises MediaError unless it is a regular file of at most `limit` bytes.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise MediaError("not a regular file")
    if not status.st_size:
        raise PictureError("empty file")
    if status.st_size > limit:
        raise MediaError(f"{status.st_size} bytes, over the limit of {limit} (setting max_film_bytes)")
    return status


def frame_at(descriptor: int, position: float, side: int, settings: Settings) -> Image.Image:
    """Return the frame that an open film shows at a time in seconds, upright and RGB.

    side: pixels of its shorter side at most. Raises PictureError, WorkerUnavailableError.
    """
    request = FilmRequest(
        side, settings.max_pixels, time=position, cpu_seconds=_ONE_FRAME_SECONDS, memory=settings.decode_memory, most=1
    )
    reader = FilmReader(descriptor, request)
    try:
        return next(iter(reader))[1]
    finally:
        reader.close()


def _read_frame(data: bytes) -> tuple[float, Image.Image]:
    if len(data) < FRAME.size:
        raise PictureError("the process that decoded it broke the protocol")
    at, width, height = FRAME.unpack_from(data)
    if not (math.isfinite(at) and at >= 0 and width and height and len(data) == FRAME.size + 3 * width * height):
        raise PictureError("the process that decoded it broke the protocol")
    return at, Image.frombytes("RGB", (width, height), data[FRAME.size :])


def _read_facts(data: bytes) -> FilmFacts:
    """Read facts, each checked for type and range. Raises PictureError."""
    try:
        found = json.loads(data.decode())
        width, height = (_number(found, name, int, 1, 10**6) for name in ("width", "height"))
        duration = _number(found, "duration", float, 0, 10**7)
        latitude, longitude = _number(found, "latitude", float, -90, 90), _number(found, "longitude", float, -180, 180)
        taken, camera = (_word(found, name) for name in ("taken_at", "camera"))
        moment = None if taken is None else datetime.fromisoformat(taken)
        if width is None or height is None or (latitude is None) != (longitude is None) or (moment and moment.tzinfo):
            raise ValueError("facts that make no sense")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise PictureError("the process that decoded it broke the protocol") from error
    picture = PictureInfo(int(width), int(height), moment, camera, latitude, longitude)
    return FilmFacts(picture, MediaInfo(Media.FILM, duration=duration))


def _number(found: dict[str, Any], name: str, kind: Callable[[Any], float], least: float, most: float) -> Any:  # noqa: ANN401
    value = found[name]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"{name} is not a number in its range")
    return kind(value)


def _word(found: dict[str, Any], name: str) -> str | None:
    value = found[name]
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > 200 or not value.isprintable():
        raise ValueError(f"{name} is not a short text")
    with suppress(UnicodeEncodeError):
        value.encode()
        return value
    raise ValueError(f"{name} is not a text")
