"""Encoded batches to the library, in a thread of its own, while the next are encoded."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from clipsearch.encoders.base import Encoder
from clipsearch.paths import join, quote_path
from clipsearch.store.records import Encoded, Failed, FileRecord, Known, Outcome
from clipsearch.store.writer import Writer
from indexer.background import BackgroundBuild
from indexer.captioning import attach, encode_captions
from indexer.decode import Decoded, Decoder
from indexer.encode import EncodedBatch, captions_of, encode_batch
from indexer.report import IndexReport

_TEND_FILES = 1000
"""Files between two checks for a background build that is due; a check takes as long as committing a few files."""


class CommitStage:
    """Commits batches in order. Nothing else may change the library while it runs."""

    def __init__(
        self,
        writer: Writer,
        encoder: Encoder,
        decoder: Decoder,
        background: BackgroundBuild,
        report: IndexReport,
        should_stop: Callable[[], bool],
    ) -> None:
        """Prepare; background: is tended now and then. report: gets what was committed."""
        self._writer = writer
        self._encoder = encoder
        self._decoder = decoder
        self._background = background
        self._report = report
        self._should_stop = should_stop
        self._untended = _TEND_FILES

    def run(self, batches: Iterable[EncodedBatch], roots: Mapping[int, str]) -> Generator[EncodedBatch]:
        """Yield each batch once it is durable, in order. roots: id -> absolute path. Raises what `commit` raises.

        A batch is taken from `batches` while the one before is committed. One that was taken is committed, however
        the run ends.
        """
        pool = ThreadPoolExecutor(1, thread_name_prefix="commit")
        under_way: Future[EncodedBatch] | None = None
        try:
            for batch in batches:
                done = under_way and under_way.result()
                under_way = pool.submit(self._commit, batch, roots)
                if done:
                    yield done
            if under_way:
                yield under_way.result()
        finally:
            pool.shutdown()
            if under_way:
                under_way.result()  # a commit that failed is an error, however the run ends

    def _commit(self, batch: EncodedBatch, roots: Mapping[int, str]) -> EncodedBatch:
        """Commit outcomes; encode again what the writer cannot resolve, since its known content has gone."""
        outcomes = batch.outcomes
        while outcomes:
            committed = self._writer.commit(outcomes, roots)
            self._report.count(committed.counts)
            for outcome in outcomes:
                path = join(roots[outcome.record.root_id], quote_path(outcome.record.path))
                if isinstance(outcome, Failed) and outcome.is_live_photo:
                    self._report.live_photos += 1
                elif isinstance(outcome, Failed):
                    self._report.failed.append((path, outcome.reason))
                elif isinstance(outcome, Encoded) and outcome.picture and outcome.picture.note:
                    self._report.notes.append((path, outcome.picture.note))
            outcomes = self._encode_again(committed.unresolved) if committed.unresolved else []
        self._untended += batch.files
        if self._untended >= _TEND_FILES:
            self._untended = 0
            self._background.tend(self._writer)
        return batch

    def _encode_again(self, records: Sequence[FileRecord]) -> list[Outcome]:
        again = list(self._decoder(records, trust_known=False))
        fresh = [entry for entry in again if isinstance(entry, Decoded)]
        done: list[Outcome] = [entry for entry in again if isinstance(entry, Known | Failed)]
        if not fresh:
            return done
        encoded = encode_batch(self._encoder, fresh, self._should_stop, works=True)
        return attach([*encoded, *done], encode_captions(self._encoder, captions_of(fresh)))
