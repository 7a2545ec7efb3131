"""Vectors of texts that were searched for before, so that asking again needs no encoder.

They lie in the user's cache and not in the library: a reader writes nothing there, and it may be on a medium that
cannot be written or belong to somebody else. One table serves all libraries of an encoder. It is a file of slots of
equal size; a text has its place by a digest of its words, and the newest of a place stays. So it never grows past its
slots, needs no lock and no log, and whatever is torn or damaged does not match its own digest and counts as not there.
The words themselves are not kept.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SLOTS = 16_384
_DIGEST_BYTES = 16
_FLOAT = np.dtype("<f4")


class QueryCache:
    """The vectors of one encoder; safe to share by threads and processes. Trouble with the disk is a miss."""

    def __init__(self, folder: Path, fingerprint: str, dim: int) -> None:
        """Use a folder, made when first needed. fingerprint: of the encoder. dim: length of its vectors."""
        name = hashlib.blake2b(fingerprint.encode(), digest_size=_DIGEST_BYTES).hexdigest()
        self.path = folder / f"{name}-{dim}.slots"
        self._dim = dim

    def get(self, text: str) -> NDArray[np.float32] | None:
        """Return the vector of a text, float32 (dim,), just as it was put; None if it is not there."""
        key = _digest(text.encode("utf-8", "surrogatepass"))
        try:
            with open(self.path, "rb", buffering=0) as file:
                file.seek(self._place(key))
                slot = file.read(self._slot_bytes)
        except OSError:
            return None
        if len(slot) != self._slot_bytes or not slot.startswith(key):
            return None
        body, check = slot[:-_DIGEST_BYTES], slot[-_DIGEST_BYTES:]
        if _digest(body) != check:
            return None
        return np.frombuffer(body, _FLOAT, offset=_DIGEST_BYTES).astype(np.float32)

    def put(self, text: str, vector: NDArray[np.float32]) -> None:
        """Keep the vector of a text, float32 (dim,)."""
        key = _digest(text.encode("utf-8", "surrogatepass"))
        body = key + vector.astype(_FLOAT).tobytes()
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
            with open(descriptor, "r+b", buffering=0) as file:
                file.seek(self._place(key))
                file.write(body + _digest(body))
        except OSError:
            return  # asked again, the encoder answers again

    @property
    def _slot_bytes(self) -> int:
        return 2 * _DIGEST_BYTES + self._dim * _FLOAT.itemsize

    def _place(self, key: bytes) -> int:
        return int.from_bytes(key[:8], "little") % SLOTS * self._slot_bytes


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
