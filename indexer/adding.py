"""Adding records from Python: what of them is new is decoded and encoded as files are, and committed batch by batch.

The caller's thread takes and checks the records of the next block while another thread commits the block before it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from clipsearch.config import Settings
from clipsearch.encoders.base import BATCH_SIZE, Encoder
from clipsearch.errors import (
    ClipSearchError,
    EncoderError,
    InvalidInputError,
    LibraryError,
    MediaError,
    WorkerUnavailableError,
)
from clipsearch.media.decode import read_regular
from clipsearch.media.text import split_passages
from clipsearch.paths import is_url, printable
from clipsearch.ranking import MIN_SAMPLE
from clipsearch.records import AddReport, Record
from clipsearch.store.additions import Addition
from clipsearch.store.library import Library
from clipsearch.store.records import Captions, Encoded, Failed, FileRecord, Known, Outcome
from clipsearch.store.shards import Reached
from clipsearch.store.writer import Writer
from clipsearch.types import Modality, Passage, PictureInfo
from indexer.calibration import LoadEncoder
from indexer.captioning import clean
from indexer.decode import Decoded, Loaded, batches, load_all
from indexer.encode import EncodeStage
from indexer.isolation import make_reader
from indexer.kept import BYTES, THUMBNAIL, make_kept
from indexer.picture_reader import PictureReader
from indexer.record_task import RecordTask
from indexer.report import MAX_FAILED, Progress, Silent
from indexer.sources.base import BadRow
from indexer.sources.records import BLOCK_RECORDS, Block, CheckedRecord, RecordSource
from indexer.spreads import refresh_spreads

if TYPE_CHECKING:
    from clipsearch.media.polite import PoliteFetcher

logger = logging.getLogger("clipsearch")


FETCHING = 16
"""Threads while pictures come from the web, of which some wait for their hosts."""


@dataclass(frozen=True, slots=True)
class AddOptions:
    """How records are added.

    keep: what is kept of pictures, THUMBNAIL, BYTES or None. batch_size: records of a commit, 0 for what suits them.
    fetch_urls: whether pictures with URLs are read. lines: whether each line of a caption is a caption of its own.
    """

    keep: str | None = None
    batch_size: int = 0
    fetch_urls: bool = True
    lines: bool = False

    def check(self) -> None:
        """Raise InvalidInputError for options that make no sense."""
        if self.keep not in (None, THUMBNAIL, BYTES):
            raise InvalidInputError(f"keep is {self.keep!r}, but must be {THUMBNAIL!r}, {BYTES!r} or None.")


class Cut(Protocol):
    """Where the records of one block stand in what they come from; used by one thread at a time."""

    def reached(self, before: str | None, failed: Iterable[str]) -> Reached:
        """Return how far all is read whose records stand before one, or all of the block for None.

        failed: the records that failed since the last time.
        """


class Journal(Protocol):
    """What keeps how far the source of records is read."""

    def cut(self, taken: int) -> Cut:
        """Return where the next block stands, which has so many records; asked in the order of the blocks."""


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
        self._load_encoder = load_encoder
        self._encoder: Encoder | None = None
        self._progress = progress or Silent()
        self._reader: PictureReader = make_reader(settings)
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
            self._reader.close()
        self.unfetched = source.unfetched
        seconds = round(time.monotonic() - started, 3)
        return AddReport(self._added, self._replaced, self._unchanged, tuple(self._failed), seconds)

    def _add_all(self, blocks: Iterator[Block]) -> None:
        pool = ThreadPoolExecutor(1, thread_name_prefix="add")
        under_way: Future[int] | None = None
        try:
            for block in blocks:
                if under_way:
                    self._progress.advance(under_way.result())
                cut = self._journal.cut(block.taken) if self._journal else None
                under_way = pool.submit(self._add, block, cut)
            if under_way:
                self._progress.advance(under_way.result())
        finally:
            pool.shutdown()  # what was taken is committed, however the call ends
            if under_way:
                under_way.result()  # a commit that failed is an error, however the call ends

    def _add(self, block: Block, cut: Cut | None) -> int:
        """Add the records of a block; return how many it had."""
        self._fail(block.failed)
        failed = [name for name, _ in block.failed]
        self._replaced += block.superseded
        known = self._writer.known_additions(self._root_id, block.records)
        ready: list[RecordTask] = []
        waiting: list[RecordTask] = []
        for name, checked in block.records.items():
            row = checked.vector
            task = RecordTask(checked, known.get(name), None if row is None else block.vectors[row : row + 1])
            (ready if self._is_ready(task) else waiting).append(task)
        first = waiting[0].checked.name if waiting else None
        self._commit(ready, [task.addition() for task in ready], None if cut is None else cut.reached(first, failed))
        if waiting:
            self._encode(waiting, cut)
        return block.taken

    def _fail(self, failed: Sequence[tuple[str, str]]) -> None:
        """Note what failed; of a data set only as much as a report shows."""
        most = MAX_FAILED if self._journal else len(failed) + len(self._failed)
        self._failed += failed[: max(0, most - len(self._failed))]

    def _is_ready(self, task: RecordTask) -> bool:
        """Tell whether nothing of a record has to be read or encoded."""
        if self._needs_picture(task):
            return False
        task.set_digest(None)
        return self._load_encoder is None or not task.texts()

    def _needs_picture(self, task: RecordTask) -> bool:
        return task.checked.has_picture and not (task.has_picture_vector and self._options.keep is None)

    def _encode(self, tasks: Sequence[RecordTask], cut: Cut | None) -> None:
        """Read, decode, encode and commit, each batch while the next are on their way."""
        encoder = self._encoder
        if encoder is None and self._load_encoder is not None:
            self._progress.preparing()
            encoder = self._encoder = self._load_encoder()
        preparing = _Preparing(self._settings, self._options, self._reader, encoder)
        size = self._options.batch_size or self._settings.batch_size or (encoder.batch_size if encoder else BATCH_SIZE)
        waiting = _Waiting(tasks, cut)
        files = [_File(task, self._root_id) for task in tasks]
        is_from_web = any(is_url(task.checked.source) for task in tasks if task.checked.has_picture)
        threads = max(self._settings.cores, FETCHING) if is_from_web else self._settings.cores
        with closing(load_all(files, preparing.load, threads, size)) as loaded:
            if encoder is None:
                for batch in batches(loaded, size):
                    known = [each for each in batch if isinstance(each, Known | Failed)]
                    self._commit_outcomes(waiting, known, len(batch))
                return
            with closing(EncodeStage(encoder, lambda hashes: ()).run(batches(loaded, size))) as encoded:
                for done in encoded:
                    self._commit_outcomes(waiting, done.outcomes, done.files)

    def _commit_outcomes(self, waiting: _Waiting, outcomes: Sequence[Outcome], files: int) -> None:
        """Commit what came of the next `files` tasks."""
        additions, done = list[Addition | None](), list[RecordTask]()
        failed: list[tuple[str, str]] = []
        for outcome in outcomes:
            task = waiting.by_name[outcome.record.path]
            if isinstance(outcome, Failed):
                failed.append((task.checked.name, outcome.reason))
            elif task.has_passages and outcome.captions is None:
                failed.append((task.checked.name, "its text could not be encoded"))
            else:
                pixels = outcome.vectors if isinstance(outcome, Encoded) else None
                additions.append(task.addition(pixels, outcome.captions))
                done.append(task)
        self._fail(failed)
        reached = waiting.reached(files, [name for name, _ in failed])
        if reached is not None:  # what the library has of a record that fails now stays, as its row is there
            kept = (waiting.by_name[name] for name, _ in failed)
            reached.unchanged += [(task.own.item_id, reached.owners[task.checked.name]) for task in kept if task.own]
        self._commit(done, additions, reached)

    def _commit(
        self, tasks: Sequence[RecordTask], additions: Sequence[Addition | None], reached: Reached | None
    ) -> None:
        """Commit what is new; None stands for a record that is unchanged. reached: what is stored with it."""
        changed = [addition for addition in additions if addition is not None]
        if reached is not None:
            same = (task for task, addition in zip(tasks, additions, strict=True) if addition is None and task.own)
            reached.unchanged += [(task.own.item_id, reached.owners[task.checked.name]) for task in same if task.own]
        if changed or reached is not None:
            self._writer.commit_additions(self._root_id, changed, reached)
        self.encoded += sum(bool(addition.rows) for addition in changed)
        replaced = sum(addition.own is not None for addition in changed)
        self._replaced += replaced
        self._added += len(changed) - replaced
        self._unchanged += len(additions) - len(changed)

    def _refresh(self) -> None:
        """Measure how queries score, where that is due; what was committed stands whether or not that succeeds.

        The index is not touched: its rows are scanned exactly until it is built, which may take minutes.
        """
        encoder = self._encoder
        try:
            with self._library.read() as snapshot:
                is_small = max(map(snapshot.live_count, Modality)) < MIN_SAMPLE
            if encoder is not None and not is_small:
                refresh_spreads(self._library, self._writer, lambda: encoder)
        except ClipSearchError as error:
            logger.warning("%s", error)


class _Waiting:
    """Tasks of a block that are to be encoded, in order, of which the first were committed."""

    def __init__(self, tasks: Sequence[RecordTask], cut: Cut | None) -> None:
        self.by_name = {task.checked.name: task for task in tasks}
        self._tasks = tasks
        self._cut = cut
        self._done = 0

    def reached(self, files: int, failed: Iterable[str]) -> Reached | None:
        """Return how far all is read once the next `files` tasks are committed."""
        self._done += files
        is_last = self._done >= len(self._tasks)
        before = None if is_last else self._tasks[self._done].checked.name
        return None if self._cut is None else self._cut.reached(before, failed)


class _File:
    """A task as `load_all` takes it. record: stands for it in the stages. size: bytes that it holds already."""

    def __init__(self, task: RecordTask, root_id: int) -> None:
        self.task = task
        self.size = len(task.checked.image) if isinstance(task.checked.image, bytes) else 0
        self.record = FileRecord(root_id, task.checked.name, self.size, 0)


def _where(file: _File) -> str:
    """Name the file of a picture, to begin a message with; an address is in messages already."""
    source = file.task.checked.source
    return "" if source is None or is_url(source) else f"{printable(source)}: "


class _Preparing:
    """Reads and decodes what of records is not in the library; called from several threads."""

    def __init__(self, settings: Settings, options: AddOptions, reader: PictureReader, encoder: Encoder | None) -> None:
        self._settings = settings
        self._keep = options.keep
        self._lines = options.lines
        self._lock = threading.Lock()
        self._decoding = threading.Semaphore(settings.cores)  # of more threads, while most of them wait for hosts
        self._polite: PoliteFetcher | None = None
        self._reader = reader
        self._encoder = encoder

    def load(self, files: Iterable[_File]) -> Iterator[Loaded]:
        """Return what is to be encoded of each record, or why that fails."""
        return map(self._load, files)

    def _load(self, file: _File) -> Loaded:
        try:
            return self._prepare(file)
        except (EncoderError, LibraryError, WorkerUnavailableError):
            raise
        except InvalidInputError as error:
            return Failed(file.record, str(error))
        except MediaError as error:
            return Failed(file.record, f"{_where(file)}{error}")
        except OSError as error:
            return Failed(file.record, f"{_where(file)}cannot be read ({error.strerror or error})")
        except Exception as error:
            logger.debug("decoding failed", exc_info=error)
            return Failed(file.record, f"could not be decoded: {error!r:.200}")

    def _prepare(self, file: _File) -> Loaded:
        task, record, encoder = file.task, file.record, self._encoder
        if not task.checked.has_picture or (task.has_picture_vector and self._keep is None):
            return Known(record, "", self._passages(task))
        if encoder is None and not task.has_picture_vector:
            raise InvalidInputError("the library's vectors are made elsewhere, so a picture must come with its vector")
        content = self._read(task.checked)
        task.set_digest(None if task.has_picture_vector else content)
        has_kept = task.is_same and task.own is not None and task.own.kept == self._keep and not task.has_picture_vector
        if self._keep is not None and not has_kept:
            task.kept = make_kept(content, self._keep, self._reader, self._settings.max_pixels), self._keep
        if task.is_same or task.has_picture_vector or encoder is None:
            return Known(record, "", self._passages(task))
        if isinstance(content, bytes):
            with self._decoding:
                pixels, info, _ = self._reader.prepare(content, encoder, max_pixels=self._settings.max_pixels)
        else:
            pixels, info = encoder.preprocess(content), PictureInfo(content.width, content.height)
        task.picture = info
        unique = f"{task.digest} {record.path}"  # the stages encode equal content once, but two records share no rows
        return Decoded(record, unique, pixels, info, captions=self._passages(task))

    def _read(self, checked: CheckedRecord) -> bytes | Image.Image:
        """Return the file of a picture, or the picture itself."""
        if checked.source is None:
            assert checked.image is not None
            return checked.image
        most = self._settings.max_picture_bytes
        if is_url(checked.source):
            return self._fetcher().fetch(checked.source)
        return read_regular(checked.source, most)[0]

    def _fetcher(self) -> PoliteFetcher:
        with self._lock:
            if self._polite is None:
                from clipsearch.media.polite import PoliteFetcher

                settings = self._settings
                self._polite = PoliteFetcher(settings.max_picture_bytes, settings.allow_private_urls)
            return self._polite

    def _passages(self, task: RecordTask) -> Captions | None:
        """Return the passages of a record's texts that are to be encoded; None for none."""
        encoder, passages = self._encoder, list[Passage]()
        for text in task.texts() if encoder is not None else ():
            assert encoder is not None
            parts = text.split("\n") if self._lines and text is task.checked.caption else [clean(text)]
            for line, part in enumerate(parts):
                found = split_passages(part, count=encoder.count_tokens, limit=encoder.max_tokens)
                passages += (replace(each, line=each.line + line, end_line=each.end_line + line) for each in found)
        task.has_passages = bool(passages)
        return Captions("", "", (), tuple(passages)) if passages else None
