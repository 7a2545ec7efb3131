"""A part of a picture: how it is written, and how it is cut out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clipsearch.errors import InvalidInputError

if TYPE_CHECKING:
    from PIL.Image import Image

Written = str | Sequence[float]
"""A crop as a caller writes it; see `Crop.read`."""

_PIXELS = "px"
_EPSILON = 1e-9
_WHOLE, _MOST = 1 << 20, 4096
_REMEDY = (
    "Write X,Y,WIDTH,HEIGHT as shares of the upright picture from 0 to 1, such as 0.25,0.1,0.5,0.4, or in pixels with "
    "px at the end, such as 120,80,400,300px."
)


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of an upright picture.

    Attributes:
        left: From the left edge.
        top: From the upper edge.
        width: Above 0.
        height: Above 0.
        in_pixels: Whether these are pixels; else they are shares of the picture's width and height, from 0 to 1.

    Raises:
        InvalidInputError: It has no area, or lies outside of the picture.
    """

    left: float
    top: float
    width: float
    height: float
    in_pixels: bool = False

    def __post_init__(self) -> None:
        edges = (self.left, self.top, self.width, self.height)
        most = math.inf if self.in_pixels else 1 + _EPSILON
        is_inside = self.left + self.width <= most and self.top + self.height <= most
        if not all(map(math.isfinite, edges)) or min(edges) < 0 or not (self.width and self.height and is_inside):
            raise InvalidInputError(f"The crop {self} is no part of a picture. {_REMEDY}")
        if self.in_pixels and any(edge != int(edge) for edge in edges):
            raise InvalidInputError(f"The crop {self} has parts of pixels. {_REMEDY}")

    @classmethod
    def read(cls, written: Written | Crop) -> Crop:
        """Read a crop as it is written, or as four numbers, which are shares. Raises InvalidInputError for others."""
        if isinstance(written, Crop):
            return written
        if not isinstance(written, str | Sequence) or isinstance(written, bytes):
            raise InvalidInputError(f"A crop is four numbers, not {written!r:.80}. {_REMEDY}")
        in_pixels = isinstance(written, str) and written.strip().endswith(_PIXELS)
        parts = written.strip().removesuffix(_PIXELS).split(",") if isinstance(written, str) else written
        try:
            left, top, width, height = map(float, parts)
        except (TypeError, ValueError):
            raise InvalidInputError(f"The crop {written!r:.80} is not four numbers. {_REMEDY}") from None
        return cls(left, top, width, height, in_pixels)

    def __str__(self) -> str:
        numbers = ",".join(f"{edge:.12g}" for edge in (self.left, self.top, self.width, self.height))
        return numbers + _PIXELS * self.in_pixels

    def decoded_side(self, side: int) -> int:
        """Return the pixels of the whole picture's shorter side that give the part `side` pixels, or all that it has.

        A part in pixels needs the picture in full size.
        """
        if self.in_pixels:
            return _WHOLE
        return min(math.ceil(side / max(min(self.width, self.height), _EPSILON)), max(side, _MOST))

    def cut(self, picture: Image) -> Image:
        """Cut the part out of an upright picture, at least one pixel. Raises InvalidInputError where it has no such."""
        across, down = picture.size
        if self.in_pixels and (self.left + self.width > across or self.top + self.height > down):
            raise InvalidInputError(f"The crop {self} reaches beyond the picture of {across} x {down} pixels.")
        scale = (1, 1) if self.in_pixels else picture.size
        left, top = min(round(self.left * scale[0]), across - 1), min(round(self.top * scale[1]), down - 1)
        right, bottom = round((self.left + self.width) * scale[0]), round((self.top + self.height) * scale[1])
        return picture.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
