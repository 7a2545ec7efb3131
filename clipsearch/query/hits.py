"""From ranked rows to hits: what is behind them is looked up for a whole batch of queries at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from clipsearch.paths import may_be_opened, real_path
from clipsearch.query.scored import ScoredRow, ScoredRows
from clipsearch.store.catalog import Match
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Item, Modality

_SPARE = 1
"""Rows that are looked up beyond those that are wanted: one may be of the file that is searched by."""


class HitBuilder:
    """Builds the hits of one or several queries over one state of a library; what was looked up is kept."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._matches: dict[tuple[Modality, int], Match | None] = {}
        self._items: dict[int, Item] = {}

    def build_all(self, rankings: Sequence[ScoredRows], most: int, excluded: Sequence[str | None]) -> list[list[Hit]]:
        """Build the hits of several queries, as `build` does. excluded: for each query."""
        self._look_up(chain.from_iterable(_firsts(ranked, 0, most + _SPARE) for ranked in rankings))
        return [self.build(ranked, most, name) for ranked, name in zip(rankings, excluded, strict=True)]

    def build(
        self,
        ranked: ScoredRows,
        most: int,
        excluded: str | None = None,
        excluded_ids: frozenset[int] = frozenset(),
    ) -> list[Hit]:
        """Turn rows into hits, best first: at most so many items, each by its best row.

        excluded, excluded_ids: the real path of a file, and ids of items, that are no hits. Nor is a damaged row, or an
        item that is known to be damaged; see `Snapshot.warnings`.
        """
        hits: list[Hit] = []
        seen = {*excluded_ids, *self._snapshot.damaged}
        for place, number in enumerate(ranked.items.tolist()):
            if len(hits) >= most:
                break
            if number in seen:
                continue
            key = ranked.key(place)
            if key not in self._matches:
                self._look_up([key, *_firsts(ranked, place, most - len(hits) + _SPARE)])
            match = self._matches[key]
            if match is None or match.item_id in seen:
                continue
            seen.add(match.item_id)
            item = self._item(match)
            if excluded is None or not may_be_opened(item.path) or real_path(item.path) != excluded:
                hits.append(_hit(len(hits) + 1, item, match, ranked[place]))
        return hits

    def _look_up(self, rows: Iterable[tuple[Modality, int]]) -> None:
        """Look up what is behind rows, where that is not known yet; nothing for those that are deleted or damaged."""
        wanted: dict[Modality, set[int]] = {}
        for modality, row in {*rows} - self._matches.keys():
            wanted.setdefault(modality, set()).add(row)
        for modality, numbers in wanted.items():
            found = self._snapshot.matches(modality, sorted(numbers))
            for number in numbers:
                match = found.get(number)
                is_sound = match is not None and self._snapshot.is_sound(match)
                self._matches[modality, number] = match if is_sound else None

    def _item(self, match: Match) -> Item:
        if match.item_id not in self._items:
            self._items[match.item_id] = match.item
        return self._items[match.item_id]


def _firsts(ranked: ScoredRows, start: int, most: int) -> list[tuple[Modality, int]]:
    """Return the best row of each of the next items, at most so many, from a place on; rows of an item are together."""
    items = ranked.items[start:]
    places = np.flatnonzero(np.diff(items, prepend=-1))[:most] + start
    return [ranked.key(place) for place in places.tolist()]


def _hit(rank: int, item: Item, match: Match, scored: ScoredRow) -> Hit:
    return Hit(
        rank,
        item,
        scored.score,
        scored.confidence,
        scored.modality,
        part=match.part,
        passage=match.passage,
        log_evalue=scored.log_evalue,
        position=match.position,
        stands_out=scored.stands_out,
    )
