"""The captions of a library's pictures: queries that its own users might ask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, func, select

from clipsearch.store.schema import FIRST_RECOGNISED_PART, items, vectors
from clipsearch.store.sql_values import numbers
from clipsearch.types import Modality


def caption_rows(connection: Connection, count: int) -> NDArray[np.int64]:
    """Return up to `count` text rows of items that are pictures, spread over the library: int64, ascending."""
    of_pictures = (
        select(vectors.c.row)
        .join(items, items.c.id == vectors.c.item_id)
        .where(vectors.c.modality == Modality.TEXT, items.c.modality == Modality.IMAGE, ~items.c.deleted)
        .where(vectors.c.part < FIRST_RECOGNISED_PART)
    )
    total = connection.execute(
        select(func.count()).select_from(vectors).where(vectors.c.modality == Modality.TEXT)
    ).scalar_one()
    spread = of_pictures.where(vectors.c.row % max(1, total // max(1, count)) == 0).order_by(vectors.c.row)
    return numbers(connection.execute(spread.limit(count)).scalars())


def captions(connection: Connection, count: int) -> list[str]:
    """Return up to `count` captions of pictures, spread over the library."""
    total = connection.execute(select(func.max(items.c.id))).scalar_one() or 0
    spread = select(items.c.caption).where(
        items.c.modality == Modality.IMAGE,
        items.c.caption.is_not(None),
        items.c.caption != "",
        ~items.c.deleted,
        items.c.id % max(1, total // max(1, 4 * count)) == 0,
    )
    found = list(connection.execute(spread.order_by(items.c.id)).scalars())
    return found[:: max(1, len(found) // max(1, count))][:count]
