"""Embedded batches to the library: what is new of them is committed, together with how far their shard is."""

from __future__ import annotations

from clipsearch.store.shards import Mark, Reached, State
from clipsearch.store.writer import Writer
from indexer.embedded import EmbeddedBatch, unpack
from indexer.record_task import renew
from indexer.report import MAX_FAILED, IndexReport


class EmbeddedCommit:
    """Commits embedded batches of one data set. A batch may come twice: only what is new of it is stored."""

    def __init__(self, writer: Writer, root_id: int, report: IndexReport) -> None:
        """Prepare; root_id: of the data set. report: gets what was committed."""
        self._writer = writer
        self._root_id = root_id
        self._report = report

    def commit(self, batch: EmbeddedBatch, state: State) -> int:
        """Store what is new of a batch of a shard; return how many rows it had.

        Raises InvalidInputError for a batch that cannot be used, LibraryError when the disk refuses; nothing of the
        batch counts then.
        """
        unpacked = unpack(batch)
        records = {record.addition.name: record for record in unpacked.records}
        failed = [name for name, _ in unpacked.failed]
        known = self._writer.known_additions(self._root_id, [*records, *failed])
        compared = {
            name: renew(record.addition, known.get(name), has_picture=record.has_picture)
            for name, record in records.items()
        }
        changed = [addition for addition in compared.values() if addition is not None]
        same = [known[name].item_id for name, addition in compared.items() if addition is None]
        mark = Mark(state, batch.stop, len(unpacked.failed))
        # What the library has of a record that fails now stays, as its row is there.
        kept = [*same, *(known[name].item_id for name in failed if name in known and name not in records)]
        reached = Reached([mark], dict.fromkeys(records, state), [(item_id, state) for item_id in kept])
        self._writer.commit_additions(self._root_id, changed, reached)
        replaced = sum(addition.own is not None for addition in changed)
        self._report.added += len(changed) - replaced
        self._report.changed += replaced + len(unpacked.records) - len(records)
        self._report.unchanged += len(same)
        self._report.encoded += sum(bool(addition.rows) for addition in changed)
        self._report.failed_rows += len(unpacked.failed)
        self._report.failed += unpacked.failed[: max(0, MAX_FAILED - len(self._report.failed))]
        return len(batch.lines)

    def end(self, state: State, rows: int, *, broken: bool = False) -> None:
        """Note that a shard is done, whose rows end before a number. broken: the rest of it cannot be read."""
        mark = Mark(state, rows, done=True, broken=broken)
        self._writer.commit_additions(self._root_id, (), Reached([mark]))
