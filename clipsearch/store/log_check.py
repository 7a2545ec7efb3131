"""Damage in SQLite's write-ahead log, which SQLite itself takes for the end of the log.

Recovery reads the log up to the first frame whose checksum fails: behind it, after a crash, lies what was never
committed. After damage there lie commits, which are lost silently. Two things tell damage from a crash: a crash
leaves no commit behind the frame that it tore, and no frame that is wrong in one bit only.

The format is that of https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_MAGIC = 0x377F0682
_MASK = 0xFFFFFFFF
_LOOKS = 3
_PAUSE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Log:
    """A log and its header. order: of the words that are summed up, as struct writes it."""

    data: bytes
    order: str
    page: int
    salts: tuple[int, int]
    start: tuple[int, int]

    @property
    def size(self) -> int:
        return _FRAME.size + self.page

    @property
    def frames(self) -> int:
        """Whole frames; what follows them was torn."""
        return (len(self.data) - _HEADER.size) // self.size

    def frame(self, number: int) -> bytes:
        begin = _HEADER.size + number * self.size
        return self.data[begin : begin + self.size]


def examine_log(path: Path) -> str | None:
    """Return what is wrong with the write-ahead log of a catalog, None where nothing is.

    path: of the log; it need not exist. A log that somebody is writing to is read again before it counts as damaged.
    Raises OSError.
    """
    found = None
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE_SECONDS)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        before, found = found, _find_damage(data)
        if found is None or (look and found != before):
            return None
    return found


def _find_damage(data: bytes) -> str | None:
    if len(data) < _HEADER.size:
        return None  # a writer that died before it wrote anything
    log = _parse(data)
    if log is None:
        return "The header of the catalog's log does not match its checksum."
    sums = log.start
    for number in range(log.frames):
        after = _sums_after(log, number, sums)
        if after is None:
            lost = _commits_from(log, number + 1)
            if lost or _is_one_bit_off(log, number, sums):
                return f"Frame {number + 1} of {log.frames} of the catalog's log is damaged; {lost} commits follow it."
            return None
        sums = after
    return None


def _parse(data: bytes) -> _Log | None:
    """Read the header; None for one that does not agree with its checksum."""
    magic, _, page, _, *rest = _HEADER.unpack_from(data)
    order = ">" if magic & 1 else "<"
    sums = _add(data[: _HEADER.size - 8], order, (0, 0))
    if magic & ~1 != _MAGIC or sums != (rest[2], rest[3]) or not 512 <= page <= 65536:
        return None
    return _Log(data, order, page, (rest[0], rest[1]), sums)


def _add(data: bytes, order: str, sums: tuple[int, int]) -> tuple[int, int]:
    """Go on with a checksum over whole pairs of words."""
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for word, other in zip(words, words, strict=True):
        first = (first + word + second) & _MASK
        second = (second + other + first) & _MASK
    return first, second


def _sums_after(log: _Log, number: int, sums: tuple[int, int]) -> tuple[int, int] | None:
    """Return the checksum after a frame, None where the frame does not agree with it."""
    frame = log.frame(number)
    page_number, _, *rest = _FRAME.unpack_from(frame)
    after = _frame_sums(log, frame, sums)
    is_right = page_number and (*log.salts, *after) == tuple(rest)
    return after if is_right else None


def _frame_sums(log: _Log, frame: bytes, sums: tuple[int, int]) -> tuple[int, int]:
    return _add(frame[8 + 16 :], log.order, _add(frame[:8], log.order, sums))


def _commits_from(log: _Log, first: int) -> int:
    """Count the frames from one on that end a transaction of this log; others are of an older one, or torn."""
    count = 0
    for number in range(first, log.frames):
        page, size, *rest = _FRAME.unpack_from(log.frame(number))
        count += bool(page and size) and (rest[0], rest[1]) == log.salts
    return count


def _is_one_bit_off(log: _Log, number: int, sums: tuple[int, int]) -> bool:
    """Tell whether one flipped bit makes a frame right: no torn write is so near."""
    frame = log.frame(number)
    stored = _FRAME.unpack_from(frame)[2:]
    expected = (*log.salts, *_frame_sums(log, frame, sums))
    apart = [one ^ other for one, other in zip(stored, expected, strict=True)]
    if sum(word.bit_count() for word in apart) == 1:
        return True  # in a salt or a checksum itself
    if any(apart[:2]):
        return False
    off = tuple((one - other) & _MASK for one, other in zip(expected[2:], stored[2:], strict=True))
    return off in _effects((8 + log.page) // 8)


@lru_cache(maxsize=2)
def _effects(pairs: int) -> frozenset[tuple[int, int]]:
    """Return by how much a checksum is off for each bit of so many pairs of words that is flipped."""
    found = set()
    for first, second in ((1, 1), (0, 1)):  # of the first word of a pair, and of the second
        for _ in range(pairs):
            for bit in range(32):
                for sign in (1, -1):
                    found.add(((sign * first << bit) & _MASK, (sign * second << bit) & _MASK))
            first = (first + second) & _MASK
            second = (second + first) & _MASK
    return frozenset(found)
