"""Documents of LangChain as records of a library, and items of a library as documents."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.documents import Document

import clipsearch
from clipsearch import Filter, Hit, InvalidInputError, Item, Modality, Passage, Record, Results, SearchEngine
from clipsearch.integrations.adding import Failure
from clipsearch.integrations.metadata import names_a_place, pack, unpack

Library = SearchEngine | str | os.PathLike[str] | None
"""An engine, or the folder of a library; None for the library that the command line would find."""

Where = Mapping[str, Any] | Filter | None
"""Conditions on metadata as `Filter(where=...)` takes them, or a filter."""


class DocumentsFailedError(InvalidInputError):
    """Some documents could not be added; the others were.

    Attributes:
        added: Ids of those that were.
        failed: Id and reason of each of the others.
    """

    def __init__(self, added: list[str], failed: list[Failure]) -> None:
        self.added, self.failed = added, failed
        name, reason = failed[0]
        count = len(added) + len(failed)
        super().__init__(f"{len(failed)} of {count} documents were not added. {name!r:.80}: {reason}")


def open_engine(library: Library) -> SearchEngine:
    """Return an engine; a folder is opened, if it has a library."""
    return library if isinstance(library, SearchEngine) else clipsearch.open(library)


def as_documents(texts: Iterable[str], metadatas: Sequence[Mapping[str, Any]] | None) -> list[Document]:
    """Return texts as documents. Raises InvalidInputError if there are more or fewer metadatas."""
    texts = list(texts)
    if metadatas:
        check_count("metadatas", len(metadatas), len(texts))
    return [Document(text, metadata=each) for text, each in zip(texts, metadatas or [{}] * len(texts), strict=True)]


def with_ids(documents: Sequence[Document], ids: Sequence[str | None] | None) -> list[tuple[str, Document]]:
    """Return documents with these ids, or else their own; one that has none gets a random one."""
    names = [document.id for document in documents] if ids is None else ids
    check_count("ids", len(names), len(documents))
    return [(name or str(uuid.uuid4()), document) for name, document in zip(names, documents, strict=True)]


def check_count(what: str, count: int, expected: int) -> None:
    """Raise InvalidInputError if a list is not as long as that of the documents."""
    if count != expected:
        raise InvalidInputError(f"There are {count} {what} for {expected} documents. Give one for each.")


def batches(named: list[tuple[str, Document]], size: int) -> Iterator[list[tuple[str, Document]]]:
    """Return documents in lists of at most `size`."""
    for start in range(0, len(named), size):
        yield named[start : start + size]


def added_ids(named: Sequence[tuple[str, Document]], failed: list[Failure]) -> list[str]:
    """Return the ids of documents. Raises DocumentsFailedError if any was not added."""
    names = [name for name, _ in named]
    if failed:
        without = {name for name, _ in failed}
        raise DocumentsFailedError([name for name in names if name not in without], failed)
    return names


def as_record(name: str, document: Document, image: Any, vector: Sequence[float] | None) -> Record:
    """Return a document as a record; that of a picture has the text as its caption."""
    metadata = pack(document.metadata)
    if image is None:
        return Record(name, text=document.page_content, metadata=metadata, vector=vector)
    return Record(name, image=image, caption=document.page_content or None, metadata=metadata, vector=vector)


def as_document(item: Item, hit: Hit | None = None) -> Document:
    """Return an item as the document that was added, or as one whose `source` is its path."""
    metadata = unpack(item.metadata)
    if names_a_place(item.path):
        metadata.setdefault("source", item.path)
    return Document(_text(item, hit.passage if hit else None), id=item.key, metadata=metadata)


def _text(item: Item, passage: Passage | None) -> str:
    """Return the text of a record, the passage of a text that matched, or the caption of a picture."""
    if item.text is not None:
        return item.text
    if passage and (item.modality is Modality.TEXT or item.caption is None):
        return passage.text
    return item.caption or ""


def as_found(hit: Hit) -> Document:
    """Return a hit as a document with what the hit says; names of its own metadata keep their values."""
    document = as_document(hit.item, hit)
    facts = {"modality": str(hit.item.modality), "score": hit.score, "confidence": hit.confidence}
    document.metadata = {**facts, **document.metadata}
    return document


def with_relevance(hits: Results) -> list[tuple[Document, float]]:
    """Return documents with their confidence; all with (1 + cosine) / 2 if the library is too small to tell of one."""
    known = [hit.confidence for hit in hits if hit.confidence is not None]
    scores = known if len(known) == len(hits) else [(1 + min(1.0, max(-1.0, hit.score))) / 2 for hit in hits]
    return [(as_document(hit.item, hit), score) for hit, score in zip(hits, scores, strict=True)]


def as_filter(given: Where) -> Filter | None:
    """Return conditions on metadata as a filter."""
    return given if given is None or isinstance(given, Filter) else Filter(where=given)
