"""Vectors of texts that were searched for before, so that asking again needs no encoder.

They lie in the user's cache and not in the library: a reader writes nothing there, and it may be on a medium that
cannot be written or belong to somebody else. One table serves all libraries of an encoder. It is a file of slots of
equal size; a text has its place by a digest of its words, and the newest of a place stays. So it never grows past its
slots, needs no lock and no log, and whatever is torn or damaged does not match its own digest and counts as not there.
The words themselves are not kept.

Both digests are keyed with a secret of this user, which lies in the state folder and never in the cache, and cover
encoder, text and vector: who can write a cache but not read the secret cannot make an entry that is taken for one. Nor
is a table used that others may write. Without a secret there is no cache.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.locations import state_dir
from clipsearch.private import check_folder, open_private, read_secret

SLOTS = 16_384
_VERSION = 3
"""Raise it where an encoder keeps its fingerprint but reads some texts differently."""

_DIGEST_BYTES = 16
_SECRET = "query-cache.key"
_FLOAT = np.dtype("<f4")


class QueryCache:
    """The vectors of one encoder; safe to share by threads and processes. Trouble with the disk is a miss."""

    def __init__(self, folder: Path, fingerprint: str, dim: int) -> None:
        """Use a folder, made when first needed. fingerprint: of the encoder. dim: length of its vectors."""
        name = hashlib.blake2b(fingerprint.encode(), digest_size=_DIGEST_BYTES).hexdigest()
        self.path = folder / f"{name}-{dim}.slots"
        self._dim = dim
        self._encoder = repr((fingerprint, dim, _VERSION)).encode()
        self._secret: bytes | None = None

    def get(self, text: str) -> NDArray[np.float32] | None:
        """Return the vector of a text, float32 (dim,), just as it was put; None if it is not there."""
        try:
            secret = self._read_secret()
            key = self._place(text, secret)
            check_folder(self.path.parent)
            with open(open_private(self.path), "rb", buffering=0) as file:
                file.seek(self._offset(key))
                slot = file.read(self._slot_bytes)
        except OSError:
            return None
        body, check = slot[:-_DIGEST_BYTES], slot[-_DIGEST_BYTES:]
        if len(slot) != self._slot_bytes or self._seal(text, body, secret) != check:
            return None
        return np.frombuffer(body, _FLOAT, offset=_DIGEST_BYTES).astype(np.float32)

    def put(self, text: str, vector: NDArray[np.float32]) -> None:
        """Keep the vector of a text, float32 (dim,)."""
        try:
            secret = self._read_secret(make=True)
            key = self._place(text, secret)
            body = key + vector.astype(_FLOAT).tobytes()
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_folder(self.path.parent)
            with open(open_private(self.path, os.O_RDWR | os.O_CREAT), "r+b", buffering=0) as file:
                file.seek(self._offset(key))
                file.write(body + self._seal(text, body, secret))
        except OSError:
            return  # asked again, the encoder answers again

    @property
    def _slot_bytes(self) -> int:
        return 2 * _DIGEST_BYTES + self._dim * _FLOAT.itemsize

    def _offset(self, key: bytes) -> int:
        return int.from_bytes(key, "little") % SLOTS * self._slot_bytes

    def _place(self, text: str, secret: bytes) -> bytes:
        return _digest(self._encoder, text, b"", secret)

    def _seal(self, text: str, body: bytes, secret: bytes) -> bytes:
        return _digest(self._encoder, text, body, secret)

    def _read_secret(self, *, make: bool = False) -> bytes:
        """Return the secret of this user. make: create it if it does not exist. Raises OSError."""
        if self._secret is None:
            self._secret = read_secret(state_dir() / _SECRET, make=make)
        return self._secret


def _digest(encoder: bytes, text: str, body: bytes, secret: bytes) -> bytes:
    said = text.encode("utf-8", "surrogatepass")
    lengths = b"%d %d %d " % (len(encoder), len(said), len(body))
    return hashlib.blake2b(lengths + encoder + said + body, key=secret, digest_size=_DIGEST_BYTES).digest()
