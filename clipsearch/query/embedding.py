"""From what is looked for to a unit vector: by the encoder, or from the cache of texts asked before.

Nothing here loads the store, so that a process that was just started can embed its query while the store loads.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderMismatchError, InvalidInputError, MediaError
from clipsearch.locations import cache_dir
from clipsearch.paths import is_url
from clipsearch.query.cache import QueryCache
from clipsearch.query.handover import Embedded, pack, unpack
from clipsearch.store.reading import EncoderPin, is_imported, peek_encoder

if TYPE_CHECKING:
    from PIL.Image import Image

    Picture = str | os.PathLike[str] | Image


class Embedder:
    """Embeds queries for the libraries of one encoder; safe to share by threads."""

    def __init__(self, pin: EncoderPin, settings: Settings, encoder: Encoder | None = None) -> None:
        """Embed as pin says. encoder: that one, loaded when first needed unless given."""
        self.pin = pin
        self._settings = settings
        self._encoder = encoder
        self._lock = threading.Lock()
        self._ahead: _Ahead | None = None
        keep = settings.query_cache and encoder is None and not is_imported(pin.fingerprint)
        self._cache = QueryCache(cache_dir() / "queries", pin.fingerprint, pin.dim) if keep else None

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded on first use. Raises EncoderError or EncoderMismatchError if it cannot be had."""
        with self._lock:
            if self._encoder is None:
                from clipsearch.encoders import registry

                pin, settings = self.pin, self._settings
                known = None if is_imported(pin.fingerprint) else pin.fingerprint
                loaded = registry.load_pinned(
                    pin.name,
                    model=settings.model,
                    threads=settings.cores,
                    offline=settings.offline,
                    fingerprint=known,
                )
                _check_dim(loaded, pin)
                self._encoder = loaded
            return self._encoder

    def start(self, text: str | None, image: str | None) -> None:
        """Begin to embed the text, or the picture of that path or URL, that will be asked for next.

        It is done in a process of its own where there is a core for it. What is wrong with the query itself is told
        when that is asked for; what else fails, fails again then, and loudly.
        """
        if text is None and image is None:
            return
        if text is not None and (not text.strip() or (self._cache and self._cache.get(text) is not None)):
            return
        if self._settings.cores > 1 and hasattr(os, "fork") and sys.platform != "darwin":
            with suppress(OSError):  # such as no process left
                self._ahead = _Ahead(self, text, image)

    def text(self, text: str) -> Embedded:
        """Embed a search text. Raises InvalidInputError for one that is empty or no text."""
        _check_text(text)
        return self._from_ahead(text, None) or self.embed_text(text)

    def texts(self, texts: Sequence[str]) -> list[Embedded]:
        """Embed several search texts, as `text` does, in order."""
        if len(texts) == 1:
            return [self.text(texts[0])]
        for text in texts:
            _check_text(text)
        notes = [self._remarks(text) for text in texts]
        return list(zip(self.encoder.encode_queries(list(texts)), notes, strict=True))

    def picture(self, image: Picture) -> Embedded:
        """Embed a picture to search by. Raises InvalidInputError or PictureError for one that cannot be read."""
        return self._from_ahead(None, image) or self.embed_picture(image)

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

    def embed_picture(self, image: Picture) -> Embedded:
        """Embed a picture by the encoder."""
        if isinstance(image, str | os.PathLike):
            picture = self._read(image)
        elif hasattr(image, "convert"):
            from clipsearch.media.decode import upright_rgb

            picture = upright_rgb(image)
        else:
            raise InvalidInputError(f"A picture is a path, a URL or a Pillow image, not {type(image).__name__}.")
        vector: NDArray[np.float32] = self.encoder.encode_images([picture])[0]
        return vector, ()

    def _read(self, source: str | os.PathLike[str]) -> Image:
        if not os.fspath(source):
            raise InvalidInputError("The path of the picture is empty. Name a picture file.")
        side, settings = self.encoder.picture_side, self._settings
        pixels, size = settings.max_pixels, settings.max_picture_bytes
        if is_url(source):
            from clipsearch.media.fetch import fetch_picture

            private = settings.allow_private_urls
            url = os.fspath(source)
            return fetch_picture(url, min_side=side, max_pixels=pixels, max_bytes=size, allow_private=private)[0]
        from clipsearch.media.decode import read_picture

        return read_picture(source, min_side=side, max_pixels=pixels, max_bytes=size)[0]

    def _from_ahead(self, text: str | None, image: Picture | None) -> Embedded | None:
        ahead, self._ahead = self._ahead, None
        return None if ahead is None or (text, image) != (ahead.text, ahead.image) else ahead.result()

    def _remarks(self, text: str) -> tuple[str, ...]:
        """Say what of a text the encoder does not read."""
        unread = () if text.isascii() else self._find_unread(text)
        tokens, limit = self.encoder.count_tokens(text), self.encoder.max_tokens
        if tokens <= limit:
            return unread
        cut = f"The query has {tokens} tokens; {self.encoder.name} reads only the first "
        f"{limit}. Shorten it to use all of it."
        return (*unread, cut)

    def _find_unread(self, text: str) -> tuple[str, ...]:
        from clipsearch.query.unicode_scripts import explain_unread  # which few queries need

        return explain_unread(text, self.encoder)


class _Ahead:
    """A query that is embedded by a fork of this process, beside what this one has to import.

    A thread would not do: opening a model holds the lock of the interpreter, as imports do. Nothing may run in other
    threads of Python at this time.
    """

    def __init__(self, embedder: Embedder, text: str | None, image: str | None) -> None:
        self.text = text
        self.image = image
        self._reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the threads of BLAS, which are made for this
            try:
                self._child = os.fork()
            except OSError:
                os.close(self._reader)
                os.close(writer)
                raise
        if self._child == 0:
            self._embed(embedder, writer)
        os.close(writer)

    def result(self) -> Embedded | None:
        """Wait for it; None where it failed. Raises InvalidInputError or MediaError for a query that is no good."""
        with os.fdopen(self._reader, "rb") as pipe:
            sent = pipe.read()
        with suppress(ChildProcessError):  # where nobody wants to hear of children, none is waited for
            os.waitpid(self._child, 0)
        done = unpack(sent)
        if isinstance(done, Exception):
            raise done
        return done

    def _embed(self, embedder: Embedder, writer: int) -> NoReturn:
        try:
            os.close(self._reader)
            done = self._embedded(embedder)
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(pack(done))
        finally:
            if (registry := sys.modules.get("clipsearch.encoders.registry")) is not None:
                registry.drop_scratch()
            os._exit(0)  # not a step further: all else belongs to the other process

    def _embedded(self, embedder: Embedder) -> Embedded | InvalidInputError | MediaError:
        try:
            if self.text is not None:
                return embedder.embed_text(self.text)
            assert self.image is not None
            return embedder.embed_picture(self.image)
        except (InvalidInputError, MediaError) as error:  # it would be no other the second time; a server may be slow
            return error


def start_embedding(library: Path, settings: Settings, *, text: str | None, image: str | None) -> Embedder | None:
    """Begin to embed a query for the library in a folder; None where the library itself has to be opened first."""
    pin = peek_encoder(library)
    if pin is None:
        return None
    embedder = Embedder(pin, settings)
    embedder.start(text, image)
    return embedder


def _check_text(text: object) -> None:
    if not isinstance(text, str):
        raise InvalidInputError(f"A text to search for is a string, not {type(text).__name__}.")
    if not text.strip():
        raise InvalidInputError('The query is empty. Say what to look for: clipsearch query "a cat on a sofa"')


def _check_dim(encoder: Encoder, pin: EncoderPin) -> None:
    """Raise EncoderMismatchError for an encoder of another length of vectors: imported ones came with only its name."""
    if encoder.dim != pin.dim:
        raise EncoderMismatchError(
            f"The library was made with vectors of {pin.dim} dimensions, imported as those of {pin.name}, but "
            f"{encoder.name} makes {encoder.dim}. Search by vector, or import again with the right --encoder."
        )
