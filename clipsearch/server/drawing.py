"""Pictures whose decoders are kept out of the server: documents, SVG and camera files, drawn by a worker process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from clipsearch.config import Settings
from clipsearch.errors import ClipSearchError, PictureError
from clipsearch.media.decode import HEAD, is_guarded
from clipsearch.media.documents.opening import is_pdf

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.encoders.base import Pixels

_AT_ONCE, _PATIENCE = 2, 10.0
_PLACES = threading.BoundedSemaphore(_AT_ONCE)
"""For workers and for frames of films: each takes a core and memory of its own, and up to some seconds."""


class _Kept:
    """What a page is made ready for: it keeps the picture. picture_side: pixels of the shorter side."""

    def __init__(self, side: int) -> None:
        self.picture_side = side
        self.picture: Image | None = None

    def preprocess(self, picture: Image) -> Pixels:
        """Keep a picture."""
        self.picture = picture
        return ()


@contextmanager
def place() -> Iterator[None]:
    """Wait for one of the few places of what takes long. Raises PictureError if none becomes free."""
    if not _PLACES.acquire(timeout=_PATIENCE):
        raise PictureError("too many pictures are being drawn; ask again")
    try:
        yield
    finally:
        _PLACES.release()


def is_drawn_apart(data: bytes, page: int | None = None) -> bool:
    """Tell whether a picture, or the page of a file, is drawn by a worker process."""
    return page is not None or is_guarded(data) or is_pdf(data[:HEAD])


def draw_apart(data: bytes, side: int, settings: Settings, page: int | None = None) -> Image:
    """Decode a picture or draw a page in a worker process with the limits of indexing. It blocks.

    side: pixels that the shorter side should have at least. Raises PictureError, also where the worker broke.
    """
    from indexer.isolation import IsolatedReader
    from indexer.worker_process import Limits

    limits = Limits(settings.decode_seconds, settings.decode_memory)
    try:
        with place(), IsolatedReader(limits) as reader:
            if page is None and not is_pdf(data[:HEAD]):
                return reader.decode(data, min_side=side, max_pixels=settings.max_pixels)[0]
            kept = _Kept(side)
            with reader.document(data) as pages:
                pages.prepare(page or 1, kept, max_pixels=settings.max_pixels)
    except PictureError:
        raise
    except ClipSearchError as error:
        raise PictureError(str(error)) from error
    if kept.picture is None:
        raise PictureError("it has no such page")
    return kept.picture
