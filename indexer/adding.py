"""Adding records from Python: what of them is new is decoded and encoded as files are, and committed batch by batch.

The caller's thread takes and checks the records of the next block while another thread commits the block before it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from clipsearch.config import Settings
from clipsearch.errors import ClipSearchError
from clipsearch.ranking import MIN_SAMPLE
from clipsearch.records import AddReport, Record
from clipsearch.store.library import Library
from clipsearch.store.shards import Reached
from clipsearch.store.writer import Writer
from clipsearch.types import Modality
from indexer.calibration import LoadEncoder
from indexer.record_stage import AddOptions, RecordBatch, RecordStage, group_commits
from indexer.report import MAX_FAILED, Progress, Silent
from indexer.sources.base import BadRow
from indexer.sources.records import BLOCK_RECORDS, Block, RecordSource
from indexer.spreads import refresh_spreads

logger = logging.getLogger("clipsearch")


class Cut(Protocol):
    """Where the records of one block stand in what they come from; used by one thread at a time."""

    def reached(self, before: str | None, failed: Iterable[str]) -> Reached:
        """Return how far all is read whose records stand before one, or all of the block for None.

        failed: the records that failed since the last time.
        """


class Journal(Protocol):
    """What keeps how far the source of records is read."""

    def cut(self, taken: int) -> Cut:
        """Return the position after the next block, which has `taken` records; called in the order of the blocks."""


class Adding:
    """One call that adds records. Its counts are of what was committed so far."""

    def __init__(
        self,
        library: Library,
        writer: Writer,
        settings: Settings,
        options: AddOptions | None = None,
        *,
        load_encoder: LoadEncoder | None,
        progress: Progress | None = None,
        root_id: int | None = None,
        journal: Journal | None = None,
    ) -> None:
        """Prepare; load_encoder: gives the library's encoder; None where nothing can be encoded with it.

        root_id: what the records belong to, those from Python unless it is given. journal: what is kept with each
        commit of how far their source is read.
        """
        self._library = library
        self._writer = writer
        self._settings = settings
        self._options = options or AddOptions()
        self._progress = progress or Silent()
        self._stage = RecordStage(settings, self._options, load_encoder, self._progress)
        self._root_id = writer.add_records_root() if root_id is None else root_id
        self._journal = journal
        self._failed: list[tuple[str, str]] = []
        self._added = self._replaced = self._unchanged = 0
        self.unfetched = self.encoded = 0

    def run(self, records: Iterable[Record | Mapping[str, object]]) -> AddReport:
        """Add records. What was committed before an error stays; one of the caller's own iterable goes through.

        Raises LibraryError when the disk refuses, EncoderError for an encoder that is unavailable or fails for all.
        """
        report = self.take(records)
        started = time.monotonic()
        self._refresh()
        return replace(report, seconds=round(report.seconds + time.monotonic() - started, 3))

    def take(self, records: Iterable[Record | Mapping[str, object] | BadRow]) -> AddReport:
        """Add records, as `run` does, and leave it to the caller to measure how queries score then."""
        pin = self._library.encoder
        assert pin is not None, "a library is pinned before anything is added"
        started = time.monotonic()
        size = self._options.batch_size or BLOCK_RECORDS
        source = RecordSource(pin.dim, self._settings, size, fetch_urls=self._options.fetch_urls)
        try:
            self._add_all(source.blocks(records))
        finally:
            self._stage.close()
        self.unfetched = source.unfetched
        seconds = round(time.monotonic() - started, 3)
        return AddReport(self._added, self._replaced, self._unchanged, tuple(self._failed), seconds)

    def _add_all(self, blocks: Iterator[Block]) -> None:
        pool = ThreadPoolExecutor(1, thread_name_prefix="add")
        under_way: Future[None] | None = None
        try:
            for block in blocks:
                if under_way:
                    under_way.result()
                cut = self._journal.cut(block.taken) if self._journal else None
                under_way = pool.submit(self._add, block, cut)
        finally:
            pool.shutdown()  # what was taken is committed, however the call ends
            if under_way:
                under_way.result()  # a commit that failed is an error, however the call ends

    def _add(self, block: Block, cut: Cut | None) -> None:
        """Add the records of a block."""
        self._fail(block.failed)
        self._replaced += block.superseded
        failed = [name for name, _ in block.failed]
        left = block.taken
        known = self._writer.known_additions(self._root_id, block.records)
        with closing(self._stage.run(block, known)) as done:
            for batch in done if self._options.batch_size else group_commits(done):
                self._fail(batch.failed)
                failed += [name for name, _ in batch.failed]
                self._commit(batch, cut.reached(batch.before, failed) if cut else None)
                count = min(left, len(batch.done) + len(batch.failed))
                self._progress.advance(count)
                left -= count
        if left:
            self._progress.advance(left)

    def _fail(self, failed: Sequence[tuple[str, str]]) -> None:
        """Note what failed; of a data set only as much as a report shows."""
        most = MAX_FAILED if self._journal else len(failed) + len(self._failed)
        self._failed += failed[: max(0, most - len(self._failed))]

    def _commit(self, batch: RecordBatch, reached: Reached | None) -> None:
        """Commit what is new of a batch. reached: what is stored with it."""
        changed = [addition for addition in batch.additions if addition is not None]
        if reached is not None:
            same = [task for task, each in zip(batch.done, batch.additions, strict=True) if each is None]
            same += batch.kept  # of a record that fails now stays what the library has, as its row is there
            reached.unchanged = [(task.own.item_id, reached.owners[task.checked.name]) for task in same if task.own]
        if changed or reached is not None:
            self._writer.commit_additions(self._root_id, changed, reached)
        self.encoded += sum(bool(addition.rows) for addition in changed)
        replaced = sum(addition.own is not None for addition in changed)
        self._replaced += replaced
        self._added += len(changed) - replaced
        self._unchanged += len(batch.additions) - len(changed)

    def _refresh(self) -> None:
        """Measure how queries score, where that is due; what was committed stands whether or not that succeeds.

        The index is not touched: its rows are scanned exactly until it is built, which may take minutes.
        """
        encoder = self._stage.encoder
        try:
            with self._library.read() as snapshot:
                is_small = max(map(snapshot.live_count, Modality)) < MIN_SAMPLE
            if encoder is not None and not is_small:
                refresh_spreads(self._library, self._writer, lambda: encoder)
        except ClipSearchError as error:
            logger.warning("%s", error)
