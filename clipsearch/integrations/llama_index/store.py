"""A library as a vector store of LlamaIndex."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Literal

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)

import clipsearch
from clipsearch import Filter, Hit, InvalidInputError, SearchEngine
from clipsearch.integrations.adding import add_all
from clipsearch.integrations.llama_index.filters import to_filter
from clipsearch.integrations.llama_index.found import nodes_of_hits, nodes_of_items
from clipsearch.integrations.llama_index.nodes import REF_DOC_ID, to_record

_MODES = (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.HYBRID, VectorStoreQueryMode.MMR)


class NodesFailedError(InvalidInputError):
    """Some nodes could not be added; the others were.

    Attributes:
        failed: The id and the reason of each of them.
    """

    def __init__(self, count: int, failed: tuple[tuple[str, str], ...]) -> None:
        self.failed = failed
        name, reason = failed[0]
        super().__init__(f"{len(failed)} of {count} nodes were not added; the others were. {name!r}: {reason}")


class ClipSearchVectorStore(BasePydanticVectorStore):
    """Nodes, texts and pictures, in a library.

    A library has an encoder of its own, which embeds the nodes that come without an embedding; one that is made with
    `dim` keeps the embeddings of another model. Files that `clipsearch index` added are nodes as well.

    Attributes:
        library: The folder of the library.
        model: The encoder of a new library.
        dim: The length of embeddings that are made elsewhere; None for the encoder of the library.
        index_metadata: Names of metadata by which nodes are found faster.
        keep: What the library keeps of pictures: a `thumbnail`, their `bytes`, or None for nothing.
    """

    stores_text: bool = True
    library: str | None = None
    model: str | None = None
    dim: int | None = None
    index_metadata: tuple[str, ...] = ()
    keep: Literal["thumbnail", "bytes"] | None = None
    _engine: SearchEngine = PrivateAttr()

    def __init__(
        self,
        library: SearchEngine | str | os.PathLike[str] | None = None,
        *,
        model: str | None = None,
        dim: int | None = None,
        index_metadata: Sequence[str] = (),
        keep: Literal["thumbnail", "bytes"] | None = None,
        **unused: Any,
    ) -> None:
        """Open a library, or make one.

        Args:
            library: A folder, where a library is created if needed; an engine; or None for the library that the
                command line would find.
            model: The encoder of a new library; with `dim`, the name of the model that embeds the nodes.
            dim: The length of embeddings that are made elsewhere; None for the encoder of the library.
            index_metadata: Names of metadata by which nodes are found faster.
            keep: What the library keeps of pictures: a `thumbnail`, their `bytes`, or None for nothing.
            **unused: Fields of the base class, as `to_dict` has them.

        Raises:
            ClipSearchError: As in `clipsearch.open`.
        """
        if isinstance(library, SearchEngine):
            engine = library
        else:
            engine = clipsearch.open(library, create=True, model=model, dim=dim, index_metadata=tuple(index_metadata))
        folder = os.fspath(engine.library.folder)
        described: dict[str, Any] = {"model": model, "dim": dim, "index_metadata": tuple(index_metadata), "keep": keep}
        super().__init__(stores_text=True, **{"library": folder, **described})
        self._engine = engine

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which LlamaIndex knows this store."""
        return "ClipSearchVectorStore"

    @property
    def client(self) -> SearchEngine:
        """The engine of the library."""
        return self._engine

    def add(self, nodes: Sequence[BaseNode], **unused: Any) -> list[str]:
        """Add nodes, or replace those with the same ids.

        Args:
            nodes: Each with a text, a picture or an embedding.
            **unused: What other stores take.

        Returns:
            Their ids.

        Raises:
            NodesFailedError: Some could not be added; the others were.
        """
        failed = add_all(self._engine, nodes, to_record, attrgetter("node_id"), keep=self.keep)
        if failed:
            raise NodesFailedError(len(nodes), tuple(failed))
        return [node.node_id for node in nodes]

    def delete(self, ref_doc_id: str, **unused: Any) -> None:
        """Delete the nodes of a document by its id."""
        self._engine.delete(filters=Filter(where={REF_DOC_ID: {"eq": ref_doc_id}}))

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **unused: Any
    ) -> None:
        """Delete the nodes of these ids that the filters allow; all of either where the other is None.

        Raises:
            InvalidInputError: Neither is given, or a filter cannot be used. `clear` deletes all.
        """
        if node_ids is None and filters is None:
            raise InvalidInputError("Neither ids nor filters say which nodes to delete. clear() deletes all.")
        self._engine.delete(filters=_allowed(node_ids, None, filters))

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """Return nodes: in the order of their ids where these are given, else in one that stays the same.

        Args:
            node_ids: Their ids, of which unknown ones are passed over; None for all.
            filters: Which of them.

        Raises:
            InvalidInputError: A filter cannot be used.
        """
        items = list(self._engine.items(_allowed(node_ids, None, filters)))
        if node_ids is not None:
            places = {node_id: place for place, node_id in enumerate(node_ids)}
            items.sort(key=lambda item: places[item.key])
        return nodes_of_items(self._engine, items, self.keep is not None)

    def clear(self) -> None:
        """Delete all nodes."""
        self._engine.delete(filters=Filter())

    def query(self, query: VectorStoreQuery, **options: Any) -> VectorStoreQueryResult:
        """Return the nodes that fit a query best, with their cosines.

        Args:
            query: In mode `default` or `mmr`, an embedding, or else the text, which the encoder of the library embeds;
                in mode `hybrid` the text, whose words count as well as its meaning.
            **options: `modality`, `image` or `text`, to find only these; `kind`, `image` for an embedding of a picture.
                In mode `mmr`: `mmr_threshold`, from 0 for nodes that differ most to 1 for those that fit best, 0.5 if
                not given; `mmr_prefetch_k`, how many nodes are chosen from, four times as many as are returned.

        Raises:
            InvalidInputError: The mode, a filter or the embedding cannot be used.
            ClipSearchError: As in `SearchEngine.search`.
        """
        return self._answer(query, self._engine.search(**_search(query, options)).hits, options)

    async def aquery(self, query: VectorStoreQuery, **options: Any) -> VectorStoreQueryResult:
        """Return the nodes that fit a query best; see `query`. Queries at the same time are answered together."""
        found = await self._engine.asearch(**_search(query, options))
        return await asyncio.to_thread(self._answer, query, found.hits, options)

    async def async_add(self, nodes: Sequence[BaseNode], **unused: Any) -> list[str]:
        """Add nodes; see `add`."""
        return await asyncio.to_thread(self.add, nodes)

    async def adelete(self, ref_doc_id: str, **unused: Any) -> None:
        """Delete the nodes of a document by its id."""
        await asyncio.to_thread(self.delete, ref_doc_id)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **unused: Any
    ) -> None:
        """Delete nodes; see `delete_nodes`."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters)

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Return nodes; see `get_nodes`."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    async def aclear(self) -> None:
        """Delete all nodes."""
        await asyncio.to_thread(self.clear)

    def _answer(self, query: VectorStoreQuery, hits: Sequence[Hit], options: dict[str, Any]) -> VectorStoreQueryResult:
        if query.mode is VectorStoreQueryMode.MMR and hits:
            hits = self._diverse(query, hits, options)
        nodes = nodes_of_hits(self._engine, hits, self.keep is not None)
        return VectorStoreQueryResult(nodes, [hit.score for hit in hits], [hit.item.key for hit in hits])

    def _diverse(self, query: VectorStoreQuery, hits: Sequence[Hit], options: dict[str, Any]) -> list[Hit]:
        """Return hits by maximal marginal relevance."""
        embedding = query.query_embedding
        if embedding is None:
            embedding = self._engine.embed(texts=[query.query_str or ""], kind="query")[0].tolist()
        threshold = options.get("mmr_threshold", query.mmr_threshold)
        rows = self._engine.vectors([hit.item.key for hit in hits])
        _, chosen = get_top_k_mmr_embeddings(
            embedding, list(rows), similarity_top_k=query.similarity_top_k, mmr_threshold=threshold
        )
        return [hits[each] for each in chosen]


def _search(query: VectorStoreQuery, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the search that answers a query."""
    if query.mode not in _MODES:
        names = ", ".join(each.value for each in _MODES)
        raise InvalidInputError(f"A library has no query mode {query.mode.value!r}. Use one of {names}.")
    wanted = {
        "k": query.similarity_top_k,
        "filters": _allowed(query.node_ids or None, query.doc_ids, query.filters),
        "modality": options.get("modality"),
    }
    if query.mode is VectorStoreQueryMode.HYBRID:
        if query.alpha is not None:
            raise InvalidInputError(
                f"alpha is {query.alpha}, but words and meaning are fused by ranks. Leave alpha out."
            )
        return {**wanted, "text": query.query_str, "k": query.hybrid_top_k or query.similarity_top_k}
    if query.mode is VectorStoreQueryMode.MMR:
        wanted["k"] = max(query.similarity_top_k, options.get("mmr_prefetch_k", 4 * query.similarity_top_k))
    if query.query_embedding is None:
        return {**wanted, "text": query.query_str, "hybrid": False}
    return {**wanted, "vector": query.query_embedding, "kind": options.get("kind", "text")}


def _allowed(node_ids: Sequence[str] | None, doc_ids: Sequence[str] | None, filters: MetadataFilters | None) -> Filter:
    allowed = to_filter(filters)
    if node_ids is not None:
        allowed &= Filter(keys=tuple(node_ids)) if node_ids else Filter(ids=frozenset())
    if doc_ids:
        allowed &= Filter(where={REF_DOC_ID: {"in": list(doc_ids)}})
    return allowed
