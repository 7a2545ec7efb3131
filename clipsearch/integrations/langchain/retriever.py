"""A library as a retriever of LangChain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import Field, InstanceOf, field_validator

from clipsearch import Filter, SearchEngine
from clipsearch.integrations.langchain.documents import Library, as_filter, as_found, open_engine


class ClipSearchRetriever(BaseRetriever):
    """Documents and pictures of a library that fit a text, by the library's own encoder.

    The metadata of a document also has what the search says of it: `source`, the path or URL of a file; `modality`,
    `image` for a picture; `score`, its cosine; and `confidence`. Names that the document has itself keep their values.

    Attributes:
        library: An engine, or the folder of a library; None for the library that the command line would find. It is
            kept as an engine.
        k: How many documents.
        filter: Conditions on the metadata as `Filter(where=...)` takes them, or a Filter.
        search_kwargs: Options of `SearchEngine.search`, such as `modality` and `min_confidence`.
    """

    library: InstanceOf[SearchEngine] = Field(default=None, validate_default=True)
    k: int = 4
    filter: dict[str, Any] | InstanceOf[Filter] | None = None
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

    @field_validator("library", mode="before")
    @classmethod
    def _open(cls, library: Library) -> SearchEngine:
        return open_engine(library)

    @property
    def engine(self) -> SearchEngine:
        """The engine of the library."""
        return self.library

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return [as_found(hit) for hit in self.engine.search(query, **self._options(options))]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **options: Any
    ) -> list[Document]:
        return [as_found(hit) for hit in await self.engine.asearch(query, **self._options(options))]

    def _options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        options = {"k": self.k, "filter": self.filter, **self.search_kwargs, **given}
        return {"filters": as_filter(options.pop("filter")), **options}
