"""Decoding in worker processes, so that a decoder that crashes, hangs or grows costs one file and not the run.

Each worker is a clean process of its own (no fork of this one, whose threads hold locks), limited in time, memory and
files, as indexer/isolation_worker.py says. What comes back is checked as indexer/isolation_protocol.py says. A worker
that breaks a limit or the protocol is killed, and another takes its place. Python runs one thread of a process at a
time, so workers are also what keeps many cores busy. POSIX only.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count

from PIL import Image

from clipsearch.config import Settings
from clipsearch.encoders.base import Pixels
from clipsearch.encoders.preprocessing import Transforms
from clipsearch.errors import DocumentError, InvalidInputError, PictureError, WorkerUnavailableError
from clipsearch.media.decode import is_guarded
from clipsearch.media.image_metadata import Embedded
from clipsearch.types import PictureInfo
from indexer.isolation_protocol import FILE_AT, PICTURE, PREPARED, TEXTS, Texts
from indexer.picture_reader import DirectReader, DocumentPages, PictureInput, PictureReader, Prepared, page_side
from indexer.worker_process import (
    Answer,
    DeadWorkerError,
    Limits,
    Task,
    Worker,
    careful_command,
    prepared_bytes,
    worker_command,
)

logger = logging.getLogger("clipsearch")

MANY_CORES = 8
"""Core count from which threads of one process cannot keep all cores busy: benchmarks/decode_scaling.py."""

PICTURES_FIRST = 100
"""Pictures for each worker that are decoded in this process before workers are started automatically: a short run then
does not pay for their start, which takes 0.1 s of processor time each (benchmarks/decode_scaling.py)."""

DOCUMENT_FACTOR = 10
"""How many times the time of a picture all of a document may take."""

_MAX_STARTS = 3


def make_reader(settings: Settings) -> PictureReader:
    """Return what decodes pictures under these settings. Raises InvalidInputError where it is unavailable."""
    limits = Limits(settings.decode_seconds, settings.decode_memory)
    if settings.isolate:
        return IsolatedReader(limits)
    is_python = sys.executable and not getattr(sys, "frozen", False)  # else it is an application that we would start
    if settings.isolate is None and os.name == "posix" and is_python:
        first = PICTURES_FIRST if settings.cores >= MANY_CORES else None
        return AutomaticReader(IsolatedReader(limits), settings.cores, first=first)
    return DirectReader()


class IsolatedReader:
    """Decodes in workers; a PictureReader. As many workers run as threads call at a time; `close` ends them."""

    def __init__(self, limits: Limits, command: Sequence[str] | None = None) -> None:
        """Prepare; command: of a worker, whose socket is its stdin. Raises InvalidInputError on Windows."""
        if os.name != "posix":
            raise InvalidInputError(
                "Pictures cannot be decoded in worker processes on Windows. Use "
                "`--no-isolate` (in Python: Settings(isolate=False))."
            )
        self._limits = limits
        self._command = command or worker_command(limits)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._careful: list[Worker] = []

    def start(self, workers: int) -> None:
        """Start workers, and do not wait until they are ready. Raises WorkerUnavailableError."""
        for _ in range(workers):
            self._put(Worker(self._command, self._limits))

    def wait(self, workers: int) -> None:
        """Wait until `workers` workers are ready; start missing ones. Raises WorkerUnavailableError."""
        taken: list[Worker] = []
        try:
            taken.extend(self._take() for _ in range(workers))
        finally:
            for worker in taken:
                self._put(worker)

    def prepare(self, data: bytes, encoder: PictureInput, *, max_pixels: int) -> Prepared:
        """Decode and preprocess a picture, and read its words.

        The encoder's `preprocess` runs here only where it cannot be done in a worker. Raises PictureError, also for a
        picture that broke a limit or its worker; WorkerUnavailableError.
        """
        transforms: Transforms = getattr(encoder, "picture_transforms", ())
        side = encoder.picture_side
        if not transforms or prepared_bytes(transforms) > FILE_AT:
            picture, info, words = self.decode(data, min_side=side, max_pixels=max_pixels)
            return encoder.preprocess(picture), info, words
        answer = self._ask(Task(PREPARED, side, max_pixels, transforms), data)
        assert answer.pixels is not None and answer.info is not None and answer.words is not None
        return answer.pixels, answer.info, answer.words

    def decode(self, data: bytes, *, min_side: int, max_pixels: int) -> tuple[Image.Image, PictureInfo, Embedded]:
        """Decode a picture as `media.decode.decode_picture` does, and read its words; raises as `prepare` does."""
        answer = self._ask(Task(PICTURE, min_side, max_pixels), data)
        assert answer.picture is not None and answer.info is not None and answer.words is not None
        return answer.picture, answer.info, answer.words

    def words(self, data: bytes) -> Embedded:
        """Read the words of a picture alone; raises as `prepare` does."""
        words = self._ask(Task(), data).words
        assert words is not None
        return words

    @contextmanager
    def document(self, data: bytes) -> Iterator[DocumentPages]:
        """Open a document in a worker, which is kept for it; raises as `prepare` does, DocumentError too."""
        if not data:  # which asks a worker for the document that it has open
            raise DocumentError("empty file")
        worker = self._take(careful=True)
        try:
            yield IsolatedPages(worker, data, self._limits)
        except DeadWorkerError as error:
            raise DocumentError(f"the worker process ended while it read it ({error})") from None
        finally:
            self._give_back(worker, careful=True)

    def close(self) -> None:
        """End the workers. No call may be in progress."""
        with self._lock:
            idle, self._idle, self._careful = [*self._idle, *self._careful], [], []
        for worker in idle:
            worker.end()

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, task: Task, data: bytes) -> Answer:
        """Ask a worker; a second one where the first dies, which others may have killed."""
        careful = is_guarded(data)
        for is_last in (False, True):
            worker = self._take(careful=careful)
            try:
                answer = worker.ask(task, data)
            except DeadWorkerError as error:
                if is_last:
                    raise PictureError(f"two worker processes ended while they decoded it ({error})") from None
                continue
            finally:
                self._give_back(worker, careful=careful)
            break
        if answer.refusal:
            raise PictureError(answer.refusal)
        return answer

    def _put(self, worker: Worker, *, careful: bool = False) -> None:
        with self._lock:
            (self._careful if careful else self._idle).append(worker)

    def _give_back(self, worker: Worker, *, careful: bool) -> None:
        if worker.is_sound:
            self._put(worker, careful=careful)
        else:
            worker.end()

    def _take(self, *, careful: bool = False) -> Worker:
        """Return a worker that is ready; an idle one that has ended or sent what was not asked for is replaced.

        careful: one that has loaded the packages of extras.
        """
        for _ in range(_MAX_STARTS):
            with self._lock:
                idle = self._careful if careful else self._idle
                worker = idle.pop() if idle else None
            command = careful_command(self._command) if careful else self._command
            worker = worker or Worker(command, self._limits)
            if worker.is_ready():
                return worker
            worker.end()
        raise WorkerUnavailableError(
            f"{_MAX_STARTS} worker processes in a row ended while they started. To decode without them: "
            "`--no-isolate` (in Python: Settings(isolate=False))"
        )


class IsolatedPages:
    """A document that a worker has open; a DocumentPages. All of it may take DOCUMENT_FACTOR times the time of one."""

    def __init__(self, worker: Worker, data: bytes, limits: Limits) -> None:
        """Open it. Raises MediaError, DeadWorkerError."""
        self._worker, self._data, self._limits = worker, data, limits
        self._until = time.monotonic() + DOCUMENT_FACTOR * limits.seconds
        self._first = self._read(1, is_same=False)
        self.pages, self.has_pages, self.can_draw = self._first[:3]

    def texts(self) -> Iterator[str]:
        """Yield the text of each page. Raises MediaError, DeadWorkerError."""
        page, read = 1, self._first
        while True:
            yield from read.texts
            page += len(read.texts)
            if page > self.pages:
                return
            read = self._read(page)

    def prepare(self, page: int, encoder: PictureInput, *, max_pixels: int) -> Pixels:
        """Draw a page and preprocess it for the encoder. Raises PictureError, DeadWorkerError."""
        transforms: Transforms = getattr(encoder, "picture_transforms", ())
        fits = transforms and prepared_bytes(transforms) <= FILE_AT
        wants, side = PREPARED if fits else PICTURE, page_side(encoder)
        answer = self._ask(Task(wants, side, max_pixels, transforms if fits else (), page, True))
        if answer.pixels is not None:
            return answer.pixels
        assert answer.picture is not None
        return encoder.preprocess(answer.picture)

    def _read(self, page: int, *, is_same: bool = True) -> Texts:
        texts = self._ask(Task(TEXTS, page=page, is_same=is_same)).texts
        assert texts is not None
        return texts

    def _ask(self, task: Task) -> Answer:
        if time.monotonic() > self._until:
            most = DOCUMENT_FACTOR * self._limits.seconds
            raise DocumentError(
                f"took longer than {most} s to read ({DOCUMENT_FACTOR} times the setting decode_seconds)"
            )
        try:
            answer = self._worker.ask(task, self._data)
        except PictureError as error:  # a limit was broken, and the worker with it
            raise DocumentError(str(error)) from error.__cause__
        if answer.refusal:
            raise (DocumentError if task.wants == TEXTS else PictureError)(answer.refusal)
        return answer


class AutomaticReader:
    """Decodes in this process until workers are ready; a PictureReader.

    Workers are started after some pictures, in the background, and decode once all are ready. Where they cannot be
    started, or no longer, this process goes on by itself. What packages of extras decode, it leaves to workers from
    the first file on.
    """

    def __init__(self, isolated: IsolatedReader, workers: int, *, first: int | None = PICTURES_FIRST) -> None:
        """Take the reader for later, which is closed with this one.

        workers: how many to start. first: pictures for each of them that are decoded before; None for all.
        """
        self._direct = DirectReader()
        self._isolated = isolated
        self._workers = workers
        self._reader: PictureReader = self._direct
        self._numbers = count(1)
        self._first = None if first is None else first * workers
        self._guarded = True
        self._starter: threading.Thread | None = None

    def prepare(self, data: bytes, encoder: PictureInput, *, max_pixels: int) -> Prepared:
        """Decode and preprocess a picture, and read its words. Raises PictureError."""
        if self._guarded and is_guarded(data):
            try:
                return self._isolated.prepare(data, encoder, max_pixels=max_pixels)
            except WorkerUnavailableError as error:
                self._stop_guarding(error)
                return self._direct.prepare(data, encoder, max_pixels=max_pixels)
        if self._starter is None and next(self._numbers) == self._first:
            self._starter = threading.Thread(target=self._start, name="start-workers", daemon=True)
            self._starter.start()
        try:
            return self._reader.prepare(data, encoder, max_pixels=max_pixels)
        except WorkerUnavailableError as error:
            self._give_up(error)
            return self._direct.prepare(data, encoder, max_pixels=max_pixels)

    def words(self, data: bytes) -> Embedded:
        """Read the words of a picture alone: in this process, which is faster than asking a worker."""
        return self._direct.words(data)

    @contextmanager
    def document(self, data: bytes) -> Iterator[DocumentPages]:
        """Open a document. Raises MediaError."""
        with ExitStack() as stack:
            pages: DocumentPages | None = None
            if self._guarded:
                try:
                    pages = stack.enter_context(self._isolated.document(data))
                except WorkerUnavailableError as error:
                    self._stop_guarding(error)
            yield pages or stack.enter_context(self._direct.document(data))

    def close(self) -> None:
        """End the workers, also those that are starting. No call may be in progress."""
        if self._starter is not None:
            self._starter.join()
        self._isolated.close()

    def _start(self) -> None:
        try:
            self._isolated.start(self._workers)
            self._isolated.wait(self._workers)
        except WorkerUnavailableError as error:
            self._isolated.close()
            self._give_up(error)
        else:
            self._reader = self._isolated

    def _stop_guarding(self, error: WorkerUnavailableError) -> None:
        logger.warning("Documents and RAW files are read without worker processes from now on. %s", error)
        self._guarded = False

    def _give_up(self, error: WorkerUnavailableError) -> None:
        if self._reader is not self._direct or threading.current_thread() is self._starter:
            logger.warning("Pictures are decoded without worker processes from now on, which can be slower. %s", error)
        self._reader = self._direct
