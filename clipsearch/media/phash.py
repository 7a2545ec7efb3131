"""A perceptual hash: pictures that look alike differ in few bits.

The pHash of Zauner 2010 ("Implementation and Benchmarking of Perceptual Image Hash Functions"): the signs of the low
frequencies of a small grey picture. Scaling, recompression, brightness and small marks change few of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 32
"""Pixels: the side of the small picture."""

_LOW = 8
_MIN_SPREAD = 4.0  # levels of grey; below, the low frequencies of a picture are noise
_POSITIONS = np.arange(SIDE)
_COSINES = np.cos(np.pi / SIDE * (_POSITIONS + 0.5) * np.arange(_LOW)[:, None]).astype(np.float32)


def perceptual_hash(picture: Image) -> int | None:
    """Return the bits of an upright picture; None for one that is all but of one grey, which has no hash.

    There are 63, as 64 bits; the mean brightness is left out.
    """
    from PIL.Image import Resampling

    small = picture.convert("L").resize((SIDE, SIDE), Resampling.BILINEAR, reducing_gap=2.0)
    grey = np.asarray(small, np.float32)
    if grey.std() < _MIN_SPREAD:
        return None
    low = (_COSINES @ grey @ _COSINES.T).ravel()
    return int.from_bytes(np.packbits(low[1:] > np.median(low[1:])).tobytes(), "big")


def distance(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count the bits in which hashes differ: int64, of the shape that the two broadcast to."""
    counts: NDArray[np.int64] = np.bitwise_count(one ^ other).astype(np.int64)
    return counts
