"""Pictures that come in, which are decoded within limits, and pictures that go out, by the ids of their items."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from clipsearch.errors import MediaError
from clipsearch.media.decode import HEAD, picture_kind
from clipsearch.media.drawing import is_drawn_apart
from clipsearch.media.films.process import check_film
from clipsearch.present import position_payload
from clipsearch.query.embedding import open_image
from clipsearch.query.engine import SearchEngine
from clipsearch.server.sending import BusyError
from clipsearch.server.service import Service
from clipsearch.types import Item, PartPosition

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.crop import Written
    from clipsearch.store.picture_files import OpenPicture

_FRAMES = threading.BoundedSemaphore(2)
"""Frames of films that are decoded at a time, each in a process of its own."""

_DRAWINGS = threading.BoundedSemaphore(2)
"""Pictures and pages that are drawn at a time, each in a process of its own."""

_PATIENCE = 0.5
"""Seconds that a request waits for its turn, in a thread that others need too."""

MAX_FILE = 256 << 20
"""Bytes of the largest file that is given out or reduced."""

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "JPEG2000": "image/jp2",
    "PNM": "image/x-portable-anymap",
    "AVIF": "image/avif",
    "HEIF": "image/heif",
}


def open_given(service: Service, source: bytes | str, crop: Written | None = None, side: int = 0) -> Image:
    """Decode a picture of a request: the bytes of a file, or where the server allows that, a URL. It blocks.

    crop: a part of it. side: pixels that the shorter side needs, if that is more than the encoder does.

    Raises InvalidInputError, MediaError, or BusyError where too many are drawn.
    """
    from clipsearch.media.fetch import fetch_bytes

    engine, limits = service.engine, service.settings
    pixels = min(limits.max_pixels, engine.settings.max_pixels)
    size = min(limits.max_upload, engine.settings.max_picture_bytes)
    bounded = replace(engine.settings, max_pixels=pixels, max_picture_bytes=size)
    data = (
        fetch_bytes(source, max_bytes=size, allow_private=bounded.allow_private_urls)
        if isinstance(source, str)
        else source
    )
    with _turn(_DRAWINGS) if is_drawn_apart(data) else nullcontext():
        return open_image(data, max(side, engine.encoder.picture_side), bounded, crop)


def find_item(engine: SearchEngine, item_id: int) -> Item | None:
    """Return an item by its id; None for an unknown one. It blocks."""
    with engine.library.read() as snapshot:
        return next(iter(snapshot.items_by_id([item_id])), None)


def parts_of(engine: SearchEngine, found: Item) -> list[dict[str, Any]]:
    """Return the payloads of the frames of a film or the pages of a document; none of any other item. It blocks."""
    if found.media is None:
        return []
    with engine.library.read() as snapshot:
        return [position_payload(part.number, part.position) for part in snapshot.picture_parts(found.id)]


@contextmanager
def open_picture(engine: SearchEngine, item_id: int) -> Iterator[OpenPicture]:
    """Open the picture of an item; no link is followed. It blocks. Raises MediaError."""
    from clipsearch.store.picture_files import open_picture_of

    with open_picture_of(engine.library, item_id) as picture:
        yield picture


def read_file(engine: SearchEngine, picture: OpenPicture) -> tuple[bytes, str]:
    """Return a picture as it is, and its media type. It blocks. Raises MediaError."""
    data = picture.read(min(MAX_FILE, engine.settings.max_picture_bytes))
    kind = picture_kind(data[:HEAD])
    if kind not in MEDIA_TYPES:
        raise MediaError("what is there is not a picture")
    return data, MEDIA_TYPES[kind]


def make_thumbnail(engine: SearchEngine, picture: OpenPicture, side: int, part: int = 0) -> bytes:
    """Return a picture as a JPEG of at most `side` pixels. It blocks. Raises MediaError, BusyError.

    part: the number of a frame of a film, or of a page of a document.
    """
    from clipsearch.gallery.tiles import encode_frame, encode_thumbnail

    position = position_of(picture, part)
    if position is not None and position.time is not None:
        if picture.descriptor is None:
            raise MediaError("its film is not kept")
        check_film(picture.descriptor, engine.settings.max_film_bytes)
        with _turn(_FRAMES):
            return encode_frame(picture.descriptor, position.time, side, engine.settings)
    data = picture.read(min(MAX_FILE, engine.settings.max_picture_bytes))
    page = None if position is None else position.page
    with _turn(_DRAWINGS) if is_drawn_apart(data, page) else nullcontext():
        return encode_thumbnail(data, side, engine.settings.max_pixels, page)


@contextmanager
def _turn(slots: threading.BoundedSemaphore) -> Iterator[None]:
    """Wait a little for a turn, which lasts as long as the block. Raises BusyError."""
    if not slots.acquire(timeout=_PATIENCE):
        raise BusyError("Other pictures are being drawn. Try again in a second.")
    try:
        yield
    finally:
        slots.release()


def position_of(picture: OpenPicture, part: int) -> PartPosition | None:
    """Return where a part lies; None of an item that is one picture. Raises MediaError for one that there is not."""
    for each in picture.parts:
        if each.number == part:
            return each.position
    if part or picture.parts:
        raise MediaError(f"it has no part {part}")
    return None
