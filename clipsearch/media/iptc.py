"""What an IPTC block says of its picture: captions, keywords and times. Layout: IPTC-IIM 4.2 section 1.6."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from clipsearch.media.exif import decode_words
from clipsearch.media.facts import NOTHING, Facts
from clipsearch.media.moments import read_moment

_CHARSET, _KEYWORD, _CAPTIONS = (1, 90), (2, 25), ((2, 120), (2, 5), (2, 105))
_CREATED, _DIGITIZED = ((2, 55), (2, 60)), ((2, 62), (2, 63))
_DATE, _TIME = re.compile(r"(\d{4})[-:]?(\d\d)[-:]?(\d\d)"), re.compile(r"(\d\d):?(\d\d):?(\d\d)")

_Fields = dict[tuple[int, int], list[bytes]]


@dataclass(frozen=True, slots=True)
class IptcBlock:
    """What a block says, in the order in which it counts, as it stands there."""

    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    facts: Facts = NOTHING


def read_iptc(block: bytes) -> IptcBlock:
    """Read a block of data sets; never raises."""
    found = _data_sets(block)
    is_utf8 = b"\x1b%G" in found.get(_CHARSET, [])

    def read(name: tuple[int, int]) -> tuple[str, ...]:
        values = found.get(name, [])
        return tuple(value.decode("utf-8", "ignore") if is_utf8 else decode_words(value) for value in values)

    captions = tuple(text for name in _CAPTIONS for text in read(name))
    facts = Facts(original=_moment(found, _CREATED), digitized=_moment(found, _DIGITIZED))
    return IptcBlock(captions, read(_KEYWORD), facts)


def _data_sets(block: bytes) -> _Fields:
    found: _Fields = {}
    at = 0
    while block[at : at + 1] == b"\x1c" and at + 5 <= len(block):
        size = int.from_bytes(block[at + 3 : at + 5], "big")
        if size > 0x7FFF:  # an extended data set, which no text is
            break
        found.setdefault((block[at + 1], block[at + 2]), []).append(block[at + 5 : at + 5 + size])
        at += 5 + size
    return found


def _moment(found: _Fields, names: tuple[tuple[int, int], tuple[int, int]]) -> datetime | None:
    """Return a date with its time, which may be missing; the zone of the time is left out."""
    date, time = (found.get(name, [b""])[0].decode("ascii", "replace") for name in names)
    day, hour = _DATE.match(date), _TIME.match(time)
    if day is None:
        return None
    midnight = read_moment("-".join(day.groups()))
    return (read_moment("-".join(day.groups()) + " " + ":".join(hour.groups())) if hour else None) or midnight
