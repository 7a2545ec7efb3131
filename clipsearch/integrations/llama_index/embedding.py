"""The encoder of a library as a multi-modal embedding of LlamaIndex."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Literal

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding
from llama_index.core.schema import ImageType

import clipsearch
from clipsearch import SearchEngine

BATCH = 64
"""Texts or pictures that are embedded together."""


class ClipSearchEmbedding(MultiModalEmbedding):
    """Unit vectors of texts and pictures, in the one space of the encoder of a library."""

    _engine: SearchEngine = PrivateAttr()

    def __init__(
        self,
        library: SearchEngine | str | os.PathLike[str] | None = None,
        *,
        embed_batch_size: int = BATCH,
        **options: Any,
    ) -> None:
        """Use the encoder of a library that exists.

        Args:
            library: A folder, an engine, or None for the library that the command line would find.
            embed_batch_size: How many texts or pictures are embedded together.
            **options: Those of the base class.

        Raises:
            LibraryNotFoundError: The library does not exist.
        """
        engine = library if isinstance(library, SearchEngine) else clipsearch.open(library)
        options = {**options, "model_name": engine.encoder.name}
        super().__init__(embed_batch_size=embed_batch_size, **options)
        self._engine = engine

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which LlamaIndex knows this embedding."""
        return "ClipSearchEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._texts([query], "query")[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._texts([text], "document")[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._texts(texts, "document")

    def _get_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    def _get_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        pictures = [each.getvalue() if isinstance(each, BytesIO) else each for each in img_file_paths]
        return [row.tolist() for row in self._engine.embed(images=pictures)]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    async def _aget_image_embeddings(self, img_file_paths: list[ImageType]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)

    def _texts(self, texts: Sequence[str], kind: Literal["query", "document"]) -> list[list[float]]:
        return [row.tolist() for row in self._engine.embed(texts=texts, kind=kind)]
