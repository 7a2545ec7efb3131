"""What a picture's EXIF block says: orientation, time, camera and place, each checked, nonsense being None; and words.

A small reader of its own instead of Pillow's, because it must never raise or warn and because it reads only the
tags that count. Layout: TIFF 6.0 section 2 and CIPA DC-008 (Exif 2.32) section 4.6.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from clipsearch.media.facts import Facts, name_camera, read_orientation, read_percents, read_place, read_rating
from clipsearch.media.films.live import clean_identifier
from clipsearch.media.moments import read_moment

_MAKE, _MODEL, _ORIENTATION, _CHANGED = 0x010F, 0x0110, 0x0112, 0x0132
_RATING, _PERCENTS = 0x4746, 0x4749
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_TAKEN, _DIGITIZED = 0x9003, 0x9004
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE = 1, 2, 3, 4
_FACTS = frozenset(
    {_MAKE, _MODEL, _ORIENTATION, _CHANGED, _EXIF_IFD, _GPS_IFD, _TAKEN, _DIGITIZED, _RATING, _PERCENTS}
    | {_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE}
)
_DESCRIPTION, _XP_TITLE, _XP_COMMENT, _XP_KEYWORDS, _XP_SUBJECT = 0x010E, 0x9C9B, 0x9C9C, 0x9C9E, 0x9C9F
_XMP, _IPTC = 0x02BC, 0x83BB
_MAKER_NOTE, _APPLE, _APPLE_IDENTIFIER = 0x927C, b"Apple iOS\0", 0x0011
_WORDS = frozenset({_MAKE, _MODEL, _DESCRIPTION, _XP_TITLE, _XP_COMMENT, _XP_KEYWORDS, _XP_SUBJECT, _XMP, _IPTC})
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8, 13: 4, 129: 1}
_MAX_ENTRIES = 4096
_MAX_VALUE = 4096
_MAX_WORDS = 1 << 22

_Tags = Mapping[int, tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class ExifWords:
    """What the main directory says in words, as it stands there; "" and b"" for what is missing.

    camera: make and model. keywords: separated by semicolons. xmp, iptc: the blocks that a TIFF file keeps there.
    """

    camera: tuple[str, str]
    captions: tuple[str, ...]
    keywords: str
    xmp: bytes
    iptc: bytes


def read_exif(block: bytes) -> Facts:
    """Read an EXIF block, with or without its `Exif` header, or a whole TIFF file.

    block: the bytes. Returns what makes sense of it; never raises. A place of exactly 0, 0 counts as not known,
    because cameras write it when they have no fix. Without a hemisphere, a place is taken to be north and east.
    """
    base, order, start = _header(block)
    main = _read_ifd(block, base, order, start)
    exif = _read_ifd(block, base, order, _number(order, main.get(_EXIF_IFD)))
    gps = _read_ifd(block, base, order, _number(order, main.get(_GPS_IFD)))
    original, digitized, changed = map(
        read_moment, map(_words, (exif.get(_TAKEN), exif.get(_DIGITIZED), main.get(_CHANGED)))
    )
    return Facts(
        read_orientation(_number(order, main.get(_ORIENTATION))),
        original,
        digitized,
        changed,
        name_camera(_words(main.get(_MAKE)), _words(main.get(_MODEL))),
        _place(order, gps),
        _stars(order, main),
    )


def read_words(block: bytes) -> ExifWords:
    """Read the words of an EXIF block, with or without its `Exif` header, or of a whole TIFF file; never raises."""
    base, order, first = _header(block)
    tags = _read_ifd(block, base, order, first, _WORDS, _MAX_WORDS)
    windows = (_utf16(tags, tag) for tag in (_XP_TITLE, _XP_SUBJECT, _XP_COMMENT))
    return ExifWords(
        (_words(tags.get(_MAKE)), _words(tags.get(_MODEL))),
        (decode_words(_value(tags, _DESCRIPTION)), *windows),
        _utf16(tags, _XP_KEYWORDS),
        _value(tags, _XMP),
        _value(tags, _IPTC),
    )


def read_content_identifier(block: bytes) -> str:
    """Return the content identifier of a Live Photo, from Apple's maker note in its picture. Never raises.

    It is "" if the picture has no such note.

    Layout: tag 0x0011 of the Apple tags of ExifTool; offsets count from the start of the note.
    """
    base, order, start = _header(block)
    main = _read_ifd(block, base, order, start, frozenset({_EXIF_IFD}))
    exif = _read_ifd(block, base, order, _number(order, main.get(_EXIF_IFD)), frozenset({_MAKER_NOTE}), _MAX_WORDS)
    note = _value(exif, _MAKER_NOTE)
    if not note.startswith(_APPLE) or note[12:14] != b"MM":
        return ""
    return clean_identifier(_value(_read_ifd(note, 0, ">", 14, frozenset({_APPLE_IDENTIFIER})), _APPLE_IDENTIFIER))


def tiff_numbers(block: bytes, wanted: frozenset[int], offset: int | None = None) -> dict[int, tuple[int, ...]]:
    """Read whole numbers of a directory of a TIFF, the main one or that at an offset; never raises.

    Returns the values of each tag of `wanted` that is there and has values that are SHORT, LONG, IFD or BYTE.
    """
    base, order, first = _header(block)
    found = {}
    for tag, (kind, value) in _read_ifd(block, base, order, first if offset is None else offset, wanted).items():
        if code := {1: "B", 3: "H", 4: "I", 13: "I"}.get(kind):
            count = len(value) // struct.calcsize(code)
            found[tag] = struct.unpack_from(f"{order}{count}{code}", value)
    return found


def decode_words(value: bytes) -> str:
    """Decode a text up to its first zero byte, as UTF-8, which may be cut within a letter, else as Windows-1252."""
    value = value.split(b"\0")[0]
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        # One letter alone that is not ASCII at the end is rather an é of Windows than the start of a longer one.
        if error.reason == "unexpected end of data" and not value[: error.start].isascii():
            return value[: error.start].decode("utf-8")
        return value.decode("cp1252", "replace")


def _value(tags: _Tags, tag: int) -> bytes:
    return tags.get(tag, (0, b""))[1]


def _utf16(tags: _Tags, tag: int) -> str:
    return _value(tags, tag).decode("utf-16-le", "ignore").split("\0")[0]


def _header(block: bytes) -> tuple[int, str, int]:
    """Return where the TIFF header stands, its byte order, and where it says the main directory is; 0 for nowhere."""
    base = 0
    while block[base : base + 6] in (b"Exif\0\0", b"Exif\0\xff"):
        base += 6
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[base : base + 4]), "")
    return base, order, _unpack(order + "I", block[base + 4 : base + 8], 0) if order else 0


def _unpack(code: str, value: bytes, default: int) -> int:
    try:
        return int(struct.unpack_from(code, value)[0])
    except struct.error:
        return default


def _read_ifd(
    block: bytes, base: int, order: str, offset: int, wanted: frozenset[int] = _FACTS, most: int = _MAX_VALUE
) -> dict[int, tuple[int, bytes]]:
    """Read the wanted entries of at most so many bytes of the directory at `offset`; {} if it does not exist."""
    start = base + offset
    if offset < 8 or start + 2 > len(block):
        return {}
    tags: dict[int, tuple[int, bytes]] = {}
    count = min(_unpack(order + "H", block[start : start + 2], 0), _MAX_ENTRIES)
    for at in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, length = struct.unpack_from(order + "HHI", block, at)
        size = _SIZES.get(kind, 0) * length
        if tag not in wanted or tag in tags or not 0 < size <= most:
            continue
        where = at + 8 if size <= 4 else base + int(struct.unpack_from(order + "I", block, at + 8)[0])
        tags[tag] = kind, bytes(block[where : where + size])
    return tags


def _number(order: str, entry: tuple[int, bytes] | None) -> int:
    """Return a whole number that is stored as BYTE, SHORT, LONG or IFD, else 0."""
    kind, value = entry or (0, b"")
    code = {1: "B", 3: "H", 4: "I", 13: "I"}.get(kind)
    return _unpack(order + code, value, 0) if code else 0


def _stars(order: str, main: _Tags) -> int | None:
    """Return the rating that Windows and cameras write; stars before percents."""
    for tag, read in ((_RATING, read_rating), (_PERCENTS, read_percents)):
        if tag in main:
            return read(_number(order, main[tag]))
    return None


def _words(entry: tuple[int, bytes] | None) -> str:
    """Return a text without control characters; some cameras write UTF-8 where the standard says ASCII."""
    value = (entry or (0, b""))[1].split(b"\0")[0]
    text = value.decode("utf-8", "replace").replace("\ufffd", "")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _place(order: str, gps: _Tags) -> tuple[float, float] | None:
    latitude = _degrees(order, gps.get(_LATITUDE), _words(gps.get(_LATITUDE_REF)), "NS", 90)
    return read_place(latitude, _degrees(order, gps.get(_LONGITUDE), _words(gps.get(_LONGITUDE_REF)), "EW", 180))


def _degrees(order: str, entry: tuple[int, bytes] | None, side: str, sides: str, most: float) -> float | None:
    """Return degrees from up to three rationals (degrees, minutes, seconds); None where they are no angle."""
    kind, value = entry or (0, b"")
    code = {5: "II", 10: "ii"}.get(kind)
    if code is None or len(value) < 8 or side[:1].upper() not in ("", *sides):
        return None
    parts = [struct.unpack_from(order + code, value, at) for at in range(0, min(len(value) // 8, 3) * 8, 8)]
    # A missing seconds part is often written 0/0; a missing degrees part leaves no angle.
    if parts[0][1] == 0 or any(bottom == 0 and top != 0 for top, bottom in parts):
        return None
    angle = float(sum(top / bottom / 60**power for power, (top, bottom) in enumerate(parts) if bottom))
    if not math.isfinite(angle) or not 0 <= angle <= most:
        return None
    return -angle if side[:1].upper() == sides[1] else angle
