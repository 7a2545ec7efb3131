"""Ranked search, of one query or a batch: each becomes a unit vector; retrieval does the rest."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, fitting
from clipsearch.errors import EncoderChangedError, LibraryNotFoundError
from clipsearch.filtering import Filter
from clipsearch.forking import no_fork
from clipsearch.paths import real_path
from clipsearch.query.blocks import embedded_blocks, vector_blocks
from clipsearch.query.candidates import QueryBatch, Retriever
from clipsearch.query.composed import embed_terms, rank_composed_rows, retrieve_composed
from clipsearch.query.deep import is_deep, make_page, rank_deeply
from clipsearch.query.embedding import Embedder
from clipsearch.query.options import SearchOptions, check_crop, check_kind
from clipsearch.query.retrieval import Ranking, rank_rows, retrieve
from clipsearch.query.sound import answer_fully
from clipsearch.query.terms import Query, Term, as_query
from clipsearch.query.validation import as_floats, check_kinds, read_single
from clipsearch.relevance import count_words
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import EncoderPin, Hit, Modality, Results

if TYPE_CHECKING:
    from clipsearch.crop import Written
    from clipsearch.query.embedding import Picture
    from clipsearch.query.understanding.understood import Understood

    Vector = np.ndarray[tuple[int], np.dtype[np.floating]] | Sequence[float]
    Vectors = np.ndarray[tuple[int, int], np.dtype[np.floating]] | Sequence[Sequence[float]]

logger = logging.getLogger("clipsearch")

T = TypeVar("T")


class EngineSearches:
    """The methods of SearchEngine that search its library."""

    library: Library
    _settings: Settings
    _encoder: Encoder | None
    _embedder: Embedder | None
    _retriever: Retriever
    _lock: threading.Lock
    _may_be_empty: bool

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
        suggest: bool = False,
        crop: Written | None = None,
        sort: str = "relevance",
        diverse: bool = False,
        explain: bool = False,
        understand: bool = False,
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
        suggest: bool = False,
        sort: str = "relevance",
        diverse: bool = False,
        explain: bool = False,
    ) -> list[Results]: ...
    def search(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | Vectors | None = None,
        kind: str | None = None, k: int = 10, offset: int = 0, modality: Modality | str | None = None,
        filters: Filter | None = None, exclude_self: bool = False, fusion: str = "auto", collapse: bool = False,
        hybrid: bool = True, min_confidence: float | None = None, min_score: float | None = None, cut: bool = False,
        suggest: bool = False, crop: Written | None = None, understand: bool = False,
        sort: str = "relevance", diverse: bool = False, explain: bool = False,
    ) -> Results | list[Results]:  # fmt: skip
        """Find the best matches of one query: a text, a picture or a vector.

        Args:
            text: Words, or a query of terms such as `Text("horse") + Text("stripes")`; its own items are not hits.
            image: A path, a URL (http or https), or a Pillow image.
            vector: One vector of numbers, shape (dim,), of any length but zero; or several, (n, dim).
            kind: What the vector was made from, `text` or `image`: its hits and confidences are then those of a text of
                two words (with `hybrid=False`) or of the picture. None if that is unknown.
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
            suggest: Where nothing is confident, put into `suggestions` of the answer what else would find something.
            crop: The part of `image` to search by: left, top, width and height from 0 to 1 of the upright picture's
                width and height, or a str such as `120,80,400,300px`. None for all of it.
            sort: Sort the hits of at least `min_confidence`, else of 0.5, by `taken`, `name`, `size` or `rating`.
            diverse: Put hits first that are unlike the ones before them.
            explain: Give each hit an `explanation`: why it stands where it does.
            understand: Lift what is certainly a filter out of the words of `text`, a str: see `understand`. Where no
                words remain, all that the filter allows are hits, newest first, without a score.

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
            suggest=suggest, crop=crop, sort=sort, diverse=diverse, explain=explain, understand=understand,
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
        read_single(text, image, vector)
        check_kind(options, vector)
        check_crop(options, image)
        if isinstance(text, Query | Term):
            return self._search_composed(as_query(text), options)
        if text is not None and options.understand:
            return self._search_understood(text, replace(options, understand=False))
        if text is not None:
            return self._search_batch(options, texts=[text])[0]
        if image is not None:
            return self._search_batch(options, images=[image])[0]
        return self._search_batch(options, vectors=as_floats(vector)[None])[0]

    def understand(self, text: str) -> Understood:
        """Lift what is certainly a filter out of the words of a query: dates, places, people and tags, cameras.

        What a sentence says is not there, as in "a dog without a leash", is set apart too.

        Places, tags and cameras are those that the library has. What may mean anything else stays in the words.

        Args:
            text: Such as `beach July 2023`.

        Returns:
            The words that remain, and the filter; all of the words, and None, where nothing is certain.

        Raises:
            InvalidInputError: The text is not a str.

        Example:
            >>> print(engine.understand("beach July 2023"))
            beach, taken in July 2023
        """
        from clipsearch.query.understanding.engine import understand_in

        return understand_in(self.library, text)

    def _search_understood(self, text: str, options: SearchOptions) -> Results:
        from clipsearch.query.negation import negated_query
        from clipsearch.query.understanding.engine import combine, list_newest, with_understood

        found = self.understand(text)
        if not found:
            return self._search_batch(options, texts=[text])[0]
        combined = combine(options, found)
        if found.without:
            fusion = "feature" if options.fusion == "auto" else options.fusion  # benchmarks/negation.py compares
            results = self._search_composed(negated_query(found.text, found.without), replace(combined, fusion=fusion))
        elif found.text:
            results = self._search_batch(combined, texts=[found.text])[0]
        else:
            results = self._with_encoder(lambda pin: list_newest(self.library, pin, combined))
        return with_understood(results, text, found, is_filtered=options.filters is not None)

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
        suggest: bool = False,
        crop: Written | None = None,
        sort: str = "relevance",
        diverse: bool = False,
        explain: bool = False,
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
            suggest: See `search`.
            crop: The part of each image, see `search`.
            sort: See `search`.
            diverse: See `search`.
            explain: See `search`.

        Returns:
            One Results for each query, in order.

        Raises:
            ClipSearchError: As in `search`.
        """
        options = SearchOptions(
            k=k, offset=offset, kind=kind, modality=modality, filters=filters, exclude_self=exclude_self,
            collapse=collapse, hybrid=hybrid, min_confidence=min_confidence, min_score=min_score, cut=cut,
            suggest=suggest, crop=crop, sort=sort, diverse=diverse, explain=explain,
        )  # fmt: skip
        return self._search_batch(options, texts=texts, images=images, vectors=vectors)

    @no_fork()
    def _search_batch(
        self,
        options: SearchOptions,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        vectors: NDArray[np.floating] | None = None,
    ) -> list[Results]:
        check_kinds(texts, images, vectors)
        check_kind(options, vectors)
        check_crop(options, images)
        return self._with_encoder(
            lambda pin: self._search_by(pin, options, texts=texts, images=images, vectors=vectors)
        )

    def _search_by(
        self,
        pin: EncoderPin,
        options: SearchOptions,
        *,
        texts: Sequence[str] | None,
        images: Sequence[Picture] | None,
        vectors: NDArray[np.floating] | None,
    ) -> list[Results]:
        """Search with queries that are embedded by an encoder. Raises EncoderChangedError if rows are of another."""
        kind = "text" if texts is not None else "image" if images is not None else options.kind
        answers: list[Results] = []
        if vectors is not None:
            blocks = vector_blocks(vectors, pin.dim)
        else:
            queries = texts if texts is not None else images or ()
            blocks = embedded_blocks(self._embedder_for(pin), queries, are_texts=texts is not None, crop=options.crop)
        for block in blocks:
            part = slice(len(answers), len(answers) + len(block.names))
            excluded = [_real_path(image) for image in images[part]] if images and options.exclude_self else ()
            keywords = texts[part] if options.hybrid and texts and Modality.TEXT in options.modalities else ()
            with self.library.read() as snapshot:
                snapshot.require_encoder(pin)
                self._require_rows(snapshot)
                words = () if texts is None else tuple(map(count_words, block.names))
                batch = QueryBatch(snapshot, block.vectors, kind, options.filters, words)
                folder = str(self.library.folder)
                fetch = partial(
                    retrieve,
                    self._retriever,
                    batch,
                    modalities=options.modalities,
                    excluded=excluded,
                    keywords=keywords,
                )
                if len(block.names) == 1 and not any(excluded) and is_deep(options):
                    key = (block.vectors.tobytes(), kind, options.filters, options.modalities, tuple(keywords), words)
                    deeper = partial(
                        rank_rows, self._retriever, batch, modalities=options.modalities, keywords=keywords
                    )
                    found = rank_deeply(snapshot, key, options.end, fetch, deeper)
                    answers.append(make_page(block.names[0], pin, snapshot, found, options, block.warnings[0], folder))
                    continue
                full = answer_fully(block.names, pin, snapshot, fetch, options, block.warnings, folder)
                if options.suggest and not all(each.confident for each in full):
                    full = self._suggested(full, batch, texts[part] if texts else None, options.modalities)
                answers += full
        return answers

    def _suggested(
        self, answers: list[Results], batch: QueryBatch, texts: Sequence[str] | None, modalities: Sequence[Modality]
    ) -> list[Results]:
        """Return the answers of a batch, those in which nothing stands out with suggestions."""
        from clipsearch.query.suggesting import MOST, suggest

        def captions(number: int) -> list[Hit]:
            if Modality.TEXT not in modalities or not batch.snapshot.live_count(Modality.TEXT):
                return []
            own = replace(batch, queries=batch.queries[number : number + 1])
            return retrieve(self._retriever, own, MOST, (Modality.TEXT,))[0].hits[:MOST]

        return [
            suggest(batch.snapshot, found, texts[i] if texts else None, batch.filters, partial(captions, i))
            for i, found in enumerate(answers)
        ]

    @no_fork()
    def _search_composed(self, query: Query, options: SearchOptions) -> Results:
        return self._with_encoder(lambda pin: self._search_composed_by(pin, query, options))

    def _search_composed_by(self, pin: EncoderPin, query: Query, options: SearchOptions) -> Results:
        with self.library.read() as snapshot:
            snapshot.require_encoder(pin)
            self._require_rows(snapshot)
            embedded, notes = embed_terms(query, self._embedder_for(pin), snapshot)

            def fetch(depth: int) -> list[Ranking]:
                return [retrieve_composed(self._retriever, snapshot, embedded, options, depth)]

            folder = str(self.library.folder)
            if is_deep(options):
                deeper = partial(rank_composed_rows, self._retriever, snapshot, embedded, options)
                key = (*embedded.key(), options.fusion, options.filters, options.modalities)
                found = rank_deeply(snapshot, key, options.end, fetch, deeper, embedded.excluded)
                return make_page(str(query), pin, snapshot, found, options, notes, folder)
            (answer,) = answer_fully([str(query)], pin, snapshot, fetch, options, [notes], folder)
            if not options.suggest or answer.confident:
                return answer
            from clipsearch.query.suggesting import suggest

            return suggest(snapshot, answer, None, options.filters, tuple)

    def _with_encoder(self, answer: Callable[[EncoderPin], T]) -> T:
        """Answer by the library's encoder; begin again if another one has taken its place meanwhile."""
        while True:
            try:
                return answer(self._pin())
            except EncoderChangedError as error:
                logger.debug("%s", error)

    @property
    def encoder(self) -> Encoder:
        """The library's encoder, loaded on first use."""
        return self._embedder_for(self._pin()).encoder

    def _embedder_for(self, pin: EncoderPin) -> Embedder:
        with self._lock:
            if self._embedder is None or self._embedder.pin != pin:  # a library may change its encoder
                self._embedder = Embedder(pin, self._settings, fitting(self._encoder, pin))
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


def _real_path(image: Picture) -> str | None:
    return real_path(image) if isinstance(image, str | os.PathLike) and os.fspath(image) else None
