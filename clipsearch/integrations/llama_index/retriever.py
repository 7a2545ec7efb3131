"""A retriever of LlamaIndex over a library: texts and pictures, found by either."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from llama_index.core.base.base_multi_modal_retriever import MultiModalRetriever
from llama_index.core.callbacks import CallbackManager
from llama_index.core.indices.query.schema import QueryType
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

import clipsearch
from clipsearch import Filter, InvalidInputError, Picture, Results, SearchEngine, Text
from clipsearch.integrations.llama_index.filters import to_filter
from clipsearch.integrations.llama_index.found import nodes_of_hits
from clipsearch.integrations.llama_index.store import ClipSearchVectorStore


class ClipSearchRetriever(MultiModalRetriever):
    """Finds texts and pictures by a text, by a picture, or by both, which the encoder of the library embeds.

    A query is a text, or a `QueryBundle` with `image_path`. Nodes that a vector store added come back as they were;
    files that `clipsearch index` added are an ImageNode, or a TextNode with the passage that matched.

    Attributes:
        engine: The engine of the library.
    """

    def __init__(
        self,
        library: SearchEngine | ClipSearchVectorStore | str | os.PathLike[str] | None = None,
        *,
        similarity_top_k: int = 10,
        filters: MetadataFilters | Filter | None = None,
        modality: str | None = None,
        min_confidence: float | None = None,
        hybrid: bool = True,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
    ) -> None:
        """Use a library.

        Args:
            library: A folder, an engine, a vector store, or None for the library that the command line would find.
            similarity_top_k: How many nodes are returned at most.
            filters: Which nodes may be found.
            modality: `image` or `text`, None for both in one ranking.
            min_confidence: Leave out nodes below this confidence, from 0 to 1.
            hybrid: Find texts by their words as well.
            callback_manager: As in the base class.
            verbose: As in the base class.

        Raises:
            LibraryNotFoundError: The library does not exist.
        """
        if isinstance(library, ClipSearchVectorStore):
            library = library.client
        self.engine = library if isinstance(library, SearchEngine) else clipsearch.open(library)
        self._modality = modality
        self._options: dict[str, Any] = {
            "k": similarity_top_k,
            "filters": filters if isinstance(filters, Filter) else to_filter(filters),
            "min_confidence": min_confidence,
        }
        self._hybrid = hybrid
        super().__init__(callback_manager=callback_manager, verbose=verbose)

    def text_retrieve(self, str_or_query_bundle: QueryType) -> list[NodeWithScore]:
        """Return the texts that fit a query best."""
        return self._search(_bundle(str_or_query_bundle), "text")

    async def atext_retrieve(self, str_or_query_bundle: QueryType) -> list[NodeWithScore]:
        """Return the texts that fit a query best."""
        return await self._asearch(_bundle(str_or_query_bundle), "text")

    def text_to_image_retrieve(self, str_or_query_bundle: QueryType) -> list[NodeWithScore]:
        """Return the pictures that fit a query best."""
        return self._text_to_image_retrieve(_bundle(str_or_query_bundle))

    async def atext_to_image_retrieve(self, str_or_query_bundle: QueryType) -> list[NodeWithScore]:
        """Return the pictures that fit a query best."""
        return await self._atext_to_image_retrieve(_bundle(str_or_query_bundle))

    def image_to_image_retrieve(self, str_or_query_bundle: QueryType) -> list[NodeWithScore]:
        """Return the pictures that fit a picture best, given by its path or URL or as `image_path`."""
        return self._image_to_image_retrieve(_picture_bundle(str_or_query_bundle))

    async def aimage_to_image_retrieve(self, str_or_query_bundle: QueryType) -> list[NodeWithScore]:
        """Return the pictures that fit a picture best, given by its path or URL or as `image_path`."""
        return await self._aimage_to_image_retrieve(_picture_bundle(str_or_query_bundle))

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._search(query_bundle, self._modality)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self._asearch(query_bundle, self._modality)

    def _text_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._search(query_bundle, "image")

    async def _atext_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self._asearch(query_bundle, "image")

    def _image_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._search(query_bundle, "image")

    async def _aimage_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self._asearch(query_bundle, "image")

    def _search(self, bundle: QueryBundle, modality: str | None) -> list[NodeWithScore]:
        return self._nodes(self.engine.search(**self._query(bundle), modality=modality, **self._options))

    async def _asearch(self, bundle: QueryBundle, modality: str | None) -> list[NodeWithScore]:
        found = await self.engine.asearch(**self._query(bundle), modality=modality, **self._options)
        return await asyncio.to_thread(self._nodes, found)

    def _query(self, bundle: QueryBundle) -> dict[str, Any]:
        """Return the arguments of the search that answers a query."""
        text, path = bundle.query_str, bundle.image_path
        if bundle.embedding is not None:
            return {"vector": bundle.embedding, "kind": "image" if path and not text else "text"}
        if path and text:
            return {"text": Text(text) + Picture(path)}
        if path:
            return {"image": path}
        if not text.strip():
            raise InvalidInputError("The query has neither words nor a picture. Give a text, or image_path.")
        return {"text": text, "hybrid": self._hybrid}

    def _nodes(self, hits: Results) -> list[NodeWithScore]:
        nodes = nodes_of_hits(self.engine, hits, with_pictures=True)
        return [NodeWithScore(node=node, score=hit.score) for node, hit in zip(nodes, hits, strict=True)]


def _bundle(query: QueryType) -> QueryBundle:
    return QueryBundle(query) if isinstance(query, str) else query


def _picture_bundle(query: QueryType) -> QueryBundle:
    return QueryBundle("", image_path=query) if isinstance(query, str) else query
