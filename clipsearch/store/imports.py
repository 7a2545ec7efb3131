"""Collections: records that came with their vectors. What a block of them changes.

All that is looked up goes by whole blocks, never by the record: a collection may have many millions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from clipsearch.metadata import NONE
from clipsearch.paths import without_mark
from clipsearch.store.additions import Addition, StoredRecord, find_known
from clipsearch.store.records import CollectionRecord, ImportCounts, RecordBlock
from clipsearch.store.resolve import ItemColumns, Part


@dataclass(frozen=True, slots=True)
class Change:
    """What a block changes: the records to store, and the counts of all."""

    additions: Sequence[Addition]
    counts: ImportCounts


def compare(connection: Connection, root_id: int, block: RecordBlock) -> Change:
    """Find out which records of a block are new or have changed."""
    digests = _digests(block)
    known = find_known(connection, root_id, [record.name for record in block.records])
    renamed = _named_before(connection, root_id, {record.name for record in block.records} - known.keys())
    parts = tuple(Part(modality, 0) for modality in block.vectors)  # the passage of a text row is the caption
    modality = str(next(iter(block.vectors)))
    additions = []
    for i, (record, digest) in enumerate(zip(block.records, digests, strict=True)):
        own = known.get(record.name) or renamed.get(record.name)
        if own is not None and own.digest == digest and record.name in known:
            continue
        rows = {each: vectors[i : i + 1] for each, vectors in block.vectors.items()}
        columns = _columns(record, digest, modality)
        metadata = None if record.metadata == NONE else record.metadata
        addition = Addition(record.name, columns, record.caption, metadata=metadata, own=own, parts=parts, rows=rows)
        additions.append(addition)
    replaced = sum(addition.own is not None for addition in additions)
    counts = ImportCounts(len(additions) - replaced, len(block.records) - len(additions), replaced)
    return Change(additions, counts)


def _named_before(connection: Connection, root_id: int, names: set[str]) -> dict[str, StoredRecord]:
    """Return what the library has of records with ids from versions that did not tell these from paths."""
    ids = {without_mark(name): name for name in names if without_mark(name) != name}
    return {ids[name]: own for name, own in find_known(connection, root_id, ids).items()} if ids else {}


def _digests(block: RecordBlock) -> list[str]:
    """Digest each record with its vectors: BLAKE2b-128, hexadecimal."""
    said = (_said(record).encode("utf-8", "surrogatepass") for record in block.records)
    digests = [hashlib.blake2b(data, digest_size=16) for data in said]
    for modality, rows in block.vectors.items():
        for digest, row in zip(digests, rows, strict=True):
            digest.update(modality.encode() + row.tobytes())
    return [digest.hexdigest() for digest in digests]


def _said(record: CollectionRecord) -> str:
    """Return all that a record says; without metadata, as the versions before metadata did."""
    said = repr(record)
    return said if record.metadata != NONE else said.removesuffix(f", metadata={NONE!r})") + ")"


def _columns(record: CollectionRecord, digest: str, modality: str) -> ItemColumns:
    taken_at = record.taken_at.isoformat() if record.taken_at else None
    return ItemColumns(modality, digest, record.width, record.height, taken_at)
