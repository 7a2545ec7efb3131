"""How many inputs a device takes at a time."""

from __future__ import annotations

import logging
import threading

from clipsearch.errors import DeviceError

log = logging.getLogger("clipsearch")

GROW_AFTER = 128
"""Full batches that must succeed before the batch size is doubled again; twice as many after each try that fails."""


class DeviceBatch:
    """Halved when the memory of a device runs out, doubled after successes, up to where it began. Thread-safe."""

    def __init__(self, size: int, name: str, grow_after: int = GROW_AFTER) -> None:
        """Start with a size; name: of the encoder, for messages."""
        self.name = name
        self._size = self._largest = size
        self._grow_after = grow_after
        self._successes = 0
        self._has_grown = self._warned = False
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Inputs at a time, at least 1."""
        return self._size

    def halve(self, failed: int, reason: str) -> None:
        """Go on with half of a size that did not fit. Raises DeviceError when a single input did not."""
        if failed == 1:
            raise DeviceError(
                f"The memory of the device is too small for even one input of {self.name}: {reason}. Stop other "
                "programs that use the device, or write `--device cpu` (in Python: Settings(device='cpu'))."
            )
        with self._lock:
            if failed // 2 >= self._size:
                return  # another thread did so for the same reason
            self._size = failed // 2
            self._successes = 0
            if self._has_grown:
                self._grow_after *= 2
            if not self._warned:
                log.warning("The device ran out of memory with %d inputs at a time; smaller batches are used.", failed)
            self._warned = True
        log.debug("%s: %d inputs at a time from now on: %s", self.name, failed // 2, reason)

    def succeed(self, count: int) -> None:
        """Count a batch that went through."""
        if self._size == self._largest or count < self._size:
            return
        with self._lock:
            self._successes += 1
            if self._successes < self._grow_after:
                return
            self._size = min(2 * self._size, self._largest)
            self._successes = 0
            self._has_grown = True
        log.debug("%s: trying %d inputs at a time again", self.name, self._size)
