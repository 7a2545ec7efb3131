"""Small operations on rows of vectors that several parts share."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=np.floating)

_LEAST_NORM = np.float32(1e-12)


def unit_rows(rows: NDArray[F]) -> NDArray[F]:
    """Return rows (..., dim) at unit length, in the same shape and dtype; a row of zeros stays one."""
    unit: NDArray[F] = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), _LEAST_NORM)
    return unit


def softmax(logits: NDArray[F]) -> NDArray[F]:
    """Turn logits (n, classes) into probabilities of the same shape and dtype, each row of which adds up to 1."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: NDArray[F] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def rowwise(rows: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.floating]:
    """Multiply rows (n, d) by a matrix (d, m), each by itself: a product of all rounds a row by what is beside it."""
    parts = [np.empty((0, matrix.shape[1]), np.result_type(rows, matrix)), *(row[None] @ matrix for row in rows)]
    return np.concatenate(parts)


def to_base64(numbers: NDArray[np.floating]) -> str:
    """Return numbers as JSON carries them: float32, the least significant byte first, in base64."""
    from base64 import b64encode

    return b64encode(numbers.astype("<f4").tobytes()).decode()


def from_base64(text: str) -> NDArray[np.float32]:
    """Read what `to_base64` wrote: float32 (n,). Raises ValueError for anything else."""
    from base64 import b64decode

    data = b64decode(text, validate=True)  # binascii.Error is a ValueError
    return np.frombuffer(data, "<f4").astype(np.float32)
