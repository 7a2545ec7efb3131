"""Who decodes pictures for the indexer: this process, or worker processes (indexer/isolation.py)."""

from __future__ import annotations

from typing import Protocol

from PIL.Image import Image

from clipsearch.encoders.base import Pixels
from clipsearch.media.decode import decode_picture
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


class PictureReader(Protocol):
    """Makes the bytes of picture files ready for an encoder; called from several threads."""

    def prepare(self, data: bytes, encoder: PictureInput, *, max_pixels: int) -> Prepared:
        """Decode a picture as `media.decode.decode_picture` does, preprocess it for the encoder, and read its words.

        Raises PictureError, and what the encoder's own `preprocess` raises. The pixels are read-only.
        """

    def words(self, data: bytes) -> Embedded:
        """Read the words of a picture alone. Raises PictureError for one that breaks what decodes it."""

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

    def close(self) -> None:
        """Do nothing: it holds nothing."""
