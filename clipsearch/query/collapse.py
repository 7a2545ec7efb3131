"""Copies and bursts inside an answer: shown once, by the best of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from clipsearch.linalg import unit_rows
from clipsearch.query.retrieval import FIRST_STEP, Ranking
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Item, Modality

BURST_SECONDS = 10.0
"""Seconds between two pictures of one burst, at most."""

_WIDER = 4


def fill_collapsed(fetch: Callable[[int], list[Ranking]], snapshot: Snapshot, k: int) -> list[Ranking]:
    """Find answers of which the k best differ, and no fewer than FIRST_STEP, as far as the library goes.

    fetch: finds at least so many hits of each query.
    """
    k = max(k, FIRST_STEP)
    depth = 2 * k
    while True:
        found = fetch(depth)
        collapsed = [collapse(snapshot, answer.hits) for answer in found]
        if all(len(hits) >= k or len(answer.hits) < depth for hits, answer in zip(collapsed, found, strict=True)):
            return [replace(answer, hits=hits) for hits, answer in zip(collapsed, found, strict=True)]
        depth *= _WIDER


def collapse(snapshot: Snapshot, hits: Sequence[Hit]) -> list[Hit]:
    """Put each hit that repeats a better one into that one's `also`, and number what is left.

    A hit repeats another that has the same content, or that is a picture as near as a copy is, or a near one of the
    same burst; see `CopyDistance`. Films and documents repeat only those of the same content.
    """
    shown: list[Hit] = []
    also: list[list[Item]] = []
    by_content: dict[str, int] = {}
    pictures = _Pictures(snapshot, hits)
    for hit in hits:
        content = hit.item.content_hash
        repeated = by_content.get(content)
        if repeated is None and pictures.has(hit):
            repeated = pictures.find_or_add(hit, len(shown))
        if repeated is not None:
            also[repeated].append(hit.item)
            continue
        by_content[content] = len(shown)
        shown.append(hit)
        also.append([])
    return [replace(hit, rank=i, also=tuple(items)) for i, (hit, items) in enumerate(zip(shown, also, strict=True), 1)]


class _Pictures:
    """The pictures that are shown so far, by their vectors."""

    def __init__(self, snapshot: Snapshot, hits: Sequence[Hit]) -> None:
        rows = snapshot.rows_of_pictures([hit.item.id for hit in hits if hit.item.modality is Modality.IMAGE])
        vectors = snapshot.rows(Modality.IMAGE).gather(np.fromiter(rows.values(), np.int64, len(rows)))
        self._vectors = unit_rows(vectors)
        self._places = {item: place for place, item in enumerate(rows)}
        self._shown: list[tuple[int, Item]] = []
        self._copy = snapshot.copy_distance()

    def has(self, hit: Hit) -> bool:
        """Tell whether the item of a hit is one picture."""
        return hit.item.id in self._places

    def find_or_add(self, hit: Hit, number: int) -> int | None:
        """Return the number of the first hit that this one repeats; else show it under the given number."""
        own = self._vectors[self._places[hit.item.id]]
        scores = self._vectors[[self._places[item.id] for _, item in self._shown]] @ own
        for i in np.flatnonzero(scores >= self._copy.near).tolist():
            shown, item = self._shown[i]
            if scores[i] >= self._copy.same or _seconds_between(hit.item, item) <= BURST_SECONDS:
                return shown
        self._shown.append((number, hit.item))
        return None


def _seconds_between(one: Item, other: Item) -> float:
    times = [item.picture.taken_at for item in (one, other) if item.picture and item.picture.taken_at]
    return abs((times[0] - times[1]).total_seconds()) if len(times) == 2 else float("inf")
