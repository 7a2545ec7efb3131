"""Jobs: runs of the indexer in the server, one at a time, each in a thread of its own."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING

from clipsearch.errors import ClipSearchError, InvalidInputError, LibraryLockedError
from clipsearch.query.engine import SearchEngine
from clipsearch.store.records import RootKind
from clipsearch.store.roots import get_roots, relative

if TYPE_CHECKING:
    from indexer.report import IndexReport

logger = logging.getLogger("clipsearch")

KEPT = 50
"""Jobs that are remembered, the last ones."""

HISTORY = 256
"""Events of a job that are remembered, the last ones. Each tells all there is to say, so none is needed for another."""

MAX_FAILED = 100
"""Files that failed which are remembered of a job by their names; also files with notes, and endings that are passed
over."""

GRACE = 30.0
"""Seconds in which a job that is cancelled may end its batch when the server stops."""


class JobState(StrEnum):
    """What a job is doing, or how it ended."""

    RUNNING = "running"
    STOPPING = "stopping"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


ENDED = (JobState.DONE, JobState.CANCELLED, JobState.FAILED)


class JobConflictError(ClipSearchError):
    """A job is running; `id`: which."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"Job {job.id} is indexing. Wait for its end, or cancel it: DELETE /v1/jobs/{job.id}")
        self.id = job.id


class FolderRefusedError(ClipSearchError):
    """A folder that jobs may not index."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job runs: as the arguments of `SearchEngine.index` of the same names."""

    retry_failed: bool = False
    ocr: bool | None = None
    rehash: bool = False


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What is known of a job at one moment.

    done, total: files that are done, and of how many; None until these are counted. error: of a job that failed.
    report: of one that ended otherwise, partial where the job was cancelled; it names the first of the files that
    failed. failures: how many did.
    """

    state: JobState
    paths: tuple[str, ...]
    started: datetime
    ended: datetime | None = None
    done: int = 0
    total: int | None = None
    error: str | None = None
    report: IndexReport | None = None
    failures: int = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in ENDED


class Job:
    """One run of the indexer. Its thread changes it; any thread may look at it, and watch it."""

    def __init__(self, paths: Sequence[str], options: JobOptions) -> None:
        """Prepare a job. paths: resolved folders; none for all that the library has."""
        self.id = secrets.token_hex(8)
        self.options = options
        self.should_stop = threading.Event()
        self._changed = threading.Lock()
        self._events: deque[tuple[int, JobStatus]] = deque(maxlen=HISTORY)
        self._watchers: list[Callable[[], None]] = []
        self._publish(JobStatus(JobState.RUNNING, tuple(paths), datetime.now(UTC)))

    @property
    def status(self) -> JobStatus:
        """How it is now."""
        return self._events[-1][1]

    @property
    def watchers(self) -> int:
        """How many watch it."""
        return len(self._watchers)

    def events(self, after: int = 0) -> list[tuple[int, JobStatus]]:
        """Return what happened after the event of a number, as (number, status); the first number is 1."""
        with self._changed:
            return [event for event in self._events if event[0] > after]

    @contextmanager
    def watching(self, notify: Callable[[], None]) -> Iterator[None]:
        """Call a function, which must not block, at each event; from the thread of the job."""
        with self._changed:
            self._watchers.append(notify)
        try:
            yield
        finally:
            with self._changed:
                self._watchers.remove(notify)

    def update(self, **changes: object) -> None:
        """Change the status, unless it is over."""
        with self._changed:
            if not self.status.is_over:
                self._publish(replace(self.status, **changes))  # type: ignore[arg-type]

    def cancel(self) -> None:
        """Let it end after the batch under way."""
        self.should_stop.set()
        if self.status.state is JobState.RUNNING:
            self.update(state=JobState.STOPPING)

    def end(self, state: JobState, *, error: str | None = None, report: IndexReport | None = None) -> None:
        """Say how it ended."""
        failures = 0
        if report is not None:
            failures = len(report.failed)
            report = replace(
                report,
                failed=report.failed[:MAX_FAILED],
                notes=report.notes[:MAX_FAILED],
                passed_over=dict(islice(report.passed_over.items(), MAX_FAILED)),
            )
        self.update(state=state, ended=datetime.now(UTC), error=error, report=report, failures=failures)

    def _publish(self, status: JobStatus) -> None:
        number = self._events[-1][0] + 1 if self._events else 1
        self._events.append((number, status))
        for notify in self._watchers:
            notify()


class Jobs:
    """The jobs of a server; safe to share by threads. What is remembered of them ends with the server.

    listeners: streams of events that are being sent; of one event loop.
    """

    def __init__(self, engine: SearchEngine, folders: Sequence[str], stopping: threading.Event) -> None:
        """Prepare. folders: those that may be indexed beside the roots. stopping: is set when the server stops."""
        self._engine = engine
        self._folders = [os.path.realpath(folder) for folder in folders]
        self._stopping = stopping
        self._starting = threading.Lock()
        self._jobs: deque[Job] = deque(maxlen=KEPT)
        self._thread: threading.Thread | None = None
        self.listeners = 0

    def all(self) -> list[Job]:
        """Return the jobs, the latest first."""
        return list(self._jobs)[::-1]

    def get(self, job_id: str) -> Job | None:
        """Return a job; None if it is not known, or was forgotten."""
        return next((job for job in self.all() if job.id == job_id), None)

    @property
    def running(self) -> Job | None:
        """The job that has not ended."""
        latest = self._jobs[-1] if self._jobs else None
        return None if latest is None or latest.status.is_over else latest

    def require_idle(self) -> None:
        """Raise LibraryLockedError where a job is running, for which no other change of the library can wait."""
        if job := self.running:
            raise LibraryLockedError(str(JobConflictError(job)))

    def start(self, paths: Sequence[str], options: JobOptions) -> Job:
        """Index folders; without any, all folders of the library.

        Raises FolderRefusedError for a folder that may not be indexed, InvalidInputError for one that is not there,
        JobConflictError where a job is running, LibraryError where the library cannot be read.
        """
        chosen = self._check_paths(paths)
        with self._starting:
            if job := self.running:
                raise JobConflictError(job)
            job = Job(chosen, options)
            self._thread = threading.Thread(target=self._run, args=(job,), name="clipsearch-job", daemon=True)
            self._thread.start()  # which fails where there are too many
            self._jobs.append(job)
        return job

    def close(self) -> None:
        """Cancel the job that is running, and wait for its end; what it committed stays, whenever the process ends."""
        if job := self.running:
            job.cancel()
        if self._thread is not None:
            self._thread.join(GRACE)
            if self._thread.is_alive():
                logger.warning("A job did not end within %g seconds. What it committed stays.", GRACE)

    def _run(self, job: Job) -> None:
        def should_stop() -> bool:
            if self._stopping.is_set():
                job.cancel()
            return job.should_stop.is_set()

        try:
            report = self._engine.index(
                job.status.paths,
                retry_failed=job.options.retry_failed,
                ocr=job.options.ocr,
                rehash=job.options.rehash,
                progress=lambda done, total: job.update(done=done, total=total),
                should_stop=should_stop,
                within=self._folders,
            )
        except ClipSearchError as error:
            job.end(JobState.FAILED, error=str(error))
        except Exception:  # a bug; whoever waits for the job must hear of its end
            logger.exception("a job failed")
            job.end(JobState.FAILED, error="An internal error; the log of the server has the details.")
        else:
            job.end(JobState.CANCELLED if report.interrupted else JobState.DONE, report=report)

    def _check_paths(self, paths: Sequence[str]) -> list[str]:
        """Return paths resolved. What is not allowed gets one answer, whether it is there or not."""
        library = self._engine.library
        with library.query() as connection:
            roots = {root.path for root in get_roots(connection, library.base) if root.kind is RootKind.FOLDER}
        if not paths and not roots:
            raise InvalidInputError("The library has no folders yet. Name those that are to be indexed.")
        chosen = []
        for path in paths:
            try:
                real = os.path.realpath(path) if os.path.isabs(path) else ""
            except (OSError, ValueError):  # such as a NUL in it
                real = ""
            if real not in roots and not any(relative(real, folder) is not None for folder in self._folders):
                raise FolderRefusedError(
                    f"{path!r:.200} is neither a folder of the library nor below one that the server may index. "
                    "To allow more: clipsearch serve --allow-index DIR"
                )
            if real not in roots and not os.path.isdir(real):
                raise InvalidInputError(f"There is no folder {path!r:.200}. Check the path.")
            chosen.append(real)
        return chosen
