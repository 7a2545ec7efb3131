"""The records of a block to what is stored of them: read, decoded and encoded, batch by batch, without a library."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from PIL import Image

from clipsearch.config import Settings
from clipsearch.encoders.base import BATCH_SIZE, Encoder
from clipsearch.errors import EncoderError, InvalidInputError, LibraryError, MediaError, WorkerUnavailableError
from clipsearch.media.decode import read_regular
from clipsearch.media.text import split_passages
from clipsearch.paths import is_url, printable
from clipsearch.store.additions import Addition, StoredRecord
from clipsearch.store.records import Captions, Encoded, Failed, FileRecord, Known, Outcome
from clipsearch.types import Passage, PictureInfo
from indexer.captioning import clean
from indexer.decode import Decoded, Loaded, batches, load_all
from indexer.encode import EncodeStage
from indexer.isolation import make_reader
from indexer.kept import BYTES, THUMBNAIL, make_kept
from indexer.picture_reader import PictureReader
from indexer.record_task import RecordTask
from indexer.report import Progress, Silent
from indexer.sources.records import BLOCK_BYTES, Block, CheckedRecord

if TYPE_CHECKING:
    from clipsearch.media.polite import PoliteFetcher

logger = logging.getLogger("clipsearch")

FETCHING = 16
"""Threads while pictures come from the web, of which some wait for their hosts."""

_TEXTS_PER_PICTURE = 4
"""A batch of nothing but texts has that many times the vectors of another: they are smaller."""

COMMIT_RECORDS, COMMIT_BYTES, COMMIT_SECONDS = 1024, BLOCK_BYTES, 0.5
"""What is committed together at most: a commit waits for the disk, whatever it holds (benchmarks/datasets.py)."""


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


@dataclass(slots=True)
class RecordBatch:
    """What came of some records of a block.

    done: records that are encoded, and in `additions` what is to be stored of each, None for an unchanged one. failed:
    ids and reasons; kept: those of them that the library has as they were. before: the first record of the block that
    neither this batch nor those before have; None for none.
    """

    before: str | None
    done: list[RecordTask] = field(default_factory=list)
    additions: list[Addition | None] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    kept: list[RecordTask] = field(default_factory=list)

    def fail(self, task: RecordTask, reason: str) -> None:
        """Note that a record failed."""
        self.failed.append((task.checked.name, reason))
        if task.own is not None:
            self.kept.append(task)

    def extend(self, later: RecordBatch) -> None:
        """Add the batch that follows this one."""
        self.before = later.before
        self.done += later.done
        self.additions += later.additions
        self.failed += later.failed
        self.kept += later.kept


def group_commits(batches: Iterable[RecordBatch]) -> Generator[RecordBatch]:
    """Put together what came of several batches, for one commit: what is encoded does not wait for COMMIT_SECONDS."""
    group: RecordBatch | None = None
    held, started = 0, time.monotonic()
    try:
        for batch in batches:
            held += sum(len(each.kept[0]) for each in batch.additions if each is not None and each.kept is not None)
            if group is None:
                group = batch
            else:
                group.extend(batch)
            is_late = time.monotonic() - started >= COMMIT_SECONDS
            if is_late or held >= COMMIT_BYTES or len(group.done) + len(group.failed) >= COMMIT_RECORDS:
                yield group
                group, held, started = None, 0, time.monotonic()
    except Exception:  # of the batches: what came before it counts
        if group is not None:
            yield group
        raise
    if group is not None:
        yield group


class RecordStage:
    """Encodes the records of one block after the other. Close it at the end."""

    def __init__(
        self,
        settings: Settings,
        options: AddOptions,
        load_encoder: Callable[[], Encoder] | None,
        progress: Progress | None = None,
    ) -> None:
        """Prepare; load_encoder: gives the encoder when it is needed; None where nothing can be encoded."""
        self._settings = settings
        self._options = options
        self._load_encoder = load_encoder
        self._progress = progress or Silent()
        self._reader: PictureReader = make_reader(settings)
        self.encoder: Encoder | None = None

    def close(self) -> None:
        """End the workers that decode."""
        self._reader.close()

    def run(self, block: Block, known: Mapping[str, StoredRecord]) -> Generator[RecordBatch]:
        """Yield what came of the records: first of those that need no work, then of the others by batches, in order.

        known: what the library has of them, by id. What failed when the block was made is left out. Raises
        EncoderError for an encoder that is unavailable or fails for all, WorkerUnavailableError.
        """
        ready: list[RecordTask] = []
        waiting: list[RecordTask] = []
        for name, checked in block.records.items():
            row = checked.vector
            task = RecordTask(checked, known.get(name), None if row is None else block.vectors[row : row + 1])
            (ready if self._is_ready(task) else waiting).append(task)
        yield RecordBatch(_name_at(waiting, 0), ready, [task.addition() for task in ready])
        if waiting:
            yield from self._encode(waiting)

    def _is_ready(self, task: RecordTask) -> bool:
        """Tell whether nothing of a record has to be read or encoded."""
        if self._needs_picture(task):
            return False
        task.set_digest(None)
        return self._load_encoder is None or not task.texts()

    def _needs_picture(self, task: RecordTask) -> bool:
        return task.checked.has_picture and not (task.has_picture_vector and self._options.keep is None)

    def _encode(self, tasks: Sequence[RecordTask]) -> Generator[RecordBatch]:
        """Read, decode and encode; a batch is handed over while the next are on their way."""
        encoder = self.encoder
        if encoder is None and self._load_encoder is not None:
            self._progress.preparing()
            encoder = self.encoder = self._load_encoder()
        preparing = _Preparing(self._settings, self._options, self._reader, encoder)
        size = self._options.batch_size or self._settings.batch_size or (encoder.batch_size if encoder else BATCH_SIZE)
        if not any(task.checked.has_picture for task in tasks):
            size *= _TEXTS_PER_PICTURE
        by_name = {task.checked.name: task for task in tasks}
        count = 0
        is_from_web = any(is_url(task.checked.source) for task in tasks if task.checked.has_picture)
        threads = max(self._settings.cores, FETCHING) if is_from_web else self._settings.cores
        with closing(load_all(map(_File, tasks), preparing.load, threads, size)) as loaded:
            if encoder is None:
                for batch in batches(loaded, size):
                    count += len(batch)
                    known = [each for each in batch if isinstance(each, Known | Failed)]
                    yield _gather(by_name, known, _name_at(tasks, count))
                return
            with closing(EncodeStage(encoder, lambda hashes: ()).run(batches(loaded, size))) as encoded:
                for done in encoded:
                    count += done.files
                    yield _gather(by_name, done.outcomes, _name_at(tasks, count))


def _name_at(tasks: Sequence[RecordTask], index: int) -> str | None:
    return tasks[index].checked.name if index < len(tasks) else None


def _gather(tasks: Mapping[str, RecordTask], outcomes: Sequence[Outcome], before: str | None) -> RecordBatch:
    """Turn the outcomes of a batch into what is to be stored."""
    batch = RecordBatch(before)
    for outcome in outcomes:
        task = tasks[outcome.record.path]
        if isinstance(outcome, Failed):
            batch.fail(task, outcome.reason)
        elif task.has_passages and outcome.captions is None:
            batch.fail(task, "its text could not be encoded")
        else:
            pixels = outcome.vectors if isinstance(outcome, Encoded) else None
            batch.done.append(task)
            batch.additions.append(task.addition(pixels, outcome.captions))
            task.kept = None  # or the pictures of a whole block would be held
    return batch


class _File:
    """A task as `load_all` takes it. record: stands for it in the stages. size: bytes that it holds already."""

    def __init__(self, task: RecordTask) -> None:
        self.task = task
        self.size = len(task.checked.image) if isinstance(task.checked.image, bytes) else 0
        self.record = FileRecord(0, task.checked.name, self.size, 0)


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
        return Decoded(record, unique, (pixels,), info, captions=self._passages(task))

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
