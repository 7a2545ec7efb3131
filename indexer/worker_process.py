"""One worker that decodes pictures, seen from the indexer: its process, its limits, its answers, the memory it shares.

The shared memory has no name in any file system, so nothing stays behind, however the indexer ends. The indexer never
maps it: it writes files into it and copies pixels out of it by system calls. Other threads run during these, and a
worker that truncates the memory cannot crash the indexer, as it could if the memory were mapped.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from math import prod
from pathlib import Path

import numpy as np
from PIL import Image

from clipsearch.encoders.base import Pixels
from clipsearch.encoders.preprocessing import Transforms, pack_transforms
from clipsearch.errors import PictureError, WorkerUnavailableError
from clipsearch.media.image_metadata import Embedded
from clipsearch.types import PictureInfo
from indexer.isolation_protocol import (
    ANSWER,
    CAREFUL,
    DONE,
    FILE_AT,
    NO_MEMORY,
    PICTURE,
    PREPARED,
    READY,
    REQUEST,
    TEXTS,
    WORDS,
    BadAnswerError,
    Request,
    Texts,
    check_answer,
    read_facts,
    read_reason,
    read_texts,
)

_TICK = struct.pack("@ll", 0, 100_000)
"""How long a read or write waits before the limits are checked: 0.1 s, as a struct timeval."""

_START_SECONDS = 60
_KEPT_FILE = 4 << 20
"""Bytes of shared memory that stay allocated for the next file."""

_USUAL_FACTS = 8 << 10
"""Bytes that the facts of nearly every picture fit into."""

_NUMBERS = count(1)
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from indexer.isolation_worker import main; main()"


class DeadWorkerError(Exception):
    """A worker that exited or was killed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may take. seconds: of time. memory: bytes beyond those of a worker that has nothing to do."""

    seconds: int
    memory: int


@dataclass(frozen=True, slots=True)
class Task:
    """What to do with a file.

    wants: WORDS, PICTURE or PREPARED. min_side, max_pixels: as for `decode_picture`; max_pixels is 0 for words alone.
    transforms: for PREPARED; their pixels must fit into FILE_AT bytes. page: as in `Request`. is_same: whether the file
    is the document of the task before.
    """

    wants: int = WORDS
    min_side: int = 0
    max_pixels: int = 0
    transforms: Transforms = ()
    page: int = 0
    is_same: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a task. refusal: why there is nothing else. picture or pixels: for PICTURE or PREPARED.

    texts: for TEXTS, which brings nothing else. Of a page there are no words.
    """

    refusal: str = ""
    words: Embedded | None = None
    info: PictureInfo | None = None
    picture: Image.Image | None = None
    pixels: Pixels | None = None
    texts: Texts | None = None


def worker_command(limits: Limits) -> list[str]:
    """Return the command of a worker: this Python, isolated from environment and current folder, with our packages."""
    places = [place for place in sys.path if os.path.isabs(place)]
    return [sys.executable, "-I", "-S", "-c", _BOOT, json.dumps(places), str(limits.seconds), str(limits.memory)]


def careful_command(command: Sequence[str]) -> list[str]:
    """Return the command of a worker that reads what the packages of extras read, too."""
    return [*command[:-2], CAREFUL, *command[-2:]]


@lru_cache(maxsize=8)
def prepared_bytes(transforms: Transforms) -> int:
    """Count the bytes of the pixels that transforms make of any picture."""
    return sum(3 * each.height * each.width for each in transforms)


def make_shared_memory() -> int:
    """Return a file descriptor of FILE_AT bytes of memory without a name; a file grows it. Raises OSError."""
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("clipsearch-worker")
    else:
        with tempfile.TemporaryFile() as file:
            memory = os.dup(file.fileno())
    try:
        os.ftruncate(memory, FILE_AT)
    except OSError:
        os.close(memory)
        raise
    return memory


class Worker:
    """One worker, for one thread at a time. `is_sound` says whether it may be asked again."""

    def __init__(self, command: Sequence[str], limits: Limits) -> None:
        """Start it, and do not wait until it is ready. Raises WorkerUnavailableError."""
        self._limits = limits
        try:
            self._socket, theirs = socket.socketpair()
        except OSError as error:
            raise _unavailable(error) from error
        # Time-outs of the system need one call for each message, those of Python two.
        for end in (self._socket, theirs):
            end.settimeout(None)  # the application may have set another default
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket.setsockopt(socket.SOL_SOCKET, option, _TICK)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._memory = -1
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        try:
            with theirs:
                self._memory = make_shared_memory()
                self._process = subprocess.Popen(
                    command,
                    stdin=theirs.fileno(),
                    stdout=self._memory,
                    stderr=subprocess.DEVNULL,
                    env=environment | {"OPENBLAS_NUM_THREADS": "1"},
                    cwd="/",
                    start_new_session=True,  # Ctrl-C is for the indexer, which then finishes its batch
                )
        except OSError as error:
            self._close()
            raise _unavailable(error) from error
        self._deadline = 0.0
        self._most_memory = 0
        self.is_sound = True

    def is_ready(self) -> bool:
        """Wait for it the first time; later tell whether it still lives and is silent."""
        if self._most_memory:
            return not self._poll.poll(0)
        self._deadline = time.monotonic() + _START_SECONDS
        try:
            if self._receive(len(READY)) != READY:
                return False
        except (DeadWorkerError, PictureError):
            return False
        self._most_memory = _resident(self._process.pid) + self._limits.memory
        return True

    def ask(self, task: Task, data: bytes) -> Answer:
        """Have it do a task with the bytes of a file. Raises PictureError, DeadWorkerError."""
        transforms = pack_transforms(task.transforms) if task.wants == PREPARED else b""
        length = 0 if task.is_same else len(data)
        request = Request(
            next(_NUMBERS), task.wants, task.min_side, task.max_pixels, length, len(transforms), task.page
        )
        self.is_sound = False
        if not task.is_same:
            self._share(data)
        self._deadline = time.monotonic() + self._limits.seconds
        self._send(REQUEST.pack(*request) + transforms)
        try:
            answer = self._read_answer(request, task.transforms)
        except BadAnswerError as error:
            self.is_sound = False
            raise PictureError(f"the worker process that decoded it broke the protocol: {error}") from error
        if len(data) > _KEPT_FILE:
            os.ftruncate(self._memory, FILE_AT + _KEPT_FILE)
        return answer

    def end(self) -> None:
        """Kill it and wait for its end."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        self._socket.close()
        if self._memory >= 0:
            os.close(self._memory)

    def _share(self, data: bytes) -> None:
        """Write a file into the shared memory. Raises PictureError where the system has no memory for it."""
        view, at = memoryview(data), FILE_AT
        try:
            while view:
                written = os.pwrite(self._memory, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._memory, FILE_AT)
            reason = f"the system has no memory to pass its {len(data)} bytes to a worker process"
            raise PictureError(reason) from MemoryError(error)

    def _read_answer(self, request: Request, transforms: Transforms) -> Answer:
        # One call brings head and facts, since nothing comes behind them but a whole picture.
        head = self._receive(ANSWER.size, 0 if request.wants == PICTURE else _USUAL_FACTS)
        status, length, size = check_answer(head[: ANSWER.size], request)
        facts = head[ANSWER.size :]
        if length > len(facts):
            facts += self._receive(length - len(facts))
        data = self._receive(3 * size[0] * size[1]) if size[0] else bytearray()
        self.is_sound = len(facts) == length
        if status == NO_MEMORY:
            return Answer(self._too_large())
        if status != DONE:
            return Answer(read_reason(facts[:length]))
        if request.wants == TEXTS:
            return Answer(texts=read_texts(facts[:length], request))
        info, words = read_facts(facts[:length], request.max_pixels)
        if (info is None) != (request.wants == WORDS):
            raise BadAnswerError("facts that were not asked for, or none")
        if request.wants == PREPARED:
            return Answer("", words, info, pixels=self._copy_pixels(transforms))
        picture = Image.frombuffer("RGB", size, data, "raw", "RGB", 0, 1) if request.wants == PICTURE else None
        return Answer("", words, info, picture)

    def _copy_pixels(self, transforms: Transforms) -> Pixels:
        """Copy the uint8 (height, width, 3) pixels of each transform out of the shared memory."""
        whole = prepared_bytes(transforms)
        data = os.pread(self._memory, whole, 0)
        if len(data) != whole:
            raise BadAnswerError("the shared memory was cut off")
        pixels, start = [], 0
        for each in transforms:
            shape = (each.height, each.width, 3)
            pixels.append(np.frombuffer(data, np.uint8, prod(shape), start).reshape(shape))
            start += prod(shape)
        return tuple(pixels)

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._check_limits(is_silent=False)
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                self._check_limits(is_silent=True)
            except OSError as error:
                raise self._died() from error

    def _receive(self, count: int, more: int = 0) -> bytearray:
        """Read `count` bytes, and up to `more` bytes that have already arrived."""
        data = bytearray(count + more)
        view, got = memoryview(data), 0
        while got < count:
            self._check_limits(is_silent=False)
            try:
                new = self._socket.recv_into(view[got:])
            except BlockingIOError:
                self._check_limits(is_silent=True)
                continue
            except OSError as error:
                raise self._died() from error
            if not new:
                raise self._died()
            got += new
        return data[:got] if more else data

    def _check_limits(self, *, is_silent: bool) -> None:
        """Raise PictureError where the time is over or, looked at while it is silent, the memory."""
        if time.monotonic() > self._deadline:
            raise PictureError(f"took longer than {self._limits.seconds} s to decode (setting decode_seconds)")
        if is_silent and self._most_memory and _resident(self._process.pid) > self._most_memory:
            raise PictureError(self._too_large())

    def _too_large(self) -> str:
        return f"took more than {self._limits.memory} bytes of memory to decode (setting decode_memory)"

    def _died(self) -> DeadWorkerError:
        self._process.kill()  # it may have closed its socket alone
        code = self._process.wait()
        return DeadWorkerError(f"signal {-code}" if code < 0 else f"exit code {code}")


def _unavailable(error: OSError) -> WorkerUnavailableError:
    return WorkerUnavailableError(
        f"No worker process can be started: {error.strerror}. To decode without them: "
        "`--no-isolate` (in Python: Settings(isolate=False))"
    )


def _resident(pid: int) -> int:
    """Return the bytes of memory that a process holds; 0 if that is unknown."""
    with suppress(OSError, ValueError):
        statm = Path(f"/proc/{pid}/statm")
        if statm.exists():
            return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        listed = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=False)
        return int(listed.stdout) * 1024
    return 0
