"""A tower that is compiled once it has worked for so long that compiling pays.

Compiling takes a minute or so and saves a part of every batch, and nobody knows how many batches will come. So it is
done after as much work as it has to save for its price (rent or buy: at worst twice the best choice's cost). It is
never done with CUDA graphs, which belong to the thread that recorded them (pytorch#123177).
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable

import torch

from clipsearch.encoders.precision import tf32_products

log = logging.getLogger("clipsearch")

COMPILE_AFTER = 300.0
"""Seconds of work: what a minute's compiling saves at a gain of a fifth. Not measured on a GPU."""

_MIN_COSINE = 0.999

# Torch's tracer puts its own methods into nn.Module for all threads while it compiles (pytorch#118260), so no tower
# may be launched meanwhile. Without a compilation the lock costs nothing: launches hold the interpreter's anyway.
_launching = threading.Lock()


class Tower:
    """Launches a module, and compiles it for one shape when that pays. Thread-safe."""

    def __init__(self, module: torch.nn.Module, compile_after: float, *, tf32: bool = False) -> None:
        """Wrap a module; compile_after: seconds of work, infinite for never. tf32: of its products of float32."""
        self._module = module
        self._tf32 = tf32
        self._left = compile_after
        self._compiled: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._shape: torch.Size | None = None

    @property
    def is_compiled(self) -> bool:
        """Whether full batches run compiled."""
        return self._compiled is not None

    def worked(self, seconds: float) -> None:
        """Count work that was done."""
        self._left -= seconds

    def __call__(self, values: torch.Tensor, *, is_full: bool) -> torch.Tensor:
        """Encode a batch; is_full: whether it has the shape that most batches have."""
        with _launching, tf32_products() if self._tf32 else contextlib.nullcontext():
            if is_full and self._left <= 0:
                self._left = float("inf")
                self._compile(values)
            run = self._module if self._compiled is None or values.shape != self._shape else self._compiled
            rows: torch.Tensor = run(values)
            return rows

    def _compile(self, values: torch.Tensor) -> None:
        started = time.monotonic()
        log.debug("compiling a tower for %s on %s", tuple(values.shape), values.device)
        try:
            compiled = torch.compile(self._module, dynamic=False)
            cosine = float((compiled(values) * self._module(values)).sum(dim=1).min())
        except Exception as error:  # no compiler, no memory, an operator it does not know: all is well without it
            log.debug("a tower cannot be compiled: %s", error)
            return
        log.debug("compiled a tower in %.0f s, cosine %.6f", time.monotonic() - started, cosine)
        if cosine >= _MIN_COSINE:
            self._compiled, self._shape = compiled, values.shape
