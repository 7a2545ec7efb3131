"""The methods of the engine that change a library, by the same pipeline as the command line."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Unpack

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, fitting
from clipsearch.errors import InvalidInputError, LibraryError, LibraryLockedError
from clipsearch.query.indexing import IndexKeywords, Paths, read_options, read_paths
from clipsearch.records import AddReport, Record
from clipsearch.store.library import Library
from clipsearch.types import EncoderPin, Modality

if TYPE_CHECKING:
    from clipsearch.store.writer import Writer
    from indexer.build import Built
    from indexer.queries import Given as Queries
    from indexer.reindex import ReindexReport
    from indexer.report import IndexReport

logger = logging.getLogger("clipsearch")

TIMEOUT = 30.0
"""Seconds that a call waits for another writer."""


class EngineWrites:
    """What SearchEngine does to its library. Calls of several threads take turns."""

    library: Library
    _settings: Settings
    _encoder: Encoder | None

    def __init__(self, timeout: float = TIMEOUT) -> None:
        """Prepare; timeout: seconds that a call waits for another writer."""
        self._timeout = timeout
        self._turn = threading.Lock()
        self._writing_encoder: Encoder | None = None

    def add(
        self,
        records: Iterable[Record | Mapping[str, object]],
        *,
        keep: str | None = None,
        batch_size: int | None = None,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> AddReport:
        """Add records, or replace those of the same ids; each batch is durable and can be found once it is committed.

        Args:
            records: Record, or mappings with its fields; an iterator is read as records are needed.
            keep: What the library keeps of pictures beside their vectors: `thumbnail`, `bytes` (the file) or None.
            batch_size: Records in a commit; None for what suits them.
            progress: Called with how many records are done, and None, after each batch.

        Returns:
            How many were added, replaced and unchanged, and which were refused, with the reasons.

        Raises:
            InvalidInputError: An argument cannot be used. A record that cannot be is in the report instead.
            LibraryLockedError: Another process went on writing for longer than the timeout.
            LibraryError: The engine is closed, or the library cannot be written.
            EncoderError: The encoder of the library is unavailable.

        Example:
            >>> report = engine.add([Record("sku-17", image="chair.jpg", metadata={"price": 49.0})])
        """
        from indexer.adding import Adding
        from indexer.record_stage import AddOptions
        from indexer.report import reporting

        if isinstance(records, Record | Mapping | str | bytes) or not isinstance(records, Iterable):
            raise InvalidInputError(
                f"Records must be an iterable of Record, not {type(records).__name__}. Put one into a list."
            )
        if batch_size is not None and (type(batch_size) is not int or batch_size < 1):
            raise InvalidInputError(f"batch_size is {batch_size!r}, but must be a whole number of at least 1.")
        options = AddOptions(keep, batch_size or 0)
        options.check()
        reports = reporting(progress)
        with self._writer() as writer:
            load = None if self._pinned().is_imported else self._encoder_for_writing
            adding = Adding(self.library, writer, self._settings, options, load_encoder=load, progress=reports)
            return adding.run(records)

    def index(
        self,
        paths: Paths = (),
        *,
        progress: Callable[[int, int | None], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
        **options: Unpack[IndexKeywords],
    ) -> IndexReport:
        """Bring the library up to date with folders, files and data sets, as `clipsearch index` does.

        Args:
            paths: Folders, files, and data sets by their addresses; with none, all that were indexed before.
            exclude: Patterns of what is left out, now and from now on; None for those that the library has.
            include_hidden: Whether hidden files are taken, now and from now on; None for what the library does.
            retry_failed: Try files that failed before.
            rehash: Read every file, though its size and times say that it has not changed.
            ocr: Whether the text in pictures is recognised, now and from now on; None for what the library does.
            columns: Which columns of tables have the roles `image`, `caption` and `id`; None for what the library says
                of each table, or those with the usual names.
            pictures: The folder that paths in tables start from and stay in; None as for columns, or that of the table.
            fetch_urls: Whether pictures that tables name by URLs are fetched; None as for columns, or no.
            progress: Called with how many files are done, and of how many, after each batch.
            should_stop: Asked between batches; the call ends early once it returns True, and what is committed stays.
            within: Folders which, with those of the library, are all that links in them may lead to; None follows all
                links. What was found before through a link that leads elsewhere stays as it is.

        Returns:
            What became of the files.

        Raises:
            InvalidInputError: There is no such file or folder, or an option cannot be used.
            LibraryLockedError: Another process went on writing for longer than the timeout.
            LibraryError: The engine is closed, or the disk refuses.
            EncoderError: The encoder is unavailable.

        Example:
            >>> report = engine.index(["photos"], exclude=["*.tmp"])
        """
        from indexer import pipeline
        from indexer.report import reporting

        given, chosen = read_paths(paths), read_options(options, self._timeout)
        with self._take_turn():
            pin = self._pinned()
            encoder = fitting(self._encoder, pin) or fitting(self._writing_encoder, pin)
            return pipeline.index(
                self.library.folder, given, self._settings, chosen,
                encoder=encoder, progress=reporting(progress), notify=logger.warning,
                should_stop=should_stop or (lambda: False),
            )  # fmt: skip

    def build(
        self,
        *,
        index: str = "auto",
        target_recall: float = 0.95,
        memory_budget: int = 0,
        queries: Queries | None = None,
        uri: str = "",
    ) -> dict[Modality, Built]:
        """Build the search index again from the stored vectors, as `clipsearch build` does; this engine uses it then.

        Args:
            index: The kind, as `clipsearch build --index` takes it: `auto`, `flat`, `pq4`, `ivfpq`...
            target_recall: The share of the true first ten that a search is to find, from 0.5 to 1.
            memory_budget: Bytes that the index may take; 0 for what serves best.
            queries: Queries by words like those to come, at least 50, to calibrate with: vectors of shape (n, dim),
                texts for the library's encoder, or the path of a file of either. They are kept for later builds. `auto`
                forgets those that were given, None keeps them.
            uri: The address of the Milvus server, for `milvus` alone; it is trusted from then on.

        Returns:
            What each modality with rows has now: `kind`, `rows` and `calibration`.

        Raises:
            InvalidInputError: The queries or an option cannot be used.
            LibraryLockedError: Another process is writing.
            EncoderError: Texts are given, and the encoder is unavailable.
            LibraryError: The disk refuses; the index before stays active then.
            IndexServerError: The Milvus server refuses or cannot be reached; as with LibraryError.
        """
        from clipsearch.ann.server_trust import read_uri
        from indexer.build import rebuild
        from indexer.plan import IndexPlan

        plan = IndexPlan(index, target_recall, memory_budget, read_uri(uri) if uri else "")
        with self._take_turn():
            return rebuild(self.library.folder, self._settings, plan, queries)

    def reindex(
        self,
        model: str | None = None,
        *,
        flip: bool = True,
        allow_missing: bool = False,
        rollback: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> ReindexReport:
        """Change the encoder, as `clipsearch reindex` does: this and other engines answer meanwhile, and go on after.

        Items are encoded again beside the vectors that answer. The next call continues one that was interrupted.

        Args:
            model: The new encoder, as `clipsearch models` names it; None to go on with one that is being prepared.
            flip: Let the new vectors answer once they are complete; else a later call does.
            allow_missing: Flip although some items cannot be encoded.
            rollback: Let the vectors answer again that did before the last flip.
            progress: Called with how many items are done, and of how many, after each batch.
            should_stop: Asked between batches; the call ends early once it returns True, and what is committed stays.

        Returns:
            What became of the items, and whether the new encoder answers now.

        Raises:
            InvalidInputError: There is nothing to do, or vectors of yet another encoder are kept or being prepared.
            EncoderError: The encoder is unavailable.
            LibraryError: The engine is closed, or the disk refuses; what answered before goes on.

        Example:
            >>> report = engine.reindex("best")
        """
        from indexer.reindex import ReindexOptions, reindex
        from indexer.report import reporting

        self.library.require_open()
        options = ReindexOptions(model, rollback, flip, allow_missing)
        return reindex(
            self.library.folder, self._settings, options, progress=reporting(progress), notify=logger.warning,
            should_stop=should_stop or (lambda: False),
        )  # fmt: skip

    def discard_vectors(self) -> bool:
        """Delete the vectors of another encoder that `reindex` prepared or kept.

        Returns:
            Whether there were any.

        Raises:
            LibraryLockedError: Another process went on writing for longer than the timeout.
            LibraryError: The engine is closed, or the disk refuses.
        """
        from indexer.reindex import discard

        with self._take_turn():
            return discard(self.library.folder, timeout=self._timeout) is not None

    @contextmanager
    def _writer(self) -> Iterator[Writer]:
        """Take the writer lock for one call."""
        with self._take_turn(), self.library.writer(timeout=self._timeout) as writer:
            yield writer

    @contextmanager
    def _take_turn(self) -> Iterator[None]:
        """Wait for other threads that write by this engine. Raises LibraryLockedError, LibraryError if it is closed."""
        self.library.require_open()
        if not self._turn.acquire(timeout=self._timeout):
            raise LibraryLockedError(
                f"Another thread has been writing to the library in {self.library.folder} for {self._timeout:g} "
                "seconds. Wait for it to end, or give clipsearch.open a longer timeout."
            )
        try:
            self._pinned()  # which a closed library refuses
            yield
        finally:
            self._turn.release()

    def _pinned(self) -> EncoderPin:
        pin = self.library.encoder
        if pin is None:
            raise LibraryError(
                f"The library in {self.library.folder} has no encoder yet. Open it with create=True and a model."
            )
        return pin

    def _encoder_for_writing(self) -> Encoder:
        """Return the library's encoder, loaded for the device of the settings on first use."""
        from indexer.pipeline import pinned_encoder

        pin = self._pinned()
        known = fitting(self._encoder, pin) or fitting(self._writing_encoder, pin)
        if known is None or (known.name, known.fingerprint) != (pin.name, pin.fingerprint):
            known = self._writing_encoder = pinned_encoder(self.library, self._settings)
        return known
