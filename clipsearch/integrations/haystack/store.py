"""A library as a document store of Haystack."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal, Self

import numpy as np
from haystack import default_from_dict, default_to_dict
from haystack.dataclasses import Document
from haystack.document_stores.errors import DocumentStoreError, DuplicateDocumentError
from haystack.document_stores.types import DuplicatePolicy
from numpy.typing import NDArray

import clipsearch
from clipsearch import Hit, InvalidInputError, Item, MediaError, SearchEngine
from clipsearch.integrations.adding import add_all
from clipsearch.integrations.haystack import fields
from clipsearch.integrations.haystack.documents import has_blob, has_embedding, to_document, to_record
from clipsearch.integrations.haystack.filters import to_filter
from clipsearch.integrations.haystack.metadata import from_metadata, stale_names, to_metadata
from clipsearch.integrations.haystack.threads import in_thread

Filters = Mapping[str, Any] | None
"""A filter of Haystack; None or an empty one allows all."""

BLOB_SIDE = 1024
"""Pixels of the longer side, at most, of a picture that comes back as a blob."""


class ClipSearchDocumentStore:
    """Documents and pictures in a library.

    A library has an encoder of its own, which embeds texts and pictures; one that is made with `dim` keeps the
    embeddings that documents bring. Files that `clipsearch index` added are documents as well. The library is opened,
    or made, when it is first used. Each method has a twin whose name ends in `_async`.
    """

    def __init__(
        self,
        library: SearchEngine | str | os.PathLike[str] | None = None,
        *,
        model: str | None = None,
        dim: int | None = None,
        index_metadata: Sequence[str] = (),
        keep: Literal["thumbnail", "bytes"] | None = None,
        return_embedding: bool = True,
    ) -> None:
        """Use a library.

        Args:
            library: A folder, where a library is created if needed; an engine; or None for the library that the
                command line would find.
            model: The encoder of a new library; with `dim`, the name of the model that embeds the documents.
            dim: The length of embeddings that are made elsewhere; None for the encoder of the library.
            index_metadata: Fields of `meta` by which documents are found faster.
            keep: What the library keeps of pictures: a `thumbnail`, their `bytes`, or None for nothing. Blobs come back
                where something is kept.
            return_embedding: Whether documents come with the embeddings that they were written with.
        """
        self._library = library
        self._model = model
        self._dim = dim
        self._index_metadata = tuple(index_metadata)
        self._keep: Literal["thumbnail", "bytes"] | None = keep
        self._return_embedding = return_embedding
        self._engine = library if isinstance(library, SearchEngine) else None
        self._opening = threading.Lock()
        self._writing = threading.Lock()

    @property
    def engine(self) -> SearchEngine:
        """The engine of the library. Raises ClipSearchError as `clipsearch.open` does."""
        with self._opening:
            if self._engine is None:
                assert not isinstance(self._library, SearchEngine)
                self._engine = clipsearch.open(
                    self._library,
                    create=True,
                    model=self._model,
                    dim=self._dim,
                    index_metadata=self._index_metadata,
                )
            return self._engine

    def close(self) -> None:
        """Close the library."""
        if self._engine is not None:
            self._engine.close()

    def to_dict(self) -> dict[str, Any]:
        """Return how to make this store again; an engine is written as the folder of its library."""
        library = self._library
        folder = library.library.folder if isinstance(library, SearchEngine) else library
        return default_to_dict(
            self,
            library=None if folder is None else os.fspath(folder),
            model=self._model,
            dim=self._dim,
            index_metadata=list(self._index_metadata),
            keep=self._keep,
            return_embedding=self._return_embedding,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make a store of what `to_dict` returned."""
        return default_from_dict(cls, data)

    def count_documents(self) -> int:
        """Count the documents."""
        return self.engine.count()

    def count_documents_by_filter(self, filters: Filters) -> int:
        """Count the documents that a filter allows. Raises FilterError."""
        return self.engine.count(to_filter(filters))

    def filter_documents(self, filters: Filters = None) -> list[Document]:
        """Return the documents that a filter allows, in an order that stays the same.

        Raises:
            FilterError: The filter is malformed, or compares what a library cannot.
        """
        return self._documents(list(self._items(filters)))

    def write_documents(self, documents: list[Document], policy: DuplicatePolicy = DuplicatePolicy.NONE) -> int:
        """Write documents.

        Args:
            documents: Each with a text, a picture or an embedding.
            policy: What happens to documents whose ids exist: SKIP leaves those in the library, OVERWRITE replaces
                them, FAIL and NONE write nothing at all.

        Returns:
            How many were written.

        Raises:
            ValueError: Something is no document.
            DuplicateDocumentError: Under FAIL or NONE, some ids exist.
            DocumentStoreError: Some documents could not be written; the others were.
        """
        if not isinstance(documents, list) or not all(isinstance(each, Document) for each in documents):
            raise ValueError("write_documents takes a list of Documents.")
        with self._writing:
            if policy is not DuplicatePolicy.OVERWRITE:
                documents = self._without_duplicates(documents, policy)
            return self._add(documents) if documents else 0

    def delete_documents(self, document_ids: list[str]) -> None:
        """Delete documents by their ids; ids that do not exist are ignored. Files are hidden, not deleted."""
        self.engine.delete(list(document_ids))

    def delete_all_documents(self) -> None:
        """Delete all documents."""
        self.delete_by_filter(None)

    def delete_by_filter(self, filters: Filters) -> int:
        """Delete the documents that a filter allows, and return how many they were. Raises FilterError."""
        return self.engine.delete(filters=to_filter(filters))

    def update_by_filter(self, filters: Filters, meta: dict[str, Any]) -> int:
        """Set fields of `meta` of the documents that a filter allows, and return how many they are.

        Raises:
            FilterError: The filter cannot be used.
            InvalidInputError: The meta is not JSON.
        """
        with self._writing:
            found = list(self._items(filters))
            new = to_metadata(meta)
            by_stale: dict[frozenset[str], list[str]] = defaultdict(list)
            for item in found:
                by_stale[stale_names(item.metadata, meta).difference(new)].append(item.key)
            for stale, keys in by_stale.items():
                self.engine.update(keys, metadata=new, remove=stale)
            return len(found)

    def count_unique_metadata_by_filter(self, filters: Filters, metadata_fields: list[str]) -> dict[str, int]:
        """Count the different values of fields of the documents that a filter allows; reads all of these."""
        return fields.count_values(self._metas(filters), metadata_fields)

    def get_metadata_fields_info(self) -> dict[str, dict[str, str]]:
        """Return the type of each field: `boolean`, `int`, `float` or `keyword`; reads all documents."""
        return fields.describe(self._metas(None))

    def get_metadata_field_min_max(self, metadata_field: str) -> dict[str, Any]:
        """Return the `min` and `max` of a field, None if it has none; reads all documents."""
        return fields.smallest_and_largest(self._metas(None), metadata_field)

    def get_metadata_field_unique_values(
        self,
        metadata_field: str,
        search_term: str | None = None,
        from_: int = 0,
        size: int = 10,
        filters: Filters = None,
    ) -> tuple[list[Any], int]:
        """Return a page of the different values of a field, and how many there are; reads the documents of the filter.

        Args:
            metadata_field: Its name, with or without `meta.`.
            search_term: A part of the values, in either case.
            from_: The first value of the page, from 0.
            size: How many values the page has.
            filters: Which documents count.
        """
        values = fields.different_values(self._metas(filters), metadata_field, search_term)
        return values[from_ : from_ + size], len(values)

    count_documents_async = in_thread(count_documents)
    count_documents_by_filter_async = in_thread(count_documents_by_filter)
    filter_documents_async = in_thread(filter_documents)
    write_documents_async = in_thread(write_documents)
    delete_documents_async = in_thread(delete_documents)
    delete_all_documents_async = in_thread(delete_all_documents)
    delete_by_filter_async = in_thread(delete_by_filter)
    update_by_filter_async = in_thread(update_by_filter)
    count_unique_metadata_by_filter_async = in_thread(count_unique_metadata_by_filter)
    get_metadata_fields_info_async = in_thread(get_metadata_fields_info)
    get_metadata_field_min_max_async = in_thread(get_metadata_field_min_max)
    get_metadata_field_unique_values_async = in_thread(get_metadata_field_unique_values)

    def search(
        self, query: Mapping[str, Any], filters: Filters = None, top_k: int = 10, return_embedding: bool | None = None
    ) -> list[Document]:
        """Return the documents that fit a query best, with their cosines as scores.

        Args:
            query: Arguments of `SearchEngine.search`, such as a text or a vector.
            filters: Which documents may be found.
            top_k: How many; none for 0.
            return_embedding: Whether they come with their embeddings; None for as the store has it.

        Raises:
            FilterError: The filter cannot be used.
            ClipSearchError: As in `SearchEngine.search`.
        """
        wanted = to_filter(filters)
        hits = self.engine.search(**query, k=top_k, filters=wanted) if top_k else ()
        return self._found(hits, return_embedding)

    async def search_async(
        self, query: Mapping[str, Any], filters: Filters = None, top_k: int = 10, return_embedding: bool | None = None
    ) -> list[Document]:
        """Return the documents that fit a query best; see `search`. Queries at the same time are answered together."""
        wanted = to_filter(filters)
        engine = await asyncio.to_thread(lambda: self.engine)
        hits = await engine.asearch(**query, k=top_k, filters=wanted) if top_k else ()
        return await asyncio.to_thread(self._found, hits, return_embedding)

    def _items(self, filters: Filters) -> Iterator[Item]:
        return self.engine.items(to_filter(filters))

    def _metas(self, filters: Filters) -> Iterator[dict[str, Any]]:
        return (from_metadata(item.metadata) for item in self._items(filters))

    def _documents(self, items: Sequence[Item]) -> list[Document]:
        embeddings = self._embeddings(items) if self._return_embedding else {}
        return [to_document(item, embedding=embeddings.get(item.id), blob=self._blob(item)) for item in items]

    def _found(self, hits: Sequence[Hit], return_embedding: bool | None) -> list[Document]:
        items = [hit.item for hit in hits]
        wanted = self._return_embedding if return_embedding is None else return_embedding
        embeddings = self._embeddings(items) if wanted else {}
        return [
            to_document(hit.item, embedding=embeddings.get(hit.item.id), blob=self._blob(hit.item), hit=hit)
            for hit in hits
        ]

    def _embeddings(self, items: Sequence[Item]) -> dict[int, NDArray[np.float32]]:
        """Return the vectors of the items that came with one, by their ids: float32 (dim,)."""
        wanted = [item for item in items if has_embedding(item)]
        if not wanted:
            return {}
        try:
            rows = self.engine.vectors([item.key for item in wanted])
        except InvalidInputError:  # one was deleted meanwhile
            half = len(wanted) // 2
            return {**self._embeddings(wanted[:half]), **self._embeddings(wanted[half:])} if half else {}
        return {item.id: row for item, row in zip(wanted, rows, strict=True)}

    def _blob(self, item: Item) -> bytes | None:
        if self._keep is None or not has_blob(item):
            return None
        try:
            return self.engine.thumbnail(item.key, side=BLOB_SIDE)
        except (InvalidInputError, MediaError):  # it was deleted meanwhile, or its picture was not kept
            return None

    def _without_duplicates(self, documents: Sequence[Document], policy: DuplicatePolicy) -> list[Document]:
        """Return the documents whose ids are new, the first of each. Raises DuplicateDocumentError unless SKIP."""
        present = {item.key for item in self.engine.get([each.id for each in documents]) if item is not None}
        new: dict[str, Document] = {}
        for document in documents:
            if document.id not in present and document.id not in new:
                new[document.id] = document
            elif policy is not DuplicatePolicy.SKIP:
                raise DuplicateDocumentError(
                    f"There is a document {document.id!r} already; nothing was written. Use DuplicatePolicy.SKIP or "
                    "OVERWRITE."
                )
        return list(new.values())

    def _add(self, documents: Sequence[Document]) -> int:
        failed = add_all(self.engine, documents, to_record, attrgetter("id"), keep=self._keep)
        if failed:
            name, reason = failed[0]
            raise DocumentStoreError(
                f"{len(failed)} of {len(documents)} documents were not written; the others were. {name!r}: {reason}"
            )
        return len(documents)
