"""Queries of several terms: embedded, then candidates of every term, fused and set against the library at large."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError, MediaError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.query.candidates import Candidates, QueryBatch, Retriever
from clipsearch.query.embedding import Embedder
from clipsearch.query.fusion import choose, compose, decide, fuse_ranks
from clipsearch.query.hits import HitBuilder
from clipsearch.query.options import SearchOptions
from clipsearch.query.retrieval import Leaf, RankedRows, Ranking, Trace, fill
from clipsearch.query.scored import ScoredRows
from clipsearch.query.scoring import (
    first_of_items,
    gather_rows,
    make_judge,
    merge_modalities,
    null_models,
    score_rows,
)
from clipsearch.query.terms import AnyOf, Indexed, Picture, Query, Term, Text, Weighted
from clipsearch.ranking import (
    MIN_SAMPLE,
    PRIOR_SPREAD,
    NullModel,
    are_unit,
    counted_rows,
    exact_scores,
    log_evalues,
    null_model,
)
from clipsearch.relevance import TYPICAL_WORDS, count_words
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Modality

if TYPE_CHECKING:
    from clipsearch.query.group_ranking import GroupRanker
    from clipsearch.query.resolving import Sum

MAX_TERMS = 32

DEPTH = 200
"""Candidates that each term proposes at least; for more than 20 answers ten times as many."""


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """A query, embedded.

    vectors: unit rows, float32 (terms, dim). weights: float64 (terms,), below 0 for a negative term; one is above.
    pictures: which terms are pictures. excluded: ids of items that are no answer. names: of the terms, as written.
    filters: what hits must meet. tree: how the terms are grouped, if they are not just added; their weights are then 1
    and -1. words: how many content words a match has to meet.
    """

    vectors: NDArray[np.float32]
    weights: NDArray[np.float64]
    pictures: tuple[bool, ...]
    excluded: frozenset[int] = frozenset()
    names: tuple[str, ...] = ()
    filters: Filter | None = None
    tree: Sum | None = None
    words: float = TYPICAL_WORDS

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The terms, for an explanation."""
        return tuple(
            Leaf(vector, "image" if is_picture else "text", float(weight))
            for vector, is_picture, weight in zip(self.vectors, self.pictures, self.weights, strict=True)
        )

    def key(self) -> tuple[Hashable, ...]:
        """Return what equals that of another only if the two are the same query."""
        own = (self.vectors.tobytes(), self.weights.tobytes(), self.pictures, self.excluded, self.words)
        return (*own, self.filters, self.tree)


def embed_terms(query: Query, embedder: Embedder, snapshot: Snapshot) -> tuple[EmbeddedQuery, tuple[str, ...]]:
    """Embed the terms of a query; also return what the user should know about how that went.

    Raises InvalidInputError for a query without a positive term, too many terms, or an id that is not in the library;
    PictureError for a picture that cannot be read, either of which names the term; StoreCorruptError for an item whose
    vector is damaged.
    """
    if not any(part.weight > 0 for part in query):
        raise InvalidInputError(f"The query {query} only says what not to find. Add a term without a -.")
    terms, filters, tree = _resolved(query)
    if len(terms) > MAX_TERMS:
        raise InvalidInputError(
            f"The query has {len(terms)} terms, but at most {MAX_TERMS} are allowed. Leave some out."
        )
    vectors, pictures = [], []
    notes: list[str] = []
    for number, part in enumerate(terms, 1):
        with _naming(number if len(terms) > 1 else None):
            vector, is_picture, remarks = _embed(part.term, embedder, snapshot)
        vectors.append(vector)
        pictures.append(is_picture)
        notes += remarks
    excluded = frozenset(part.term.id for part in terms if isinstance(part.term, Indexed))
    weights = np.array([part.weight for part in terms], np.float64)
    names = tuple(part.term.text if isinstance(part.term, Text) else str(part.term) for part in terms)
    words = _count_words(query) or TYPICAL_WORDS
    found = EmbeddedQuery(np.stack(vectors), weights, tuple(pictures), excluded, names, filters, tree, words)
    return found, tuple(notes)


def _count_words(query: Query) -> float:
    """Count the content words that a match has to meet: of alternatives those of the shortest."""
    words = 0.0
    for part in query:
        if part.weight > 0 and isinstance(part.term, Text):
            words += count_words(part.term.text)
        elif part.weight > 0 and isinstance(part.term, AnyOf):
            words += min(map(_count_words, part.term.parts))
    return words


def _resolved(query: Query) -> tuple[Sequence[Weighted], Filter | None, Sum | None]:
    """Return the terms of a query, what all hits must meet, and how the terms are grouped if they are not added."""
    if not query.is_grouped:
        return query.terms, None, None
    from clipsearch.query.resolving import resolve

    resolved = resolve(query)
    return resolved.leaves, resolved.filters, resolved.tree


@contextmanager
def _naming(number: int | None) -> Iterator[None]:
    """Say of an error which term it is about, where there are several."""
    try:
        yield
    except (InvalidInputError, MediaError) as error:
        if number is None:
            raise
        raise type(error)(f"Term {number}: {error}") from error


def _embed(term: Term, embedder: Embedder, snapshot: Snapshot) -> tuple[NDArray[np.float32], bool, tuple[str, ...]]:
    if isinstance(term, Text):
        vector, notes = embedder.text(term.text)
        return vector, False, notes
    if isinstance(term, Picture):
        image = os.path.expanduser(term.source) if term.image is None else term.image
        vector, notes = embedder.picture(image)
        return vector, True, notes
    assert isinstance(term, Indexed)
    for modality in Modality:
        chosen = snapshot.matching(modality, Filter(ids=frozenset({term.id})))
        if len(chosen):
            snapshot.require_sound(modality, chosen)
            rows = snapshot.rows(modality).gather(chosen)
            if not are_unit(rows).all():
                raise StoreCorruptError(
                    f"The stored vector of item {term} is damaged: its length is not 1. "
                    "See what else is damaged: clipsearch "
                    "verify. Encode it again from its file: clipsearch repair"
                )
            mean = rows.mean(axis=0)
            return mean / np.linalg.norm(mean), modality is Modality.IMAGE, ()
    raise InvalidInputError(f"There is no item {term} in the library. To see ids: clipsearch query --json")


def retrieve_composed(
    retriever: Retriever, snapshot: Snapshot, query: EmbeddedQuery, options: SearchOptions, k: int
) -> Ranking:
    """Find at least the k best hits of a composed query, if there are so many.

    A hit's score is the cosine with the sum of the terms; the order and the confidence are those of the fusion.
    Raises InvalidInputError if the terms cancel each other out.
    """
    ranker = _ranker(retriever, snapshot, query, options)
    builder = HitBuilder(snapshot)

    steps: list[ScoredRows] = []

    def rank(found: list[Candidates], most: int) -> list[list[Hit]]:
        steps.append(ranker.rank(found))
        return [builder.build(steps[-1], most, excluded_ids=query.excluded)]

    found = fill(k, len(query.excluded), ranker.propose, rank)[0]
    trace = Trace(tuple(steps), query.leaves, query.names, adds_up=ranker.adds_up, filters=query.filters)
    return replace(found, trace=trace)


def rank_composed_rows(
    retriever: Retriever, snapshot: Snapshot, query: EmbeddedQuery, options: SearchOptions, wanted: int
) -> RankedRows:
    """Rank candidates of so many items: a step of `retrieve_composed`, before hits are made."""
    ranker = _ranker(retriever, snapshot, query, options)
    found = ranker.propose(wanted + len(query.excluded))
    return RankedRows.of(ranker.rank(found), found)


def _ranker(
    retriever: Retriever, snapshot: Snapshot, query: EmbeddedQuery, options: SearchOptions
) -> _Ranker | GroupRanker:
    if query.filters is not None:
        filters = query.filters if options.filters is None else options.filters & query.filters
        options = replace(options, filters=filters)
    if query.tree is None:
        return _Ranker(retriever, snapshot, query, options)
    from clipsearch.query.group_ranking import GroupRanker

    return GroupRanker(retriever, snapshot, query, query.tree, options)


class _Ranker:
    """Proposes and ranks candidates of one composed query."""

    def __init__(self, retriever: Retriever, snapshot: Snapshot, query: EmbeddedQuery, options: SearchOptions) -> None:
        self._retriever, self._snapshot, self._query = retriever, snapshot, query
        self._modalities = options.modalities
        self._fusion = choose(query.weights, query.pictures) if options.fusion == "auto" else options.fusion
        self._whole = compose(query.vectors, query.weights)
        vectors = np.vstack([query.vectors[query.weights > 0], self._whole[None]])
        self._batch = QueryBatch(snapshot, vectors, filters=options.filters)

    def propose(self, wanted: int) -> list[Candidates]:
        """Find candidates of so many items, for each modality."""
        depth = max(DEPTH, 10 * wanted)
        return [self._retriever.candidates(self._batch, each, depth, wanted) for each in self._modalities]

    def rank(self, found: Sequence[Candidates]) -> ScoredRows:
        """Rank candidates, best first."""
        lists = [
            _rank(self._snapshot, self._query, self._whole, each, self._fusion, self._batch.filters) for each in found
        ]
        return merge_modalities(lists, adds_up=self.adds_up)

    @property
    def adds_up(self) -> bool:
        """Whether picture and caption of an item add up, see `merge_modalities`."""
        return self._fusion != "rank" and not any(self._query.pictures)


def _rank(
    snapshot: Snapshot,
    query: EmbeddedQuery,
    whole: NDArray[np.float32],
    proposed: Candidates,
    fusion: str,
    filters: Filter | None,
) -> ScoredRows:
    """Score candidates of one modality, each item by its best row; best first, ties in order of row."""
    modality = proposed.modality
    rows = gather_rows(snapshot, modality, np.unique(np.concatenate(proposed.rows)), proposed.item_ids)
    is_of_pictures = all(is_one for is_one, weight in zip(query.pictures, query.weights, strict=True) if weight > 0)
    kind = "image" if is_of_pictures else "text"
    if len(query.weights) == 1:  # as a query of its own, and as well known
        return score_rows(snapshot, rows, whole, kind, filters, query.words)
    near, ids, total = rows.vectors, rows.numbers, counted_rows(snapshot.live_count(modality))
    if not len(ids):
        return ScoredRows.concatenate([])
    scores = exact_scores(whole, near)
    known = snapshot.spreads()
    units = [known.unit_of(each, modality) for each in (*("image" if one else "text" for one in query.pictures), kind)]
    merit, seen = _judge(query, whole, np.vstack([near, snapshot.sample(modality)]), len(ids), total, fusion, units)
    worth = log_evalues(merit, seen)
    fit = _evidence(snapshot, modality, query, near, query.weights > 0)
    if modality is Modality.IMAGE:
        order = worth + (fit.max() - worth.max())
    elif seen.sampled < MIN_SAMPLE:  # by a few texts, which these are themselves, nothing can be judged
        order = worth = fit - np.maximum(_evidence(snapshot, modality, query, near, query.weights < 0), 0.0)
    else:
        order = worth = np.minimum(worth, fit)
    if fusion == "rank":
        order = fuse_ranks(_term_scores(query, near), query.weights)
    best = first_of_items(rows.items, np.lexsort((ids, -order)))
    judge = make_judge(snapshot, modality, kind, query.words, seen, worth, filters)
    return ScoredRows(
        ids[best],
        rows.items[best],
        scores[best],
        worth[best],
        order[best],
        (judge,),
        np.zeros(len(best), np.intp),
    )


def _evidence(
    snapshot: Snapshot,
    modality: Modality,
    query: EmbeddedQuery,
    rows: NDArray[np.float32],
    chosen: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return how far rows (n, dim) fit some terms, float64 (n,): their log E-values, added up where above 0.

    Kinds are compared by positive terms: the best picture stands as high as it would without negative ones, and no text
    higher. Those push down the pictures that match them, so by the fusion a text that fits no term would win.
    """
    if not chosen.any():
        return np.zeros(len(rows))
    each = []
    for i in np.flatnonzero(chosen).tolist():
        vector = query.vectors[i]
        _, typical = null_models(snapshot, modality, vector, "image" if query.pictures[i] else "text")
        each.append(log_evalues(exact_scores(vector, rows), typical))
    found = np.array(each)
    best: NDArray[np.float64] = found.max(axis=0)
    return np.where(best > 0, np.maximum(found, 0.0).sum(axis=0), best)


def _judge(
    query: EmbeddedQuery,
    whole: NDArray[np.float32],
    rows: NDArray[np.float32],
    candidates: int,
    total: int,
    fusion: str,
    units: Sequence[float],
) -> tuple[NDArray[np.float64], NullModel]:
    """Return what each candidate is worth, float64 (candidates,), and how rows at large do.

    rows (candidates + sample, dim). total: how many there are in all. units: as null_model takes them, of each term and
    of their sum.
    """
    if fusion == "feature":
        merit, unit = exact_scores(whole, rows).astype(np.float64), units[-1]
    else:
        scores = _term_scores(query, rows)
        seen = [null_model(row[candidates:], total, unit=unit) for row, unit in zip(scores, units[:-1], strict=True)]
        merit, unit = decide(scores, query.weights, seen, query.pictures), 1.0 / PRIOR_SPREAD
    return merit[:candidates], null_model(merit[candidates:], total, unit=unit)


def _term_scores(query: EmbeddedQuery, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([exact_scores(vector, rows) for vector in query.vectors])
