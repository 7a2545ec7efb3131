"""Queries of several terms: embedded, then candidates of every term, fused and set against the library at large."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError, MediaError, StoreCorruptError
from clipsearch.filtering import Filter
from clipsearch.query.candidates import Candidates, QueryBatch, Retriever
from clipsearch.query.embedding import Embedder
from clipsearch.query.fusion import SATURATED, choose, compose, decide, fuse_ranks, standardize
from clipsearch.query.grouped import add_evidence, cosines, evidence, judge
from clipsearch.query.hits import HitBuilder
from clipsearch.query.options import SearchOptions
from clipsearch.query.resolving import Resolved, Sum, filters_of, proposals, resolve
from clipsearch.query.retrieval import RankedRows, Ranking, fill
from clipsearch.query.scored import Judge, ScoredRows
from clipsearch.query.scoring import (
    GatheredRows,
    first_of_items,
    gather_rows,
    merge_modalities,
    null_models,
    score_rows,
)
from clipsearch.query.terms import Indexed, Picture, Query, Term, Text
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
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Modality

MAX_TERMS = 32

_CANCELLED = 1e-6
"""The length of a sum of terms that cancel each other out."""

DEPTH = 200
"""Candidates that each term proposes at least; for more than 20 answers ten times as many."""


@dataclass(frozen=True, slots=True)
class EmbeddedQuery:
    """A query, embedded.

    vectors: unit rows, float32 (terms, dim). weights: float64 (terms,), below 0 for a negative term; one is above.
    pictures: which terms are pictures. excluded: ids of items that are no answer. filters: what hits must meet. tree:
    how the terms are grouped, if they are not just added; their weights are then 1 and -1.
    """

    vectors: NDArray[np.float32]
    weights: NDArray[np.float64]
    pictures: tuple[bool, ...]
    excluded: frozenset[int] = frozenset()
    filters: Filter | None = None
    tree: Sum | None = None

    def key(self) -> tuple[Hashable, ...]:
        """Return what equals that of another only if the two are the same query."""
        own = (self.vectors.tobytes(), self.weights.tobytes(), self.pictures, self.excluded)
        return (*own, self.filters, self.tree)


def embed_terms(query: Query, embedder: Embedder, snapshot: Snapshot) -> tuple[EmbeddedQuery, tuple[str, ...]]:
    """Embed the terms of a query; also return what the user should know about how that went.

    Raises InvalidInputError for a query without a positive term, too many terms, or an id that is not in the library;
    PictureError for a picture that cannot be read, either of which names the term; StoreCorruptError for an item whose
    vector is damaged.
    """
    if not any(part.weight > 0 for part in query):
        raise InvalidInputError(f"The query {query} only says what not to find. Add a term without a -.")
    resolved = resolve(query) if query.is_grouped else Resolved(query.terms, None, None)
    if len(resolved.leaves) > MAX_TERMS:
        raise InvalidInputError(
            f"The query has {len(resolved.leaves)} terms, but at most {MAX_TERMS} are allowed. Leave some out."
        )
    vectors, pictures = [], []
    notes: list[str] = []
    for number, part in enumerate(resolved.leaves, 1):
        with _naming(number if len(resolved.leaves) > 1 else None):
            vector, is_picture, remarks = _embed(part.term, embedder, snapshot)
        vectors.append(vector)
        pictures.append(is_picture)
        notes += remarks
    excluded = frozenset(part.term.id for part in resolved.leaves if isinstance(part.term, Indexed))
    weights = np.array([part.weight for part in resolved.leaves], np.float64)
    found = EmbeddedQuery(np.stack(vectors), weights, tuple(pictures), excluded, resolved.filters, resolved.tree)
    return found, tuple(notes)


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
    ranker = _Ranker(retriever, snapshot, query, options)
    builder = HitBuilder(snapshot)

    def rank(found: list[Candidates], most: int) -> list[list[Hit]]:
        return [builder.build(ranker.rank(found), most, excluded_ids=query.excluded)]

    return fill(k, len(query.excluded), ranker.propose, rank)[0]


def rank_composed_rows(
    retriever: Retriever, snapshot: Snapshot, query: EmbeddedQuery, options: SearchOptions, wanted: int
) -> RankedRows:
    """Rank candidates of so many items: a step of `retrieve_composed`, before hits are made."""
    ranker = _Ranker(retriever, snapshot, query, options)
    found = ranker.propose(wanted + len(query.excluded))
    return RankedRows.of(ranker.rank(found), found)


class _Ranker:
    """Proposes and ranks candidates of one composed query."""

    def __init__(self, retriever: Retriever, snapshot: Snapshot, query: EmbeddedQuery, options: SearchOptions) -> None:
        self._retriever, self._snapshot, self._query = retriever, snapshot, query
        self._modalities = options.modalities
        filters = _both(options.filters, query.filters)
        if query.tree is not None:
            self._fusion = _fusion_of_groups(options.fusion)
            self._batches = list(_batches(snapshot, query, query.tree, filters))
            return
        self._fusion = choose(query.weights, query.pictures) if options.fusion == "auto" else options.fusion
        self._whole = compose(query.vectors, query.weights)
        vectors = np.vstack([query.vectors[query.weights > 0], self._whole[None]])
        self._batches = [QueryBatch(snapshot, vectors, filters=filters)]

    def propose(self, wanted: int) -> list[Candidates]:
        """Find candidates of so many items, for each modality."""
        depth = max(DEPTH, 10 * wanted)
        return [
            _joined([self._retriever.candidates(batch, each, depth, wanted) for batch in self._batches])
            for each in self._modalities
        ]

    def rank(self, found: Sequence[Candidates]) -> ScoredRows:
        """Rank candidates, best first."""
        if self._query.tree is None:
            lists = [_rank(self._snapshot, self._query, self._whole, each, self._fusion) for each in found]
        else:
            lists = [_rank_groups(self._snapshot, self._query, self._query.tree, each) for each in found]
        return merge_modalities(lists, adds_up=self._fusion != "rank" and not any(self._query.pictures))


def _both(one: Filter | None, other: Filter | None) -> Filter | None:
    return one if other is None else other if one is None else one & other


def _fusion_of_groups(name: str) -> str:
    if name not in ("auto", "decision"):
        raise InvalidInputError(f"A query with an or is fused by decision, not by {name}. Leave the fusion out.")
    return "decision"


def _batches(snapshot: Snapshot, query: EmbeddedQuery, tree: Sum, filters: Filter | None) -> Iterator[QueryBatch]:
    """Yield what proposes candidates: the terms of each way to meet a query and their sum, among what it allows."""
    for own, weights in proposals(tree, query.weights > 0).items():
        sums = np.array(weights) @ query.vectors.astype(np.float64)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        kept = lengths[:, 0] > _CANCELLED
        yield QueryBatch(snapshot, (sums[kept] / lengths[kept]).astype(np.float32), filters=_both(filters, own))


def _joined(found: Sequence[Candidates]) -> Candidates:
    """Return the candidates of several batches as those of one."""
    if len(found) == 1:
        return found[0]
    item_ids = {row: item for each in found for row, item in each.item_ids.items()}
    warnings = frozenset[str]().union(*(each.warnings for each in found))
    rows = [rows for each in found for rows in each.rows]
    return Candidates(found[0].modality, rows, item_ids, all(each.is_all for each in found), warnings)


def _rank(
    snapshot: Snapshot, query: EmbeddedQuery, whole: NDArray[np.float32], proposed: Candidates, fusion: str
) -> ScoredRows:
    """Score candidates of one modality, each item by its best row; best first, ties in order of row."""
    modality = proposed.modality
    rows = gather_rows(snapshot, modality, np.unique(np.concatenate(proposed.rows)), proposed.item_ids)
    kind = _kind(query)
    if len(query.weights) == 1:  # as a query of its own, and as well known
        return score_rows(snapshot, rows, whole, kind)
    near, ids, total = rows.vectors, rows.numbers, counted_rows(snapshot.live_count(modality))
    if not len(ids):
        return ScoredRows.concatenate([])
    scores = exact_scores(whole, near)
    known = snapshot.spreads()
    units = [known.unit_of(each, modality) for each in (*("image" if one else "text" for one in query.pictures), kind)]
    merit, seen = _judge(query, whole, np.vstack([near, snapshot.sample(modality)]), len(ids), total, fusion, units)
    worth = log_evalues(merit, seen)
    fit = add_evidence(_evidence(snapshot, modality, query, near, query.weights > 0))
    if modality is Modality.IMAGE:
        order = worth + (fit.max() - worth.max())
    elif seen.sampled < MIN_SAMPLE:  # by a few texts, which these are themselves, nothing can be judged
        order = worth = fit - _against(snapshot, modality, query, near)
    else:
        order = worth = np.minimum(worth, fit)
    if fusion == "rank":
        order = fuse_ranks(_term_scores(query, near), query.weights)
    return _best_rows(rows, scores, worth, order, seen)


def _rank_groups(snapshot: Snapshot, query: EmbeddedQuery, tree: Sum, proposed: Candidates) -> ScoredRows:
    """Score candidates of one modality by a tree, as `_rank` does; what no filter allows is left out."""
    modality = proposed.modality
    rows = gather_rows(snapshot, modality, np.unique(np.concatenate(proposed.rows)), proposed.item_ids)
    if not len(rows.numbers):
        return ScoredRows.concatenate([])
    near, total = rows.vectors, counted_rows(snapshot.live_count(modality))
    passes = {each: np.isin(rows.numbers, snapshot.matching(modality, each)) for each in filters_of(tree)}
    unit = snapshot.spreads().unit_of
    units = [unit("image" if one else "text", modality) for one in query.pictures]
    scores, sample = _term_scores(query, near), _term_scores(query, snapshot.sample(modality))
    models = [null_model(row, total, unit=unit) for row, unit in zip(sample, units, strict=True)]
    judged = judge(tree, standardize(scores, models, query.pictures), passes)
    at_large = judge(tree, standardize(sample, models, query.pictures)).merit
    seen = null_model(at_large, total, unit=1.0 / PRIOR_SPREAD)
    worth = log_evalues(judged.merit, seen)
    found = _evidence(snapshot, modality, query, near, np.ones(len(query.weights), np.bool_))
    sure = float(log_evalues(np.array([SATURATED]), NullModel(0.0, 1.0, total, total))[0])
    fit = evidence(tree, found, passes, sure)
    if modality is Modality.IMAGE:
        order = worth + (fit.max() - worth.max())
    elif seen.sampled < MIN_SAMPLE:
        order = worth = evidence(tree, found, passes, sure, subtract=True)
    else:
        order = worth = np.minimum(worth, fit)
    ranked = _best_rows(rows, cosines(judged, scores, query.vectors), worth, order, seen)
    return ranked.take(np.flatnonzero(np.isfinite(ranked.orders)))


def _kind(query: EmbeddedQuery) -> str:
    is_of_pictures = all(is_one for is_one, weight in zip(query.pictures, query.weights, strict=True) if weight > 0)
    return "image" if is_of_pictures else "text"


def _best_rows(
    rows: GatheredRows,
    scores: NDArray[np.float32],
    worth: NDArray[np.float64],
    order: NDArray[np.float64],
    seen: NullModel,
) -> ScoredRows:
    best = first_of_items(rows.items, np.lexsort((rows.numbers, -order)))
    judge_ = (Judge(rows.modality, seen),)
    places = np.zeros(len(best), np.intp)
    return ScoredRows(rows.numbers[best], rows.items[best], scores[best], worth[best], order[best], judge_, places)


def _evidence(
    snapshot: Snapshot,
    modality: Modality,
    query: EmbeddedQuery,
    rows: NDArray[np.float32],
    chosen: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return how far rows (n, dim) fit some terms, float64 (terms, n): their log E-values.

    Kinds are compared by positive terms: the best picture stands as high as it would without negative ones, and no text
    higher. Those push down the pictures that match them, so by the fusion a text that fits no term would win.
    """
    each = []
    for i in np.flatnonzero(chosen).tolist():
        vector = query.vectors[i]
        _, typical = null_models(snapshot, modality, vector, "image" if query.pictures[i] else "text")
        each.append(log_evalues(exact_scores(vector, rows), typical))
    return np.array(each)


def _against(
    snapshot: Snapshot, modality: Modality, query: EmbeddedQuery, rows: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return how far rows (n, dim) fit the negative terms, at least 0: float64 (n,)."""
    if not (query.weights < 0).any():
        return np.zeros(len(rows))
    return np.maximum(add_evidence(_evidence(snapshot, modality, query, rows, query.weights < 0)), 0.0)


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
