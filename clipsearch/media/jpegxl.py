"""JPEG XL, by imagecodecs (libjxl; extra `jxl`): size and EXIF from the head, pixels only when they are loaded.

The head: ISO/IEC 18181-1 (SizeHeader, ImageMetadata). The boxes of a file that is a container: ISO/IEC 18181-2.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from clipsearch.errors import PictureError
from clipsearch.media.extras import require_extra
from clipsearch.media.lazy import LazyPixels

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"

_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_DISTANT = ((9, 1), (13, 1), (18, 1), (30, 1))
_MAX_BOXES = 1000
_MAX_BLOCK = 1 << 22


class JpegXl(ImageFile.StubImageFile):
    """A JPEG XL of which the head was read. `load` makes it a plain picture, upright, of its first frame."""

    format = "JPEG XL"

    def _open(self) -> None:
        assert self.fp is not None
        data = self.fp.read()
        boxes = dict(_boxes(data)) if data.startswith(CONTAINER) else {b"jxlc": data}
        if b"jxlc" in boxes and b"jxlp" in boxes:
            raise SyntaxError("two codestreams")  # the decoder may take the other one, of another size
        stream = boxes.get(b"jxlc") or boxes.get(b"jxlp", b"")[4:]
        if not stream.startswith(CODESTREAM):
            raise SyntaxError("no codestream")
        self._size = read_size(stream)
        self._mode = "RGB"
        self._handler = LazyPixels(lambda size: _load(data))
        exif = boxes.get(b"Exif", b"")
        if len(exif) > 4:
            self.info["exif"] = b"Exif\0\0" + exif[4 + int.from_bytes(exif[:4], "big") :]
        if xmp := boxes.get(b"xml "):
            self.info["xmp"] = xmp


def _load(data: bytes) -> Image.Image:
    """Decode the first frame; deep samples are reduced to 8 bits."""
    require_extra("jxl", "JPEG XL files")
    import imagecodecs

    try:
        pixels = imagecodecs.jpegxl_decode(data, 0, numthreads=1)
    except (RuntimeError, ValueError) as error:
        raise PictureError(_reason(error)) from error
    return Image.fromarray(_to_bytes(np.asarray(pixels)))


def read_size(stream: bytes) -> tuple[int, int]:
    """Return width and height in upright pixels, as the head of a codestream says."""
    bits = _Bits(stream[2:34])
    is_small = bits.take(1)

    def side() -> int:
        if is_small:
            return (bits.take(5) + 1) * 8
        count, least = _DISTANT[bits.take(2)]
        return bits.take(count) + least

    height = side()
    ratio = bits.take(3)
    width = height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1] if ratio else side()
    is_turned = not bits.take(1) and bits.take(1) and bits.take(3) >= 4  # all_default, extra_fields, orientation - 1
    return (height, width) if is_turned else (width, height)


class _Bits:
    """A number that is read from its lowest bits on."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        taken = self._value & ((1 << count) - 1)
        self._value >>= count
        return taken


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and contents of boxes, the last of a kind first; codestreams are cut to their head."""
    found: list[tuple[bytes, bytes]] = []
    at = 0
    for _ in islice(iter(int, 1), _MAX_BOXES):
        size, kind, start = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = at + size if size else len(data)
        if len(kind) < 4 or end < start:
            break
        most = 64 if kind in {b"jxlc", b"jxlp"} else _MAX_BLOCK
        if end - start <= most or kind in {b"jxlc", b"jxlp"}:
            found.append((kind, data[start : min(end, start + most)]))
        at = end
    else:
        raise SyntaxError("too many boxes")
    return reversed(found)


def _to_bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Reduce samples of any depth to uint8; grey with transparency gets three colors."""
    if pixels.dtype.kind == "f":
        pixels = np.rint(np.clip(np.nan_to_num(pixels.astype(np.float32)), 0, 1) * 255)
    elif pixels.dtype != np.uint8:
        pixels = pixels >> 8 if pixels.dtype == np.uint16 else pixels
    pixels = pixels.astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] in {1, 2}:
        grey = np.repeat(pixels[:, :, :1], 3, axis=2)
        pixels = np.concatenate([grey, pixels[:, :, 1:]], axis=2)
    return np.ascontiguousarray(pixels[:, :, :4] if pixels.ndim == 3 else pixels)


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())[:120]
    return "truncated JPEG XL file" if "NEED_MORE_INPUT" in text else f"damaged JPEG XL file ({text})"
