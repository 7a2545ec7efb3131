"""PDF, by pypdfium2 (PDFium; extra `documents`). Forms are not filled and scripts never run.

PDFium may be called by one thread of a process at a time, which a lock sees to.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any

from clipsearch.errors import DocumentError, PictureError
from clipsearch.media.documents.base import MAX_PAGE_TEXT, MAX_PAGES, clean_text
from clipsearch.words import normalize

if TYPE_CHECKING:
    from PIL.Image import Image

_LOCK = threading.Lock()
_PASSWORD, _SECURITY = 4, 5
_MAX_SIDE = 4096
"""Pixels of the longer side of a page that is drawn."""


class PdfReader:
    """A PDF that is open."""

    has_pages = can_draw = True

    def __init__(self, data: bytes) -> None:
        """Open it. Raises DocumentError for one that is damaged or needs a password."""
        import pypdfium2

        self._error: type[Exception] = pypdfium2.PdfiumError
        try:
            with _LOCK:
                self._pdf: Any = pypdfium2.PdfDocument(data)
                self.pages = min(len(self._pdf), MAX_PAGES)
        except pypdfium2.PdfiumError as error:
            # Where PDFium sets no code, as for a PDF without pages, that of an earlier file is still there.
            if getattr(error, "err_code", 0) in {_PASSWORD, _SECURITY} and b"/Encrypt" in data:
                raise DocumentError("a PDF that is protected by a password") from error
            raise DocumentError("damaged PDF file, or one without pages") from error
        if self.pages < 1:
            self.close()
            raise DocumentError("a PDF without pages")

    def text(self, page: int) -> str:
        """Return the text of a page; "" for one that cannot be read, too."""
        with _LOCK:
            try:
                opened = self._pdf[page - 1]
            except self._error:
                return ""
            try:
                found = opened.get_textpage()
                try:
                    text = found.get_text_range(0, min(found.count_chars(), MAX_PAGE_TEXT))
                finally:
                    found.close()
            except (self._error, ValueError, UnicodeError):
                return ""
            finally:
                opened.close()
        return normalize(clean_text(str(text)[:MAX_PAGE_TEXT]))

    def render(self, page: int, side: int, max_pixels: int) -> Image:
        """Draw a page."""
        with _LOCK:
            try:
                opened = self._pdf[page - 1]
                try:
                    scale = _scale(opened.get_size(), side, max_pixels)
                    bitmap = opened.render(scale=scale, may_draw_forms=False, rev_byteorder=True)
                    picture: Image = bitmap.to_pil().convert("RGB")
                    bitmap.close()
                finally:
                    opened.close()
            except self._error as error:
                raise PictureError(f"page {page} is damaged") from error
        return picture

    def close(self) -> None:
        """Close it."""
        with _LOCK:
            self._pdf.close()


def _scale(size: tuple[float, float], side: int, max_pixels: int) -> float:
    """Return by how much points become pixels: as many as are wanted, but never more than may be."""
    width, height = size
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        raise PictureError("a page without a size")
    scale = min(side / min(width, height), _MAX_SIDE / max(width, height))
    # What is drawn has four bytes a pixel, and is copied once.
    return min(scale, math.sqrt(max_pixels / (2 * width * height)))
