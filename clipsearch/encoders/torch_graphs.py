"""Full batches launched as one: a CUDA graph in the place of the some 230 launches of a small tower.

Each launch gives up the interpreter and takes it again, so beside decode threads and a thread that commits a batch
waits longer for its launches than the device computes (benchmarks/launches.py). A graph is captured for each slot of a
lane, because it reads and writes where it did at its capture. It may be replayed by any thread, one at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

import torch

from clipsearch.encoders.torch_compiling import Tower

log = logging.getLogger("clipsearch")

_MIN_COSINE = 0.999


class Graph(Protocol):
    """Launches that were captured."""

    def replay(self) -> None:
        """Launch them again, on the stream at hand."""


Capture = Callable[[Callable[[], torch.Tensor]], tuple[Graph, torch.Tensor]]
"""Records the launches of a call without running them; returns the graph, and the tensor that a replay overwrites."""


class CudaCapture:
    """Captures on one stream; its graphs, of which one runs at a time, share their memory."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        """Take the stream that the graphs will be replayed on."""
        self._stream = stream
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Callable[[], torch.Tensor]) -> tuple[Graph, torch.Tensor]:
        """Capture; other threads may go on with their own streams. Raises RuntimeError where that fails."""
        graph = torch.cuda.CUDAGraph()
        try:
            # "thread_local": the others allocate memory meanwhile, which must not end this capture.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                rows = run()
        except BaseException:
            self._pool = torch.cuda.graph_pool_handle()  # one that no graph uses any more cannot be used again
            raise
        return graph, rows


def capture_on(stream: torch.cuda.Stream | None) -> Capture | None:
    """Return what captures on a stream; None on a device that has no such graphs."""
    return None if stream is None else CudaCapture(stream)


def capture_nothing(stream: torch.cuda.Stream | None) -> None:
    """Return None: for a tower whose full batches come in many shapes."""


class Launcher:
    """Launches a tower on what lies in one slot; serves one thread at a time."""

    def __init__(self, tower: Tower, capture: Capture | None) -> None:
        """Prepare; capture: None to launch one operator after the other."""
        self._tower = tower
        self._capture = capture
        self._captured: tuple[Graph, torch.Tensor] | None = None
        self._key: tuple[torch.Size, int] | None = None

    @property
    def is_captured(self) -> bool:
        """Whether full batches are launched as one."""
        return self._captured is not None

    def __call__(self, values: torch.Tensor, *, is_full: bool) -> torch.Tensor:
        """Launch a batch; is_full: whether the batch fills the slot.

        The rows that are returned last until the next call on the same stream.
        """
        if not is_full:
            return self._tower(values)
        self._tower.compile_when_due(values)
        key = values.shape, self._tower.version
        if self._capture is not None and key != self._key:
            return self._record(values, key, self._capture)
        if self._captured is None:
            return self._tower(values)
        graph, rows = self._captured
        graph.replay()
        return rows

    def _record(self, values: torch.Tensor, key: tuple[torch.Size, int], capture: Capture) -> torch.Tensor:
        """Launch a batch as it is, which sets up what a capture must find ready, and then capture it."""
        rows = self._tower(values)
        self._key = key
        try:
            graph, again = self._tower.capture(values, capture)
            graph.replay()
            cosine = float((rows * again).sum(dim=1).min())
            if not cosine >= _MIN_COSINE:
                raise RuntimeError(f"its rows have a cosine of {cosine:.4f} to those of eager launches")
        except Exception as error:  # no memory for it, an operator that cannot be captured: all is well without it
            log.debug("a tower cannot be captured as a graph: %s", error)
            self._captured = None
        else:
            self._captured = graph, again
        return rows
