"""Which kinds of index there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clipsearch.ann.base import AnnIndex
from clipsearch.errors import AnnIndexError

KINDS = ("auto", "flat", "ivfpq")
"""What `clipsearch build --index` takes; `auto` chooses one of the others."""

AUTO_IVFPQ_ROWS = 200_000
"""From this many rows on, `auto` builds IVF-PQ; below, a scan of the rows is fast enough."""


def choose(kind: str, rows: int) -> str:
    """Turn `auto` into a kind, and IVF-PQ into flat where there are too few rows to train it."""
    from clipsearch.ann.faiss_ivfpq import MIN_ROWS

    if kind == "auto":
        kind = "ivfpq" if rows >= AUTO_IVFPQ_ROWS else "flat"
    return "flat" if kind == "ivfpq" and rows < MIN_ROWS else kind


def create(kind: str, rows: int, dim: int) -> AnnIndex:
    """Make an empty index for about that many rows. Raises AnnIndexError for an unknown kind."""
    if kind == "flat":
        from clipsearch.ann.flat import FlatIndex

        return FlatIndex(dim)
    if kind == "ivfpq":
        from clipsearch.ann.faiss_ivfpq import IvfPqIndex, IvfPqParams

        return IvfPqIndex(IvfPqParams.for_rows(rows, dim))
    raise AnnIndexError(f"There is no index of kind {kind!r}; there are {', '.join(KINDS)}.")


def load(kind: str, folder: Path, params: Mapping[str, Any]) -> AnnIndex:
    """Read an index of a kind. Raises AnnIndexError if it cannot be read."""
    if kind == "ivfpq":
        from clipsearch.ann.faiss_ivfpq import IvfPqIndex

        return IvfPqIndex.load(folder, params)
    if kind == "flat":
        from clipsearch.ann.flat import FlatIndex

        return FlatIndex.load(folder, params)
    raise AnnIndexError(f"There is no index of kind {kind!r}; there are {', '.join(KINDS)}.")
