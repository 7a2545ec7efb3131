"""The second set: the vectors of another encoder, which a library holds beside those that answer.

It is being prepared, until it takes the place of the first set, or it is kept, so that it can take that place again. It
has tables of its own, of the same columns; its segments and indexes lie beside those of the first set, under names
that no other file has. Items, with their tags and all that is said of them, are there once, for both.

An item belongs to the second set as long as the stamp that `second_items` has of it is that of what it holds now
(clipsearch.store.second_items). So new files, changed ones and a process that died are all the same: items to encode.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select

from clipsearch.errors import StoreCorruptError
from clipsearch.store.catalog import Generation, to_generation, to_segment
from clipsearch.store.checksums import require_sound
from clipsearch.store.names import is_segment_name
from clipsearch.store.schema import (
    SECOND,
    items,
    second_generations,
    second_items,
    second_segments,
    second_settings,
    second_tombstones,
    second_vectors,
)
from clipsearch.store.vectors import ROW_DTYPE, Segment
from clipsearch.types import EncoderPin, Modality

ROLE_KEY = "role"


class Role(StrEnum):
    """Whether the second set has not answered yet, or answered before."""

    PREPARED = "prepared"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class SecondSet:
    """What the second set of a library is.

    items: how many live items have all their vectors in it; missing: how many lack some that cannot be made; total: how
    many live items there are. vectors: rows. bytes: of these on disk.
    """

    encoder: EncoderPin
    role: Role
    items: int
    missing: int
    total: int
    vectors: int
    bytes: int

    def to_payload(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        pin = self.encoder
        return {
            "encoder": {"name": pin.name, "fingerprint": pin.fingerprint, "dim": pin.dim},
            "role": str(self.role),
            "items": self.items,
            "missing": self.missing,
            "total": self.total,
            "vectors": self.vectors,
            "bytes": self.bytes,
        }


def get_setting(connection: Connection, key: str) -> str | None:
    """Return a setting of the second set; None if it is not set. Raises StoreCorruptError if it is damaged."""
    row = connection.execute(select(second_settings).where(second_settings.c.key == key)).one_or_none()
    if row is None:
        return None
    require_sound(row, second_settings)
    return str(row.value)


def get_pin(connection: Connection) -> EncoderPin | None:
    """Return the encoder of the second set; None where there is no such set. Raises StoreCorruptError."""
    name = get_setting(connection, "encoder")
    if name is None:
        return None
    dim = get_setting(connection, "dim") or ""
    if not dim.isdigit():
        raise StoreCorruptError(f"The catalog says that a vector of the second set has {dim!r} dimensions. {DISCARD}")
    return EncoderPin(name, get_setting(connection, "fingerprint") or "", int(dim))


DISCARD = "Discard that set: clipsearch reindex --discard"
"""What helps against a second set that cannot be used."""


def get_role(connection: Connection) -> Role:
    """Return what the second set is there for."""
    return Role.KEPT if get_setting(connection, ROLE_KEY) == Role.KEPT else Role.PREPARED


def get_segments(connection: Connection, modality: Modality | None = None) -> list[Segment]:
    """List the segments of the second set in order of their rows."""
    query = select(second_segments).order_by(second_segments.c.modality, second_segments.c.first_row)
    found = [to_segment(row) for row in connection.execute(query)]
    return [segment for segment in found if modality in (None, segment.modality)]


def segment_names(connection: Connection) -> set[str]:
    """Return the names of the files that hold its rows, also where the catalog is damaged."""
    found = connection.execute(select(second_segments.c.name)).scalars()
    return {name for name in found if isinstance(name, str) and is_segment_name(name)}


def get_generation(connection: Connection, modality: Modality) -> Generation | None:
    """Return the approximate index of the second set for a modality; None for exact search."""
    query = select(second_generations).where(second_generations.c.modality == modality)
    row = connection.execute(query).one_or_none()
    return None if row is None else to_generation(row, modality)


def summarise(connection: Connection) -> SecondSet | None:
    """Describe the second set and its progress; None if the library has only one set."""
    pin = get_pin(connection)
    if pin is None:
        return None
    total: int = connection.execute(select(func.count()).select_from(items).where(~items.c.deleted)).scalar_one()
    live = select(func.count(), func.count(second_items.c.reason)).select_from(
        second_items.join(items, items.c.id == second_items.c.item_id)
    )
    known, missing = connection.execute(live.where(~items.c.deleted)).one()
    rows = sum(segment.committed_rows for segment in get_segments(connection))
    size = rows * pin.dim * ROW_DTYPE.itemsize
    return SecondSet(pin, get_role(connection), known - missing, missing, total, rows, size)


def hide(connection: Connection, ids: Select[tuple[int]] | Sequence[int]) -> None:
    """Add the rows of items to the tombstones of the second set."""
    rows = select(second_vectors.c.modality, second_vectors.c.row).where(second_vectors.c.item_id.in_(ids))
    into = insert(second_tombstones).prefix_with("OR IGNORE")
    connection.execute(into.from_select(["modality", "row"], rows))


def forget(connection: Connection, ids: Select[tuple[int]] | Sequence[int]) -> None:
    """Take items out of the second set: they are about to be erased, or encoded again."""
    hide(connection, ids)
    for table in (second_vectors, second_items):
        connection.execute(delete(table).where(table.c.item_id.in_(ids)))


def drop(connection: Connection) -> None:
    """Empty the tables of the second set; the next writer deletes its files."""
    for table in SECOND:
        connection.execute(delete(table))
