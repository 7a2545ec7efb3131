"""What candidates are worth: exact scores, set against the library at large, comparable between modalities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipsearch.filtering import Filter
from clipsearch.query.scored import Judge, ScoredRows
from clipsearch.ranking import (
    MIN_SAMPLE,
    NullModel,
    are_unit,
    counted_rows,
    counted_tries,
    exact_scores,
    limit_demotion,
    log_evalue,
    log_evalues,
    lower_spread,
    null_model,
)
from clipsearch.relevance import TYPICAL_WORDS, curve_of
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Modality

_ITSELF = 0.999
"""The cosine from which on a row is the picture or the vector that is searched by, stored as float16."""


@dataclass(frozen=True, slots=True)
class GatheredRows:
    """Rows of one modality that were read.

    numbers: int64 (n,), ascending. items: int64 (n,), the id of the item of each, -1 for none. vectors: float32
    (n, dim), of unit length.
    """

    modality: Modality
    numbers: NDArray[np.int64]
    items: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def only(self, numbers: NDArray[np.int64]) -> GatheredRows:
        """Return those of these rows, int64 (any,) ascending, that are here."""
        if len(numbers) == len(self.numbers) or not len(self.numbers):
            return self
        places = np.searchsorted(self.numbers, numbers).clip(max=len(self.numbers) - 1)
        return self.take(places[self.numbers[places] == numbers])

    def take(self, places: NDArray[np.intp] | NDArray[np.bool_]) -> GatheredRows:
        """Return the rows at these places."""
        return GatheredRows(self.modality, self.numbers[places], self.items[places], self.vectors[places])


def gather_rows(
    snapshot: Snapshot, modality: Modality, numbers: NDArray[np.int64], item_ids: Mapping[int, int]
) -> GatheredRows:
    """Read rows, int64 (n,) ascending. Those that are not of unit length, as none is stored, are left out.

    item_ids: by row.
    """
    items = np.fromiter((item_ids.get(row, -1) for row in numbers.tolist()), np.int64, len(numbers))
    rows = GatheredRows(modality, numbers, items, snapshot.rows(modality).gather(numbers))
    sound = are_unit(rows.vectors)
    if sound.all():
        return rows
    snapshot.leave_out(item_ids.get(row) for row in numbers[~sound].tolist())
    return rows.take(sound)  # a row that is damaged has no score


def score_rows(
    snapshot: Snapshot,
    rows: GatheredRows,
    query: NDArray[np.float32],
    kind: str | None,
    filters: Filter | None = None,
    words: float = TYPICAL_WORDS,
) -> ScoredRows:
    """Score candidates exactly, and against what queries of that kind score; best first, ties in order of row.

    Of the rows of one item, the best alone is returned. filters: which items may be found. words: how many content
    words the query has.
    """
    modality, ids, owners = rows.modality, rows.numbers, rows.items
    if not len(ids):
        return ScoredRows.concatenate([])
    scores = exact_scores(query, rows.vectors)
    best = first_of_items(owners, np.argsort(-scores, kind="stable"))
    scores = scores[best]
    seen, typical = null_models(snapshot, modality, query, kind)
    worth = log_evalues(scores, seen)
    order = worth if seen is typical else log_evalues(scores, typical)
    bounded = kind != Modality.TEXT  # whose scores are far below 1
    if bounded:  # in a library of few rows, its score says nothing of chance
        order = np.where(scores >= _ITSELF, np.inf, order)
    judges = (make_judge(snapshot, modality, kind, words, seen, worth, filters, bounded=bounded),)
    return ScoredRows(ids[best], owners[best], scores, worth, order, judges, np.zeros(len(best), np.intp))


def make_judge(
    snapshot: Snapshot,
    modality: Modality,
    kind: str | None,
    words: float,
    seen: NullModel,
    worth: NDArray[np.float64],
    filters: Filter | None,
    *,
    bounded: bool = False,
) -> Judge:
    """Return by what candidates of one modality are judged, whose log E-values are `worth`, float64 (n,).

    Whether one stands out depends on how many rows pass the filters: chance has as many tries. How unrelated rows score
    is still learnt from the whole library: a folder of dogs is not unrelated to "a dog" (benchmarks/filtered.py).
    Whether it is right depends on no other row that passes, so it is compared with the best of the library, or of its
    sample (benchmarks/judged.py).
    """
    best, rows = float(worth[np.isfinite(worth)].max(initial=-np.inf)), snapshot.live_count(modality)
    if filters is not None:
        best, rows = max(best, log_evalue(seen.best, seen)), snapshot.matching_count(modality, filters)
    tries = counted_rows(rows) if bounded or seen.tail is not None else counted_tries(rows)
    return Judge(modality, seen, bounded, curve_of(kind, modality), words, best, math.log(seen.rows / tries))


def null_models(
    snapshot: Snapshot, modality: Modality, query: NDArray[np.float32], kind: str | None
) -> tuple[NullModel, NullModel]:
    """Return how unrelated rows of a modality score: on this query, and on queries at large, by which kinds compare.

    A query that is about texts scores higher with all texts. Set against its own scores, that is no news; set against
    those of queries at large, which ask for pictures, it says that texts are meant. Where that was not measured, as for
    pictures, the two are the same.
    """
    known = snapshot.spreads()
    centre, tails = known.centre_of(kind, modality), known.tails_of(kind, modality)
    unit = known.unit_of(kind, modality)
    sample, count = snapshot.sample(modality) @ query, counted_rows(snapshot.live_count(modality))
    spread = _spread(snapshot, kind, modality, sample)
    if centre is None or tails is None:
        seen = null_model(sample, count, spread=spread, centre=centre, unit=unit)
        return seen, seen
    tail = tails.typical if len(sample) < MIN_SAMPLE else tails.own
    seen = null_model(sample, count, spread=spread, centre=centre, tail=tail, unit=unit)
    return seen, replace(seen, centre=centre, tail=tails.typical)


def _spread(snapshot: Snapshot, kind: str | None, modality: Modality, scores: NDArray[np.float32]) -> float | None:
    """Return the spread that is typical of queries of a kind; None if that is unknown.

    scores: of one query over a sample. A vector may be of any kind: it has the spread of its own scores, within what is
    typical of the kinds that are known.
    """
    known = {
        each: snapshot.spreads().get(each, modality) or (snapshot.picture_spread(modality) if each == "image" else None)
        for each in ([kind] if kind else ["text", "image"])
    }
    if kind is not None:
        return known[kind]
    typical = sorted(spread for spread in known.values() if spread)
    if not typical or len(scores) < MIN_SAMPLE:
        return None
    own = min(lower_spread(scores), typical[-1])
    return max(own, typical[0]) if len(typical) > 1 else own


def first_of_items(owners: NDArray[np.int64], order: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the places in `order`, best first, of the first row of each item. owners: the item of each row, or -1."""
    _, first = np.unique(owners[order], return_index=True)
    places = order[np.sort(first)]
    return places[owners[places] >= 0]


def merge_modalities(lists: Sequence[ScoredRows], *, adds_up: bool) -> ScoredRows:
    """Merge the modalities in order; the r-th best of the pictures that stand out is at place 2r or before.

    The rows of one item follow each other, where the best would stand. adds_up: whether the orders of the picture and
    the caption of one item add up as far as they are above 0, as independent evidence for words does. They do not where
    a picture is to find itself.
    """
    rows = ScoredRows.concatenate(lists)
    order = np.argsort(-rows.orders, kind="stable")
    if len(lists) == 1:
        return rows.take(order)
    rows, stand_out = rows.take(order), (rows.are_of(Modality.IMAGE) & (rows.orders > 0))[order]
    first, items, worth = item_worths(rows, adds_up=adds_up)
    ranked = limit_demotion(np.lexsort((first, -worth)), items[stand_out])
    return rank_items(rows, items, ranked)


def item_worths(rows: ScoredRows, *, adds_up: bool) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.floating]]:
    """Return by what the items of rows, the best of each first, are compared; see `merge_modalities`.

    Returns the place of the first row of each item, intp (items,); for each row, the number of its item, intp (rows,);
    and what each item is worth, floats (items,).
    """
    _, first, items = np.unique(rows.items, return_index=True, return_inverse=True)
    worth = rows.orders[first]
    if adds_up:
        several = (np.bincount(items) > 1) & (worth > 0)
        worth = np.where(several, np.bincount(items, np.maximum(rows.orders, 0.0)), worth)
    return first, items, worth


def rank_items(rows: ScoredRows, items: NDArray[np.intp], ranked: NDArray[np.intp]) -> ScoredRows:
    """Return rows in the order of their items; those of one item as they were.

    items: for each row, the number of its item, from 0 to n - 1: intp (rows,). ranked: these numbers, intp (n,).
    """
    places = np.empty(len(ranked), np.intp)
    places[ranked] = np.arange(len(ranked))
    return rows.take(np.argsort(places[items], kind="stable"))


def is_doubtful(ranked: ScoredRows, item: int, words: float) -> bool:
    """Tell whether words must not put an item first: a text worth less than the first picture by words and by meaning.

    "child" asks for a photograph of one where there is one, not for a document on parent and child. words: what the
    words are worth, see `ranking.words_evalue`. Nothing is doubtful beside too few pictures to judge them.
    """
    first = ranked[0]
    if first.modality is not Modality.IMAGE or first.confidence is None or words >= first.order:
        return False
    own = ranked.items == item
    return not bool((own & (ranked.are_of(Modality.IMAGE) | (ranked.orders >= first.order))).any())
