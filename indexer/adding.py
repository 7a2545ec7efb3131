"""Adding records from Python: what of them is new is decoded and encoded as files are, and committed batch by batch.

The caller's thread takes and checks the records of the next block while another thread commits the block before it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from clipsearch.config import Settings
from clipsearch.errors import ClipSearchError
from clipsearch.ranking import MIN_SAMPLE
from clipsearch.records import AddReport, Record
from clipsearch.store.additions import Addition
from clipsearch.store.library import Library
from clipsearch.store.writer import Writer
from clipsearch.types import Modality
from indexer.calibration import LoadEncoder
from indexer.record_stage import AddOptions, RecordStage
from indexer.report import Progress, Silent
from indexer.sources.records import BLOCK_RECORDS, Block, RecordSource
from indexer.spreads import refresh_spreads

logger = logging.getLogger("clipsearch")


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
    ) -> None:
        """Prepare; load_encoder: gives the library's encoder; None where nothing can be encoded with it."""
        self._library = library
        self._writer = writer
        self._settings = settings
        self._options = options or AddOptions()
        self._progress = progress or Silent()
        self._stage = RecordStage(settings, self._options, load_encoder, self._progress)
        self._root_id = writer.add_records_root()
        self._failed: list[tuple[str, str]] = []
        self._added = self._replaced = self._unchanged = 0

    def run(self, records: Iterable[Record | Mapping[str, object]]) -> AddReport:
        """Add records. What was committed before an error stays; one of the caller's own iterable goes through.

        Raises LibraryError when the disk refuses, EncoderError for an encoder that is unavailable or fails for all.
        """
        pin = self._library.encoder
        assert pin is not None, "a library is pinned before anything is added"
        started = time.monotonic()
        source = RecordSource(pin.dim, self._settings, self._options.batch_size or BLOCK_RECORDS)
        try:
            self._add_all(source.blocks(records))
        finally:
            self._stage.close()
        self._refresh()
        seconds = round(time.monotonic() - started, 3)
        return AddReport(self._added, self._replaced, self._unchanged, tuple(self._failed), seconds)

    def _add_all(self, blocks: Iterator[Block]) -> None:
        pool = ThreadPoolExecutor(1, thread_name_prefix="add")
        under_way: Future[int] | None = None
        try:
            for block in blocks:
                if under_way:
                    self._progress.advance(under_way.result())
                under_way = pool.submit(self._add, block)
            if under_way:
                self._progress.advance(under_way.result())
        finally:
            pool.shutdown()  # what was taken is committed, however the call ends
            if under_way:
                under_way.result()  # a commit that failed is an error, however the call ends

    def _add(self, block: Block) -> int:
        """Add the records of a block; return how many it had."""
        self._failed += block.failed
        self._replaced += block.superseded
        known = self._writer.known_additions(self._root_id, block.records)
        with closing(self._stage.run(block, known)) as done:
            for batch in done:
                self._failed += batch.failed
                self._commit(batch.additions)
        return block.taken

    def _commit(self, additions: Sequence[Addition | None]) -> None:
        """Commit what is new; None stands for a record that is unchanged."""
        changed = [addition for addition in additions if addition is not None]
        if changed:
            self._writer.commit_additions(self._root_id, changed)
        replaced = sum(addition.own is not None for addition in changed)
        self._replaced += replaced
        self._added += len(changed) - replaced
        self._unchanged += len(additions) - len(changed)

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
