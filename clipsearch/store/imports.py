"""Collections: records that came with their vectors. What a block of them changes, and the storing of it.

All that is looked up or written goes by chunks and whole blocks, never by the record: a collection may have many
millions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, bindparam, delete, select, update

from clipsearch.paths import quote_path
from clipsearch.store import full_text, tags
from clipsearch.store.checksums import row_checksum
from clipsearch.store.inserts import insert_items, insert_many, next_item_id
from clipsearch.store.records import ImportCounts, Record, RecordBlock
from clipsearch.store.rows import Appended, hide
from clipsearch.store.schema import items, vectors
from clipsearch.store.sql_values import chunks
from clipsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Change:
    """What a block changes. chosen: which of its records are stored, ascending; known: the item of each that has one.

    values: columns of the item, one dict for each of `chosen`.
    """

    block: RecordBlock
    chosen: NDArray[np.int64]
    known: dict[int, int]
    values: list[dict[str, Any]]
    counts: ImportCounts

    def rows(self) -> dict[Modality, NDArray[np.float16]]:
        """Return the rows to append, by modality: float16 (chosen, dim)."""
        return {modality: rows[self.chosen] for modality, rows in self.block.vectors.items()}


def compare(connection: Connection, root_id: int, block: RecordBlock) -> Change:
    """Find out which records of a block are new or have changed."""
    digests = _digests(block)
    paths = [quote_path(record.name) for record in block.records]
    present = _look_up(connection, root_id, paths)
    first = next_item_id(connection)
    chosen, known, values = [], {}, []
    for i, (record, path, digest) in enumerate(zip(block.records, paths, digests, strict=True)):
        item_id, before = present.get(path, (None, ""))
        if before.endswith(digest):
            continue
        chosen.append(i)
        values.append(_columns(root_id, record, path, _numbered(first + i, digest), next(iter(block.vectors))))
        if item_id is not None:
            known[i] = item_id
    counts = ImportCounts(len(chosen) - len(known), len(paths) - len(chosen), len(known))
    return Change(block, np.array(chosen, np.int64), known, values, counts)


def store(connection: Connection, change: Change, appended: Appended) -> None:
    """Write the items of a change and the places of their rows, inside the transaction of a commit."""
    ids = _store_items(connection, change)
    for modality, rows in change.rows().items():
        first = appended.take(modality, len(ids))
        places = [
            {
                "modality": modality,
                "row": first + i,
                "item_id": item_id,
                "part": 0,
                "checksum": row_checksum(row.data, modality, item_id, 0),
            }
            for i, (item_id, row) in enumerate(zip(ids, rows, strict=True))
        ]
        insert_many(connection, vectors, places)


def _store_items(connection: Connection, change: Change) -> list[int]:
    """Return the id of the item of each chosen record, in order."""
    replaced = [change.known.get(int(i)) for i in change.chosen]
    _clear(connection, list(change.known.values()))
    old = [{**row, "known": item} for item, row in zip(replaced, change.values, strict=True) if item is not None]
    if old:
        connection.execute(update(items).where(items.c.id == bindparam("known")), old)
    new = [row for item, row in zip(replaced, change.values, strict=True) if item is None]
    given = iter(insert_items(connection, new))
    ids = [next(given) if item is None else item for item in replaced]
    full_text.add(connection, ((item, row["caption"]) for item, row in zip(ids, change.values, strict=True)))
    return ids


def _clear(connection: Connection, ids: Sequence[int]) -> None:
    """Hide the rows that items have, and take them from the items, with the labels that they led to."""
    for chunk in chunks(ids):
        hide(connection, chunk)
        full_text.remove(connection, chunk)
        tags.remove(connection, chunk, tags.TagSource.LABEL)
        connection.execute(delete(vectors).where(vectors.c.item_id.in_(chunk)))


def _look_up(connection: Connection, root_id: int, paths: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return the id and the content hash of the items at these paths."""
    present: dict[str, tuple[int, str]] = {}
    query = select(items.c.path, items.c.id, items.c.content_hash).where(items.c.root_id == root_id)
    for chunk in chunks(paths):
        for path, item_id, content_hash in connection.execute(query.where(items.c.path.in_(chunk))):
            present[path] = (item_id, content_hash)
    return present


def _digests(block: RecordBlock) -> list[str]:
    """Digest each record with its vectors: BLAKE2b-128, hexadecimal."""
    said = (repr(record).encode("utf-8", "surrogatepass") for record in block.records)
    digests = [hashlib.blake2b(data, digest_size=16) for data in said]
    for modality, rows in block.vectors.items():
        for digest, row in zip(digests, rows, strict=True):
            digest.update(modality.encode() + row.tobytes())
    return [digest.hexdigest() for digest in digests]


def _numbered(number: int, digest: str) -> str:
    """Return a content hash that rises with the items: digests alone would scatter over an index of many millions."""
    return f"{number:08x}{digest}"


def _columns(root_id: int, record: Record, path: str, content_hash: str, modality: Modality) -> dict[str, Any]:
    return {
        "root_id": root_id,
        "path": path,
        "modality": modality,
        "size": 0,
        "mtime_ns": 0,
        "content_hash": content_hash,
        "width": record.width,
        "height": record.height,
        "taken_at": record.taken_at and record.taken_at.isoformat(),
        "caption": record.caption,
        "deleted": False,
    }
