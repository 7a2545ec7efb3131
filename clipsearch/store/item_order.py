"""Items in other orders than newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select

from clipsearch.metadata import RATING, parse_metadata
from clipsearch.sorting import sort_key
from clipsearch.store.catalog import newest, path_of
from clipsearch.store.schema import item_metadata, items
from clipsearch.store.sql_values import listed


def list_sorted(
    connection: Connection,
    allowed: ColumnElement[bool],
    sort: str,
    root_paths: Mapping[int, str],
    part: slice,
) -> tuple[Sequence[Row[Any]], int]:
    """Return a part of the live items that meet a condition, sorted as `sorting.sort_items` does, and how many do.

    The names are compared here, since no two databases sort texts alike.
    """
    query = select(items.c.id, items.c.root_id, items.c.path, items.c.size).where(~items.c.deleted, allowed)
    known = connection.execute(query.order_by(*newest())).all()
    ratings = _ratings(connection, allowed) if sort == "rating" else {}
    keys = [sort_key(sort, path_of(root_paths, row.root_id, row.path), row.size, ratings.get(row.id)) for row in known]
    order = sorted(range(len(known)), key=keys.__getitem__)
    chosen = [known[place].id for place in order[part]]
    rows = {row.id: row for row in connection.execute(select(items).where(items.c.id.in_(listed(chosen))))}
    return [rows[item_id] for item_id in chosen if item_id in rows], len(known)


def _ratings(connection: Connection, allowed: ColumnElement[bool]) -> dict[int, object]:
    """Return the ratings of the items that meet a condition and have one that can be read."""
    has = select(items.c.id).where(~items.c.deleted, allowed)
    query = select(item_metadata.c.item_id, item_metadata.c.data).where(
        item_metadata.c.item_id.in_(has), item_metadata.c.data.contains(f'"{RATING}"')
    )
    found: dict[int, object] = {}
    for item_id, data in connection.execute(query):
        try:
            found[item_id] = parse_metadata(data).get(RATING)
        except ValueError:  # damaged, as whoever shows the item reports
            continue
    return found
