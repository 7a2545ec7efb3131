"""The interface of an engine, to a library that a server has."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Self, TypeVar, Unpack, overload

from clipsearch.client import changing, exporting, lookup, matching, saving, searching, selections
from clipsearch.client.address import read_address
from clipsearch.client.calls import MAX_COUNT, Steps
from clipsearch.client.connection import Connection, Link
from clipsearch.filtering import Filter
from clipsearch.matches import Matches
from clipsearch.query.options import SearchKeywords, SearchOptions, check_filters
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

T = TypeVar("T")


class Client:
    """A library that `clipsearch serve` has, as `SearchEngine` has it: the same methods, types and errors.

    Paths in answers, and folders in filters, are those of the server. A picture that is searched by or added is read
    here and sent. Safe to use from several threads, and after a fork.

    Attributes:
        url: The address of the server.

    Example:
        >>> with clipsearch.Client("https://photos.example.org", token=token) as engine:
        ...     hits = engine.search("a cat on a sofa", k=10)
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
        """Prepare; nothing is sent yet.

        Args:
            url: Such as `http://127.0.0.1:8756`; behind a proxy maybe with a path.
            token: What the server was started with; None where it needs none.
            timeout: Seconds that a request may take.
            ca_file: A PEM file of the certificates to trust, for https; None for those of the system.
            allow_http: Send the token unencrypted to another machine too, for all on the way to read.

        Raises:
            InvalidInputError: An argument cannot be used, or the token would be sent unencrypted.
        """
        address = read_address(url, token, allow_http=allow_http)
        self.url = address.url
        self._connection = Connection(Link(address, timeout, ca_file))

    @overload
    def search(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | None = None,
        **options: Unpack[SearchKeywords],
    ) -> Results: ...
    @overload
    def search(self, *, vector: Vectors, **options: Unpack[SearchKeywords]) -> list[Results]: ...
    def search(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | Vectors | None = None,
        **options: Unpack[SearchKeywords],
    ) -> Results | list[Results]:
        """Find the best matches of one query, as `SearchEngine.search` does.

        Args:
            text: Words, or a query of terms, of which one may be a picture.
            image: A path or a URL, which is read here, bytes, a Pillow image, or pixels.
            vector: One vector, shape (dim,), or several, (n, dim), each of which becomes a request.
            options: The other arguments of `SearchEngine.search`. k is 1,000 at most, offset 100,000.

        Returns:
            The ranked hits; a list of n Results for vectors of shape (n, dim).

        Raises:
            InvalidInputError: The query or an option cannot be used.
            ServerError: The server cannot be reached, or does not answer as it must.
            ClipSearchError: As in `SearchEngine.search`.
        """
        return self._connection.run(searching.search(text, image, vector, SearchOptions(**options)))

    def match(
        self, image: Picture, *, k: int = 5, crop: Written | None = None, filters: Filter | None = None
    ) -> Matches:
        """Find the pictures that a picture was made from, as `SearchEngine.match` does; k: 1,000 at most."""
        return self._connection.run(matching.match(image, k, crop, filters))

    def answer(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | None = None,
        options: SearchOptions,
    ) -> Results:
        """Find the best matches of one query: `search`, with its options in one object."""
        return self._connection.run(searching.answer(text, image, vector, options))

    def search_batch(
        self,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        vectors: NDArray[np.floating] | None = None,
        **options: Unpack[SearchKeywords],
    ) -> list[Results]:
        """Find the best matches of several queries of one kind: a request for each, sent together.

        Args:
            texts: Words, one str for each query.
            images: Paths, URLs, bytes, Pillow images or pixels.
            vectors: Numbers of shape (n, dim), no row of which is zero.
            options: See `search`.

        Returns:
            One Results for each query, in order.

        Raises:
            ClipSearchError: As in `search`.
        """
        return self._connection.run(searching.search_batch(texts, images, vectors, SearchOptions(**options)))

    async def asearch(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | None = None,
        **options: Unpack[SearchKeywords],
    ) -> Results:
        """Do as `search` in a thread; `AsyncClient` needs none."""
        search = partial(self.search, text, image=image, vector=vector, **options)
        return await asyncio.to_thread(search)

    async def asearch_batch(
        self,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        vectors: NDArray[np.floating] | None = None,
        **options: Unpack[SearchKeywords],
    ) -> list[Results]:
        """Do as `search_batch` in a thread; `AsyncClient` needs none."""
        search = partial(self.search_batch, texts=texts, images=images, vectors=vectors, **options)
        return await asyncio.to_thread(search)

    def understand(self, text: str) -> Understood:
        """Lift what is certainly a filter out of the words of a query, as `SearchEngine.understand` does."""
        return self._connection.run(lookup.understand(text))

    def find(
        self, filters: Filter | None = None, *, limit: int | None = None, offset: int = 0, sort: str = TAKEN
    ) -> Listing:
        """List the items that a filter allows, newest first, as `SearchEngine.find` does.

        A request brings 1,000; more are several requests, between which the library may change. The server passes over
        100,000 at most: `items` gives any number.
        """
        return self._connection.run(lookup.find(filters, limit, offset, sort))

    @overload
    def get(self, ids: str) -> Item | None: ...  # type: ignore[overload-overlap]
    @overload
    def get(self, ids: Iterable[str]) -> list[Item | None]: ...
    def get(self, ids: str | Iterable[str]) -> Item | list[Item | None] | None:
        """Look items up by their keys, as `SearchEngine.get` does."""
        return self._connection.run(lookup.get(ids))

    def count(self, filters: Filter | None = None) -> int:
        """Count the items that a filter allows; None counts all."""
        return self._connection.run(lookup.count(filters))

    def facets(self, filters: Filter | None = None, *, limit: int = 100) -> Facets:
        """Count the items that a filter allows by month, camera, folder, tag and kind; limit: 1,000 at most."""
        return self._connection.run(lookup.facets(filters, limit))

    def places(self, filters: Filter | None = None, *, cells: int = 32) -> Places:
        """Say where the items that a filter allows were taken, as `SearchEngine.places` does."""
        return self._connection.run(lookup.places(filters, cells))

    def page(self, filters: Filter | None = None, *, cursor: str | None = None, limit: int = 100) -> Page:
        """Return the next items that a filter allows, in order of their ids; limit: 1,000 at most."""
        return self._connection.run(lookup.page(filters, cursor, limit))

    def items(self, filters: Filter | None = None, *, batch: int = 1000) -> Iterator[Item]:
        """Iterate over the items that a filter allows, in order of their ids, page by page.

        What is added meanwhile is seen, where an engine passes it over.
        """
        check_filters(filters)
        return self._items(filters, min(read_count("batch", batch), MAX_COUNT))

    def _items(self, filters: Filter | None, batch: int) -> Iterator[Item]:
        found = self.page(filters, limit=batch)
        yield from found
        while found.cursor is not None:
            found = self.page(filters, cursor=found.cursor, limit=batch)
            yield from found

    def vectors(self, ids: str | Iterable[str], *, modality: Modality | str | None = None) -> NDArray[np.float32]:
        """Return the vectors of items by their keys: float32 (n, dim), as `SearchEngine.vectors` does."""
        return self._connection.run(lookup.vectors(ids, modality))

    def embed(
        self, *, texts: Iterable[str] | None = None, images: Iterable[Picture] | None = None, kind: str = "document"
    ) -> NDArray[np.float32]:
        """Embed texts or pictures with the encoder of the server: float32 (n, dim), as `SearchEngine.embed` does."""
        return self._connection.run(lookup.embed(texts, images, kind))

    def thumbnail(self, key: str, *, side: int = 256) -> bytes:
        """Return the picture of an item as a JPEG of at most `side` pixels, as `SearchEngine.thumbnail` does."""
        return self._connection.run(lookup.thumbnail(key, side))

    def export(
        self,
        folder: str | os.PathLike[str],
        *,
        format: str = "jsonl",
        filters: Filter | None = None,
        overwrite: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> ExportReport:
        """Write items with their vectors and all that is known of them to a new folder of this machine.

        The files are those of `SearchEngine.export`, with its arguments, and are of one state of the library. If the
        stream breaks off, nothing is left of them.

        Raises:
            ServerError: The stream breaks off, or is not an export.
            ClipSearchError: As in `SearchEngine.export`.
        """
        from indexer.report import reporting

        return self._connection.run(exporting.export(folder, format, filters, overwrite, reporting(progress)))

    def stats(self) -> ServerStats:
        """Say what the library holds, and what the server allows."""
        return self._connection.run(lookup.stats())

    def add(
        self,
        records: Iterable[Record | Mapping[str, object]],
        *,
        keep: str | None = None,
        batch_size: int | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> AddReport:
        """Add records, or replace those of the same ids, as `SearchEngine.add` does.

        Pictures are read here and sent, so that the server knows them by their keys, not by paths: with `keep=None` it
        has no thumbnails of them. Each request is durable once it is answered.

        Args:
            records: Record, or mappings with its fields.
            keep: What the library keeps of pictures: `thumbnail`, `bytes` or None.
            batch_size: Records in a request, 256 at most.
            progress: Called with how many records are done, and None, after each request.

        Returns:
            What became of the records; one that cannot be used is in `failed`.

        Raises:
            AccessDeniedError: The server only reads.
            LibraryLockedError: A job or another process is writing to the library.
            ClipSearchError: As in `SearchEngine.add`.
        """
        return self._connection.run(changing.add(records, keep, batch_size, progress))

    def update(
        self,
        ids: str | Iterable[str],
        *,
        metadata: Mapping[str, object] | None = None,
        remove: str | Iterable[str] = (),
        caption: str | None = None,
    ) -> int:
        """Change what is said of items, 100 at most, as `SearchEngine.update` does. Returns how many."""
        return self._connection.run(changing.update(ids, metadata, remove, caption))

    def delete(self, ids: str | Iterable[str] | None = None, *, filters: Filter | None = None) -> int:
        """Delete items by their keys or by a filter, as `SearchEngine.delete` does. Returns how many.

        The server refuses a filter without a condition.
        """
        return self._connection.run(changing.delete(ids, filters))

    def tag(self, ids: Named, *, add: str | Iterable[str] = (), remove: str | Iterable[str] = ()) -> int:
        """Give items tags, and take tags from them, as `SearchEngine.tag` does. Returns how many were named."""
        return self._connection.run(selections.tag(ids, add, remove))

    def collections(self) -> list[Collection]:
        """List the collections in order of their names."""
        return self._connection.run(selections.collections())

    def collect(self, name: str, add: Named = (), remove: Named = (), *, create: bool = True) -> Collection:
        """Add items to a collection, and take others out of it, as `SearchEngine.collect` does."""
        return self._connection.run(selections.collect(name, add, remove, create))

    def rename_collection(self, name: str, new: str) -> Collection:
        """Give a collection another name. Raises InvalidInputError for an unknown one."""
        return self._connection.run(selections.rename(name, new))

    def delete_collection(self, name: str) -> None:
        """Delete a collection; its items stay. Raises InvalidInputError for an unknown one."""
        self._connection.run(selections.delete(name))

    def save_search(
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
        """Save a search under a name, as `SearchEngine.save_search` does; a picture is read here and sent."""
        chosen = SearchOptions(**options)
        return self._connection.run(saving.save(name, text, image, vector, shown, during, chosen))

    def saved_searches(self) -> list[SavedSearch]:
        """List the saved searches in order of their names."""
        return self._connection.run(saving.saved())

    def search_saved(self, name: str, *, new: bool = False, k: int | None = None, offset: int | None = None) -> Results:
        """Run a saved search, as `SearchEngine.search_saved` does."""
        return self._connection.run(saving.search_saved(name, new, k, offset))

    def run_search(
        self, name: str, *, new: bool = False, k: int | None = None, offset: int | None = None
    ) -> SavedAnswer:
        """Run a saved search and remember nothing, as `SearchEngine.run_search` does."""
        return self._connection.run(saving.run(name, new, k, offset))

    def remember_search(self, name: str, mark: str) -> None:
        """Let matches count as seen, as `SearchEngine.remember_search` does."""
        self._connection.run(saving.remember(name, mark))

    def delete_search(self, name: str) -> None:
        """Delete a saved search. Raises InvalidInputError for an unknown one."""
        self._connection.run(saving.delete(name))

    def index(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
        *,
        retry_failed: bool = False,
        rehash: bool = False,
        ocr: bool | None = None,
        progress: Callable[[int, int | None], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> IndexReport:
        """Have the server index folders of its own, as a job, and wait for the end.

        Args:
            paths: Absolute paths of folders on the server; none for all that the library has.
            retry_failed: Try files that failed before.
            rehash: Read every file, though its size and times say that it has not changed.
            ocr: Whether the text in pictures is recognised; None for what the library does.
            progress: Called with how many files are done, and of how many.
            should_stop: Asked now and then; once it returns True the job is cancelled, and what is committed stays.

        Returns:
            What became of the files; `failed` has the first of those that failed, `notes` of those with notes.

        Raises:
            AccessDeniedError: The server only reads, or may not index that folder.
            LibraryLockedError: Another job is running.
            LibraryError: The job failed.
        """
        return self._connection.run(changing.index(paths, retry_failed, rehash, ocr, progress, should_stop))

    def take(self, steps: Steps[T]) -> T:
        """Send the requests of a method of a client, and return its result."""
        return self._connection.run(steps)

    def close(self) -> None:
        """Close the connections. A later call raises LibraryError."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.url}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Client cannot be pickled or copied: it has connections and a token. Make another.")
