"""Documents of Haystack as records of a library, and items of a library as documents."""

from __future__ import annotations

import mimetypes
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np
from haystack.dataclasses import ByteStream, Document, SparseEmbedding
from numpy.typing import NDArray

from clipsearch import Hit, InvalidInputError, Item, Record
from clipsearch.integrations.metadata import REST, Plain, pack, unpack

FILE_PATH = "file_path"
"""The field of `meta` that names the file of a picture, as it does for the components of Haystack."""

_UNKNOWN = (".avif", ".heic", ".heif", ".jfif", ".jp2", ".webp")
"""Endings of pictures that not every Python knows."""

_PRIVATE = "_haystack"
"""The name of what a document has besides its text, picture and meta."""

EMBEDDING = "_haystack_embedding"
"""The name of whether a document came with an embedding."""


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
        metadata=to_metadata(document.meta, _extras(document)) | _flag(document),
        vector=document.embedding,
    )


def to_metadata(meta: Mapping[str, Any], extras: Mapping[str, Any] | None = None) -> dict[str, Plain]:
    """Return the metadata of a record: what `meta` has, the fields within its dicts by dotted names, and extras."""
    plain = {name: _plain(value) for name, value in meta.items()}
    packed = pack(plain)
    inner = {name: value for name, value in _fields_within(plain) if name not in packed}
    kept = {name: value for name, value in pack(inner).items() if name in inner}
    private = {**(extras or {}), **({"fields": sorted(kept)} if kept else {})}
    return {**kept, **(pack({**plain, _PRIVATE: private}) if private else packed)}


def from_metadata(metadata: Mapping[str, Plain]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the meta and the extras that `to_metadata` was given."""
    meta = unpack(metadata)
    meta.pop(EMBEDDING, None)
    extras = meta.pop(_PRIVATE, None)
    if not isinstance(extras, dict):
        return meta, {}
    inner = extras.pop("fields", None)
    if isinstance(inner, list):
        meta = {name: value for name, value in meta.items() if name not in inner}
    return meta, extras


def is_flat(metadata: Mapping[str, Plain]) -> bool:
    """Tell whether the metadata of a record has each value of a document under its own name."""
    return REST not in metadata


def has_embedding(item: Item) -> bool:
    """Tell whether an item was written as a document with an embedding."""
    return item.metadata.get(EMBEDDING) is True


def has_blob(item: Item) -> bool:
    """Tell whether an item was written as a document with a picture as its blob."""
    return isinstance(from_metadata(item.metadata)[1].get("blob"), dict)


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
    meta, extras = from_metadata(item.metadata)
    if not item.path.startswith("record:"):
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


def _extras(document: Document) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    if document.sparse_embedding is not None:
        extras["sparse_embedding"] = document.sparse_embedding.to_dict()
    if document.blob is not None:
        extras["blob"] = document.blob.meta
    return extras


def _flag(document: Document) -> dict[str, Plain]:
    return {} if document.embedding is None else {EMBEDDING: True}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _fields_within(meta: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the fields of dicts within `meta` by the dotted names that filters give them."""
    pending = [(name, value) for name, value in meta.items() if isinstance(value, dict)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            yield name, value
