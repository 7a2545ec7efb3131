"""Who decodes pictures for the indexer: this process, or worker processes (indexer/isolation.py)."""

from __future__ import annotations

from typing import Protocol

from PIL.Image import Image

from clipsearch.media.decode import decode_picture
from clipsearch.media.image_metadata import Embedded, read_embedded
from clipsearch.types import PictureInfo


class PictureReader(Protocol):
    """Decodes pictures; called from several threads."""

    def decode(self, data: bytes, *, min_side: int, max_pixels: int) -> tuple[Image, PictureInfo, Embedded]:
        """Decode a picture as `media.decode.decode_picture` does, and read its words. Raises PictureError."""

    def words(self, data: bytes) -> Embedded:
        """Read the words of a picture alone. Raises PictureError for one that breaks what decodes it."""

    def close(self) -> None:
        """Give back what it holds; nobody may be decoding."""


class DirectReader:
    """Decodes in this process: the fastest way, but a decoder that crashes ends the run."""

    def decode(self, data: bytes, *, min_side: int, max_pixels: int) -> tuple[Image, PictureInfo, Embedded]:
        """Decode a picture and read its words. Raises PictureError."""
        picture, info = decode_picture(data, min_side=min_side, max_pixels=max_pixels)
        return picture, info, read_embedded(data)

    def words(self, data: bytes) -> Embedded:
        """Read the words of a picture; never raises."""
        return read_embedded(data)

    def close(self) -> None:
        """Do nothing: it holds nothing."""
