"""Decoding in worker processes, so that a decoder that crashes, hangs or grows costs one file and not the run.

Each worker is a clean process of its own (no fork of this one, whose threads hold locks), limited in time, memory and
files, as indexer/isolation_worker.py says. What comes back is checked as indexer/isolation_protocol.py says. A worker
that breaks a limit or the protocol is killed, and another takes its place. POSIX only.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from PIL import Image

from clipsearch.config import Settings
from clipsearch.errors import ClipSearchError, InvalidInputError, PictureError
from clipsearch.media.image_metadata import Embedded
from clipsearch.types import PictureInfo
from indexer.isolation_protocol import (
    ANSWER,
    DONE,
    NO_MEMORY,
    READY,
    REQUEST,
    BadAnswerError,
    check_answer,
    read_facts,
    read_reason,
)
from indexer.picture_reader import DirectReader, PictureReader

_TICK = 0.1
"""Seconds between two looks at a worker that is silent."""

_START_SECONDS = 60
_MAX_STARTS = 3
_NUMBERS = count(1)
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from indexer.isolation_worker import main; main()"


class WorkerUnavailableError(ClipSearchError):
    """No worker can be started; it is no fault of a file."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may take. seconds: of time. memory: bytes beyond those of a worker that has nothing to do."""

    seconds: int
    memory: int


def worker_command(limits: Limits) -> list[str]:
    """Return the command of a worker: this Python, isolated from environment and current folder, with our packages."""
    places = [place for place in sys.path if os.path.isabs(place)]
    return [sys.executable, "-I", "-S", "-c", _BOOT, json.dumps(places), str(limits.seconds), str(limits.memory)]


def make_reader(settings: Settings) -> PictureReader:
    """Return what decodes pictures under these settings. Raises InvalidInputError where it is unavailable."""
    if not settings.isolate:
        return DirectReader()
    return IsolatedReader(Limits(settings.decode_seconds, settings.decode_memory))


class _DeadWorkerError(Exception):
    """A worker that exited or was killed."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came of a request. refusal: why there is nothing else."""

    refusal: str = ""
    picture: Image.Image | None = None
    info: PictureInfo | None = None
    words: Embedded | None = None


class IsolatedReader:
    """Decodes in workers; a PictureReader. As many workers run as threads call at a time; `close` ends them."""

    def __init__(self, limits: Limits, command: Sequence[str] | None = None) -> None:
        """Prepare; command: of a worker, whose socket is its stdin. Raises InvalidInputError on Windows."""
        if os.name != "posix":
            raise InvalidInputError("Pictures cannot be decoded in worker processes on Windows. Use --no-isolate.")
        self._limits = limits
        self._command = command or worker_command(limits)
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []

    def start(self, workers: int) -> None:
        """Start workers, and do not wait until they are ready. Raises WorkerUnavailableError."""
        for _ in range(workers):
            self._put(_Worker(self._command, self._limits))

    def decode(self, data: bytes, *, min_side: int, max_pixels: int) -> tuple[Image.Image, PictureInfo, Embedded]:
        """Decode a picture and read its words.

        Raises PictureError, also for a picture that broke a limit or its worker; WorkerUnavailableError.
        """
        answer = self._ask(data, min_side, max_pixels)
        assert answer.picture is not None and answer.info is not None and answer.words is not None
        return answer.picture, answer.info, answer.words

    def words(self, data: bytes) -> Embedded:
        """Read the words of a picture alone; raises as `decode` does."""
        words = self._ask(data, 0, 0).words
        assert words is not None
        return words

    def close(self) -> None:
        """End the workers. None may be at work."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, data: bytes, min_side: int, max_pixels: int) -> _Answer:
        """Ask a worker; a second one where the first dies, which others may have killed."""
        for is_last in (False, True):
            worker = self._take()
            try:
                answer = worker.ask(data, min_side, max_pixels)
            except _DeadWorkerError as error:
                if is_last:
                    raise PictureError(f"it ended the decoding process twice ({error})") from None
                continue
            finally:
                self._put(worker) if worker.is_sound else worker.end()
            break
        if answer.refusal:
            raise PictureError(answer.refusal)
        return answer

    def _put(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)

    def _take(self) -> _Worker:
        """Return a worker that is ready; one that died or spoke unasked while it was idle is replaced."""
        for _ in range(_MAX_STARTS):
            with self._lock:
                worker = self._idle.pop() if self._idle else None
            worker = worker or _Worker(self._command, self._limits)
            if worker.is_ready():
                return worker
            worker.end()
        raise WorkerUnavailableError(
            f"{_MAX_STARTS} decoding processes ended at once. To decode in this process: --no-isolate"
        )


class _Worker:
    """One worker, for one thread at a time. `is_sound` says whether it may be asked again."""

    def __init__(self, command: Sequence[str], limits: Limits) -> None:
        self._limits = limits
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_TICK)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment | {"OPENBLAS_NUM_THREADS": "1"},
                    cwd="/",
                    start_new_session=True,  # Ctrl-C is for the indexer, which then finishes its batch
                )
        except OSError as error:
            self._socket.close()
            raise WorkerUnavailableError(
                f"No decoding process can be started: {error.strerror}. To decode in this process: --no-isolate"
            ) from error
        self._deadline = time.monotonic() + _START_SECONDS
        self._most_memory = 0
        self.is_sound = True

    def is_ready(self) -> bool:
        """Wait for it the first time; later tell whether it still lives and is silent."""
        if self._most_memory:
            return not self._poll.poll(0)
        try:
            if self._receive(len(READY)) != READY:
                return False
        except (_DeadWorkerError, PictureError):
            return False
        self._most_memory = _resident(self._process.pid) + self._limits.memory
        return True

    def ask(self, data: bytes, min_side: int, max_pixels: int) -> _Answer:
        """Have a picture decoded; words alone where no pixel is allowed. Raises PictureError, _DeadWorkerError."""
        self.is_sound = False
        number = next(_NUMBERS)
        self._deadline = time.monotonic() + self._limits.seconds
        self._send(REQUEST.pack(number, max_pixels > 0, min_side, max_pixels, len(data)))
        self._send(data)
        try:
            answer = self._read_answer(number, max_pixels)
        except BadAnswerError as error:
            raise PictureError(f"its decoding process gave a false answer: {error}") from error
        self.is_sound = True
        return answer

    def end(self) -> None:
        """Kill it and wait for its end."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _read_answer(self, number: int, max_pixels: int) -> _Answer:
        status, length, size = check_answer(self._receive(ANSWER.size), number, max_pixels)
        facts = self._receive(length)
        pixels = self._receive(3 * size[0] * size[1])
        if status == NO_MEMORY:
            return _Answer(self._too_large())
        if status != DONE:
            return _Answer(read_reason(facts))
        info, words = read_facts(facts, max_pixels)
        if not (bool(pixels) == (info is not None) == (max_pixels > 0)):
            raise BadAnswerError("pixels or facts are missing")
        picture = Image.frombuffer("RGB", size, pixels, "raw", "RGB", 0, 1) if pixels else None
        return _Answer("", picture, info, words)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._check_limits(is_silent=False)
            try:
                view = view[self._socket.send(view) :]
            except TimeoutError:
                self._check_limits(is_silent=True)
            except OSError as error:
                raise self._died() from error

    def _receive(self, count: int) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            self._check_limits(is_silent=False)
            try:
                got = self._socket.recv_into(view)
            except TimeoutError:
                self._check_limits(is_silent=True)
                continue
            except OSError as error:
                raise self._died() from error
            if not got:
                raise self._died()
            view = view[got:]
        return data

    def _check_limits(self, *, is_silent: bool) -> None:
        """Raise PictureError where the time is over or, looked at while it is silent, the memory."""
        if time.monotonic() > self._deadline:
            raise PictureError(f"took longer than {self._limits.seconds} s to decode (setting decode_seconds)")
        if is_silent and self._most_memory and _resident(self._process.pid) > self._most_memory:
            raise PictureError(self._too_large())

    def _too_large(self) -> str:
        return f"took more than {self._limits.memory} bytes of memory to decode (setting decode_memory)"

    def _died(self) -> _DeadWorkerError:
        self._process.kill()  # it may have closed its socket alone
        code = self._process.wait()
        return _DeadWorkerError(f"signal {-code}" if code < 0 else f"exit code {code}")


def _resident(pid: int) -> int:
    """Return the bytes of memory that a process holds; 0 if that is unknown."""
    with suppress(OSError, ValueError):
        statm = Path(f"/proc/{pid}/statm")
        if statm.exists():
            return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        listed = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=False)
        return int(listed.stdout) * 1024
    return 0
