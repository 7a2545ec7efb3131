"""The seam between the engine and nearest-neighbour indexes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Neighbors


class RowSource(Protocol):
    """Vectors to build from or to scan: unit-length float16 rows, numbered from 0."""

    @property
    def dim(self) -> int:
        """Length of a row."""

    def __len__(self) -> int:
        """Count the rows."""

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read rows by number: float32 (n, dim)."""

    def blocks(
        self, start: int = 0, stop: int | None = None, size: int = 16384
    ) -> Iterator[tuple[int, NDArray[np.float16]]]:
        """Yield (number of the first row, float16 rows) over rows start to stop."""


@dataclass(frozen=True, slots=True)
class Probe:
    """How much of an approximate index a search looks at.

    nprobe: inverted lists that are scanned. radius: how the lists are ranked, by `q . c - radius * |c| ** 2` for a list
    with the centroid c: 0 ranks by inner product, 0.5 by Euclidean distance. candidates: rows that are scored again,
    exactly, for an answer of ten.
    """

    nprobe: int = 16
    radius: float = 0.25
    candidates: int = 200


@runtime_checkable
class AnnIndex(Protocol):
    """Nearest rows by inner product.

    Rows are added in order and are numbered from 0. Building is for one thread; after that, search is safe from
    several threads and changes nothing. Scores of an approximate index are estimates: the engine computes the exact
    ones again. `save` writes plain files; whoever calls it makes them durable and keeps their checksums.
    """

    @property
    def kind(self) -> str:
        """The name under which `clipsearch build --index` knows it."""

    @property
    def params(self) -> Mapping[str, Any]:
        """What the index was built with, as JSON values."""

    def __len__(self) -> int:
        """Count the rows added."""

    def train(self, sample: NDArray[np.float32]) -> None:
        """Learn from a sample (n, dim). Raises AnnIndexError if it is too small."""

    def add(self, rows: NDArray[np.float16]) -> None:
        """Add rows (n, dim) after those already there."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        probe: Probe | None = None,
    ) -> Neighbors:
        """Find the k best rows of each query (n_queries, dim).

        allowed: bool (at least the rows), which may be returned. probe: how much to look at; None for the index's own
        choice. An exact index has none to make.
        """

    def own_scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the least score that `search` can give a row equal to each query (n, dim): float32 (n,)."""

    def save(self, folder: Path) -> None:
        """Write the index into an existing empty folder."""

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> Self:
        """Read an index that `save` wrote. Raises AnnIndexError if it cannot be read."""
