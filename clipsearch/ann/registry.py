"""Which kinds of index there are, and which one fits: the ladder from an exact scan to inverted lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipsearch.ann.base import AnnIndex, RowSource
from clipsearch.ann.calibrate import Calibration
from clipsearch.errors import AnnIndexError, InvalidInputError

KINDS = ("auto", "flat", "pq4", "ivfpq", "torch_flat", "faiss_flat", "milvus")
"""What `clipsearch build --index` takes; `auto` chooses flat, pq4 or ivfpq."""

APPROXIMATE = ("pq4", "ivfpq")
"""The kinds that are files of their own; the others search the rows of the library, or a server."""

REMOTE = "milvus"
"""The kind that is a collection on a server."""

CALIBRATED = (*APPROXIMATE, REMOTE)
"""The kinds that find most of the nearest rows, not all."""

_BYTES_A_VALUE = {"torch_flat": 2, "faiss_flat": 4}

PQ4_ROWS, IVFPQ_ROWS = 50_000, 200_000
"""From so many rows of 512 dimensions on each step of the ladder pays: benchmarks/ann/ladder.py."""

REFERENCE_DIM = 512
FEW_DIMENSIONS = 256
MAX_LISTS = 65_536
"""A query is compared with the centroid of each list, so more would cost more than they save."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A kind of index and how it is made. m: sub-quantisers, of kinds that have them."""

    kind: str
    nlist: int = 1
    m: int = 0


def choose(kind: str, rows: int, dim: int, memory_budget: int = 0) -> Choice:
    """Choose an index for so many rows.

    kind: one of KINDS; too few rows to learn from make any of them flat. memory_budget: bytes that the index may take,
    0 for what serves best. Raises InvalidInputError for a budget that nothing fits, AnnIndexError for an unknown kind.
    """
    from clipsearch.ann.faiss_ivfpq import MIN_ROWS

    if kind not in KINDS:
        raise AnnIndexError(f"There is no index of kind {kind!r}. Use one of: {', '.join(KINDS)}.")
    if kind == "auto":
        cost = rows * dim / REFERENCE_DIM
        kind = "ivfpq" if cost >= IVFPQ_ROWS else "pq4" if cost >= PQ4_ROWS else "flat"
    if kind == "flat" or not rows:
        return Choice("flat")
    if kind == REMOTE and memory_budget:
        raise InvalidInputError(
            "A memory budget is for indexes on this machine, and a Milvus server has its own memory. Leave out "
            "`--memory-budget` (in Python: memory_budget of engine.build)."
        )
    if kind in _BYTES_A_VALUE:
        _check_budget(_BYTES_A_VALUE[kind] * rows * dim, rows, dim, memory_budget)
        return Choice(kind)
    if rows < MIN_ROWS:
        return Choice("flat")
    if kind == REMOTE:
        from clipsearch.ann.milvus_params import choose_lists

        nlist, m = choose_lists(rows, dim)
        return Choice(kind, nlist, m)
    nlist = 1 if kind == "pq4" else max(2, min(MAX_LISTS, int(4 * rows**0.5), rows // 39))
    return Choice(kind, nlist, _sub_quantisers(rows, dim, nlist, memory_budget))


def _sub_quantisers(rows: int, dim: int, nlist: int, memory_budget: int) -> int:
    """Choose how finely rows are coded: a sub-quantiser for 4 dimensions; for 2 of few, for more if memory is short."""
    from clipsearch.ann.faiss_ivfpq import IvfPqParams

    options = sorted(
        {max(2, -(-dim // each) // 2 * 2) for each in ((2, 4) if dim < FEW_DIMENSIONS else (4, 6, 8, 16))}, reverse=True
    )
    sizes = {m: IvfPqParams(dim, nlist, m).memory(rows) for m in options}
    _check_budget(sizes[options[-1]], rows, dim, memory_budget)
    return next(m for m in options if not memory_budget or sizes[m] <= memory_budget)


def _check_budget(least: int, rows: int, dim: int, memory_budget: int) -> None:
    """Raise InvalidInputError if an index that takes at least so many bytes does not fit."""
    if memory_budget and least > memory_budget:
        raise InvalidInputError(
            f"An index of {rows:,} vectors of {dim} dimensions takes at least {least:,} bytes; the budget "
            f"is {memory_budget:,} bytes. Raise `--memory-budget`, or use `--index flat`, which needs none (in "
            "Python: memory_budget and index='flat' of engine.build)."
        )


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """An index that was read, and how much of it a search looks at."""

    index: AnnIndex
    calibration: Calibration


def open_generation(kind: str, folder: Path, params: Mapping[str, Any], rows: RowSource, watermark: int) -> OpenIndex:
    """Read a generation: an index of a kind that holds the first `watermark` rows, and its calibration.

    Raises AnnIndexError if either cannot be read; whether a server answers shows in the first search. FAISS may read a
    damaged file without an error: compare the files with their checksums first.
    """
    return OpenIndex(_load(kind, folder, params, rows, watermark), Calibration.load(folder))


def _load(kind: str, folder: Path, params: Mapping[str, Any], rows: RowSource, watermark: int) -> AnnIndex:
    if kind == "torch_flat":
        from clipsearch.ann.torch_flat import TorchFlatIndex

        return TorchFlatIndex.over(rows, stop=watermark)
    if kind == "faiss_flat":
        from clipsearch.ann.faiss_flat import FaissFlatIndex

        return FaissFlatIndex.over(rows, stop=watermark)
    if kind == REMOTE:
        from clipsearch.ann.milvus import MilvusIndex

        return MilvusIndex.over(params, watermark)
    if kind not in APPROXIMATE:
        raise AnnIndexError(f"There is no index of kind {kind!r}. Use one of: {', '.join(KINDS)}.")
    from clipsearch.ann.faiss_ivfpq import IvfPqIndex

    index = IvfPqIndex.load(folder, params)
    if len(index) != watermark:
        raise AnnIndexError(
            f"The index in {folder} holds {len(index):,} rows, not {watermark:,}. Build it again: clipsearch build"
        )
    return index
