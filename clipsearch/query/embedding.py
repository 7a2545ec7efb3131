"""From what is looked for to a unit vector: by the encoder, or from the cache of texts asked before.

Nothing here loads the store, so that a process that was just started can embed its query while the store loads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, fitting
from clipsearch.errors import InvalidInputError, PictureError
from clipsearch.locations import cache_dir
from clipsearch.paths import is_url
from clipsearch.query.cache import QueryCache
from clipsearch.query.handover import Embedded
from clipsearch.types import EncoderPin

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.crop import Written
    from clipsearch.query.prefetch import Prefetch
    from clipsearch.store.snapshot import Snapshot

    Picture = str | os.PathLike[str] | bytes | Image | NDArray[np.uint8]


def require_fitting(snapshot: Snapshot, encoder: Encoder) -> None:
    """Raise EncoderChangedError unless the rows of a snapshot are of an encoder."""
    pin = snapshot.encoder
    if pin is not None and fitting(encoder, pin) is None:
        snapshot.require_encoder(EncoderPin(encoder.name, encoder.fingerprint, encoder.dim))


class Embedder:
    """Embeds queries for the libraries of one encoder; safe to share by threads."""

    def __init__(self, pin: EncoderPin, settings: Settings, encoder: Encoder | None = None) -> None:
        """Embed as pin says. encoder: that one, loaded when first needed unless given."""
        self.pin = pin
        self._settings = settings
        self._encoder = encoder
        self._lock = threading.Lock()
        self._prefetched: Prefetch | None = None
        keep = settings.query_cache and encoder is None and not pin.is_imported
        self._cache = QueryCache(cache_dir() / "queries", pin.fingerprint, pin.dim) if keep else None

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded on first use. Raises EncoderError or EncoderMismatchError if it is unavailable."""
        with self._lock:
            if self._encoder is None:
                from clipsearch.encoders import registry

                settings = self._settings
                self._encoder = registry.load_pinned(
                    self.pin, model=settings.model, threads=settings.cores, offline=settings.offline
                )
            return self._encoder

    def is_known(self, text: str) -> bool:
        """Tell whether the vector of a text is in the cache, so that no encoder is needed."""
        return self._cache is not None and self._cache.get(text) is not None

    def expect(self, prefetched: Prefetch) -> None:
        """Take the vector of a query that another process embeds, if that query is the next one."""
        self._prefetched = prefetched

    def text(self, text: str) -> Embedded:
        """Embed a search text. Raises InvalidInputError for one that is empty or no text."""
        _check_text(text)
        return self._take_prefetched(text, None) or self.embed_text(text)

    def texts(self, texts: Sequence[str]) -> list[Embedded]:
        """Embed several search texts, as `text` does, in order; those that are not in the cache together."""
        if len(texts) == 1:
            return [self.text(texts[0])]
        for text in texts:
            _check_text(text)
        found = {text: self._cache.get(text) if self._cache else None for text in texts}
        new = [text for text, vector in found.items() if vector is None]
        notes = {text: self._remarks(text) for text in new}
        for text, vector in zip(new, self.encoder.encode_queries(new) if new else (), strict=True):
            found[text] = vector
            if self._cache and not notes[text]:
                self._cache.put(text, vector)
        return [(vector, notes.get(text, ())) for text in texts if (vector := found[text]) is not None]

    def picture(self, image: Picture, crop: Written | None = None) -> Embedded:
        """Embed a picture, or a part of it. Raises InvalidInputError or PictureError for one that cannot be read."""
        if crop is not None:
            return self.embed_picture(image, crop)
        return self._take_prefetched(None, image) or self.embed_picture(image)

    def embed_text(self, text: str) -> Embedded:
        """Embed a text that is one, by cache or encoder."""
        vector = self._cache.get(text) if self._cache else None
        if vector is not None:
            return vector, ()
        notes = self._remarks(text)
        vector = self.encoder.encode_queries([text])[0]
        if self._cache and not notes:  # what is kept is not looked at again
            self._cache.put(text, vector)
        return vector, notes

    def embed_picture(self, image: Picture, crop: Written | None = None) -> Embedded:
        """Embed a picture, or a part of it, by the encoder."""
        picture = open_image(image, self.encoder.picture_side, self._settings, crop)
        vector: NDArray[np.float32] = self.encoder.encode_images([picture])[0]
        return vector, ()

    def _take_prefetched(self, text: str | None, image: Picture | None) -> Embedded | None:
        begun, self._prefetched = self._prefetched, None
        return None if begun is None or (text, image) != (begun.text, begun.image) else begun.result()

    def _remarks(self, text: str) -> tuple[str, ...]:
        """Say what of a text the encoder does not read."""
        unread = () if text.isascii() else self._find_unread(text)
        tokens, limit = self.encoder.count_tokens(text), self.encoder.max_tokens
        if tokens <= limit:
            return unread
        cut = f"The query has {tokens} tokens; {self.encoder.name} reads only the first {limit}. Shorten it to use all."
        return (*unread, cut)

    def _find_unread(self, text: str) -> tuple[str, ...]:
        from clipsearch.query.unicode_scripts import explain_unread  # which few queries need

        return explain_unread(text, self.encoder)


def open_image(image: Picture, side: int, settings: Settings, crop: Written | None = None) -> Image:
    """Open a picture, or a part of it, upright and RGB, for an encoder that needs `side` pixels on its shorter side.

    Raises InvalidInputError for anything that is not a picture, PictureError for one that cannot be read.
    """
    if crop is None:
        return _open(image, side, settings)
    from clipsearch.crop import Crop

    part = Crop.read(crop)
    return part.cut(_open(image, part.decoded_side(side), settings))


def _open(image: Picture, side: int, settings: Settings) -> Image:
    if isinstance(image, str | os.PathLike):
        return _read(image, side, settings)
    from clipsearch.media.decode import upright_rgb
    from clipsearch.media.drawing import look_at_picture

    if isinstance(image, bytes | bytearray | memoryview):
        size, limit = len(image), settings.max_picture_bytes
        if size > limit:
            raise PictureError(f"{size} bytes, over the limit of {limit} (setting max_picture_bytes)")
        return look_at_picture(bytes(image), side, settings.max_pixels)
    if isinstance(image, np.ndarray):
        from clipsearch.media.pixels import from_array

        return from_array(image, settings.max_pixels)
    if hasattr(image, "convert"):
        return upright_rgb(image)
    raise InvalidInputError(
        f"A picture is a path, a URL, bytes, a Pillow image or a uint8 array, not {type(image).__name__}."
    )


def _read(source: str | os.PathLike[str], side: int, settings: Settings) -> Image:
    if not os.fspath(source):
        raise InvalidInputError("The path of the picture is empty. Name a picture file.")
    pixels, size = settings.max_pixels, settings.max_picture_bytes
    if is_url(source):
        from clipsearch.media.fetch import fetch_picture

        private = settings.allow_private_urls
        url = os.fspath(source)
        return fetch_picture(url, min_side=side, max_pixels=pixels, max_bytes=size, allow_private=private)
    from clipsearch.media.drawing import look_at_file

    return look_at_file(source, side, pixels, size)


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InvalidInputError(f"A text to search for is a string, not {type(text).__name__}.")
    if not text.strip():
        raise InvalidInputError('The query is empty. Say what to look for: clipsearch query "a cat on a sofa"')
