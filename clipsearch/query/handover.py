"""An embedded query as bytes, for a pipe between two processes: a line of JSON, then the vector as float32."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import ClipSearchError, InvalidInputError, MediaError, PictureError, TextError

Embedded = tuple[NDArray[np.float32], tuple[str, ...]]
"""A unit vector, float32 (dim,), and what the user should know about how it was made."""

_ERRORS: dict[str, type[ClipSearchError]] = {
    kind.__name__: kind for kind in (InvalidInputError, MediaError, PictureError, TextError)
}
_FLOAT = np.dtype("<f4")


def pack(done: Embedded | InvalidInputError | MediaError) -> bytes:
    """Return the bytes of a vector with its notes, or of an error as the nearest of its classes that is known here."""
    if isinstance(done, Exception):
        kind = next(each.__name__ for each in type(done).__mro__ if each.__name__ in _ERRORS)
        return json.dumps({"error": kind, "message": str(done)}).encode() + b"\n"
    vector, notes = done
    return json.dumps({"dim": len(vector), "notes": notes}).encode() + b"\n" + vector.astype(_FLOAT).tobytes()


def unpack(sent: bytes) -> Embedded | ClipSearchError | None:
    """Return what was packed; None for bytes that are not whole."""
    line, _, body = sent.partition(b"\n")
    try:
        head = json.loads(line)
        if "error" in head:
            return _ERRORS[head["error"]](head["message"])
        if len(body) != head["dim"] * _FLOAT.itemsize:
            return None
        return np.frombuffer(body, _FLOAT).astype(np.float32), tuple(map(str, head["notes"]))
    except (ValueError, KeyError, TypeError):
        return None
