"""Pictures that a caller holds in memory already, as pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clipsearch.errors import InvalidInputError, PictureError


def from_array(pixels: NDArray[Any], max_pixels: int) -> Image.Image:
    """Copy an array of pixels into an RGB picture.

    Args:
        pixels: uint8 (height, width, 3), red, green and blue.
        max_pixels: The most pixels that a picture may have.

    Raises:
        InvalidInputError: The array is of another type or shape, or holds no pixel.
        PictureError: It has more pixels.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise InvalidInputError(
            f"An array of pixels is uint8 of shape (height, width, 3), not {pixels.dtype} of shape {pixels.shape}."
        )
    check_size(pixels.shape[1], pixels.shape[0], max_pixels)
    return Image.fromarray(np.array(pixels, order="C"))  # a copy: the caller may use the array again


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise PictureError for a picture of more pixels than `max_pixels`, or of none."""
    if not 0 < width * height <= max_pixels:
        raise PictureError(f"{width} x {height} pixels, over the limit of {max_pixels} (setting max_pixels)")
