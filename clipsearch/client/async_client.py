"""The interface of an engine for asyncio, to a library that a server has."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn, Self, Unpack, overload

from clipsearch.client import changing, exporting, lookup, matching, saving, searching, selections
from clipsearch.client.address import read_address
from clipsearch.client.async_connection import AsyncConnection
from clipsearch.client.calls import MAX_COUNT
from clipsearch.client.connection import Link
from clipsearch.filtering import Filter
from clipsearch.matches import Matches
from clipsearch.query.options import SearchKeywords, SearchOptions
from clipsearch.query.terms import Query, Term
from clipsearch.query.validation import Named, read_count
from clipsearch.records import AddReport, Record
from clipsearch.saved_searches import SavedAnswer, SavedSearch
from clipsearch.sorting import TAKEN
from clipsearch.types import Collection, Facets, Item, Listing, Modality, Page, Places, Results

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from clipsearch.client.answers import ServerStats
    from clipsearch.crop import Written
    from clipsearch.query.embedding import Picture
    from clipsearch.query.searching import Vector, Vectors
    from clipsearch.query.understanding.understood import Understood
    from indexer.exporting import ExportReport
    from indexer.report import IndexReport


class AsyncClient:
    """`Client` for asyncio: its methods are awaited, and take and return the same. It belongs to one event loop.

    Attributes:
        url: The address of the server.

    Example:
        >>> async with clipsearch.AsyncClient("https://photos.example.org", token=token) as engine:
        ...     hits = await engine.search("a cat on a sofa", k=10)
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 75.0,
        ca_file: str | None = None,
        allow_http: bool = False,
    ) -> None:
        """Prepare, as `Client` does; nothing is sent yet. Raises InvalidInputError."""
        address = read_address(url, token, allow_http=allow_http)
        self.url = address.url
        self._connection = AsyncConnection(Link(address, timeout, ca_file))

    @overload
    async def search(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | None = None,
        **options: Unpack[SearchKeywords],
    ) -> Results: ...
    @overload
    async def search(self, *, vector: Vectors, **options: Unpack[SearchKeywords]) -> list[Results]: ...
    async def search(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | Vectors | None = None,
        **options: Unpack[SearchKeywords],
    ) -> Results | list[Results]:
        """See `Client.search`."""
        return await self._connection.run(searching.search(text, image, vector, SearchOptions(**options)))

    async def search_batch(
        self,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        vectors: NDArray[np.floating] | None = None,
        **options: Unpack[SearchKeywords],
    ) -> list[Results]:
        """See `Client.search_batch`."""
        return await self._connection.run(searching.search_batch(texts, images, vectors, SearchOptions(**options)))

    async def match(
        self, image: Picture, *, k: int = 5, crop: Written | None = None, filters: Filter | None = None
    ) -> Matches:
        """See `Client.match`."""
        return await self._connection.run(matching.match(image, k, crop, filters))

    asearch = search
    """What an engine calls it."""

    asearch_batch = search_batch
    """What an engine calls it."""

    async def find(
        self, filters: Filter | None = None, *, limit: int | None = None, offset: int = 0, sort: str = TAKEN
    ) -> Listing:
        """See `Client.find`."""
        return await self._connection.run(lookup.find(filters, limit, offset, sort))

    @overload
    async def get(self, ids: str) -> Item | None: ...  # type: ignore[overload-overlap]
    @overload
    async def get(self, ids: Iterable[str]) -> list[Item | None]: ...
    async def get(self, ids: str | Iterable[str]) -> Item | list[Item | None] | None:
        """See `Client.get`."""
        return await self._connection.run(lookup.get(ids))

    async def count(self, filters: Filter | None = None) -> int:
        """See `Client.count`."""
        return await self._connection.run(lookup.count(filters))

    async def facets(self, filters: Filter | None = None, *, limit: int = 100) -> Facets:
        """See `Client.facets`."""
        return await self._connection.run(lookup.facets(filters, limit))

    async def understand(self, text: str) -> Understood:
        """See `Client.understand`."""
        return await self._connection.run(lookup.understand(text))

    async def places(self, filters: Filter | None = None, *, cells: int = 32) -> Places:
        """See `Client.places`."""
        return await self._connection.run(lookup.places(filters, cells))

    async def page(self, filters: Filter | None = None, *, cursor: str | None = None, limit: int = 100) -> Page:
        """See `Client.page`."""
        return await self._connection.run(lookup.page(filters, cursor, limit))

    async def items(self, filters: Filter | None = None, *, batch: int = 1000) -> AsyncIterator[Item]:
        """See `Client.items`."""
        size = min(read_count("batch", batch), MAX_COUNT)
        found = await self.page(filters, limit=size)
        while True:
            for item in found:
                yield item
            if found.cursor is None:
                return
            found = await self.page(filters, cursor=found.cursor, limit=size)

    async def vectors(self, ids: str | Iterable[str], *, modality: Modality | str | None = None) -> NDArray[np.float32]:
        """See `Client.vectors`."""
        return await self._connection.run(lookup.vectors(ids, modality))

    async def embed(
        self, *, texts: Iterable[str] | None = None, images: Iterable[Picture] | None = None, kind: str = "document"
    ) -> NDArray[np.float32]:
        """See `Client.embed`."""
        return await self._connection.run(lookup.embed(texts, images, kind))

    async def thumbnail(self, key: str, *, side: int = 256) -> bytes:
        """See `Client.thumbnail`."""
        return await self._connection.run(lookup.thumbnail(key, side))

    async def export(
        self,
        folder: str | os.PathLike[str],
        *,
        format: str = "jsonl",
        filters: Filter | None = None,
        overwrite: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> ExportReport:
        """See `Client.export`; `progress` is called from other threads."""
        from indexer.report import reporting

        return await self._connection.run(exporting.export(folder, format, filters, overwrite, reporting(progress)))

    async def stats(self) -> ServerStats:
        """See `Client.stats`."""
        return await self._connection.run(lookup.stats())

    async def add(
        self,
        records: Iterable[Record | Mapping[str, object]],
        *,
        keep: str | None = None,
        batch_size: int | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> AddReport:
        """See `Client.add`; records are read, and `progress` is called, in threads."""
        return await self._connection.run(changing.add(records, keep, batch_size, progress))

    async def update(
        self,
        ids: str | Iterable[str],
        *,
        metadata: Mapping[str, object] | None = None,
        remove: str | Iterable[str] = (),
        caption: str | None = None,
    ) -> int:
        """See `Client.update`."""
        return await self._connection.run(changing.update(ids, metadata, remove, caption))

    async def delete(self, ids: str | Iterable[str] | None = None, *, filters: Filter | None = None) -> int:
        """See `Client.delete`."""
        return await self._connection.run(changing.delete(ids, filters))

    async def tag(self, ids: Named, *, add: str | Iterable[str] = (), remove: str | Iterable[str] = ()) -> int:
        """See `Client.tag`."""
        return await self._connection.run(selections.tag(ids, add, remove))

    async def collections(self) -> list[Collection]:
        """See `Client.collections`."""
        return await self._connection.run(selections.collections())

    async def collect(self, name: str, add: Named = (), remove: Named = (), *, create: bool = True) -> Collection:
        """See `Client.collect`."""
        return await self._connection.run(selections.collect(name, add, remove, create))

    async def rename_collection(self, name: str, new: str) -> Collection:
        """See `Client.rename_collection`."""
        return await self._connection.run(selections.rename(name, new))

    async def delete_collection(self, name: str) -> None:
        """See `Client.delete_collection`."""
        await self._connection.run(selections.delete(name))

    async def save_search(
        self,
        name: str,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | None = None,
        shown: str | None = None,
        during: str | None = None,
        **options: Unpack[SearchKeywords],
    ) -> SavedSearch:
        """See `Client.save_search`."""
        chosen = SearchOptions(**options)
        return await self._connection.run(saving.save(name, text, image, vector, shown, during, chosen))

    async def saved_searches(self) -> list[SavedSearch]:
        """See `Client.saved_searches`."""
        return await self._connection.run(saving.saved())

    async def search_saved(
        self, name: str, *, new: bool = False, k: int | None = None, offset: int | None = None
    ) -> Results:
        """See `Client.search_saved`."""
        return await self._connection.run(saving.search_saved(name, new, k, offset))

    async def run_search(
        self, name: str, *, new: bool = False, k: int | None = None, offset: int | None = None
    ) -> SavedAnswer:
        """See `Client.run_search`."""
        return await self._connection.run(saving.run(name, new, k, offset))

    async def remember_search(self, name: str, mark: str) -> None:
        """See `Client.remember_search`."""
        await self._connection.run(saving.remember(name, mark))

    async def delete_search(self, name: str) -> None:
        """See `Client.delete_search`."""
        await self._connection.run(saving.delete(name))

    async def index(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        *,
        retry_failed: bool = False,
        rehash: bool = False,
        ocr: bool | None = None,
        progress: Callable[[int, int | None], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> IndexReport:
        """See `Client.index`; `progress` and `should_stop` are called in threads."""
        return await self._connection.run(changing.index(paths, retry_failed, rehash, ocr, progress, should_stop))

    async def close(self) -> None:
        """Close the connections. A later call raises LibraryError."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *unused: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.url}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("An AsyncClient cannot be pickled or copied: it has connections and a token. Make another.")
