"""Counts of the items that a filter allows, by what they have in common: month, camera, folder, tag, kind."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select

from clipsearch.paths import unquote_path
from clipsearch.store.records import Root, RootKind
from clipsearch.store.schema import items
from clipsearch.store.tags import count_tags_of
from clipsearch.types import Facets, Modality

Counts = tuple[tuple[str, int], ...]


def count_facets(connection: Connection, allowed: ColumnElement[bool], roots: Sequence[Root], limit: int) -> Facets:
    """Count the live items that meet a condition.

    roots: all roots of the library. limit: how many cameras, folders and tags are returned at most.
    """
    shown = (~items.c.deleted, allowed)
    count = func.count()
    kinds = connection.execute(select(items.c.modality, count).where(*shown).group_by(items.c.modality)).all()
    month = func.substr(items.c.taken_at, 1, 7)
    months = connection.execute(select(month, count).where(*shown).group_by(month)).all()
    cameras = connection.execute(select(items.c.camera, count).where(*shown).group_by(items.c.camera)).all()
    return Facets(
        total=sum(number for _, number in kinds),
        months=tuple(sorted(_named(months), reverse=True)),
        cameras=_frequent(_named(cameras), limit),
        folders=_frequent(_folders(connection, shown, roots), limit),
        tags=_frequent(count_tags_of(connection, select(items.c.id).where(*shown)), limit),
        modalities=_frequent([pair for pair in _named(kinds) if pair[0] in {*Modality}], limit),
    )


def _folders(
    connection: Connection, shown: Sequence[ColumnElement[bool]], roots: Sequence[Root]
) -> list[tuple[str, int]]:
    """Count the items below each folder that is walked, and below each folder in it."""
    # What is left of a path when all its signs but "/" are cut off its end: its folder, with "/".
    folder = func.rtrim(items.c.path, func.replace(items.c.path, "/", ""))
    query = select(items.c.root_id, folder, func.count()).where(*shown).group_by(items.c.root_id, folder)
    walked = {root.id: root.path for root in roots if root.kind is RootKind.FOLDER}
    counts: Counter[str] = Counter()
    for root_id, stored, number in connection.execute(query):
        if root_id not in walked or not isinstance(stored, str):
            continue
        root, below = walked[root_id], unquote_path(stored).strip("/")
        counts[root] += number
        parts = below.split("/") if below else []
        for depth in range(1, len(parts) + 1):
            counts[os.path.join(root, *parts[:depth])] += number
    return list(counts.items())


def _named(rows: Iterable[Row[Any]]) -> list[tuple[str, int]]:
    """Return the rows that name a value; anything but a text is of a damaged catalog."""
    return [(name, number) for name, number in map(tuple, rows) if isinstance(name, str) and name]


def _frequent(counts: Iterable[tuple[str, int]], limit: int) -> Counts:
    return tuple(sorted(counts, key=lambda pair: (-pair[1], pair[0]))[:limit])
