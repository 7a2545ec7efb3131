"""Writing the second set: begun, filled batch by batch, discarded. Nothing that a reader of the first set sees changes.

As for the first set, the vectors of a batch are durable before one transaction makes them count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from clipsearch.errors import EncoderMismatchError, InvalidInputError
from clipsearch.store import catalog, generations, row_checks, second_items, second_set
from clipsearch.store.catalog import Generation
from clipsearch.store.database import transaction
from clipsearch.store.inserts import insert_many
from clipsearch.store.resolve import Part
from clipsearch.store.revision import REVISION_KEY
from clipsearch.store.row_places import stack_rows, vector_columns
from clipsearch.store.rows import advance, append
from clipsearch.store.schema import second_generations, second_segments, second_settings, second_vectors
from clipsearch.store.schema import second_items as items_table
from clipsearch.store.second_set import DISCARD, ROLE_KEY, Role
from clipsearch.store.sql_values import chunks, listed
from clipsearch.store.vectors import VectorStore
from clipsearch.store.writer import Writer
from clipsearch.types import EncoderPin, Modality

_UPSERT = upsert(second_settings)
_SET = _UPSERT.on_conflict_do_update(index_elements=["key"], set_={"value": _UPSERT.excluded.value})


@dataclass(frozen=True, slots=True)
class SecondItem:
    """The vectors of an item by the encoder of the second set.

    stamp: of what they were made from. parts: those of one modality belong to the rows, float16 (parts, dim), of that
    modality, in order. reason: why some vectors could not be made; None where all were.
    """

    id: int
    stamp: int
    parts: Sequence[Part] = ()
    rows: Mapping[Modality, NDArray[np.float16]] = field(default_factory=dict)
    reason: str | None = None


class SecondWriter:
    """Changes the second set of a library, under the lock of its writer."""

    def __init__(self, writer: Writer) -> None:
        self._connection, store = writer.storage
        self._folder = store.folder

    @property
    def connection(self) -> Connection:
        """The connection of the writer."""
        return self._connection

    def begin(self, pin: EncoderPin) -> None:
        """Begin a second set for an encoder, unless there is one. Raises InvalidInputError if it is of another."""
        with transaction(self._connection) as connection:
            present = second_set.get_pin(connection)
            if present is None:
                second_set.drop(connection)
                for key, value in (("encoder", pin.name), ("fingerprint", pin.fingerprint), ("dim", str(pin.dim))):
                    set_setting(connection, key, value)
                set_setting(connection, ROLE_KEY, Role.PREPARED)
                set_setting(connection, row_checks.COMPLETE_KEY, "1")
                _advance_revision(connection)
            elif present != pin:
                raise other_set(present, second_set.get_role(connection), pin.name)

    def require(self, pin: EncoderPin) -> None:
        """Raise EncoderMismatchError unless the second set is of an encoder."""
        with transaction(self._connection) as connection:
            _require(connection, pin)

    def commit(self, pin: EncoderPin, batch: Sequence[SecondItem]) -> int:
        """Store the vectors of items; when it returns they are durable. Return how many items that were.

        An item that was deleted or changed since its stamp is passed over. Raises EncoderMismatchError if the second
        set is not of that encoder, LibraryError when the disk refuses; nothing of the batch counts then.
        """
        with transaction(self._connection) as connection:
            _require(connection, pin)
            now = second_items.stamps(connection, [item.id for item in batch])
        current = [item for item in batch if now.get(item.id) == item.stamp]
        store = VectorStore(self._folder, pin.dim)
        rows = stack_rows(item.rows for item in current)
        appended = append(self._connection, store, rows, second_set.get_segments)
        with transaction(self._connection) as connection:
            advance(connection, appended, second_segments)
            second_set.forget(connection, [item.id for item in current])
            places: list[dict[str, Any]] = []
            for item in current:
                first_rows = {modality: appended.take(modality, len(block)) for modality, block in item.rows.items()}
                places += vector_columns(item.id, item.parts, item.rows, first_rows)
            insert_many(connection, second_vectors, places)
            known = [{"item_id": item.id, "stamp": item.stamp, "reason": item.reason} for item in current]
            insert_many(connection, items_table, known)
            _advance_revision(connection)
        return len(current)

    def set_setting(self, key: str, value: str | None) -> None:
        """Store a setting that belongs to the encoder of the second set; None removes it."""
        with transaction(self._connection) as connection:
            set_setting(connection, key, value)
            _advance_revision(connection)

    def activate(self, modality: Modality, generation: Generation | None) -> None:
        """Give the second set an approximate index, whose files are durable; None for exact search."""
        with transaction(self._connection) as connection:
            connection.execute(delete(second_generations).where(second_generations.c.modality == modality))
            if generation is not None:
                connection.execute(insert(second_generations).values(**generations.columns_of(generation)))
            _advance_revision(connection)

    def forget_rows(self, rows: Mapping[Modality, NDArray[np.int64]]) -> None:
        """Take the items of some rows out of the second set, so that they are encoded again."""
        with transaction(self._connection) as connection:
            for modality, numbers in rows.items():
                chosen = listed(numbers.tolist())
                owners = select(second_vectors.c.item_id).where(second_vectors.c.modality == modality)
                found = connection.execute(owners.where(second_vectors.c.row.in_(chosen))).scalars().all()
                for chunk in chunks({*found}):
                    second_set.forget(connection, chunk)
            _advance_revision(connection)

    def discard(self) -> None:
        """Delete the second set, and then its files."""
        with transaction(self._connection) as connection:
            first = {segment.name for segment in catalog.get_segments(connection)}
            names = second_set.segment_names(connection) - first
            second_set.drop(connection)
        VectorStore(self._folder, 0).unlink(names)


def set_setting(connection: Connection, key: str, value: str | None) -> None:
    """Store a setting of the second set; None removes it."""
    if value is None:
        connection.execute(delete(second_settings).where(second_settings.c.key == key))
    else:
        connection.execute(_SET, {"key": key, "value": str(value)})


def other_set(present: EncoderPin, role: Role, wanted: str) -> InvalidInputError:
    """Build the error for a second set that stands in the way of another."""
    what = "being prepared" if role is Role.PREPARED else "kept from before"
    return InvalidInputError(
        f"The library holds a second set of vectors, of {present.name}, which is {what}; there is no room for one of "
        f"{wanted}. {DISCARD}"
    )


def _require(connection: Connection, pin: EncoderPin) -> None:
    present = second_set.get_pin(connection)
    if present != pin:
        now = f"it is of {present.name}" if present else "there is none"
        raise EncoderMismatchError(
            f"The second set of the library is not of {pin.name} any more: {now}. Another process has changed that. "
            "See what there is: clipsearch status"
        )


def _advance_revision(connection: Connection) -> None:
    """Raise the revision of the second set, so that its readers drop what they keep of the old one."""
    before = second_set.get_setting(connection, REVISION_KEY) or "0"
    set_setting(connection, REVISION_KEY, str(int(before) + 1))
