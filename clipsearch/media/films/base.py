"""What is asked of the process that reads a film, and what it sends: the same on both sides, with nothing loaded.

Each message is its kind (one byte), its length, and that many bytes: facts, then frames, then the end; or a refusal.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from struct import Struct

FRAME = Struct("<dII")
"""How the message of a frame begins: its time in seconds, width and height; then its pixels as RGB, row by row."""

FACTS, END = b"I", b"E"
"""Kinds of messages beside those of media/child.py."""

MAX_TEXT = 64 << 10
"""Bytes of a message that is not a frame."""

_FORMATS = (
    ("mov", re.compile(rb".{4}(ftyp|moov|mdat|wide|free|skip|pnot)", re.DOTALL)),
    ("matroska", re.compile(rb"\x1aE\xdf\xa3")),
    ("avi", re.compile(rb"RIFF.{4}AVI |ON2 ", re.DOTALL)),
    ("mpeg", re.compile(rb"\0\0\x01\xba")),
    ("mpegts", re.compile(rb"G[\x40-\x5f].[\x10-\x1f]|.{4}G[\x40-\x5f].[\x10-\x1f]", re.DOTALL)),
    ("asf", re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
    ("flv", re.compile(rb"FLV\x01")),
)


@dataclass(frozen=True, slots=True)
class FilmRequest:
    """What is wanted of a film.

    side: pixels of the shorter side of its frames. max_pixels: the largest picture that is decoded. seconds: the most
    between two frames that are chosen. most: frames at most. time: of the one frame that is wanted; None to choose.
    cpu_seconds, memory: what the process may take.
    """

    side: int
    max_pixels: int
    seconds: float = 10.0
    most: int = 300
    time: float | None = None
    cpu_seconds: int = 3600
    memory: int = 2 << 30

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> FilmRequest:
        """Read what `dump` returned."""
        return cls(**json.loads(text))


def film_format(head: bytes) -> str | None:
    """Tell by its first bytes (16 are enough) which demuxer reads a film; None for anything else.

    No other demuxer is ever tried: some read lists of files to open.
    """
    return next((name for name, magic in _FORMATS if magic.match(head)), None)
