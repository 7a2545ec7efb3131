"""What identifies the film of an Apple Live Photo: its content identifier and its length, read from its boxes.

Layout: QuickTime File Format, movie header and metadata atoms; ISO/IEC 14496-12 section 8.11 for `meta` of MP4.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

LIVE_SUFFIXES = frozenset({".mov", ".mp4"})
"""Endings of the films of Live Photos: what an iPhone writes, and what Google Takeout makes of it."""

MAX_SECONDS = 3.5
"""A longer film is an item of its own, unless its content identifier equals that of the picture. An iPhone records 1.5
seconds before the picture and 1.5 seconds after it."""

MAX_IDENTIFIER = 64

_KEY = b"com.apple.quicktime.content.identifier"
_MOST_BOXES = 256
_MAX_META = 1 << 18
_MAX_HEADER = 128


@dataclass(frozen=True, slots=True)
class LiveFilm:
    """Facts of a film. identifier: "" if it has none. seconds: its length; None if the film does not give it."""

    identifier: str = ""
    seconds: float | None = None


def clean_identifier(value: bytes) -> str:
    """Return a content identifier up to its first zero byte, in capitals; "" if it is empty, too long or not ASCII."""
    text = value.split(b"\0")[0].strip()
    return text.decode("ascii").upper() if 0 < len(text) <= MAX_IDENTIFIER and text.isascii() else ""


def read_live_film(descriptor: int) -> LiveFilm:
    """Read an open film. A fact stays empty if its box is missing or damaged. Raises OSError."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    movie = next((box for box in _boxes(descriptor, 0, size) if box[0] == b"moov"), None)
    if movie is None:
        return LiveFilm()
    inside = list(_boxes(descriptor, movie[1], movie[2]))
    inside += [box for kind, start, end in inside if kind == b"udta" for box in _boxes(descriptor, start, end)]
    seconds, identifier = None, ""
    for kind, start, end in inside:
        if kind == b"mvhd":
            seconds = _seconds(_read(descriptor, start, min(end - start, _MAX_HEADER)))
        elif kind == b"meta" and end - start <= _MAX_META:
            identifier = identifier or _identifier(_read(descriptor, start, end - start))
    return LiveFilm(identifier, seconds)


def _boxes(descriptor: int, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the contents of each box, where it lies within its parent."""
    for _ in range(_MOST_BOXES):
        head = _read(descriptor, start, 16) if end - start >= 8 else b""
        if len(head) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        begin = start + 8
        if size == 1 and len(head) == 16:
            size, begin = struct.unpack_from(">Q", head, 8)[0], start + 16
        elif size == 0:
            size = end - start
        if not begin <= start + size <= end:
            return
        yield kind, begin, start + size
        start += size


def _read(descriptor: int, start: int, count: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    return os.read(descriptor, count)


def _seconds(header: bytes) -> float | None:
    layout, at = (">IQ", 20) if header[:1] == b"\1" else (">II", 12)
    if len(header) < at + struct.calcsize(layout):
        return None
    scale, duration = struct.unpack_from(layout, header, at)
    return duration / scale if scale and duration else None


def _identifier(meta: bytes) -> str:
    """Return the value of the key in a `meta`, which in MP4 begins with a version."""
    places = {kind: (start, end) for kind, start, end in _inner(meta, 0 if meta[4:8] == b"hdlr" else 4, len(meta))}
    if b"keys" not in places or b"ilst" not in places:
        return ""
    start, end = places[b"keys"]
    names = [meta[at:until] for _, at, until in _inner(meta, start + 8, end)]
    if _KEY not in names:
        return ""
    wanted = struct.pack(">I", names.index(_KEY) + 1)
    first, last = places[b"ilst"]
    for kind, start, end in _inner(meta, first, last):
        if kind == wanted and meta[start + 4 : start + 8] == b"data":
            return clean_identifier(meta[start + 16 : end])
    return ""


def _inner(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the contents of each box of bytes."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8 or at + size > end:
            return
        yield kind, at + 8, at + size
        at += size
