"""An index on a Milvus server: a collection of numbered rows, found by the IVF_PQ that the server trains.

The server ranks by Euclidean distance. All rows have unit length, so a query q that is made longer, by s, ranks rows as
its inner products do: |s q - x|² = s² + |x|² - 2 s (q . x). Lists are ranked by |s q - c|², which is the order of
`q . c - |c|² / (2 s)`: the `radius` of a Probe is 1 / (2 s), so one calibration fits this index and that of FAISS.

What a server answers is not to be trusted: row numbers are checked, and every score is computed again from the rows of
the library.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.base import Probe
from clipsearch.ann.calibrate import RADII
from clipsearch.ann.flat import no_neighbors
from clipsearch.ann.milvus_params import MilvusParams, library_of, library_of_name
from clipsearch.ann.milvus_server import MAX_LIMIT, MilvusServer
from clipsearch.errors import AnnIndexError, IndexServerError
from clipsearch.float16 import widen
from clipsearch.types import Neighbors

KIND = "milvus"

MAX_NPROBE = 65_536

RETRY_SECONDS = 15.0
"""Seconds until a server that failed is tried again; until then, searches are exact."""

_ANSWERS_AT_ONCE = 1 << 18
_SPARE = 1.2
"""More rows than needed on average are asked for where some may not be returned."""


class MilvusIndex:
    """The collection of one modality on a server. It is found and checked at the first use.

    Searching raises IndexServerError while the server does not answer, and for a collection that is not the one that
    the catalog describes.
    """

    kind = KIND

    def __init__(self, params: MilvusParams, server: MilvusServer, rows: int = 0, label: str = "") -> None:
        """Name a collection. rows: how many it holds. label: of a new one; see `train`."""
        self._params, self._server, self._rows, self._label = params, server, rows, label
        self._lock = threading.Lock()
        self._is_checked = False
        self._has_more = False
        self._failed: tuple[float, IndexServerError] | None = None

    @property
    def params(self) -> Mapping[str, Any]:
        """The MilvusParams as a mapping."""
        return asdict(self._params)

    @property
    def nlist(self) -> int:
        """How many inverted lists each segment has."""
        return self._params.nlist

    @property
    def collection(self) -> str:
        """The name of the collection."""
        return self._params.collection

    def __len__(self) -> int:
        return self._rows

    def train(self, sample: NDArray[np.float32]) -> None:
        """Make the collection, empty; the server learns from what is added. The sample only says the dimension."""
        if sample.shape[1:] != (self._params.dim,):
            raise AnnIndexError(f"The index is of {self._params.dim} dimensions, not {sample.shape[1:]}.")
        self._server.create(self.collection, self._params.padded_dim, self._label)

    def add(self, rows: NDArray[np.float16]) -> None:
        """Send rows (n, dim), numbered after those already there."""
        self._server.insert(self.collection, self._rows, self._padded(widen(rows)))
        self._rows += len(rows)

    def clear_unfinished(self) -> None:
        """Delete what a build that was cut off has added."""
        self._server.delete_from(self.collection, self._rows)

    def finish(self, own: NDArray[np.float32], waiting: Callable[[], None] = lambda: None) -> None:
        """Wait until the server has indexed and loaded all rows, count them, and measure how they find themselves.

        own: the first rows as queries, float32 (n, dim). Raises IndexServerError if rows are missing.
        """
        self._server.finish(self.collection, {"nlist": self.nlist, "m": self._params.m}, waiting)
        found = self._server.count(self.collection, is_strong=True)
        if found != self._rows:
            raise IndexServerError(
                f"The Milvus server at {self._params.uri} holds {found:,} rows of {self._rows:,}. Build the index "
                "again: clipsearch build"
            )
        self._is_checked = True
        self._params = replace(self._params, own_score=self._measure_own(own))

    def _measure_own(self, own: NDArray[np.float32]) -> float:
        numbers, least = np.arange(len(own)), 1.0
        for radius in RADII:
            found = self.search(own, 20, probe=Probe(self.nlist, radius))
            scores = found.scores[found.ids == numbers[:, None]]
            least = min(least, float(scores.min(initial=1.0)))
        return least

    def check(self) -> None:
        """See that the server has the collection, loaded. Raises IndexServerError; MissingCollectionError if not."""
        with self._lock:
            self._is_checked = False
        self._ready()

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        probe: Probe | None = None,
    ) -> Neighbors:
        """Find about the k best rows of each query; scores are estimates. At most MAX_LIMIT rows are returned."""
        self._ready()
        probe = probe or Probe(nprobe=self.nlist)
        k = max(1, min(k, self._rows, MAX_LIMIT))
        mask = None if allowed is None else allowed[: self._rows]
        share = 1.0 if mask is None else float(np.count_nonzero(mask)) / max(self._rows, 1)
        if not share or not len(queries):
            return no_neighbors(len(queries), k)
        limit = k if mask is None else math.ceil(k * _SPARE / share)
        limit = min(limit, self._rows, MAX_LIMIT)
        size = max(1, _ANSWERS_AT_ONCE // limit)
        try:
            parts = [
                self._masked(queries[start : start + size], k, limit, mask, probe)
                for start in range(0, len(queries), size)
            ]
        except IndexServerError as error:
            raise self._remembered(error) from error
        return Neighbors(np.concatenate([p.ids for p in parts]), np.concatenate([p.scores for p in parts]))

    def own_scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the least score that rows got as queries for themselves: float32 (n,). It is measured, not proven."""
        return np.full(len(queries), self._params.own_score, np.float32)

    def scanned(self, queries: NDArray[np.float32], probe: Probe) -> float:
        """Return how many rows a query looks at on average, if lists are of one length."""
        return self._rows * min(1.0, probe.nprobe / self.nlist)

    def close(self) -> None:
        """Close the connection, if there is one; the next call makes another."""
        with suppress(IndexServerError):
            self._server.close()

    def drop(self) -> None:
        """Delete the collection."""
        self._server.drop(self.collection)

    def save(self, folder: Path) -> None:
        """Write where the collection is, for people: the catalog has it too."""
        (folder / "collection.json").write_text(json.dumps(asdict(self._params), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> Self:
        """Name the collection of a generation; the server is not asked yet. Raises AnnIndexError for wrong params."""
        try:
            found = MilvusParams(**params)
            found.check()
        except TypeError as error:
            raise AnnIndexError(f"The Milvus index in {folder} cannot be read: {error}.") from error
        return cls(found, MilvusServer(found.uri), found.rows)

    @classmethod
    def over(cls, params: Mapping[str, Any], rows: int) -> Self:
        """Name the collection of a generation that holds `rows` rows. Raises AnnIndexError for wrong params."""
        index = cls.load(Path(), params)
        index._rows = rows
        return index

    def _padded(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        more = self._params.padded_dim - self._params.dim
        return np.pad(rows, ((0, 0), (0, more))) if more else rows

    def _ready(self) -> None:
        """See once that the server has what the catalog says; at once an error while it is known to fail."""
        with self._lock:
            if self._failed is not None and time.monotonic() < self._failed[0]:
                raise self._failed[1]
            if self._is_checked:
                return
            self._failed = None
            try:
                self._examine()
            except IndexServerError as error:
                self._failed = time.monotonic() + RETRY_SECONDS, error
                self.close()
                raise
            self._is_checked = True

    def _remembered(self, error: IndexServerError) -> IndexServerError:
        """Keep a failure for a while, and have the server examined again after it."""
        with self._lock:
            self._failed, self._is_checked = (time.monotonic() + RETRY_SECONDS, error), False
            self.close()  # to connect again shows sooner whether the server is there than to wait for it
        return error

    def _examine(self) -> None:
        params, server = self._params, self._server
        found = server.describe(self.collection)
        if found is None:
            raise MissingCollectionError(
                f"The Milvus server at {params.uri} has no collection {self.collection}. Build the index again: "
                "clipsearch build"
            )
        if found[1] != params.padded_dim or library_of(found[0]) != library_of_name(self.collection):
            raise MissingCollectionError(
                f"The collection {self.collection} on the Milvus server at {params.uri} is not of this library. Build "
                "the index again: clipsearch build"
            )
        if not server.is_loaded(self.collection):
            server.begin_loading(self.collection)
            raise IndexServerError(f"The Milvus server at {params.uri} is still loading the index. Ask again later.")
        held, total = server.count(self.collection, self._rows), server.count(self.collection)
        if held != self._rows:
            raise MissingCollectionError(
                f"The collection {self.collection} on the Milvus server at {params.uri} holds {held:,} of the "
                f"{self._rows:,} rows of the index. Build the index again: clipsearch build"
            )
        self._has_more = total > held

    def _masked(
        self, queries: NDArray[np.float32], k: int, limit: int, mask: NDArray[np.bool_] | None, probe: Probe
    ) -> Neighbors:
        """Ask for ever more rows, until k of each query may be returned or the server has no more."""
        while True:
            found = self._ask(queries, limit, probe)
            ids, scores = found.ids, found.scores
            if mask is not None:
                passes = (ids >= 0) & mask[np.maximum(ids, 0)]
                ids, scores = np.where(passes, ids, -1), np.where(passes, scores, np.float32(-np.inf))
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            best = Neighbors(np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1))
            is_short = (best.ids < 0).any(axis=1) & (found.ids[:, -1] >= 0)
            if not is_short.any() or limit >= min(MAX_LIMIT, self._rows):
                return best
            limit = min(4 * limit, MAX_LIMIT, self._rows)

    def _ask(self, queries: NDArray[np.float32], limit: int, probe: Probe) -> Neighbors:
        radius = probe.radius if 0.01 <= probe.radius <= 10 else Probe().radius
        scale = np.float32(1 / (2 * radius))
        nprobe = max(1, min(probe.nprobe, self.nlist, MAX_NPROBE))
        longer = self._padded(queries.astype(np.float32) * scale)
        below = self._rows if self._has_more else None
        ids, distances = self._server.search(self.collection, longer, limit, nprobe, below)
        if below is None and (ids >= self._rows).any():  # a build adds to the collection
            self._has_more = True
            ids, distances = self._server.search(self.collection, longer, limit, nprobe, self._rows)
        scores = (np.einsum("nd,nd->n", longer, longer)[:, None] + 1 - distances) / (2 * scale)
        return sanitized(ids, scores, self._rows)


class MissingCollectionError(IndexServerError):
    """A server that answers, but does not hold what the catalog says."""


def sanitized(ids: NDArray[np.int64], scores: NDArray[np.float32], rows: int) -> Neighbors:
    """Return an answer, both (n_queries, any), without what cannot be: empty places for it, at the end.

    These are numbers of no row, rows that are named twice for a query, and scores that are not finite.
    """
    valid = (ids >= 0) & (ids < rows) & np.isfinite(scores)
    order = np.argsort(ids, axis=1, kind="stable")
    in_order = np.take_along_axis(ids, order, 1)
    again = np.zeros(ids.shape, np.bool_)
    np.put_along_axis(again, order[:, 1:], in_order[:, 1:] == in_order[:, :-1], 1)
    valid &= ~again
    scores = np.where(valid, scores, np.float32(-np.inf)).astype(np.float32)
    best = np.argsort(-scores, axis=1, kind="stable")
    return Neighbors(np.take_along_axis(np.where(valid, ids, -1), best, 1), np.take_along_axis(scores, best, 1))
