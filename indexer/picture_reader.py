"""Who decodes pictures for the indexer: this process, or worker processes (indexer/isolation.py)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Protocol

from PIL.Image import Image

from clipsearch.encoders.base import Pixels
from clipsearch.media.decode import OVERSIZE, decode_picture
from clipsearch.media.documents.base import Document
from clipsearch.media.documents.opening import open_document
from clipsearch.media.image_metadata import Embedded, read_embedded
from clipsearch.types import PictureInfo

Prepared = tuple[Pixels, PictureInfo, Embedded]
"""The inputs of the encoder, the facts of a picture, and its words."""


class PictureInput(Protocol):
    """What pictures are made ready for: an encoder, or whatever else looks at them.

    picture_side: pixels of the shorter side that it needs.
    """

    @property
    def picture_side(self) -> int:
        """As above."""

    def preprocess(self, picture: Image) -> Pixels:
        """Return what it looks at, for an upright RGB picture."""


class DocumentPages(Protocol):
    """A document that is open; used by one thread. pages, has_pages, can_draw: as of `Document`."""

    @property
    def pages(self) -> int:
        """As above."""

    @property
    def has_pages(self) -> bool:
        """As above."""

    @property
    def can_draw(self) -> bool:
        """As above."""

    def texts(self) -> Iterator[str]:
        """Yield the text of each page, as `Document.text` returns it. Raises MediaError."""

    def prepare(self, page: int, encoder: PictureInput, *, max_pixels: int) -> Pixels:
        """Draw a page, from 1, and preprocess it for the encoder. Raises PictureError, and what `preprocess` raises."""


class PictureReader(Protocol):
    """Makes the bytes of picture files ready for an encoder; called from several threads."""

    def prepare(self, data: bytes, encoder: PictureInput, *, max_pixels: int) -> Prepared:
        """Decode a picture as `media.decode.decode_picture` does, preprocess it for the encoder, and read its words.

        Raises PictureError, and what the encoder's own `preprocess` raises. The pixels are read-only.
        """

    def words(self, data: bytes) -> Embedded:
        """Read the words of a picture alone. Raises PictureError for one that breaks what decodes it."""

    def document(self, data: bytes) -> AbstractContextManager[DocumentPages]:
        """Open a document, from the bytes of its file. Raises MediaError."""

    def close(self) -> None:
        """Give back what it holds; nobody may be decoding."""


class DirectReader:
    """Decodes in this process: it takes the least memory, but a decoder that crashes ends the run."""

    def prepare(self, data: bytes, encoder: PictureInput, *, max_pixels: int) -> Prepared:
        """Decode and preprocess a picture, and read its words. Raises PictureError."""
        picture, info = decode_picture(data, min_side=encoder.picture_side, max_pixels=max_pixels)
        return encoder.preprocess(picture), info, read_embedded(data)

    def words(self, data: bytes) -> Embedded:
        """Read the words of a picture; never raises."""
        return read_embedded(data)

    @contextmanager
    def document(self, data: bytes) -> Iterator[DocumentPages]:
        """Open a document. Raises DocumentError."""
        with closing(open_document(data)) as opened:
            yield DirectPages(opened)

    def close(self) -> None:
        """Do nothing: it holds nothing."""


class DirectPages:
    """A document that is read in this process."""

    def __init__(self, document: Document) -> None:
        """Take a document that is open."""
        self._document = document
        self.pages, self.has_pages, self.can_draw = document.pages, document.has_pages, document.can_draw

    def texts(self) -> Iterator[str]:
        """Yield the text of each page."""
        return map(self._document.text, range(1, self.pages + 1))

    def prepare(self, page: int, encoder: PictureInput, *, max_pixels: int) -> Pixels:
        """Draw a page and preprocess it. Raises PictureError."""
        return encoder.preprocess(self._document.render(page, page_side(encoder), max_pixels))


def page_side(encoder: PictureInput) -> int:
    """Return the pixels of the shorter side at which a page is drawn for an encoder."""
    return math.ceil(OVERSIZE * max(encoder.picture_side, 1))
