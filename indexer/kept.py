"""What a library keeps of the picture of a record: its file, or a thumbnail."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from clipsearch.encoders.base import Pixels
from clipsearch.errors import InvalidInputError
from indexer.picture_reader import PictureReader

THUMBNAIL, BYTES = "thumbnail", "bytes"

THUMBNAIL_SIDE = 320
"""Pixels of the longer side of a thumbnail."""

MAX_KEPT = 64 << 20
"""Bytes of a picture that is kept: it is a value in the catalog."""

_QUALITY = 85


def make_kept(content: bytes | Image.Image, keep: str, reader: PictureReader, max_pixels: int) -> bytes:
    """Return the file that is kept of a picture.

    content: its file, or an RGB picture, which is kept as PNG. Raises PictureError for a file that is not a picture,
    InvalidInputError for one that is too large.
    """
    if keep == THUMBNAIL:
        if isinstance(content, bytes):
            (pixels,), _, _ = reader.prepare(content, _Shrink(), max_pixels=max_pixels)
            return _write(Image.fromarray(pixels), "JPEG")
        return _write(_shrink(content), "JPEG")
    file = content if isinstance(content, bytes) else _write(content, "PNG")
    if len(file) > MAX_KEPT:
        raise InvalidInputError(
            f"the picture has {len(file)} bytes, but at most {MAX_KEPT} can be kept; keep a thumbnail of it"
        )
    return file


class _Shrink:
    """Makes thumbnails, where an encoder would prepare its input."""

    picture_side = THUMBNAIL_SIDE

    def preprocess(self, picture: Image.Image) -> Pixels:
        """Return a thumbnail: uint8 (h, w, 3)."""
        return (np.asarray(_shrink(picture)),)


def _shrink(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return small


def _write(picture: Image.Image, kind: str) -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, quality=_QUALITY)
    return written.getvalue()
