"""Batches through a torch module with upload, compute and download of different ones at the same time.

A lane is what one calling thread needs of a GPU: a stream to upload on, a stream to compute on, and two slots of
staging memory. While the device computes one batch the thread gathers and uploads the next; the rows of a batch are
fetched after the one behind it was launched, and waited for by an event, so nothing ever waits for the whole device.
Full batches are launched as one captured graph, others one operator after the other. On a processor the same steps are
taken in turn.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from clipsearch.encoders.device_batch import DeviceBatch
from clipsearch.encoders.device_errors import is_lost, is_out_of_memory
from clipsearch.encoders.openclip import brief
from clipsearch.encoders.switching import short_interval
from clipsearch.encoders.torch_compiling import Tower, is_compiling
from clipsearch.encoders.torch_graphs import Capture, Launcher, capture_on
from clipsearch.errors import DeviceError

LANES_PER_DEVICE = 2
_SLOTS = 2


@dataclass(slots=True)
class _Slot:
    """Staging memory of one batch. host, device: flat; rows: float32 (batch, dim); done: None on a processor."""

    launch: Launcher
    host: torch.Tensor
    device: torch.Tensor
    rows: torch.Tensor
    done: torch.cuda.Event | None
    count: int = 0


class Lane:
    """One way through a tower; serves one thread at a time."""

    def __init__(
        self,
        tower: Tower,
        device: torch.device,
        batch: DeviceBatch,
        row_shape: Sequence[int],
        dtype: torch.dtype,
        dim: int,
        capture_on: Callable[[torch.cuda.Stream | None], Capture | None] = capture_on,
    ) -> None:
        """Prepare; row_shape, dtype: of the largest input row. Memory is taken when the first batch comes.

        capture_on: returns what captures launches on the stream to compute on, if they are to be captured.
        """
        self._tower = tower
        self._device = device
        self._batch = batch
        self._row_size = math.prod(row_shape)
        self._dtype = dtype
        self._dim = dim
        self._capture_on = capture_on
        on_cuda = device.type == "cuda"
        self._upload = torch.cuda.Stream(device) if on_cuda else None  # type: ignore[no-untyped-call]
        self._compute = torch.cuda.Stream(device) if on_cuda else None  # type: ignore[no-untyped-call]
        self._slots: list[_Slot] = []
        self._slot_size = 0

    def encode(self, rows: Iterator[NDArray[Any]]) -> NDArray[np.float32]:
        """Encode input rows, all of one shape, into float32 (n, dim), in order.

        Raises DeviceError where the device is lost or has no memory for a single row.
        """
        with short_interval() if _is_gpu(self._device) else contextlib.nullcontext():
            return self._encode(rows)

    def _encode(self, rows: Iterator[NDArray[Any]]) -> NDArray[np.float32]:
        started = time.monotonic()
        parts = [np.empty((0, self._dim), np.float32)]
        waiting: deque[_Slot] = deque()
        try:
            while chunk := list(itertools.islice(rows, size := self._batch.size)):
                if self._slots and size != self._slot_size:
                    parts += self._drain(waiting)
                    self._give_back()
                if reason := self._try_launch(chunk, size, waiting):
                    # Only here, where no exception holds on to tensors any more, can memory be given back.
                    parts += self._drain(waiting)
                    self._give_back()
                    self._batch.halve(size, reason)  # the slots of a whole batch are held, however few inputs there are
                    rows = itertools.chain(chunk, rows)
                elif len(waiting) == _SLOTS:
                    parts.append(self._fetch(waiting.popleft()))
            parts += self._drain(waiting)
        except BaseException as error:
            self._settle()
            if is_lost(error, self._device):
                raise self._lost(error) from error
            raise
        self._tower.worked((time.monotonic() - started) / LANES_PER_DEVICE)
        return np.concatenate(parts)

    def _try_launch(self, chunk: list[NDArray[Any]], size: int, waiting: deque[_Slot]) -> str:
        """Launch a batch of at most `size`; return why memory ran out, "" if it did not."""
        try:
            if not self._slots:
                capture = self._capture_on(self._compute)
                self._slots = [self._new_slot(size, capture) for _ in range(_SLOTS)]
                self._slot_size = size
            slot = next(slot for slot in self._slots if not any(slot is other for other in waiting))
            # While a tower is compiled only what was captured can be launched, and that is full.
            as_full = slot.launch.is_captured and is_compiling()
            self._launch(chunk, size if as_full else min(size, _round_up(len(chunk))), size, slot)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return str(error).partition("\n")[0].rstrip(".")
            raise
        waiting.append(slot)
        return ""

    def _new_slot(self, size: int, capture: Capture | None) -> _Slot:
        on_cuda = self._upload is not None
        with _on(self._upload):
            return _Slot(
                Launcher(self._tower, capture),
                torch.zeros(size * self._row_size, dtype=self._dtype, pin_memory=on_cuda),
                torch.zeros(size * self._row_size, dtype=self._dtype, device=self._device),
                torch.empty((size, self._dim), pin_memory=on_cuda),
                torch.cuda.Event(blocking=True) if on_cuda else None,  # type: ignore[no-untyped-call]
            )

    @torch.inference_mode()
    def _launch(self, chunk: list[NDArray[Any]], padded: int, full: int, slot: _Slot) -> None:
        slot.count = len(chunk)
        shape = (padded, *chunk[0].shape)
        host = slot.host[: math.prod(shape)].view(shape)
        np.stack(chunk, out=host.numpy()[: len(chunk)])
        with _on(self._upload):
            values = slot.device[: math.prod(shape)].view(shape)
            values.copy_(host, non_blocking=True)
        if self._compute is not None and self._upload is not None:
            self._compute.wait_stream(self._upload)
        with _on(self._compute):
            rows = slot.launch(values, is_full=padded == full)
            slot.rows[: len(chunk)].copy_(rows[: len(chunk)], non_blocking=self._compute is not None)
            if slot.done is not None:
                slot.done.record()

    def _fetch(self, slot: _Slot) -> NDArray[np.float32]:
        if slot.done is not None:
            slot.done.synchronize()
        self._batch.succeed(slot.count)
        return slot.rows[: slot.count].numpy().copy()

    def _drain(self, waiting: deque[_Slot]) -> list[NDArray[np.float32]]:
        return [self._fetch(waiting.popleft()) for _ in range(len(waiting))]

    def _give_back(self) -> None:
        self._settle()
        self._slots = []
        if _is_gpu(self._device):
            getattr(torch, self._device.type).empty_cache()

    def _settle(self) -> None:
        """Let what is under way end before the slots are used again; what failed was reported."""
        for stream in (self._upload, self._compute):
            if stream is not None:
                with contextlib.suppress(RuntimeError):
                    stream.synchronize()

    def _lost(self, error: BaseException) -> DeviceError:
        return DeviceError(
            f"{self._device} was lost while {self._batch.name} was at work: {brief(error)}. What was committed is kept "
            "and no file is marked as failed. Check the device (`nvidia-smi`, the system's log), then try again: "
            "it goes on from there. Or write `--device cpu` (in Python: Settings(device='cpu'))."
        )


class Lanes:
    """Deals calls to lanes as they become free, in turn. Thread-safe."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        """Take lanes, those of different devices in turn."""
        self._free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for lane in lanes:
            self._free.put(lane)

    def encode(self, rows: Iterator[NDArray[Any]]) -> NDArray[np.float32]:
        """Encode input rows, all of one shape, into float32 (n, dim); waits for a free lane."""
        lane = self._free.get()
        try:
            return lane.encode(rows)
        finally:
            self._free.put(lane)


def _round_up(count: int) -> int:
    # The tail goes in the next power of two, filled up with what an earlier batch left there: with few shapes,
    # kernels are chosen and memory is cut up once. Rows do not see each other.
    return 1 << (count - 1).bit_length()


def _is_gpu(device: torch.device) -> bool:
    return device.type != "cpu"


def _on(stream: torch.cuda.Stream | None) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if stream is None else torch.cuda.stream(stream)
