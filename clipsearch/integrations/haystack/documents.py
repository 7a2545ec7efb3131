"""Documents of Haystack as records of a library, and items of a library as documents."""

from __future__ import annotations

import json
import mimetypes
import os
from typing import Any

import numpy as np
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from numpy.typing import NDArray

from clipsearch import Hit, InvalidInputError, Item, Record
from clipsearch.integrations.haystack.metadata import EXTRAS, extras_of, from_metadata, to_metadata
from clipsearch.integrations.metadata import Plain, names_a_place

FILE_PATH = "file_path"
"""The field of `meta` that names the file of a picture, as it does for the components of Haystack."""

_UNKNOWN = (".avif", ".heic", ".heif", ".jfif", ".jp2", ".webp")
"""Endings of pictures that not every Python knows."""


def to_record(document: Document) -> Record:
    """Return the record that a document becomes.

    A document is a picture if its blob is one, or if it has no text and `meta["file_path"]` names one; its embedding is
    that of the picture then, else that of its text.

    Raises:
        InvalidInputError: It has neither text, picture nor embedding, a blob that is no picture, or a meta that is not
            JSON.
    """
    text = document.content if document.content and document.content.strip() else None
    image = _picture(document)
    if image is None and text is None and document.embedding is None:
        raise InvalidInputError(f"Document {document.id} has no text, picture or embedding by which it could be found.")
    return Record(
        document.id,
        image=image,
        text=text,
        metadata={**to_metadata(document.meta), **_extras(document)},
        vector=document.embedding,
    )


def has_embedding(item: Item) -> bool:
    """Tell whether an item was written as a document with an embedding."""
    return extras_of(item.metadata).get("embedding") is True


def has_blob(item: Item) -> bool:
    """Tell whether an item was written as a document with a picture as its blob."""
    return isinstance(extras_of(item.metadata).get("blob"), dict)


def to_document(
    item: Item,
    *,
    embedding: NDArray[np.float32] | None = None,
    blob: bytes | None = None,
    hit: Hit | None = None,
) -> Document:
    """Return the document of an item.

    Args:
        item: A record that was made of a document, any other record, or a file.
        embedding: Its vector, float32 (dim,).
        blob: Its picture, as a JPEG.
        hit: How it was found: a cosine, and the passage that is the text of a document that is a file.
    """
    meta, extras = from_metadata(item.metadata), extras_of(item.metadata)
    if names_a_place(item.path):
        meta.setdefault(FILE_PATH, item.path)
    passage = hit.passage.text if hit and hit.passage else None
    return Document(
        id=item.key,
        content=item.text or item.caption or passage,
        blob=None if blob is None else ByteStream(blob, extras.get("blob", {}), "image/jpeg"),
        meta=meta,
        score=hit.score if hit else None,
        embedding=None if embedding is None else embedding.tolist(),
        sparse_embedding=_sparse(extras.get("sparse_embedding")),
    )


def _sparse(given: object) -> SparseEmbedding | None:
    try:
        return SparseEmbedding.from_dict(given) if isinstance(given, dict) else None
    except (TypeError, ValueError, KeyError):  # which this module did not write
        return None


def _picture(document: Document) -> bytes | str | None:
    if document.blob is not None:
        kind = document.blob.mime_type or "image/unknown"
        if not kind.startswith("image/"):
            raise InvalidInputError(
                f"The blob of document {document.id} is {kind}, but a library keeps pictures only. Remove the blob, or "
                "write its text as content."
            )
        return document.blob.data
    path = document.meta.get(FILE_PATH)
    if document.content or not isinstance(path, str | os.PathLike):
        return None
    name = os.fspath(path)
    known, _ = mimetypes.guess_type(name, strict=False)
    return name if (known or "").startswith("image/") or name.lower().endswith(_UNKNOWN) else None


def _extras(document: Document) -> dict[str, Plain]:
    extras: dict[str, Any] = {} if document.embedding is None else {"embedding": True}
    if document.sparse_embedding is not None:
        extras["sparse_embedding"] = document.sparse_embedding.to_dict()
    if document.blob is not None:
        extras["blob"] = document.blob.meta
    try:
        return {EXTRAS: json.dumps(extras)} if extras else {}
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"The blob of document {document.id} has a meta that JSON cannot hold ({error})."
        ) from None
