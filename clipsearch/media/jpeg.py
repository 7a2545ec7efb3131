"""The markers of a JPEG: where its scans end, and a whole file made of one that lacks its end.

Phones and stitching programs leave out the end marker, or put films and records behind the picture. Viewers show what
is there; libjpeg does too once the data ends with the marker. Markers: ITU-T T.81, annex B.
"""

from __future__ import annotations

import re

from PIL import Image

from clipsearch.errors import PictureError

MAX_SCANS = 500
"""A few kilobytes can hold thousands of scans, each of which costs a pass over all pixels."""

LEAST_ROWS = 0.9
"""The share of its rows that a picture without an end must have; of less, it is refused."""

_END = b"\xff\xd9"
_SCAN = 0xDA
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")
"""What ends the data of a scan: any marker but a restart; 0xFF 0x00 stands for a byte 0xFF."""

_BETWEEN_SCANS = frozenset({0xC4, _SCAN, 0xDB, 0xDC, 0xDD, 0xFE, *range(0xE0, 0xF0)})
"""Markers of segments that may follow a scan: DHT, SOS, DQT, DNL, DRI, COM, APPn."""

_BLOCK = 16
"""Rows that are coded together at most."""


def check_scans(data: bytes) -> None:
    """Raise PictureError for a JPEG of more than MAX_SCANS scans; what lies behind its end does not count."""
    if data.count(b"\xff\xda") > MAX_SCANS and _walk(data)[1] > MAX_SCANS:
        raise PictureError(f"a progressive JPEG with more than {MAX_SCANS} scans")


def with_end(data: bytes) -> bytes:
    """Return the picture up to the last byte of its last scan that makes sense, with an end marker."""
    return data[: _walk(data)[0]] + _END


def share_of_rows(picture: Image.Image, scale: int) -> float:
    """Tell how much of a picture that was cut off was there: libjpeg fills what is missing with one color.

    scale: by how much it was reduced while it was decoded. A picture that ends in a plain area seems to have less.
    """
    (width, height), rows, block = picture.size, 0, _BLOCK // scale
    while rows < height and _is_filled(picture.crop((0, max(0, height - rows - block), width, height - rows))):
        rows += block
    return max(0.0, 1 - rows / height)


def _is_filled(strip: Image.Image) -> bool:
    extrema = strip.getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in bands)


def _walk(data: bytes) -> tuple[int, int]:
    """Return where the last scan ends, and how many there are, up to one more than MAX_SCANS."""
    at, scans, end = 2, 0, len(data)
    while scans <= MAX_SCANS:
        marker = _MARKER.match(data, at)
        kind = marker[1][0] if marker else 0
        length = int.from_bytes(data[marker.end() : marker.end() + 2], "big") if marker else 0
        is_odd = kind not in _BETWEEN_SCANS if scans else kind < 0xC0 or kind == 0xD9
        if marker is None or is_odd or length < 2 or marker.end() + length > len(data):
            return end, scans
        at = marker.end() + length
        if kind == _SCAN:
            scans += 1
            found = _MARKER.search(data, at)
            at = end = found.start() if found else len(data)
    return end, scans
