"""What every reader of documents offers, and the bounds that hold for all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

from clipsearch.errors import PictureError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PAGES = 10_000
"""Pages of a document that are looked at; those behind them are left out."""

MAX_PAGE_TEXT = 200_000
"""Characters that are read of one page."""

MAX_TEXT = 1 << 24
"""Characters that are read of one document without pages, and of all pages of one that has them."""

MAX_UNPACKED = 1 << 28
"""Bytes that the files in a document may have together once they are unpacked."""

_SOFT_HYPHENS = re.compile("[\x02\ufffe]\\s*|\u00ad\\s*\n\\s*")
_CONTROLS = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]+")


class Document(Protocol):
    """A document that is open; used by one thread at a time.

    pages: how many it has, those that are looked at; of one without pages how many sections, at least 1.
    has_pages: whether `pages` counts pages. can_draw: whether these can be drawn.
    """

    @property
    def pages(self) -> int:
        """As above."""

    @property
    def has_pages(self) -> bool:
        """As above."""

    @property
    def can_draw(self) -> bool:
        """As above."""

    def text(self, page: int) -> str:
        """Return the text of a page, from 1, in NFC; "" for one without text. Raises DocumentError."""

    def render(self, page: int, side: int, max_pixels: int) -> Image:
        """Draw a page, from 1, as an RGB picture of about `side` pixels on its shorter side. Raises PictureError."""

    def close(self) -> None:
        """Give back what it holds."""


class Flowing:
    """What documents that no program here can draw have in common."""

    has_pages = False
    can_draw = False

    def render(self, page: int, side: int, max_pixels: int) -> Image:
        """Raise PictureError: it depends on the program and its fonts."""
        raise PictureError("a document whose pages cannot be drawn")

    def close(self) -> None:
        """Do nothing: it holds nothing open."""


def clean_text(text: str) -> str:
    """Return text as a passage may hold it: words that were divided at the end of a line joined, no controls."""
    text = _SOFT_HYPHENS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _CONTROLS.sub(" ", text).replace("\f", "\n\n").replace("\v", "\n")


class LineWriter:
    """Collects the text of a document without pages, block by block; white space in it counts as one blank."""

    def __init__(self, limit: int = MAX_TEXT) -> None:
        """Take no more than `limit` characters."""
        self._blocks: list[str] = []
        self._parts: list[str] = []
        self._left = limit

    @property
    def is_full(self) -> bool:
        """Whether nothing more is taken."""
        return self._left <= 0

    def write(self, text: str) -> None:
        """Take text of the block."""
        self._parts.append(text[: self._left])
        self._left -= len(self._parts[-1])

    def end_line(self) -> None:
        """Begin another line of the block."""
        self._parts.append("\n")

    def end_block(self) -> None:
        """Begin another block, which an empty line divides from the last one."""
        lines = ("".join(self._parts)).split("\n")
        block = "\n".join(line for line in (" ".join(line.split()) for line in lines) if line)
        if block:
            self._blocks.append(block)
        self._parts = []

    def text(self) -> str:
        """Return all of it."""
        self.end_block()
        return "\n\n".join(self._blocks)
