"""What candidates are worth: exact scores, set against the library at large, comparable between modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.ranking import (
    MIN_SAMPLE,
    NullModel,
    are_unit,
    confidence,
    counted_rows,
    evalue_confidence,
    exact_scores,
    limit_demotion,
    log_evalues,
    lower_spread,
    null_model,
)
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Modality


class ScoredRow(NamedTuple):
    """A row with its score.

    item: the id of its item. log_evalue: see `ranking.log_evalue`. order: what rows are sorted by, highest first,
    comparable between modalities: a log E-value too; above 0 for more than chance. seen: the null model of the score.
    bounded: whether that no cosine is above 1 counts, see `ranking.confidence`.
    """

    modality: Modality
    row: int
    item: int
    score: float
    log_evalue: float
    order: float
    seen: NullModel
    bounded: bool = False

    @property
    def confidence(self) -> float | None:
        """The confidence of a hit by this row; few rows become one."""
        if self.bounded:
            return confidence(self.score, self.seen, bounded=True)
        return evalue_confidence(self.log_evalue, self.seen)


@dataclass(frozen=True, slots=True)
class GatheredRows:
    """Rows of one modality that were read.

    numbers: int64 (n,), ascending. vectors: float32 (n, dim), of unit length.
    """

    modality: Modality
    numbers: NDArray[np.int64]
    vectors: NDArray[np.float32]

    def only(self, numbers: NDArray[np.int64]) -> GatheredRows:
        """Return those of these rows, int64 (any,) ascending, that are here."""
        if len(numbers) == len(self.numbers):
            return self
        chosen = np.flatnonzero(np.isin(self.numbers, numbers, assume_unique=True))
        return GatheredRows(self.modality, self.numbers[chosen], self.vectors[chosen])


def gather_rows(
    snapshot: Snapshot, modality: Modality, numbers: NDArray[np.int64], item_ids: Mapping[int, int]
) -> GatheredRows:
    """Read rows, int64 (n,) ascending. Those that are not of unit length, as none is stored, are left out.

    item_ids: by row.
    """
    vectors = snapshot.rows(modality).gather(numbers)
    sound = are_unit(vectors)
    if sound.all():
        return GatheredRows(modality, numbers, vectors)
    snapshot.leave_out(item_ids.get(row) for row in numbers[~sound].tolist())
    return GatheredRows(modality, numbers[sound], vectors[sound])  # a row that is damaged has no score


def score_rows(
    snapshot: Snapshot, rows: GatheredRows, query: NDArray[np.float32], item_ids: Mapping[int, int], kind: str | None
) -> list[ScoredRow]:
    """Score candidates exactly, and against what queries of that kind score; best first, ties in order of row.

    item_ids: by row; of the rows of one item, the best alone is returned.
    """
    modality, ids = rows.modality, rows.numbers
    if not len(ids):
        return []
    scores = exact_scores(query, rows.vectors)
    owners = np.fromiter((item_ids.get(row, -1) for row in ids.tolist()), np.int64, len(ids))
    best = first_of_items(owners, np.lexsort((ids, -scores)))
    seen, typical = null_models(snapshot, modality, query, kind)
    worth = log_evalues(scores[best], seen)
    order = worth if seen is typical else log_evalues(scores[best], typical)
    bounded = kind != Modality.TEXT  # whose scores are far below 1
    columns = (each.tolist() for each in (ids[best], owners[best], scores[best], worth, order))
    whole = zip(repeat(modality), *columns, repeat(seen), repeat(bounded), strict=False)
    return [tuple.__new__(ScoredRow, row) for row in whole]  # in half the time of ScoredRow(...), for hundreds a query


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


_order = attrgetter("order")


def merge_modalities(lists: Sequence[list[ScoredRow]], *, adds_up: bool) -> list[ScoredRow]:
    """Merge the modalities in order; the r-th best of the pictures that stand out is at place 2r or before.

    The rows of one item follow each other, where the best would stand. adds_up: whether the orders of the picture and
    the caption of one item add up as far as they are above 0, as independent evidence for words does. They do not where
    a picture is to find itself.
    """
    if len(lists) == 1:
        return sorted(lists[0], key=_order, reverse=True)
    rows: dict[int, list[ScoredRow]] = {}
    for entry in sorted(chain.from_iterable(lists), key=_order, reverse=True):
        rows.setdefault(entry.item, []).append(entry)
    worth = {item: own[0].order for item, own in rows.items()}
    if adds_up:
        several = ((item, own) for item, own in rows.items() if len(own) > 1 and worth[item] > 0)
        worth |= {item: sum(max(entry.order, 0.0) for entry in own) for item, own in several}
    ranked = sorted(rows, key=worth.__getitem__, reverse=True)
    pictures = [e.item for ranking in lists for e in ranking if e.modality is Modality.IMAGE and e.order > 0]
    return [entry for item in limit_demotion(ranked, pictures) for entry in rows[item]]


def doubtful_texts(ranked: Sequence[ScoredRow], words: float) -> frozenset[int]:
    """Return the items that words must not put first: texts worth less than the first picture by words and by meaning.

    "child" asks for a photograph of one where there is one, not for a document on parent and child. words: what the
    words are worth, see `ranking.words_evalue`. Nothing is doubtful beside too few pictures to judge them.
    """
    first = ranked[0] if ranked else None
    if first is None or first.modality is not Modality.IMAGE or first.confidence is None or words >= first.order:
        return frozenset()
    return frozenset(entry.item for entry in ranked) - {
        entry.item for entry in ranked if entry.modality is Modality.IMAGE or entry.order >= first.order
    }
