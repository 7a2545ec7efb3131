"""The searches of an engine for asyncio: `await engine.asearch(...)`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError
from clipsearch.query.batching import Batcher
from clipsearch.query.options import SearchKeywords, SearchOptions
from clipsearch.query.searching import EngineSearches
from clipsearch.query.terms import Query, Term
from clipsearch.query.validation import as_floats, read_single
from clipsearch.types import Results

if TYPE_CHECKING:
    from clipsearch.query.embedding import Picture
    from clipsearch.query.searching import Vector, Vectors


class EngineAsync(EngineSearches):
    """What a SearchEngine has for asyncio. One engine serves any number of event loops, one after the other or not.

    Searches that are awaited at about the same time, with equal options, are answered together.
    """

    _batcher: Batcher

    @property
    def batch_sizes(self) -> dict[int, int]:
        """How many batches of searches were answered since the engine was opened, by the number of searches."""
        return self._batcher.sizes

    @overload
    async def asearch(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | None = None,
        **options: Unpack[SearchKeywords],
    ) -> Results: ...
    @overload
    async def asearch(self, *, vector: Vectors, **options: Unpack[SearchKeywords]) -> list[Results]: ...
    async def asearch(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | Vectors | None = None,
        **options: Unpack[SearchKeywords],
    ) -> Results | list[Results]:
        """Find the best matches of one query, as `search` does, without holding up the event loop.

        Searches that several callers await at about the same time, with equal options, are answered together, which
        takes less time than one after the other.

        Args:
            text: See `search`.
            image: See `search`.
            vector: See `search`.
            options: The other arguments of `search`, by keyword.

        Returns:
            The ranked hits; a list of n Results for vectors of shape (n, dim).

        Raises:
            ClipSearchError: As in `search`; an error of one search does not reach another. LibraryError if the engine
                is closed before the answer is there.
        """
        chosen = SearchOptions(**options)
        rows = None if vector is None else as_floats(vector)
        name, query = read_single(text, image, rows)
        is_several = isinstance(text, Term | Query) or (rows is not None and rows.ndim != 1)
        if is_several or (chosen.kind is not None and rows is None) or chosen.understand:
            return await asyncio.to_thread(self._search_any, text, image, rows, chosen)
        return await asyncio.wrap_future(self._batcher.submit(chosen, f"{name}s", query))

    async def asearch_batch(
        self,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        vectors: NDArray[np.floating] | None = None,
        **options: Unpack[SearchKeywords],
    ) -> list[Results]:
        """Find the best matches of several queries of one kind, as `search_batch` does, in a thread.

        Args:
            texts: See `search_batch`.
            images: See `search_batch`.
            vectors: See `search_batch`.
            options: The other arguments of `search_batch`, by keyword.

        Returns:
            One Results for each query, in order.

        Raises:
            ClipSearchError: As in `search_batch`.
        """
        chosen = SearchOptions(**options)
        return await asyncio.to_thread(self._search_batch, chosen, texts=texts, images=images, vectors=vectors)

    def _answer_together(self, options: SearchOptions, name: str, queries: Sequence[Any]) -> list[Results]:
        """Answer the queries of a micro-batch; name: what they are."""
        if name == "texts":
            return self._search_batch(options, texts=queries)
        if name == "images":
            return self._search_batch(options, images=queries)
        lengths = {len(query) for query in queries}
        if len(lengths) > 1:
            raise InvalidInputError(f"Query vectors must be of one length, not of {sorted(lengths)}.")
        return self._search_batch(options, vectors=np.stack(queries))
