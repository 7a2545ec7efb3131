"""What candidates are worth: exact scores, set against the library at large, comparable between modalities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from clipsearch.ranking import (
    MIN_SAMPLE,
    are_unit,
    confidence,
    cross_modal_score,
    exact_scores,
    limit_demotion,
    log_evalue,
    lower_spread,
    null_model,
)
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Modality

_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row with its score.

    log_evalue: see `ranking.log_evalue`. order: what rows are sorted by, highest first, comparable between modalities;
    above 0 for more than chance.
    """

    modality: Modality
    row: int
    score: float
    log_evalue: float
    confidence: float | None
    order: float


def score_rows(
    snapshot: Snapshot,
    modality: Modality,
    query: NDArray[np.float32],
    ids: NDArray[np.int64],
    item_ids: Mapping[int, int],
    kind: str | None,
) -> list[ScoredRow]:
    """Score candidates exactly, and against what queries of that kind score; best first, ties in order of row.

    item_ids: by row; of the rows of one item, the best alone is returned. Rows that are not of
    unit length, as none is stored, are left out.
    """
    if not len(ids):
        return []
    rows = snapshot.rows(modality)
    scores, sound = np.empty(len(ids), np.float32), np.empty(len(ids), np.bool_)
    for start in range(0, len(ids), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        vectors = rows.gather(ids[part])
        scores[part], sound[part] = exact_scores(query, vectors), are_unit(vectors)
    snapshot.leave_out(item_ids.get(row) for row in ids[~sound].tolist())
    ids, scores = ids[sound], scores[sound]  # a row that is damaged has no score
    known = snapshot.spreads()
    sample, count = snapshot.sample(modality) @ query, snapshot.live_count(modality)
    spread, centre = _spread(snapshot, kind, modality, sample), known.centre_of(kind, modality)
    seen = null_model(sample, count, spread=spread, centre=centre, unit=known.unit_of(kind, modality))
    bounded = kind != Modality.TEXT  # whose scores are far below 1
    among_all, score_scale = replace(seen, rows=snapshot.live_count()), known.score_scale_of(kind, modality)
    ranked = []
    for i in first_of_items(ids, np.lexsort((ids, -scores)), item_ids):
        score = float(scores[i])
        worth = log_evalue(score, seen)
        order = cross_modal_score(worth, log_evalue(score, among_all), score_scale)
        ranked.append(ScoredRow(modality, int(ids[i]), score, worth, confidence(score, seen, bounded=bounded), order))
    return ranked


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


def first_of_items(ids: NDArray[np.int64], order: NDArray[np.intp], item_ids: Mapping[int, int]) -> Iterator[int]:
    """Yield the places in `order`, best first, of the first row of each item. item_ids: as of `score_rows`."""
    seen: set[int | None] = {None}
    for place, row in zip(order.tolist(), ids[order].tolist(), strict=True):
        owner = item_ids.get(row)
        if owner not in seen:
            seen.add(owner)
            yield place


def merge_modalities(lists: Sequence[list[ScoredRow]]) -> list[ScoredRow]:
    """Merge the modalities in order; the r-th best of the pictures that stand out is at place 2r or before.

    What captions and texts say is nearer to words than what pictures show, whatever is right.
    """
    merged = sorted((entry for ranked in lists for entry in ranked), key=lambda entry: -entry.order)
    pictures = [entry for entry in merged if entry.modality is Modality.IMAGE and entry.order > 0]
    return limit_demotion(merged, pictures) if len(lists) > 1 else merged
