"""Pixels of any mode and depth to RGB, as a viewer shows them."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

_STRIP = 1 << 20
"""Pixels that are converted at a time."""


def _shrink(picture: Image.Image, side: int) -> Image.Image:
    factor = min(picture.size) // side
    return picture.reduce(factor) if factor > 1 else picture


def to_rgb(picture: Image.Image, kind: str, side: int) -> Image.Image:
    """Convert any mode to RGB, as a viewer shows it, and shrink it; profiles count for CMYK and LAB only.

    It is done in strips of rows, so that beside the picture and the result no third one of full size is held.
    """
    if picture.mode in {"CMYK", "LAB"}:
        return _with_profile(_shrink(picture, side))
    if picture.mode == "RGB" and kind == "JPEG":
        return _shrink(picture, side)
    convert = _converter(picture, kind)
    factor, (width, height) = max(min(picture.size) // side, 1), picture.size
    if width * height <= _STRIP:
        return _shrink(convert(picture), side)
    rgb = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    rows = max(_STRIP // (width * factor), 1) * factor
    for top in range(0, height, rows):
        strip = convert(picture.crop((0, top, width, min(top + rows, height))))
        rgb.paste(strip.reduce(factor) if factor > 1 else strip, (0, top // factor))
    return rgb


def _converter(picture: Image.Image, kind: str) -> Callable[[Image.Image], Image.Image]:
    """Return what converts this picture, or any part of it, to RGB."""
    if picture.mode.startswith("I") or picture.mode == "F":
        shade, values = _shader(picture, kind), _reader(picture)
        return lambda part: Image.fromarray(shade(values(part))).convert("RGB")
    return _over_white if picture.has_transparency_data else _plain_rgb


def _plain_rgb(picture: Image.Image) -> Image.Image:
    return picture if type(picture) is Image.Image and picture.mode == "RGB" else picture.convert("RGB")


def _over_white(picture: Image.Image) -> Image.Image:
    plain = picture.convert("LA") if picture.mode == "La" else picture
    rgba = plain if plain.mode == "RGBA" else plain.convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return rgba.convert("RGB")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba.convert("RGB"), mask=alpha)
    return white


def _with_profile(picture: Image.Image) -> Image.Image:
    """Convert LAB, or CMYK by its own profile; CMYK without a usable profile by the plain formula."""
    from PIL import ImageCms

    profile = picture.info.get("icc_profile") or b""
    if picture.mode == "CMYK" and not profile:
        return picture.convert("RGB")
    try:
        source: Any = ImageCms.createProfile("LAB") if picture.mode == "LAB" else BytesIO(profile)
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        if picture.mode == "LAB":
            raise
        return picture.convert("RGB")
    assert converted is not None
    return converted


def _shader(picture: Image.Image, kind: str) -> Callable[[NDArray[Any]], NDArray[np.uint8]]:
    """Return what scales deep grey, any part of this picture, to uint8 (height, width).

    16 bits: by the real depth (65535, or 4095 for 12 bits, is white). 32-bit whole numbers: PNM by 65535; others by
    255 or 65535 where all values fit, else from least to most. Floats: 0 to 1 where all values fit, else from least
    to most of the finite ones; NaN is black.
    """
    if picture.mode.startswith("I;16"):
        table = _table_of_16_bits(picture)
        return lambda values: table[values]
    least, most = _finite_range(picture)
    tops = (1.0,) if picture.mode == "F" else (65535.0,) if kind == "PNM" else (255.0, 65535.0)
    top = next((top for top in tops if least >= 0 and most <= top), None)
    low, high = (0.0, top) if top is not None else (least, most)
    span = (high - low) or 1.0

    def shade(values: NDArray[Any]) -> NDArray[np.uint8]:
        clean = np.nan_to_num(values.astype(np.float64), copy=False, nan=low, posinf=high, neginf=low)
        return np.rint(np.clip((clean - low) / span, 0, 1) * 255).astype(np.uint8)

    return shade


def _reader(picture: Image.Image) -> Callable[[Image.Image], NDArray[Any]]:
    """Return what gives the numbers of any part of a picture; those of 32 bits in a TIFF seldom have a sign."""
    is_tiff = picture.mode == "I" and isinstance(picture, TiffImagePlugin.TiffImageFile)
    if is_tiff and picture.tag_v2.get(339, (1,)) == (1,) and picture.tag_v2.get(258) == (32,):  # type: ignore[attr-defined]
        return lambda part: np.asarray(part).view(np.uint32)
    return np.asarray


def _table_of_16_bits(picture: Image.Image) -> NDArray[np.uint8]:
    bits, inverted = 16, False
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        bits = int(picture.tag_v2.get(258, (16,))[0])
        inverted = picture.tag_v2.get(262) == 0
    top = (1 << bits) - 1 if 8 < bits < 16 else 65535
    table: NDArray[np.uint8] = np.rint(np.minimum(np.arange(65536) / top, 1) * 255).astype(np.uint8)
    if inverted:
        table = 255 - table
    return table


def _finite_range(picture: Image.Image) -> tuple[float, float]:
    """Return the minimum and maximum finite value, 0 and 0 without any; computed strip by strip."""
    (width, height), least, most = picture.size, np.inf, -np.inf
    rows, read = max(_STRIP // width, 1), _reader(picture)
    for top in range(0, height, rows):
        values = read(picture.crop((0, top, width, min(top + rows, height))))
        finite = values[np.isfinite(values)]
        if finite.size:
            least, most = min(least, float(finite.min())), max(most, float(finite.max()))
    return (least, most) if least <= most else (0.0, 0.0)
