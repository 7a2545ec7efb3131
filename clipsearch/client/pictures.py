"""Pictures that are searched by or added, as the bytes of files: what a server is sent."""

from __future__ import annotations

import base64
import io
import os
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.errors import InvalidInputError, PictureError
from clipsearch.paths import is_url

if TYPE_CHECKING:
    from clipsearch.query.embedding import Picture

MAX_BYTES = 256 << 20
"""Of a file that is read to be sent; the server may take fewer."""


def read_picture_file(image: Picture) -> bytes:
    """Return the file of a picture; what has none, a Pillow image or pixels, becomes a PNG, which keeps all of it.

    A path is read, and a URL fetched, here and not by the server. Raises InvalidInputError for anything that is not a
    picture, PictureError for one that cannot be read.
    """
    if isinstance(image, str | os.PathLike):
        return _read(image)
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, np.ndarray):
        from clipsearch.media.pixels import from_array

        image = from_array(image, MAX_BYTES)
    if not hasattr(image, "convert"):
        raise InvalidInputError(
            f"A picture is a path, a URL, bytes, a Pillow image or a uint8 array, not {type(image).__name__}."
        )
    from clipsearch.media.decode import upright_rgb

    written = io.BytesIO()
    upright_rgb(image).save(written, "PNG", compress_level=1)
    return written.getvalue()


def data_url(data: bytes) -> str:
    """Return the file of a picture as JSON brings it."""
    return f"data:;base64,{base64.b64encode(data).decode()}"


def shown(image: Picture) -> str:
    """Return a picture as an answer shows it."""
    return os.fspath(image) if isinstance(image, str | os.PathLike) else "picture"


def _read(source: str | os.PathLike[str]) -> bytes:
    if not os.fspath(source):
        raise InvalidInputError("The path of the picture is empty. Name a picture file.")
    if is_url(source):
        from clipsearch.media.fetch import fetch_bytes

        return fetch_bytes(os.fspath(source), max_bytes=MAX_BYTES)
    from clipsearch.media.decode import read_bytes

    try:
        return read_bytes(source, MAX_BYTES)
    except PictureError as error:
        raise PictureError(f"{os.fspath(source)}: {error}") from error
