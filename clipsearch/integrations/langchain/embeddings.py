"""The encoder of a library as embeddings of LangChain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from clipsearch.integrations.langchain.documents import Library, open_engine


class ClipSearchEmbeddings(Embeddings):
    """The encoder of a library: unit vectors of texts and pictures, in one space.

    Attributes:
        engine: The engine whose encoder it is.
    """

    def __init__(self, library: Library = None) -> None:
        """Use the encoder of a library that exists."""
        self.engine = open_engine(library)

    @property
    def model(self) -> str | None:
        """The name of the encoder; None if the library has none yet."""
        pin = self.engine.library.encoder
        return pin.name if pin else None

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embed texts that are to be found."""
        return _lists(self.engine.embed(texts=texts, kind="document"))

    def embed_query(self, text: str) -> list[float]:
        """Embed the text of a query."""
        return _lists(self.engine.embed(texts=[text], kind="query"))[0]

    def embed_image(self, uris: Sequence[Any]) -> list[list[float]]:
        """Embed pictures: paths, URLs or Pillow images."""
        return _lists(self.engine.embed(images=uris))


def _lists(vectors: NDArray[np.float32]) -> list[list[float]]:
    rows: list[list[float]] = vectors.tolist()
    return rows
