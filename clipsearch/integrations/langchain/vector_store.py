"""A library as a vector store of LangChain."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import run_in_executor
from langchain_core.vectorstores import VectorStore

import clipsearch
from clipsearch import EncoderMismatchError, InvalidInputError, Record, Results, SearchEngine
from clipsearch.integrations.adding import Failure, add_all
from clipsearch.integrations.langchain.documents import (
    Library,
    Where,
    added_ids,
    as_document,
    as_documents,
    as_filter,
    as_record,
    batches,
    check_count,
    with_ids,
    with_relevance,
)
from clipsearch.integrations.langchain.embeddings import ClipSearchEmbeddings
from clipsearch.integrations.langchain.marginal import marginal_relevance

BATCH = 1000
"""Documents that are embedded and committed together."""


class ClipSearchVectorStore(VectorStore):
    """Documents and pictures in a library.

    Without `embedding` the encoder of the library embeds texts and pictures, and a query searches for words as well as
    for meaning. Documents come in the order of `SearchEngine.search`; a score is a cosine.

    Attributes:
        engine: The engine of the library.
        embedding: What embeds texts; None for the encoder of the library.
    """

    def __init__(
        self, library: Library = None, embedding: Embeddings | None = None, *, model: str | None = None
    ) -> None:
        """Open a library, or make one.

        Args:
            library: An engine, or a folder, in which a library is made if it has none.
            embedding: Embeds texts, and pictures if it has `embed_image`; None for the encoder of the library.
            model: The encoder of a new library; with `embedding`, the name under which the library knows the model, of
                its class and `model` if not given.

        Raises:
            EncoderMismatchError: The library has vectors of another model.
            ClipSearchError: As `clipsearch.open` has it.
        """
        if isinstance(embedding, ClipSearchEmbeddings) and library in (None, embedding.engine):
            library, embedding = embedding.engine, None
        self.engine = library if isinstance(library, SearchEngine) else _made(library, embedding, model)
        self.embedding = embedding
        pin = self.engine.library.encoder
        if embedding is not None and pin is not None and not pin.is_imported:
            raise EncoderMismatchError(
                f"The library in {self.engine.library.folder} makes its vectors with {pin.name}; those of "
                f"{type(embedding).__name__} do not fit. Leave out `embedding`, or name the folder of another library."
            )

    @property
    def embeddings(self) -> Embeddings:
        """What embeds queries."""
        return self.embedding or ClipSearchEmbeddings(self.engine)

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        library: Library = None,
        model: str | None = None,
        **options: Any,
    ) -> Self:
        """Return a store with texts; see the constructor and `add_documents`."""
        store = cls(library, embedding, model=model)
        store.add_texts(texts, metadatas, ids=ids, **options)
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **options: Any,
    ) -> list[str]:
        """Add texts as documents; see `add_documents`."""
        return self.add_documents(as_documents(texts, metadatas), ids=ids, **options)

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **options: Any,
    ) -> list[str]:
        """Add texts as documents; see `add_documents`."""
        return await self.aadd_documents(as_documents(texts, metadatas), ids=ids, **options)

    def add_documents(
        self,
        documents: list[Document],
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = BATCH,
        **options: Any,
    ) -> list[str]:
        """Add documents, or replace those of the same ids.

        Args:
            documents: One without an id gets one.
            ids: Used instead of those of the documents.
            batch_size: How many are embedded and committed together.
            **options: Those of `SearchEngine.add`.

        Returns:
            Their ids, in order.

        Raises:
            DocumentsFailedError: Some could not be added; the others were.
        """
        failed: list[Failure] = []
        named = with_ids(documents, ids)
        for part in batches(named, batch_size):
            texts = [document.page_content for _, document in part]
            vectors = self.embedding.embed_documents(texts) if self.embedding else None
            failed += self._add(part, vectors, **options)
        return added_ids(named, failed)

    async def aadd_documents(
        self,
        documents: list[Document],
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int = BATCH,
        **options: Any,
    ) -> list[str]:
        """Add documents, or replace those of the same ids; see `add_documents`."""
        failed: list[Failure] = []
        named = with_ids(documents, ids)
        for part in batches(named, batch_size):
            texts = [document.page_content for _, document in part]
            vectors = await self.embedding.aembed_documents(texts) if self.embedding else None
            failed += await run_in_executor(None, self._add, part, vectors, **options)
        return added_ids(named, failed)

    def add_images(
        self,
        uris: Sequence[Any],
        metadatas: list[dict[str, Any]] | None = None,
        ids: Sequence[str | None] | None = None,
        *,
        captions: Sequence[str] | None = None,
        **options: Any,
    ) -> list[str]:
        """Add pictures, or replace those of the same ids.

        Args:
            uris: Paths, URLs, bytes, Pillow images or uint8 arrays (h, w, 3).
            metadatas: One for each picture.
            ids: One for each picture; one of None is made.
            captions: Found as texts are; the text of the document.
            **options: Those of `SearchEngine.add`, such as `keep="thumbnail"`.

        Returns:
            Their ids, in order.

        Raises:
            InvalidInputError: `embedding` has no `embed_image`, or the lists differ in length.
            DocumentsFailedError: Some could not be added; the others were.
        """
        named = with_ids(as_documents(captions or [""] * len(uris), metadatas), ids)
        check_count("pictures", len(named), len(uris))
        vectors = self._embed_images(uris) if self.embedding else None
        return added_ids(named, self._add(named, vectors, uris, **options))

    def _add(
        self,
        named: Sequence[tuple[str, Document]],
        vectors: Sequence[Sequence[float]] | None,
        images: Sequence[Any] | None = None,
        **options: Any,
    ) -> list[Failure]:
        missing = [None] * len(named)
        given = zip(named, images or missing, vectors or missing, strict=True)

        def to_record(each: tuple[tuple[str, Document], Any, Any]) -> Record:
            (name, document), image, vector = each
            return as_record(name, document, image, vector)

        return add_all(self.engine, given, to_record, lambda each: each[0][0], **options)

    def _embed_images(self, uris: Sequence[Any]) -> list[list[float]]:
        embed: Callable[[Sequence[Any]], list[list[float]]] | None = getattr(self.embedding, "embed_image", None)
        if embed is None:
            raise InvalidInputError(
                f"{type(self.embedding).__name__} cannot embed pictures: it has no embed_image. Use a store without "
                "`embedding`, which takes the encoder of its library."
            )
        return embed(uris)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Return the documents of these ids, in this order, without those that are not in the library."""
        return [as_document(item) for item in self.engine.get(list(ids)) if item is not None]

    def delete(self, ids: list[str] | None = None, *, filter: Where = None, **options: Any) -> bool:
        """Delete documents by their ids, or all that a filter allows. Ids that are not in the library are ignored.

        Returns:
            True.

        Raises:
            InvalidInputError: Neither or both are given. `filter=Filter()` deletes everything.
        """
        self.engine.delete(ids, filters=as_filter(filter), **options)
        return True

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """Return the k documents that fit a text best.

        Args:
            query: The text.
            k: How many.
            **options: `filter`, conditions on the metadata as `Filter(where=...)` takes them, or a Filter; the others
                are those of `SearchEngine.search`, such as `modality` and `min_confidence`.
        """
        return [as_document(hit.item, hit) for hit in self._search(query, k, **options)]

    async def asimilarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """Return the k documents that fit a text best; see `similarity_search`."""
        return [as_document(hit.item, hit) for hit in await self._asearch(query, k, **options)]

    def similarity_search_with_score(self, query: str, k: int = 4, **options: Any) -> list[tuple[Document, float]]:
        """Return the k documents that fit a text best, each with its cosine; see `similarity_search`."""
        return [(as_document(hit.item, hit), hit.score) for hit in self._search(query, k, **options)]

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """Return the k documents that fit a text best, each with its cosine; see `similarity_search`."""
        return [(as_document(hit.item, hit), hit.score) for hit in await self._asearch(query, k, **options)]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        return with_relevance(self._search(query, k, **options))

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        return with_relevance(await self._asearch(query, k, **options))

    def similarity_search_by_vector(self, embedding: Sequence[float], k: int = 4, **options: Any) -> list[Document]:
        """Return the k documents nearest to a vector, by default one of a text; see `similarity_search`."""
        return [as_document(hit.item, hit) for hit in self._search_by_vector(embedding, k, **options)]

    def similarity_search_by_image(self, uri: Any, k: int = 4, **options: Any) -> list[Document]:
        """Return the k documents that fit a picture best: a path, a URL or a Pillow image; see `similarity_search`."""
        if self.embedding is None:
            hits = self.engine.search(image=uri, k=k, filters=as_filter(options.pop("filter", None)), **options)
        else:
            hits = self._search_by_vector(self._embed_images([uri])[0], k, kind="image", **options)
        return [as_document(hit.item, hit) for hit in hits]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """Return k of the `fetch_k` documents that fit a text best, chosen to differ from each other.

        Args:
            query: The text.
            k: How many.
            fetch_k: How many to choose from.
            lambda_mult: From 0, as different as possible, to 1, in the order of their scores.
            **options: See `similarity_search`.
        """
        hits = self._search(query, max(k, fetch_k), **options)
        return self._diverse(hits, k, lambda_mult)

    def max_marginal_relevance_search_by_vector(
        self, embedding: Sequence[float], k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """Return k of the documents nearest to a vector; see `max_marginal_relevance_search`."""
        hits = self._search_by_vector(embedding, max(k, fetch_k), **options)
        return self._diverse(hits, k, lambda_mult)

    def _diverse(self, hits: Results, k: int, lambda_mult: float) -> list[Document]:
        vectors = self.engine.vectors([hit.item.key for hit in hits])
        chosen = marginal_relevance(np.array([hit.score for hit in hits]), vectors, k, lambda_mult)
        return [as_document(hits[each].item, hits[each]) for each in chosen]

    def _search(self, query: str, k: int, *, filter: Where = None, **options: Any) -> Results:
        if self.embedding is None:
            return self.engine.search(query, k=k, filters=as_filter(filter), **options)
        return self._search_by_vector(self.embedding.embed_query(query), k, filter=filter, **options)

    async def _asearch(self, query: str, k: int, *, filter: Where = None, **options: Any) -> Results:
        if self.embedding is None:
            return await self.engine.asearch(query, k=k, filters=as_filter(filter), **options)
        vector = await self.embedding.aembed_query(query)
        return await self.engine.asearch(vector=vector, kind="text", k=k, filters=as_filter(filter), **options)

    def _search_by_vector(
        self, vector: Sequence[float], k: int, *, filter: Where = None, kind: str = "text", **options: Any
    ) -> Results:
        return self.engine.search(vector=vector, kind=kind, k=k, filters=as_filter(filter), **options)


def _made(folder: str | os.PathLike[str] | None, embedding: Embeddings | None, model: str | None) -> SearchEngine:
    """Open a library, or make one; one for the vectors of `embedding` has their length, found by a first text."""
    if embedding is None:
        return clipsearch.open(folder, create=True, model=model)
    known = getattr(embedding, "model", None) or getattr(embedding, "model_name", None)
    name = model or "/".join(filter(None, [type(embedding).__name__, known if isinstance(known, str) else None]))
    return clipsearch.open(folder, create=True, model=name, dim=len(embedding.embed_query("text")))
