"""What a search is given, checked before anything is done."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError

_UNIT_ROUNDING = 1e-6
"""How far the length of a float32 unit row is from 1."""


def read_vectors(vectors: NDArray[np.floating] | None, dim: int) -> NDArray[np.float32]:
    """Return query vectors (n, dim) at unit length. Raises InvalidInputError for anything else."""
    rows = as_floats(vectors)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise InvalidInputError(f"Query vectors must have the shape (n, {dim}), not {rows.shape}.")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.all(np.isfinite(norms)) or np.any(norms == 0):
        raise InvalidInputError("A query vector is zero or holds NaN or infinity.")
    norms[np.abs(norms - 1) < _UNIT_ROUNDING] = 1  # an embedding stays what it is, to the bit
    unit: NDArray[np.float32] = (rows / norms).astype(np.float32)
    return unit


def as_floats(values: object) -> NDArray[np.float64]:
    """Return numbers as an array. Raises InvalidInputError for anything else."""
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"Query vectors must be numbers, all of the same length: {error}.") from error


def check_kinds(*kinds: object) -> None:
    """Raise InvalidInputError unless exactly one sequence of queries is given."""
    given = [kind for kind in kinds if kind is not None]
    if len(given) != 1:
        raise InvalidInputError(f"A batch takes one of texts, images and vectors, but {len(given)} were given.")
    if isinstance(given[0], str | bytes | os.PathLike):
        raise InvalidInputError("A batch takes a list of queries. For a single query, use `search`.")
