"""Candidates of queries of groups, and their ranking: as clipsearch.query.composed has it, but judged by a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.query.candidates import Candidates, QueryBatch, Retriever
from clipsearch.query.fusion import SATURATED, standardize
from clipsearch.query.grouped import cosines, evidence, judge
from clipsearch.query.options import SearchOptions
from clipsearch.query.resolving import Choice, Sum, filters_of, proposals
from clipsearch.query.scored import Judge, ScoredRows
from clipsearch.query.scoring import (
    GatheredRows,
    first_of_items,
    gather_rows,
    make_judge,
    merge_modalities,
    null_models,
)
from clipsearch.ranking import (
    MIN_SAMPLE,
    PRIOR_SPREAD,
    NullModel,
    counted_rows,
    exact_scores,
    log_evalues,
    null_model,
)
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Modality

if TYPE_CHECKING:
    from clipsearch.query.composed import EmbeddedQuery

DEPTH = 200
"""Candidates that each way to meet a query proposes at least; for more than 20 answers ten times as many."""

_CANCELLED = 1e-6
"""The length of a sum of terms that cancel each other out."""


class GroupRanker:
    """Proposes and ranks candidates of one query of groups."""

    def __init__(
        self, retriever: Retriever, snapshot: Snapshot, query: EmbeddedQuery, tree: Sum, options: SearchOptions
    ) -> None:
        """Rank by a tree. Raises InvalidInputError for a fusion other than by decision."""
        if options.fusion not in ("auto", "decision"):
            raise InvalidInputError(
                f"A query with an or is fused by decision, not by {options.fusion}. Leave the fusion out."
            )
        self._retriever, self._snapshot, self._query, self._tree = retriever, snapshot, query, tree
        self._modalities, self._filters = options.modalities, options.filters
        self._batches = list(_batches(snapshot, query, tree, options.filters))

    def propose(self, wanted: int) -> list[Candidates]:
        """Find candidates of so many items, for each modality."""
        depth = max(DEPTH, 10 * wanted)
        return [
            _joined([self._retriever.candidates(batch, each, depth, wanted) for batch in self._batches])
            for each in self._modalities
        ]

    def rank(self, found: Sequence[Candidates]) -> ScoredRows:
        """Rank candidates, best first; what no filter allows is left out."""
        lists = [_rank(self._snapshot, self._query, self._tree, each, self._filters) for each in found]
        return merge_modalities(lists, adds_up=self.adds_up)

    @property
    def adds_up(self) -> bool:
        """Whether picture and caption of an item add up, see `merge_modalities`."""
        return not any(self._query.pictures)


def _batches(snapshot: Snapshot, query: EmbeddedQuery, tree: Sum, filters: Filter | None) -> Iterator[QueryBatch]:
    """Yield what proposes candidates: the terms of each way to meet a query and their sum, among what it allows."""
    for own, weights in proposals(tree, query.weights > 0).items():
        sums = np.array(weights) @ query.vectors.astype(np.float64)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        kept = lengths[:, 0] > _CANCELLED
        both = own if filters is None else filters if own is None else filters & own
        yield QueryBatch(snapshot, (sums[kept] / lengths[kept]).astype(np.float32), filters=both)


def _joined(found: Sequence[Candidates]) -> Candidates:
    """Return the candidates of several batches as those of one."""
    item_ids = {row: item for each in found for row, item in each.item_ids.items()}
    warnings = frozenset[str]().union(*(each.warnings for each in found))
    rows = [rows for each in found for rows in each.rows]
    return Candidates(found[0].modality, rows, item_ids, all(each.is_all for each in found), warnings)


def _rank(
    snapshot: Snapshot, query: EmbeddedQuery, tree: Sum, proposed: Candidates, filters: Filter | None
) -> ScoredRows:
    """Score candidates of one modality, each item by its best row; best first, ties in order of row."""
    modality = proposed.modality
    rows = gather_rows(snapshot, modality, np.unique(np.concatenate(proposed.rows)), proposed.item_ids)
    if not len(rows.numbers):
        return ScoredRows.concatenate([])
    total = counted_rows(snapshot.live_count(modality))
    passes = {each: np.isin(rows.numbers, snapshot.matching(modality, each)) for each in filters_of(tree)}
    scores, sample = (_term_scores(query, each) for each in (rows.vectors, snapshot.sample(modality)))
    unit = snapshot.spreads().unit_of
    units = [unit("image" if is_one else "text", modality) for is_one in query.pictures]
    models = [null_model(row, total, unit=own) for row, own in zip(sample, units, strict=True)]
    judged = judge(tree, standardize(scores, models, query.pictures), passes)
    at_large = judge(tree, standardize(sample, models, query.pictures)).merit
    seen = null_model(at_large, total, unit=1.0 / PRIOR_SPREAD)
    worth = log_evalues(judged.merit, seen)
    found = _evidence(snapshot, rows, query)
    sure = float(log_evalues(np.array([SATURATED]), NullModel(0.0, 1.0, total, total))[0])
    fit = evidence(tree, found, passes, sure)
    if modality is Modality.IMAGE:  # the best picture stands as high as by its positive terms, see composed
        order = worth + (fit.max() - worth.max())
    elif seen.sampled < MIN_SAMPLE:
        order = worth = evidence(tree, found, passes, sure, subtract=True)
    else:
        order = worth = np.minimum(worth, fit)
    kind = "image" if all(query.pictures) else "text"
    judge_ = make_judge(snapshot, modality, kind, query.words, seen, worth, filters)
    ranked = _best_rows(rows, cosines(judged, scores, query.vectors), worth, order, judge_)
    return replace(ranked, judged=np.isin(ranked.rows, rows.numbers[are_certain(tree, passes)]).astype(np.intp))


def are_certain(tree: Sum, passes: Mapping[Filter, NDArray[np.bool_]]) -> NDArray[np.bool_] | slice:
    """Tell which rows filters alone let match, each an alternative by itself: bool (rows,); an empty slice for none."""
    terms = [(weight, node.certain if isinstance(node, Choice) else None) for weight, node in tree.terms]
    if any(weight < 0 or certain is None for weight, certain in terms):
        return slice(0)
    certain_rows: NDArray[np.bool_] = np.logical_and.reduce([passes[each] for _, each in terms if each is not None])
    return certain_rows


def _best_rows(
    rows: GatheredRows,
    scores: NDArray[np.float32],
    worth: NDArray[np.float64],
    order: NDArray[np.float64],
    judge_: Judge,
) -> ScoredRows:
    best = first_of_items(rows.items, np.lexsort((rows.numbers, -order)))
    best = best[np.isfinite(order[best])]
    places = np.zeros(len(best), np.intp)
    return ScoredRows(
        rows.numbers[best],
        rows.items[best],
        scores[best],
        worth[best],
        order[best],
        (judge_, judge_._replace(is_certain=True)),
        places,
    )


def _term_scores(query: EmbeddedQuery, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.stack([exact_scores(vector, rows) for vector in query.vectors])


def _evidence(snapshot: Snapshot, rows: GatheredRows, query: EmbeddedQuery) -> NDArray[np.float64]:
    """Return how far rows fit each term, float64 (terms, rows): their log E-values."""
    kinds = ["image" if is_one else "text" for is_one in query.pictures]
    models = [
        null_models(snapshot, rows.modality, vector, kind)[1] for vector, kind in zip(query.vectors, kinds, strict=True)
    ]
    scores = _term_scores(query, rows.vectors)
    return np.array([log_evalues(own, model) for own, model in zip(scores, models, strict=True)])
