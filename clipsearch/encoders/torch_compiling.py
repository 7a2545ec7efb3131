"""A tower that is compiled once it has worked for so long that compiling pays.

Compiling takes a minute or so and saves a part of every batch, and nobody knows how many batches will come. So it is
done after as much work as it has to save for its price (rent or buy: at worst twice the best choice's cost). It is
never done with the compiler's own CUDA graphs, which belong to the thread that recorded them (pytorch#123177).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from clipsearch.encoders.precision import tf32_products

log = logging.getLogger("clipsearch")

COMPILE_AFTER = 300.0
"""Seconds of work: what a minute's compiling saves at a gain of a fifth. Not measured on a GPU."""

_MIN_COSINE = 0.999

# Torch's tracer puts its own methods into nn.Module for all threads while it compiles (pytorch#118260), so no module
# may be called meanwhile. Captured graphs call none and need no lock. Without a compilation the lock costs nothing:
# launches hold the interpreter's anyway.
_launching = threading.Lock()
_compiling = threading.Lock()

Run = Callable[[torch.Tensor], torch.Tensor]
T = TypeVar("T")


def is_compiling() -> bool:
    """Tell whether a thread compiles, so that a launch that is not captured has to wait."""
    return _compiling.locked()


class Tower:
    """Launches a module, and compiles it for the shape of full batches when that pays. Thread-safe."""

    def __init__(self, module: torch.nn.Module, compile_after: float, *, tf32: bool = False) -> None:
        """Wrap a module; compile_after: seconds of work, infinite for never. tf32: of its products of float32."""
        self._module = module
        self._tf32 = tf32
        self._compile_after = self._left = compile_after
        # None where compiling failed. A batch that was halved has another shape, and comes back when it grows again.
        self._compiled: dict[torch.Size, Run | None] = {}

    @property
    def is_compiled(self) -> bool:
        """Whether batches of some shape run compiled."""
        return any(run is not None for run in self._compiled.values())

    @property
    def version(self) -> int:
        """A number that rises with each compiled shape; graphs captured at a lower one are captured again."""
        return len(self._compiled)

    def worked(self, seconds: float) -> None:
        """Count work that was done."""
        self._left -= seconds

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Launch a batch, one operator after the other."""
        with self._launches():
            return self._run(values)

    def capture(self, values: torch.Tensor, capture: Callable[[Callable[[], torch.Tensor]], T]) -> T:
        """Capture the launches of a batch. One capture may be in progress per process."""
        with self._launches():
            return capture(lambda: self._run(values))

    def compile_when_due(self, values: torch.Tensor) -> None:
        """Compile for the shape of a batch if enough work was done; other threads do not wait."""
        if self._left > 0 or values.shape in self._compiled or not _compiling.acquire(blocking=False):
            return
        try:
            with self._launches():
                self._compiled[values.shape] = self._compile(values)
            self._left = self._compile_after
        finally:
            _compiling.release()

    @contextlib.contextmanager
    def _launches(self) -> Iterator[None]:
        with _launching, tf32_products() if self._tf32 else contextlib.nullcontext():
            yield

    def _run(self, values: torch.Tensor) -> torch.Tensor:
        compiled = self._compiled.get(values.shape)
        rows: torch.Tensor = self._module(values) if compiled is None else compiled(values)
        return rows

    def _compile(self, values: torch.Tensor) -> Run | None:
        started = time.monotonic()
        log.debug("compiling a tower for %s on %s", tuple(values.shape), values.device)
        try:
            compiled: Run = torch.compile(self._module, dynamic=False)
            cosine = float((compiled(values) * self._module(values)).sum(dim=1).min())
        except Exception as error:  # no compiler, no memory, an operator it does not know: all is well without it
            log.debug("a tower cannot be compiled: %s", error)
            return None
        log.debug("compiled a tower in %.0f s, cosine %.6f", time.monotonic() - started, cosine)
        return compiled if cosine >= _MIN_COSINE else None
