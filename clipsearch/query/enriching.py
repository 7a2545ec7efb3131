"""Hits with what stands beside their items in the catalog: metadata, texts, the paths of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Item


def enrich_hits(snapshot: Snapshot, answers: Sequence[Sequence[Hit]]) -> list[list[Hit]]:
    """Give the hits of several queries, and what repeats them, all that is known of their items.

    Hits with a damaged item are left out.
    """
    items = {item.id: item for hits in answers for hit in hits for item in (hit.item, *(hit.also or ()))}
    found = {item.id: item for item in snapshot.enrich([*items.values()])}
    return [_enriched(hits, found) for hits in answers]


def _enriched(hits: Sequence[Hit], found: Mapping[int, Item]) -> list[Hit]:
    kept = [hit for hit in hits if hit.item.id in found]
    return [_complete(hit, rank, found) for hit, rank in zip(kept, (hit.rank for hit in hits), strict=False)]


def _complete(hit: Hit, rank: int, found: Mapping[int, Item]) -> Hit:
    item = found[hit.item.id]
    if hit.also is None and item is hit.item and rank == hit.rank:
        return hit
    also = None if hit.also is None else tuple(found[item.id] for item in hit.also if item.id in found)
    return replace(hit, rank=rank, item=item, also=also)
