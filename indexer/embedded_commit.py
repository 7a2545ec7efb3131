"""Embedded batches to the library: what is new of them is committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from clipsearch.store.shards import ShardProgress

from clipsearch.store.additions import Addition, StoredRecord
from clipsearch.store.writer import Writer
from indexer.embedded import EmbeddedBatch, EmbeddedRecord, unpack
from indexer.record_task import renew


@dataclass(slots=True)
class EmbeddedCounts:
    """What commits of embedded records did. failed: ids and reasons."""

    added: int = 0
    replaced: int = 0
    unchanged: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


class EmbeddedCommit:
    """Commits embedded batches; only what is new, so that a batch may come twice."""

    def __init__(self, writer: Writer) -> None:
        """Prepare; records go to the root of those that are added from Python."""
        self._writer = writer
        self._root_id = writer.add_records_root()
        self.counts = EmbeddedCounts()

    def commit(self, batch: EmbeddedBatch, progress: ShardProgress | None = None) -> None:
        """Store what is new of a batch, in one transaction with how far its shard is then.

        Raises InvalidInputError for a batch that cannot be used, LibraryError when the disk refuses; nothing of the
        batch counts then.
        """
        unpacked = unpack(batch)
        records = {record.addition.name: record for record in unpacked.records}
        known = self._writer.known_additions(self._root_id, records)
        compared = [_compare(record, known.get(name)) for name, record in records.items()]
        changed = [addition for addition in compared if addition is not None]
        if changed or progress is not None:
            self._writer.commit_additions(self._root_id, changed, progress)
        self._count(compared, changed)
        self.counts.replaced += len(unpacked.records) - len(records)
        self.counts.failed += unpacked.failed

    def _count(self, compared: Sequence[Addition | None], changed: Sequence[Addition]) -> None:
        replaced = sum(addition.own is not None for addition in changed)
        self.counts.replaced += replaced
        self.counts.added += len(changed) - replaced
        self.counts.unchanged += len(compared) - len(changed)


def _compare(record: EmbeddedRecord, own: StoredRecord | None) -> Addition | None:
    """Return what of a record is to be stored; None if the library has it as it is."""
    made = record.addition
    if own is not None and made.kept is not None and not record.has_vector:
        # The digest is that of the picture, of which the library keeps the same already.
        has_kept = own.digest == made.columns.content_hash and own.kept == made.kept[1]
        made = replace(made, kept=None) if has_kept else made
    return renew(made, own, has_picture=record.has_picture)
