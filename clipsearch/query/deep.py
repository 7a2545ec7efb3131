"""Pages far down an answer: of the hits before, nothing is looked up, and the ranking is kept for the next page.

Hits are made of the first DEEP ranks as in any search. After these, the steps of retrieval go on with rows alone, which
are arrays, and a page makes hits of its own rows. What was ranked is kept for the state of the library that it is of.
A damaged item after the first DEEP is left out where its page is shown, and does not move other pages.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clipsearch.query.answers import is_confident
from clipsearch.query.candidates import DEEPER
from clipsearch.query.enriching import enrich_hits
from clipsearch.query.hits import HitBuilder
from clipsearch.query.options import SearchOptions
from clipsearch.query.recognised import show_lines
from clipsearch.query.retrieval import FIRST_STEP, RankedRows, Ranking
from clipsearch.query.scored import ScoredRows
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import EncoderPin, Hit, Results

DEEP = FIRST_STEP * DEEPER**3
"""Ranks up to which an answer is made of hits."""

KEPT_ROWS = 1 << 20
"""Rows of all rankings that are kept, of 44 bytes each."""

_KEPT = 8


@dataclass(frozen=True, slots=True)
class DeepRanking:
    """A ranking as far as it is known.

    first: the best hits, with what was found of them. rows: what follows, those of an item together. starts: where in
    these each item begins, intp (items,). step: how deep was looked.
    """

    first: Ranking
    rows: ScoredRows
    starts: np.ndarray[tuple[int], np.dtype[np.intp]]
    step: int
    is_all: bool
    warnings: frozenset[str]

    def __len__(self) -> int:
        return len(self.first.hits) + len(self.starts)


class DeepRankings:
    """The rankings that were looked at last, at one revision. Safe to share by threads."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, DeepRanking] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> DeepRanking | None:
        """Return what is kept under a key, if anything is."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, ranking: DeepRanking) -> None:
        """Keep a ranking; those that were not asked for longest go where there is no room."""
        with self._lock:
            self._kept[key] = ranking
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and (len(self._kept) > _KEPT or self._rows() > KEPT_ROWS):
                self._kept.popitem(last=False)

    def _rows(self) -> int:
        return sum(len(each.rows) for each in self._kept.values())


def is_deep(options: SearchOptions) -> bool:
    """Tell whether a page lies so deep, and its answer is not cut or collapsed, which looks at all hits."""
    cuts = options.cut or options.min_confidence is not None or options.min_score is not None
    return (
        options.end > DEEP
        and options.offset > 0
        and not (cuts or options.collapse or options.is_arranged or options.explain)
    )


def rank_deeply(
    snapshot: Snapshot,
    key: Hashable,
    end: int,
    fetch: Callable[[int], list[Ranking]],
    rank_rows: Callable[[int], RankedRows],
    excluded: frozenset[int] = frozenset(),
) -> DeepRanking:
    """Rank so far that there are `end` items, if there are so many.

    key: of the query. fetch: finds at least so many hits. rank_rows: ranks the candidates of so many items. excluded:
    ids of items that are no hits.
    """
    kept = snapshot.cached("deep rankings", DeepRankings)
    known = kept.get(key)
    if known is None:
        (first,) = fetch(DEEP)
        known = DeepRanking(first, ScoredRows.concatenate([]), np.empty(0, np.intp), DEEP, False, frozenset())
    while len(known) < end and not known.is_all:
        known = _go_on(known, rank_rows(known.step * DEEPER), excluded)
        kept.put(key, known)
    return known


def _go_on(known: DeepRanking, deeper: RankedRows, excluded: frozenset[int]) -> DeepRanking:
    """Add the rows of a deeper ranking to those of the steps before, up to as many items as the step is deep."""
    step = known.step * DEEPER
    seen = np.array([*excluded, *(hit.item.id for hit in known.first.hits)], np.int64)
    new = ~np.isin(deeper.rows.items, np.concatenate([seen, known.rows.items]))
    rows = deeper.rows.take(np.flatnonzero(new))
    starts = _starts(rows)
    most = len(starts) if deeper.is_all else max(step - len(known), 0)
    if len(starts) > most:
        rows, starts = rows.take(np.arange(starts[most])), starts[:most]
    joined = ScoredRows.concatenate([known.rows, rows])
    starts = np.concatenate([known.starts, starts + len(known.rows)])
    return DeepRanking(known.first, joined, starts, step, deeper.is_all, known.warnings | deeper.warnings)


def _starts(rows: ScoredRows) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.flatnonzero(np.diff(rows.items, prepend=-1))


def make_page(
    name: str,
    pin: EncoderPin,
    snapshot: Snapshot,
    found: DeepRanking,
    options: SearchOptions,
    notes: Sequence[str],
    library: str,
) -> Results:
    """Make the answer of a page. name, library: see `make_answers`. notes: warnings about the query."""
    while True:
        known = len(snapshot.damaged)
        hits = _hits(snapshot, found, options)
        lines = show_lines(snapshot, [hits], [name], [found.first.keyword_ids])
        (shown,) = enrich_hits(snapshot, lines)
        if len(snapshot.damaged) == known:
            break
    warnings = (*notes, *sorted({*found.first.warnings} | found.warnings), *snapshot.warnings)
    confident = is_confident([*found.first.hits[: options.end], *shown])
    return Results(name, pin.name, library, tuple(shown), confident, warnings, 0, options.offset)


def _hits(snapshot: Snapshot, found: DeepRanking, options: SearchOptions) -> list[Hit]:
    first = found.first.hits[options.offset : options.end]
    place = max(options.offset - len(found.first.hits), 0)
    if place >= len(found.starts) or len(first) == options.k:
        return first
    start = int(found.starts[place])
    rest = found.rows.take(np.arange(start, len(found.rows)))
    (made,) = HitBuilder(snapshot).build_all([rest], options.k - len(first), [None])
    return [*first, *(replace(hit, rank=rank) for rank, hit in enumerate(made, options.offset + len(first) + 1))]
