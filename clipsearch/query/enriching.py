"""Hits with what stands beside their items in the catalog: metadata, texts, the paths of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit


def enrich_hits(snapshot: Snapshot, hits: Sequence[Hit]) -> list[Hit]:
    """Give hits, and what repeats them, all that is known of their items; those with a damaged item are left out."""
    found = {item.id: item for item in snapshot.enrich([i for hit in hits for i in (hit.item, *(hit.also or ()))])}
    kept = [hit for hit in hits if hit.item.id in found]
    return [
        replace(
            hit,
            rank=rank,
            item=found[hit.item.id],
            also=None if hit.also is None else tuple(found[item.id] for item in hit.also if item.id in found),
        )
        for hit, rank in zip(kept, (hit.rank for hit in hits), strict=False)
    ]
