"""A vector store as a document index of LangChain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.indexing import DeleteResponse, DocumentIndex, UpsertResponse
from pydantic import Field, InstanceOf

from clipsearch import InvalidInputError
from clipsearch.integrations.langchain.documents import DocumentsFailedError
from clipsearch.integrations.langchain.vector_store import ClipSearchVectorStore


class ClipSearchDocumentIndex(DocumentIndex):
    """A vector store as LangChain's document index, which is a retriever as well.

    Attributes:
        store: The store.
        k: How many documents a search returns.
        search_kwargs: Options of `ClipSearchVectorStore.similarity_search`.
    """

    store: InstanceOf[ClipSearchVectorStore]
    k: int = 4
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    def upsert(self, items: Sequence[Document], /, **options: Any) -> UpsertResponse:
        """Add documents, or replace those of the same ids; options are those of `add_documents`."""
        try:
            return UpsertResponse(succeeded=self.store.add_documents(list(items), **options), failed=[])
        except DocumentsFailedError as error:
            return UpsertResponse(succeeded=error.added, failed=[name for name, _ in error.failed])

    async def aupsert(self, items: Sequence[Document], /, **options: Any) -> UpsertResponse:
        """Add documents, or replace those of the same ids; options are those of `add_documents`."""
        try:
            return UpsertResponse(succeeded=await self.store.aadd_documents(list(items), **options), failed=[])
        except DocumentsFailedError as error:
            return UpsertResponse(succeeded=error.added, failed=[name for name, _ in error.failed])

    def delete(self, ids: list[str] | None = None, **options: Any) -> DeleteResponse:
        """Delete documents by their ids. Raises InvalidInputError, a ValueError, without ids."""
        if ids is None:
            raise InvalidInputError("There are no ids to delete. Name at least one.")
        there = [item.key for item in self.store.engine.get(list(dict.fromkeys(ids))) if item is not None]
        self.store.delete(there, **options)
        return DeleteResponse(succeeded=there, num_deleted=len(there), failed=[], num_failed=0)

    def get(self, ids: Sequence[str], /, **options: Any) -> list[Document]:
        """Return the documents of these ids, in this order, without those that are not in the library."""
        return self.store.get_by_ids(ids)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return self.store.similarity_search(query, **{"k": self.k, **self.search_kwargs, **options})

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return await self.store.asimilarity_search(query, **{"k": self.k, **self.search_kwargs, **options})
