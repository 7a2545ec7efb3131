"""Vectors of texts and pictures for other programs, in the JSON of OpenAI's API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch import present
from clipsearch.errors import InvalidInputError, MediaError
from clipsearch.linalg import to_base64
from clipsearch.server.data_urls import read_data_url
from clipsearch.server.forms_embeddings import (
    MAX_ALL_TEXT,
    MAX_PICTURES,
    EmbeddingsRequest,
    PictureInput,
    TextInput,
)
from clipsearch.server.pictures import open_given
from clipsearch.server.service import OverdueError, Service

if TYPE_CHECKING:
    from PIL.Image import Image


class UnknownModelError(InvalidInputError):
    """A model that is not the library's encoder."""


def embed(service: Service, asked: EmbeddingsRequest) -> bytes:
    """Embed the inputs of a request with the encoder of the library.

    Returns:
        The response, as JSON: writing the numbers may take longer than an event loop can wait.

    Raises:
        UnknownModelError: The request names another model.
        InvalidInputError: The inputs are too many or too long, a text is empty, or a URL is no picture.
        PictureError: A picture cannot be read, or is larger than the server allows.
        EncoderError: The encoder is unavailable, or the library has vectors that were made elsewhere.
    """
    inputs = [asked.input] if isinstance(asked.input, str) else asked.input
    texts = {n: each.text if isinstance(each, TextInput) else each for n, each in enumerate(inputs)
             if not isinstance(each, PictureInput)}  # fmt: skip
    pictures = {n: each.image for n, each in enumerate(inputs) if isinstance(each, PictureInput)}
    _check(texts, pictures)
    engine = service.engine
    encoder = engine.encoder
    if asked.model not in (None, encoder.name):
        raise UnknownModelError(f"There is no model {asked.model!r:.80} here. The library has {encoder.name!r}.")
    if asked.dimensions not in (None, encoder.dim):
        raise InvalidInputError(f"Vectors of {encoder.name} have {encoder.dim} dimensions, not {asked.dimensions}.")
    rows = np.empty((len(inputs), encoder.dim), np.float32)
    if texts:
        rows[[*texts]] = engine.embed(texts=texts.values(), kind=asked.kind)
    if pictures:
        end = time.monotonic() + service.settings.work_seconds
        rows[[*pictures]] = engine.embed(images=(_open(service, number, url, end) for number, url in pictures.items()))
    tokens = sum(encoder.count_tokens(text) for text in texts.values())
    return present.to_json(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": number, "embedding": _encode(row, asked.encoding_format)}
                for number, row in enumerate(rows)
            ],
            "model": encoder.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _check(texts: dict[int, str], pictures: dict[int, str]) -> None:
    if len(pictures) > MAX_PICTURES:
        raise InvalidInputError(f"There are {len(pictures)} pictures; at most {MAX_PICTURES} are taken at a time.")
    letters = sum(map(len, texts.values()))
    if letters > MAX_ALL_TEXT:
        raise InvalidInputError(f"The texts have {letters:,} characters; at most {MAX_ALL_TEXT:,} are taken at a time.")
    for number, text in texts.items():
        if not text.strip():
            raise InvalidInputError(f"input[{number}] has no words.")


def _open(service: Service, number: int, url: str, end: float) -> Image:
    if time.monotonic() > end:  # nobody waits for the answer any more
        raise OverdueError("The pictures take too long. Send fewer at a time.")
    try:
        return open_given(service, read_data_url(url))
    except (InvalidInputError, MediaError) as error:
        raise type(error)(f"input[{number}] cannot be embedded: {error}") from error


def _encode(row: NDArray[np.float32], encoding: str) -> Any:  # noqa: ANN401
    return to_base64(row) if encoding == "base64" else row.tolist()
