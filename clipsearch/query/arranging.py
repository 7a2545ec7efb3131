"""Answers in another order than that of relevance: sorted by a value, or diverse.

Both look at hits from the best on, as far as the order needs and not as far as a page does, so that an answer is a
prefix of each longer one. What has too little confidence or score is left out first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from clipsearch.metadata import RATING
from clipsearch.query.collapse import collapse
from clipsearch.query.cutoff import Cutoff
from clipsearch.query.diversity import POOL, diversify
from clipsearch.query.options import SearchOptions
from clipsearch.query.retrieval import Ranking
from clipsearch.ranking import counted_rows
from clipsearch.relevance import LIKELY
from clipsearch.sorting import RELEVANCE, sort_items
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Modality

SORTED = 1000
"""The number of best hits that are considered for sorting."""


def fill_arranged(fetch: Callable[[int], list[Ranking]], snapshot: Snapshot, options: SearchOptions) -> list[Ranking]:
    """Find the hits of each query that `options` wants, in the order that it names; none is cut off later.

    fetch: finds at least so many hits of each query.
    """
    is_sorted = options.sort != RELEVANCE
    depth = SORTED if is_sorted else max(POOL, options.end)
    cutoff = options.cutoff
    if is_sorted and cutoff.confidence is None:
        cutoff = replace(cutoff, confidence=LIKELY)
    order = partial(_sorted, snapshot, options.sort) if is_sorted else partial(diversify, snapshot)
    return [_arranged(found, snapshot, options, depth, cutoff, order) for found in fetch(depth)]


def _arranged(
    found: Ranking,
    snapshot: Snapshot,
    options: SearchOptions,
    depth: int,
    cutoff: Cutoff,
    order: Callable[[Sequence[Hit]], Sequence[Hit]],
) -> Ranking:
    rows = {modality: counted_rows(snapshot.live_count(modality)) for modality in Modality}
    examined = found.hits[:depth]
    kept = cutoff.apply(examined, rows, depth)
    kept = collapse(snapshot, kept) if options.collapse else kept
    if kept or not examined:
        hits = [replace(hit, rank=rank) for rank, hit in enumerate(order(kept), 1)]
        return replace(found, hits=hits)
    shown = examined[: options.end]
    return replace(found, hits=[], left_out=len(shown), warnings=(*found.warnings, cutoff.explain(shown)))


def _sorted(snapshot: Snapshot, sort: str, hits: Sequence[Hit]) -> list[Hit]:
    """Sort hits; those whose item is damaged are left out where that says what they are sorted by."""
    items = [hit.item for hit in hits]
    items = snapshot.enrich(items) if sort == RATING else items
    by_item = {hit.item.id: hit for hit in hits}
    return [by_item[item.id] for item in sort_items(items, sort)]
