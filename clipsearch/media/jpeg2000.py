"""The depth of a JPEG 2000, whose colors Pillow reads wrongly where they have more than 8 bits.

Rounding takes white to 256, which becomes 0: black, or transparent. A single channel is read with all its bits. The
marker segment SIZ: ITU-T T.800, annex A.5.1.
"""

from __future__ import annotations

from clipsearch.errors import PictureError

_SIZE = b"\xff\x4f\xff\x51"
_CHANNELS, _DEPTHS = 40, 42
"""Where they stand, from the start of the code stream."""


def check_depth(data: bytes) -> None:
    """Raise PictureError for colors of more than 8 bits."""
    start = data.find(_SIZE)
    channels = int.from_bytes(data[start + _CHANNELS : start + _DEPTHS], "big") if start >= 0 else 0
    depths = data[start + _DEPTHS : start + _DEPTHS + 3 * min(channels, 4) : 3]
    if channels > 1 and depths and (deepest := max((depth & 0x7F) + 1 for depth in depths)) > 8:
        raise PictureError(f"a JPEG 2000 with colors of {deepest} bits; save it with 8 bits a sample")
