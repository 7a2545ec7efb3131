"""What others need of the encoder and of the pictures: vectors of texts and pictures, and thumbnails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, check_unit_rows
from clipsearch.errors import InvalidInputError, MediaError
from clipsearch.forking import no_fork
from clipsearch.linalg import unit_rows
from clipsearch.query.embedding import open_image
from clipsearch.store.library import Library

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.query.embedding import Picture
    from clipsearch.types import Item

KINDS = ("query", "document")
"""What texts are embedded as: what is looked for, or what is found."""

MIN_SIDE, MAX_SIDE = 16, 2048
"""Pixels of the longer side of a thumbnail."""

_AHEAD = 4
"""Pictures that are open at a time, for each thread that decodes them."""

T = TypeVar("T")


class EngineEmbeds:
    """The methods of SearchEngine that give its vectors and its pictures to other programs."""

    library: Library
    _settings: Settings

    if TYPE_CHECKING:

        @property
        def encoder(self) -> Encoder:
            """As SearchEngine has it."""

        def get(self, ids: str) -> Item | None:
            """As SearchEngine has it."""

    def embed(
        self, *, texts: Iterable[str] | None = None, images: Iterable[Picture] | None = None, kind: str = "document"
    ) -> NDArray[np.float32]:
        """Embed texts or pictures with the encoder of the library; nothing is stored.

        Args:
            texts: Any number of texts.
            images: Any number of paths, URLs, bytes of picture files, Pillow images or uint8 arrays (height, width, 3).
            kind: Of texts: `query` for what is looked for, as `search` embeds it; `document` for what is found, as
                `index` does. A document too long for the encoder is the mean of its passages.

        Returns:
            Rows of unit length, float32 (n, dim), in the order of what was given.

        Raises:
            InvalidInputError: Not one of texts and images is given, or a text is empty.
            PictureError: A picture cannot be read.
            EncoderError: The encoder of the library is unavailable.

        Example:
            >>> features = engine.embed(images=["cat.jpg", "dog.jpg"])
        """
        if (texts is None) == (images is None):
            raise InvalidInputError("Embed one of texts and images.")
        if isinstance(texts, str) or isinstance(images, str | bytes):
            raise InvalidInputError("texts and images are lists, even for one.")
        check_kind(kind)
        encoder = self.encoder
        if texts is not None:
            checked = (_checked(number, text) for number, text in enumerate(texts))
            blocks = [embed_texts(encoder, part, kind) for part in batches(checked, encoder.batch_size)]
        else:
            opened = open_images(images or (), encoder, self._settings)
            blocks = [embed_images(encoder, part) for part in batches(_successes(opened), encoder.batch_size)]
        return np.concatenate([np.empty((0, encoder.dim), np.float32), *blocks])

    def thumbnail(self, key: str, *, side: int = 256) -> bytes:
        """Return an item's picture, reduced: the one that is kept of a record, else its file.

        Args:
            key: The id of a record, or the path of an indexed file, as `Item.key` has it. The file is found below its
                indexed folder without following links; a URL is not fetched.
            side: Pixels of the longer side at most, from 16 to 2048; a smaller picture is not enlarged.

        Returns:
            A JPEG, upright, without metadata.

        Raises:
            InvalidInputError: No item has that key, or the side is out of its range.
            MediaError: The item has no picture, or its file cannot be read.
        """
        if not isinstance(side, int) or not MIN_SIDE <= side <= MAX_SIDE:
            raise InvalidInputError(f"The side of a thumbnail is from {MIN_SIDE} to {MAX_SIDE} pixels, not {side!r}.")
        from clipsearch.gallery.tiles import encode_thumbnail
        from clipsearch.store.picture_files import read_picture_of

        item = self.get(key) if isinstance(key, str) and key else None
        if item is None:
            raise InvalidInputError(f"No item has the key {key!r}. Take it from a hit: hit.item.key.")
        try:
            data = read_picture_of(self.library, item.id, self._settings.max_picture_bytes)
            return encode_thumbnail(data, side, self._settings.max_pixels)
        except MediaError as error:
            raise type(error)(f"There is no thumbnail of {key!r}: {error}.") from error


def check_kind(kind: str) -> None:
    """Raise InvalidInputError for an unknown kind of text."""
    if kind not in KINDS:
        raise InvalidInputError(f"There is no kind {kind!r} of text. Use {' or '.join(KINDS)}.")


@no_fork()
def embed_texts(encoder: Encoder, texts: Sequence[str], kind: str) -> NDArray[np.float32]:
    """Embed texts, each of which has words, as `EngineEmbeds.embed` does: float32 (n, dim)."""
    vectors = encoder.encode_queries(texts) if kind == "query" else _embed_documents(encoder, texts)
    check_unit_rows(vectors)
    return vectors


@no_fork()
def embed_images(encoder: Encoder, images: Sequence[Image]) -> NDArray[np.float32]:
    """Embed pictures that are open: float32 (n, dim)."""
    vectors = encoder.encode_images(images)
    check_unit_rows(vectors)
    return vectors


def open_images(
    images: Iterable[Picture], encoder: Encoder, settings: Settings
) -> Iterator[Image | InvalidInputError | MediaError]:
    """Open pictures for an encoder, in their order, a few at a time in threads; in place of a bad one, its error."""

    def open_one(image: Picture) -> Image | InvalidInputError | MediaError:
        try:
            return open_image(image, encoder.picture_side, settings)
        except (InvalidInputError, MediaError) as error:
            return error

    with ThreadPoolExecutor(settings.cores, thread_name_prefix="decode") as pool:
        for part in batches(images, _AHEAD * settings.cores):
            yield from pool.map(open_one, part)


def batches(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut any number of values into lists of at most `size`."""
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part


def _checked(number: int, text: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise InvalidInputError(f"texts[{number}] is {text!r}, but it must be a string with words.")
    return text


def _successes(opened: Iterable[Image | InvalidInputError | MediaError]) -> Iterator[Image]:
    for number, image in enumerate(opened):
        if isinstance(image, Exception):
            raise type(image)(f"images[{number}] cannot be embedded: {image}") from image
        yield image


def _embed_documents(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    from clipsearch.media.text import split_passages
    from clipsearch.words import normalize

    count, limit = encoder.count_tokens, encoder.max_tokens
    split = [[part.text for part in split_passages(normalize(text), count=count, limit=limit)] for text in texts]
    passages = [parts or [text] for parts, text in zip(split, texts, strict=True)]  # signs alone are no passage
    rows = encoder.encode_texts([part for parts in passages for part in parts])
    starts = np.cumsum([0, *map(len, passages[:-1])])
    return unit_rows(np.add.reduceat(rows, starts, axis=0))
