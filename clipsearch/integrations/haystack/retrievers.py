"""Retrievers of Haystack over a library: by an embedding, or by a text or a picture."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import Any, Self

from haystack import component, default_from_dict, default_to_dict
from haystack.dataclasses import ByteStream, Document, ImageContent
from haystack.document_stores.types import FilterPolicy, apply_filter_policy

from clipsearch import Picture, Text
from clipsearch.integrations.haystack.store import ClipSearchDocumentStore

Image = str | Path | ByteStream | ImageContent
"""The path or URL of a picture, or its bytes."""


class _Retriever:
    """What both retrievers have: a store, filters, how many documents, and what they come with."""

    def __init__(
        self,
        document_store: ClipSearchDocumentStore,
        *,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        modality: str | None = None,
        return_embedding: bool = False,
        filter_policy: FilterPolicy | str = FilterPolicy.REPLACE,
    ) -> None:
        """Prepare.

        Args:
            document_store: What is searched.
            filters: Which documents may be found.
            top_k: How many are returned at most.
            modality: `image` or `text`, None for both.
            return_embedding: Whether they come with the embeddings that they were written with.
            filter_policy: Whether filters of a run replace those given here or are merged with them.

        Raises:
            TypeError: The store is another one.
            ValueError: `top_k` is below 1.
        """
        if not isinstance(document_store, ClipSearchDocumentStore):
            raise TypeError(f"document_store is a {type(document_store).__name__}, not a ClipSearchDocumentStore.")
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}, but it must be at least 1.")
        self.document_store = document_store
        self.filters = filters
        self.top_k = top_k
        self.modality = modality
        self.return_embedding = return_embedding
        self.filter_policy = FilterPolicy(filter_policy)

    def warm_up(self) -> None:
        """Open the library."""
        assert self.document_store.engine

    def to_dict(self) -> dict[str, Any]:
        """Return how to make this retriever again."""
        return default_to_dict(
            self,
            document_store=self.document_store,
            filters=self.filters,
            top_k=self.top_k,
            modality=self.modality,
            return_embedding=self.return_embedding,
            filter_policy=self.filter_policy.value,
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Make a retriever of what `to_dict` returned."""
        return default_from_dict(cls, data)

    def _search(self, query: dict[str, Any], filters: dict[str, Any] | None, top_k: int | None) -> dict[str, Any]:
        """Return the arguments of a search of the store."""
        return {
            "query": {**query, "modality": self.modality},
            "filters": apply_filter_policy(self.filter_policy, self.filters, filters),
            "top_k": self.top_k if top_k is None else top_k,
            "return_embedding": self.return_embedding,
        }


@component
class ClipSearchEmbeddingRetriever(_Retriever):
    """Finds documents by the embedding of a query."""

    @component.output_types(documents=list[Document])
    def run(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Return the `documents` nearest to an embedding, best first; their scores are cosines.

        Args:
            query_embedding: Of the model that embedded the documents, or of the encoder of the library.
            filters: See the constructor.
            top_k: How many at most; None as in the constructor, none for 0.

        Raises:
            FilterError: The filter cannot be used.
            InvalidInputError: The embedding has another length than those of the library.
        """
        query = {"vector": query_embedding, "kind": "text"}
        return {"documents": self.document_store.search(**self._search(query, filters, top_k))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self, query_embedding: list[float], filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """Return the `documents` nearest to an embedding; see `run`."""
        query = {"vector": query_embedding, "kind": "text"}
        return {"documents": await self.document_store.search_async(**self._search(query, filters, top_k))}


@component
class ClipSearchMultimodalRetriever(_Retriever):
    """Finds documents by a text, a picture or both, which the encoder of the library embeds."""

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str | None = None,
        image: str | Path | ByteStream | ImageContent | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Return the `documents` that fit a query best, best first; their scores are cosines.

        Args:
            query: Words, which count as well as their meaning.
            image: The path or URL of a picture, or its bytes; a path or URL may stand beside `query`.
            filters: See the constructor.
            top_k: How many at most; None as in the constructor, none for 0.

        Raises:
            FilterError: The filter cannot be used.
            ValueError: There is neither `query` nor `image`, or bytes of a picture beside `query`.
            ClipSearchError: The picture cannot be read, or the library has no encoder.
        """
        found = self.document_store.search(**self._search(self._query(query, image), filters, top_k))
        return {"documents": found}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str | None = None,
        image: str | Path | ByteStream | ImageContent | None = None,
        filters: dict[str, Any] | None = None,
        top_k: int | None = None,
    ) -> dict[str, list[Document]]:
        """Return the `documents` that fit a query best; see `run`."""
        asked = await asyncio.to_thread(self._query, query, image)
        return {"documents": await self.document_store.search_async(**self._search(asked, filters, top_k))}

    def _query(self, query: str | None, image: Image | None) -> dict[str, Any]:
        """Return the arguments of a search of the engine."""
        if isinstance(image, ByteStream | ImageContent):
            if query is not None:
                raise ValueError("A text goes with the path or URL of a picture, not with its bytes.")
            return {"vector": self.document_store.engine.embed(images=[_bytes_of(image)])[0], "kind": "image"}
        if image is None and query is None:
            raise ValueError("A search takes a query, an image or both, but neither was given.")
        if image is None:
            return {"text": query}
        return {"image": image} if query is None else {"text": Text(query) + Picture(os.fspath(image))}


def _bytes_of(image: ByteStream | ImageContent) -> bytes:
    return image.data if isinstance(image, ByteStream) else base64.b64decode(image.base64_image)
