"""Search: the public engine. A query becomes a unit vector; retrieval does the rest."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, overload

import numpy as np
from numpy.typing import NDArray

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder
from clipsearch.errors import InvalidInputError, LibraryNotFoundError
from clipsearch.filtering import Filter
from clipsearch.forking import abandon, register
from clipsearch.paths import real_path
from clipsearch.query.asynchronous import EngineAsync
from clipsearch.query.batching import Batcher
from clipsearch.query.candidates import QueryBatch, Retriever
from clipsearch.query.changing import EngineChanges
from clipsearch.query.collapse import fill_collapsed
from clipsearch.query.composed import embed_terms, retrieve_composed
from clipsearch.query.embedding import Embedder
from clipsearch.query.embeds import EngineEmbeds
from clipsearch.query.enriching import enrich_hits
from clipsearch.query.options import SearchOptions
from clipsearch.query.reading import EngineReads
from clipsearch.query.recognised import show_lines
from clipsearch.query.retrieval import Ranking, retrieve
from clipsearch.query.terms import Query, Term, as_query
from clipsearch.query.validation import as_floats, check_kinds, read_names, read_vectors
from clipsearch.query.writing import TIMEOUT, open_or_create
from clipsearch.ranking import CONFIDENT, counted_rows
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import EncoderPin, Hit, Modality, Results

if TYPE_CHECKING:
    from clipsearch.query.embedding import Picture

    Vector = np.ndarray[tuple[int], np.dtype[np.floating]] | Sequence[float]
    Vectors = np.ndarray[tuple[int, int], np.dtype[np.floating]] | Sequence[Sequence[float]]

MAX_QUERIES = 256
"""Queries scanned together: bounds the memory of a batch."""


class SearchEngine(EngineReads, EngineChanges, EngineEmbeds, EngineAsync):
    """Ranked search over one library; safe to use from several threads, and after a fork.

    Attributes:
        library: The library that is searched.
    """

    def __init__(
        self,
        library: Library,
        settings: Settings | None = None,
        encoder: Encoder | None = None,
        embedder: Embedder | None = None,
        *,
        timeout: float = TIMEOUT,
        may_be_empty: bool = False,
    ) -> None:
        """Search a library.

        Args:
            library: An open library.
            settings: Defaults if not given.
            encoder: The encoder that the library is pinned to; loaded when first needed if not given.
            embedder: One that is at work already.
            timeout: Seconds that a call that writes waits for another writer.
            may_be_empty: Answer a search of an empty library with no hits, not with an error.
        """
        super().__init__(timeout)
        self._may_be_empty = may_be_empty
        self.library = library
        self._settings = settings or Settings()
        self._encoder = encoder
        self._embedder = embedder
        self._retriever = Retriever(library)
        self._lock = threading.Lock()
        self._batcher = Batcher(self._answer_together)
        register(self)

    @overload
    def search(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | None = None,
        kind: str | None = None,
        k: int = 10,
        offset: int = 0,
        modality: Modality | str | None = None,
        filters: Filter | None = None,
        exclude_self: bool = False,
        fusion: str = "auto",
        collapse: bool = False,
        hybrid: bool = True,
        min_confidence: float | None = None,
        min_score: float | None = None,
        cut: bool = False,
    ) -> Results: ...
    @overload
    def search(
        self,
        *,
        vector: Vectors,
        kind: str | None = None,
        k: int = 10,
        offset: int = 0,
        modality: Modality | str | None = None,
        filters: Filter | None = None,
        collapse: bool = False,
        min_confidence: float | None = None,
        min_score: float | None = None,
        cut: bool = False,
    ) -> list[Results]: ...
    def search(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | Vectors | None = None,
        kind: str | None = None,
        k: int = 10,
        offset: int = 0,
        modality: Modality | str | None = None,
        filters: Filter | None = None,
        exclude_self: bool = False,
        fusion: str = "auto",
        collapse: bool = False,
        hybrid: bool = True,
        min_confidence: float | None = None,
        min_score: float | None = None,
        cut: bool = False,
    ) -> Results | list[Results]:
        """Find the best matches of one query: a text, a picture or a vector.

        Args:
            text: Words, or a query of terms such as `Text("horse") + Text("stripes")`; its own items are not hits.
            image: A path, a URL (http or https), or a Pillow image.
            vector: One vector of numbers, shape (dim,), of any length but zero; or several, (n, dim).
            kind: What the vector was made from, `text` or `image`: its hits and confidences are then those of the text
                (with `hybrid=False`) or picture. None if that is unknown.
            k: How many hits are returned at most. An item is one hit, by its part that matches best.
            offset: How many of the best hits are passed over; ranks go on after it.
            modality: `image`, `text`, or None or `any` for both in one ranking.
            filters: Which items may be found; there are k hits all the same, if that many pass.
            exclude_self: Leave out the file that `image` names.
            fusion: How the terms of a query are fused, one of `auto`, `decision`, `feature` and `rank`.
            collapse: Show copies and bursts once, by the best of them, whose `also` has the others.
            hybrid: Find items by their words as well, if `text` is a str and texts may be found.
            min_confidence: Leave out hits below this confidence, from 0 to 1; a hit without a confidence stays.
            min_score: Leave out hits below this cosine, from -1 to 1.
            cut: Leave out hits after the gap in the scores.

        Returns:
            The ranked hits; a list of n Results for vectors of shape (n, dim).

        Raises:
            InvalidInputError: The query or an option cannot be used.
            PictureError: The picture cannot be read.
            LibraryNotFoundError: The library is empty.
            EncoderError: The encoder of the library is unavailable.

        Example:
            >>> paths = [hit.path for hit in engine.search("a cat on a sofa", k=3)]
        """
        options = SearchOptions(
            k=k, offset=offset, modality=modality, filters=filters, exclude_self=exclude_self, fusion=fusion, cut=cut,
            collapse=collapse, hybrid=hybrid, min_confidence=min_confidence, min_score=min_score, kind=kind,
        )  # fmt: skip
        return self._search_any(text, image, vector, options)

    def _search_any(
        self,
        text: str | Term | Query | None,
        image: Picture | None,
        vector: Vector | Vectors | None,
        options: SearchOptions,
    ) -> Results | list[Results]:
        rows = None if vector is None else as_floats(vector)
        if rows is not None and rows.ndim != 1 and text is None and image is None:
            return self._search_batch(options, vectors=rows)
        return self.answer(text, image=image, vector=rows, options=options)

    def answer(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | None = None,
        options: SearchOptions,
    ) -> Results:
        """Find the best matches of one query: `search`, with its options in one object.

        Args:
            text: See `search`.
            image: See `search`.
            vector: One vector of numbers, shape (dim,).
            options: The options of the search.

        Returns:
            The ranked hits.

        Raises:
            ClipSearchError: As in `search`.
        """
        given = [value for value in (text, image, vector) if value is not None]
        if len(given) != 1:
            raise InvalidInputError(f"A search takes one of text, image and vector, but {len(given)} were given.")
        _check_kind(options, vector)
        if isinstance(text, Query | Term):
            return self._search_composed(as_query(text), options)
        if text is not None:
            return self._search_batch(options, texts=[text])[0]
        if image is not None:
            return self._search_batch(options, images=[image])[0]
        return self._search_batch(options, vectors=as_floats(vector)[None])[0]

    def search_batch(
        self,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        vectors: NDArray[np.floating] | None = None,
        kind: str | None = None,
        k: int = 10,
        offset: int = 0,
        modality: Modality | str | None = None,
        filters: Filter | None = None,
        exclude_self: bool = False,
        collapse: bool = False,
        hybrid: bool = True,
        min_confidence: float | None = None,
        min_score: float | None = None,
        cut: bool = False,
    ) -> list[Results]:
        """Find the best matches of several queries of one kind.

        Args:
            texts: Words, one str for each query.
            images: Paths, URLs or Pillow images.
            vectors: Numbers of shape (n, dim), no row of which is zero.
            kind: As in `search`, like all that follow.
            k: See `search`.
            offset: See `search`.
            modality: See `search`.
            filters: See `search`.
            exclude_self: Leave out, for each query, the file that its image names.
            collapse: See `search`.
            hybrid: See `search`.
            min_confidence: See `search`.
            min_score: See `search`.
            cut: See `search`.

        Returns:
            One Results for each query, in order.

        Raises:
            ClipSearchError: As in `search`.

        """
        options = SearchOptions(
            k=k,
            offset=offset,
            kind=kind,
            modality=modality,
            filters=filters,
            exclude_self=exclude_self,
            collapse=collapse,
            hybrid=hybrid,
            min_confidence=min_confidence,
            min_score=min_score,
            cut=cut,
        )
        return self._search_batch(options, texts=texts, images=images, vectors=vectors)

    def _search_batch(
        self,
        options: SearchOptions,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        vectors: NDArray[np.floating] | None = None,
    ) -> list[Results]:
        check_kinds(texts, images, vectors)
        _check_kind(options, vectors)
        pin = self._pin()
        kind = "text" if texts is not None else "image" if images is not None else options.kind
        answers: list[Results] = []
        for names, notes, embeddings in self._embed_parts(texts, images, vectors, pin):
            part = slice(len(answers), len(answers) + len(names))
            excluded = [_real_path(image) for image in images[part]] if images and options.exclude_self else ()
            keywords = texts[part] if options.hybrid and texts and Modality.TEXT in options.modalities else ()
            with self.library.read() as snapshot:
                self._require_rows(snapshot)
                batch = QueryBatch(snapshot, embeddings, kind, options.filters)
                fetch = partial(
                    retrieve,
                    self._retriever,
                    batch,
                    modalities=options.modalities,
                    excluded=excluded,
                    keywords=keywords,
                )
                found = fill_collapsed(fetch, snapshot, options.end) if options.collapse else fetch(options.end)
                warned = [
                    replace(each, warnings=(*note, *each.warnings)) for note, each in zip(notes, found, strict=True)
                ]
                answers += self._results(names, pin, snapshot, warned, options)
        return answers

    def _search_composed(self, query: Query, options: SearchOptions) -> Results:
        pin = self._pin()
        with self.library.read() as snapshot:
            self._require_rows(snapshot)
            embedded, notes = embed_terms(query, self._embedder_for(pin), snapshot)

            def fetch(depth: int) -> list[Ranking]:
                return [retrieve_composed(self._retriever, snapshot, embedded, options, depth)]

            found = (fill_collapsed(fetch, snapshot, options.end) if options.collapse else fetch(options.end))[0]
            ranking = replace(found, warnings=(*notes, *found.warnings))
            return self._results([str(query)], pin, snapshot, [ranking], options)[0]

    def _results(
        self,
        names: Sequence[str],
        pin: EncoderPin,
        snapshot: Snapshot,
        found: Sequence[Ranking],
        options: SearchOptions,
    ) -> list[Results]:
        """Make answers of the rankings of several queries; names: the queries as they are shown."""
        rows = {modality: counted_rows(snapshot.live_count(modality)) for modality in Modality}
        cutoff, library = options.cutoff, str(self.library.folder)
        kept = [cutoff.apply(each.hits, rows, options.end) for each in found]
        shown = [hits[options.offset :] for hits in kept]
        shown = enrich_hits(snapshot, show_lines(snapshot, shown, names, [each.keyword_ids for each in found]))
        answers = []
        for name, ranking, stay, hits in zip(names, found, kept, shown, strict=True):
            examined = ranking.hits[: options.end]
            left_out = len(examined) - len(stay)
            why = (cutoff.explain(examined),) if left_out and not stay else ()
            warnings = (*ranking.warnings, *snapshot.warnings, *why)
            confident = _is_confident(stay)
            answers.append(Results(name, pin.name, library, tuple(hits), confident, warnings, left_out, options.offset))
        return answers

    def close(self) -> None:
        """Close the library, for good: a later call, and what waits in `asearch`, raises LibraryError.

        A call that writes is waited for, until the timeout.
        """
        self._batcher.close()
        is_waiting_over = self._turn.acquire(timeout=self._timeout)
        try:
            self.library.close()
        finally:
            if is_waiting_over:
                self._turn.release()

    def renew_after_fork(self) -> None:
        """Make again what holds locks and threads, in a fork of the process."""
        abandon(self._retriever, self._embedder, self._writing_encoder)
        self._retriever, self._embedder, self._writing_encoder = Retriever(self.library), None, None
        self._lock, self._turn = threading.Lock(), threading.Lock()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"A SearchEngine cannot be pickled or copied: it holds open files and a model. Give the other process the "
            f"folder, and open it there: clipsearch.open({str(self.library.folder)!r})"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    @property
    def encoder(self) -> Encoder:
        """The library's encoder, loaded on first use."""
        return self._embedder_for(self._pin()).encoder

    def _embedder_for(self, pin: EncoderPin) -> Embedder:
        with self._lock:
            if self._embedder is None or self._embedder.pin != pin:  # an empty library may change its encoder
                self._embedder = Embedder(pin, self._settings, self._encoder)
            return self._embedder

    def _pin(self) -> EncoderPin:
        pin = self.library.encoder
        if pin is None:
            raise self._empty()
        return pin

    def _require_rows(self, snapshot: Snapshot) -> None:
        if not self._may_be_empty and not any(len(snapshot.rows(each)) for each in Modality):
            raise self._empty()

    def _empty(self) -> LibraryNotFoundError:
        return LibraryNotFoundError(f"The library in {self.library.folder} is empty. Fill it: clipsearch index FOLDER")

    def _embed_parts(
        self,
        texts: Sequence[str] | None,
        images: Sequence[Picture] | None,
        vectors: NDArray[np.floating] | None,
        pin: EncoderPin,
    ) -> Iterator[_Embedded]:
        """Embed queries, MAX_QUERIES at a time."""
        if vectors is not None:
            checked = read_vectors(vectors, pin.dim)
            for start in range(0, len(checked), MAX_QUERIES):
                rows = checked[start : start + MAX_QUERIES]
                yield ["vector"] * len(rows), [()] * len(rows), rows
            return
        embedder, queries = self._embedder_for(pin), texts if texts is not None else images or ()
        embed = partial(_embed, embedder, are_texts=texts is not None)
        for start in range(0, len(queries), MAX_QUERIES):
            yield embed(queries[start : start + MAX_QUERIES])


_Embedded = tuple[list[str], list[tuple[str, ...]], NDArray[np.float32]]


def _embed(embedder: Embedder, queries: Sequence[Any], *, are_texts: bool) -> _Embedded:
    """Return the shown form, the warnings and the unit vector of each text or picture: float32 (n, dim)."""
    if are_texts:
        names, embedded = list(queries), embedder.texts(queries)
    else:
        names = [os.fspath(image) if isinstance(image, str | os.PathLike) else "picture" for image in queries]
        embedded = [embedder.picture(image) for image in queries]
    return names, [notes for _, notes in embedded], np.stack([row for row, _ in embedded])


def open_library(folder: Path, settings: Settings | None = None, embedder: Embedder | None = None) -> SearchEngine:
    """Open the library in a folder for search. Raises LibraryNotFoundError if it does not exist."""
    return SearchEngine(Library(folder), settings, embedder=embedder)


def open_engine(
    folder: Path,
    settings: Settings,
    *,
    create: bool,
    model: str | None,
    dim: int | None,
    index_metadata: str | Iterable[str] = (),
    timeout: float,
) -> SearchEngine:
    """Open a library as `clipsearch.open` does. Raises what that raises."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < float("inf"):
        raise InvalidInputError(f"The timeout is {timeout!r}, but must be a number of seconds of at least 0.")
    names = read_names(index_metadata)
    library = open_or_create(folder, settings, create=create, model=model, dim=dim, timeout=timeout)
    engine = SearchEngine(library, settings, timeout=timeout, may_be_empty=True)
    try:
        engine.index_metadata(names)
    except BaseException:
        engine.close()
        raise
    return engine


def _real_path(image: Picture) -> str | None:
    return real_path(image) if isinstance(image, str | os.PathLike) and os.fspath(image) else None


def _check_kind(options: SearchOptions, vectors: object) -> None:
    """Raise InvalidInputError where a text or a picture is said to be of a kind."""
    if options.kind is not None and vectors is None:
        raise InvalidInputError(f"kind={options.kind!r} says what a vector was made from. Leave it out without one.")


def _is_confident(hits: Sequence[Hit]) -> bool:
    """Tell whether something stands out; a library too small to tell gets the benefit of the doubt."""
    known = [hit.confidence for hit in hits if hit.confidence is not None]
    return bool(hits) and (not known or max(known) >= CONFIDENT)
