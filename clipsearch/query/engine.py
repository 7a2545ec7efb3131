"""Search: the public engine. A query becomes a unit vector; retrieval does the rest."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, overload

import numpy as np
from numpy.typing import NDArray

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder
from clipsearch.errors import InvalidInputError, LibraryNotFoundError
from clipsearch.paths import real_path
from clipsearch.query.collapse import fill_collapsed
from clipsearch.query.composed import embed_terms, retrieve_composed
from clipsearch.query.cutoff import Cutoff
from clipsearch.query.embedding import Embedder
from clipsearch.query.parser import FUSIONS, Query, Term, as_query
from clipsearch.query.retrieval import Ranking, Retriever
from clipsearch.query.scoring import live_count
from clipsearch.query.validation import as_floats, check_k, check_kinds, read_modalities, unit_rows
from clipsearch.ranking import CONFIDENT
from clipsearch.store.library import Library
from clipsearch.store.reading import EncoderPin
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Filter, Hit, Listing, Modality, Results

if TYPE_CHECKING:
    from clipsearch.query.embedding import Picture

    Vector = np.ndarray[tuple[int], np.dtype[np.floating]] | Sequence[float]
    Vectors = np.ndarray[tuple[int, int], np.dtype[np.floating]] | Sequence[Sequence[float]]

MAX_QUERIES = 64
"""Queries scanned together: bounds the memory of a batch."""


class SearchEngine:
    """Ranked search over one library; safe to use from several threads."""

    def __init__(
        self,
        library: Library,
        settings: Settings | None = None,
        encoder: Encoder | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        """Search a library.

        encoder: the one it is pinned to, loaded when first needed unless given. embedder: one that is at work already.
        """
        self.library = library
        self._settings = settings or Settings()
        self._encoder = encoder
        self._embedder = embedder
        self._retriever = Retriever(library)
        self._lock = threading.Lock()

    @overload
    def search(
        self,
        text: str | Term | Query | None = None,
        *,
        image: Picture | None = None,
        vector: Vector | None = None,
        k: int = 10,
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
        k: int = 10,
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
        k: int = 10,
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
        """Find the k best matches of a text, a picture or a vector; give exactly one of them.

        text: words as they are, or a query of one or more terms, such as `Text("horse") + Text("stripes")` or what
        `parse` returns; items that are terms of it are no hits of it. fusion: how its terms are fused, one of FUSIONS.
        image: a path, a URL (http or https), or a Pillow image. vector: (dim,), of any length but zero; or (n, dim),
        which gives a list of n Results. modality: `image`, `text`, or None or `any` for both in one ranking.
        filters: which items may be found; k is filled all the same. exclude_self: leave the file that `image` names
        out. collapse: show copies and bursts once, by the best of them, whose `also` has the others; k is filled all
        the same. min_confidence (0 to 1), min_score (-1 to 1): of the k best, leave out those below; a hit without a
        confidence, as in a library too small to tell, is not below. cut: leave out those after the scores fall off.
        hybrid: where words are what is asked for, and not of pictures alone, find items by their words as well, see
        clipsearch.query.hybrid. An item is one hit, by the part of it that matches best.
        Raises InvalidInputError for a query that cannot be used, PictureError for a picture that cannot be read,
        LibraryNotFoundError for an empty library, EncoderError if the library's encoder cannot be had.
        """
        given = [value for value in (text, image, vector) if value is not None]
        if len(given) != 1:
            raise InvalidInputError(f"A search takes one of text, image and vector, but {len(given)} were given.")
        if isinstance(text, Query | Term):
            trim = Cutoff(min_confidence, min_score, cut)
            return self._search_composed(as_query(text), k, modality, filters, fusion, collapse, trim)
        batch = partial(self.search_batch, k=k, modality=modality, filters=filters, collapse=collapse)
        batch = partial(batch, min_confidence=min_confidence, min_score=min_score, cut=cut)
        if text is not None:
            return batch(texts=[text], hybrid=hybrid)[0]
        if image is not None:
            return batch(images=[image], exclude_self=exclude_self)[0]
        rows = as_floats(vector)
        return batch(vectors=rows[None])[0] if rows.ndim == 1 else batch(vectors=rows)

    def search_batch(
        self,
        *,
        texts: Sequence[str] | None = None,
        images: Sequence[Picture] | None = None,
        vectors: NDArray[np.floating] | None = None,
        k: int = 10,
        modality: Modality | str | None = None,
        filters: Filter | None = None,
        exclude_self: bool = False,
        collapse: bool = False,
        hybrid: bool = True,
        min_confidence: float | None = None,
        min_score: float | None = None,
        cut: bool = False,
    ) -> list[Results]:
        """Search for several queries of one kind at once; one Results each, in order.

        vectors: (n, dim). Else as in `search`, which see for what is raised.
        """
        wanted, trim = read_modalities(modality), Cutoff(min_confidence, min_score, cut)
        check_k(k)
        check_kinds(texts, images, vectors)
        pin = self._pin()
        names, notes, embeddings = self._embed(texts, images, vectors, pin)
        kind = "text" if texts is not None else "image" if images is not None else None
        excluded = [_real_path(image) if exclude_self else None for image in images or [""] * len(names)]
        words = texts if hybrid and Modality.TEXT in wanted else None
        answers: list[Results] = []
        for start in range(0, len(names), MAX_QUERIES):
            part = slice(start, start + MAX_QUERIES)
            with self.library.read() as snapshot:
                self._require_rows(snapshot)
                fetch = partial(
                    self._retriever.retrieve,
                    snapshot,
                    embeddings[part],
                    modalities=wanted,
                    excluded=excluded[part],
                    kind=kind,
                    filters=filters,
                    words=words and words[part],
                )
                found = fill_collapsed(fetch, snapshot, k) if collapse else fetch(k)
                for name, note, answer in zip(names[part], notes[part], found, strict=True):
                    answers.append(self._results(name, pin, snapshot, answer, note, trim))
        return answers

    def find(self, filters: Filter | None = None, *, limit: int | None = None) -> Listing:
        """List the items that filters allow, newest first: by when they were taken, else by their last change.

        limit: so many of them at most; None for all. Raises InvalidInputError for what cannot be a limit or a folder
        of the library, LibraryNotFoundError for an empty library.
        """
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise InvalidInputError(f"The limit must be a whole number of at least 1, not {limit!r}.")
        with self.library.read() as snapshot:
            self._require_rows(snapshot)
            items, total = snapshot.list_items(filters or Filter(), limit)
            tags = snapshot.tags_of(item.id for item in items)
            return Listing(str(self.library.folder), tuple(items), total, tags, snapshot.warnings)

    def _search_composed(
        self,
        query: Query,
        k: int,
        modality: Modality | str | None,
        filters: Filter | None,
        fusion: str,
        collapse: bool,
        trim: Cutoff,
    ) -> Results:
        wanted, pin = read_modalities(modality), self._pin()
        check_k(k)
        if fusion not in FUSIONS:
            raise InvalidInputError(f"There is no fusion {fusion!r}. Use one of: {', '.join(FUSIONS)}.")
        with self.library.read() as snapshot:
            self._require_rows(snapshot)
            composed, notes = embed_terms(query, self._embedder_for(pin), snapshot)
            retrieve = partial(retrieve_composed, self._retriever, fusion=fusion, filters=filters)

            def fetch(depth: int) -> list[Ranking]:
                return [retrieve(snapshot, composed, depth, wanted)]

            found = (fill_collapsed(fetch, snapshot, k) if collapse else fetch(k))[0]
            return self._results(str(query), pin, snapshot, found, notes, trim)

    def _results(
        self, name: str, pin: EncoderPin, snapshot: Snapshot, found: Ranking, notes: tuple[str, ...], trim: Cutoff
    ) -> Results:
        hits = trim.apply(found.hits, {modality: live_count(snapshot, modality) for modality in Modality})
        left_out = len(found.hits) - len(hits)
        why = (trim.explain(found.hits),) if left_out and not hits else ()
        warnings = (*notes, *found.warnings, *snapshot.warnings, *why)
        confident = _is_confident(hits)
        return Results(name, pin.name, str(self.library.folder), tuple(hits), confident, warnings, left_out)

    def close(self) -> None:
        """Close the library's connections; the engine opens them again if it is used again."""
        self.library.close()

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
        if not any(len(snapshot.rows(each)) for each in Modality):
            raise self._empty()

    def _empty(self) -> LibraryNotFoundError:
        return LibraryNotFoundError(f"The library in {self.library.folder} is empty. Fill it: clipsearch index FOLDER")

    def _embed(
        self,
        texts: Sequence[str] | None,
        images: Sequence[Picture] | None,
        vectors: NDArray[np.floating] | None,
        pin: EncoderPin,
    ) -> tuple[list[str], list[tuple[str, ...]], NDArray[np.float32]]:
        """Return the shown form, the warnings and the unit vector of each query: float32 (n, dim)."""
        if vectors is not None:
            checked = unit_rows(vectors, pin.dim)
            return ["vector"] * len(checked), [()] * len(checked), checked
        embedder = self._embedder_for(pin)
        if texts is not None:
            names, embedded = list(texts), embedder.texts(texts)
        else:
            names = [os.fspath(image) if isinstance(image, str | os.PathLike) else "picture" for image in images or ()]
            embedded = [embedder.picture(image) for image in images or ()]
        stacked = np.stack([row for row, _ in embedded]) if embedded else np.empty((0, pin.dim), np.float32)
        return names, [notes for _, notes in embedded], stacked


def open_library(folder: Path, settings: Settings | None = None, embedder: Embedder | None = None) -> SearchEngine:
    """Open the library in a folder for search. Raises LibraryNotFoundError if there is none."""
    return SearchEngine(Library(folder), settings, embedder=embedder)


def _real_path(image: Picture) -> str | None:
    return real_path(image) if isinstance(image, str | os.PathLike) and os.fspath(image) else None


def _is_confident(hits: Sequence[Hit]) -> bool:
    """Tell whether something stands out; a library too small to tell gets the benefit of the doubt."""
    known = [hit.confidence for hit in hits if hit.confidence is not None]
    return bool(hits) and (not known or max(known) >= CONFIDENT)
