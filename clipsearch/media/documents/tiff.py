"""The pages of a TIFF that has several, as scanners and fax machines write it; each is decoded when it is asked for."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING

from PIL import TiffImagePlugin

from clipsearch.errors import DocumentError
from clipsearch.media.decode import decode_frame
from clipsearch.media.documents.base import MAX_PAGES
from clipsearch.media.tiff import full_pages

if TYPE_CHECKING:
    from PIL.Image import Image

_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}


class TiffReader:
    """A TIFF whose pages are known: directories of full size, not smaller versions of others, nor masks."""

    has_pages = can_draw = True

    def __init__(self, data: bytes) -> None:
        """Find its pages. Raises DocumentError where there is none; whatever Pillow raises for damage."""
        self._data = data
        self._frames = full_pages(TiffImagePlugin.TiffImageFile(BytesIO(data)), MAX_PAGES)
        self.pages = len(self._frames)
        if not self.pages:
            raise DocumentError("a TIFF without a full page")

    def text(self, page: int) -> str:
        """Return nothing: it has no text."""
        return ""

    def render(self, page: int, side: int, max_pixels: int) -> Image:
        """Decode a page. Raises PictureError."""
        return decode_frame(self._data, self._frames[page - 1], side, max_pixels)

    def close(self) -> None:
        """Do nothing: it holds nothing open."""


def has_directories(data: bytes) -> bool:
    """Tell whether a file is a TIFF of more than one directory; nothing else of it is looked at."""
    order = _ORDERS.get(data[:4])
    if order is None:
        return False
    try:
        (first,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, first)
        (second,) = struct.unpack_from(order + "I", data, first + 2 + 12 * count)
    except struct.error:
        return False
    return 0 < int(second) < len(data)
