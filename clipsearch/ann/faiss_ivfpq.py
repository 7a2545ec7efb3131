"""Inverted lists of product-quantised rows (IVF-PQ) with 4-bit codes that are scanned in registers, by FAISS.

Jégou, Douze, Schmid: Product quantization for nearest neighbor search, PAMI 2011; André, Kermarrec, Le Scouarnec:
Cache locality is not enough, VLDB 2015 (fast scan). What is done for text queries, which lie far from the pictures they
look for, was measured by benchmarks/ann/remedies.py:

Rows are centred on the mean of the sample: a ranking by inner product does not change, and what both modalities have
in common costs no precision. They are then rotated so that every sub-quantiser gets dimensions of the same product of
variances (parametric optimised product quantization: Ge, He, Ke, Sun, PAMI 2014), a closed form. Codes are of what
a row differs by from its list's centroid. Lists are ranked by `q . c - radius * |c| ** 2`: the farther a centroid lies
out on the unit sphere, the closer its rows lie around it, and the less they reach beyond it.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann import coarse
from clipsearch.ann.base import Probe
from clipsearch.ann.faiss_runtime import import_faiss, mapped_errors
from clipsearch.ann.rotation import balancing_rotation
from clipsearch.errors import AnnIndexError
from clipsearch.float16 import widen
from clipsearch.types import Neighbors

MIN_ROWS = 256
"""Below this many rows there is nothing to learn, and a scan is instant anyway."""

NBITS = 4
BLOCK_CODES = 32
ID_BYTES = 8
MAX_CODEBOOK_ROWS = 65_536
_INDEX, _TRANSFORM = "index.faiss", "transform.npz"
_SCORES_AT_ONCE = 1 << 24
_KEPT_QUERIES = 1024
"""A thread remembers the lists that it searched for at most this many queries."""


@dataclass(frozen=True, slots=True)
class IvfPqParams:
    """nlist: inverted lists; 1 scans all codes. m: sub-quantisers, each of 4 bits. rows: how many it was made for."""

    dim: int
    nlist: int
    m: int
    rows: int = 0

    def memory(self, rows: int) -> int:
        """Return the bytes that an index of so many rows takes: codes, numbers, centroids and the rotation.

        FAISS gives each list's codes a power of two of bytes; over many lists that is about half more than they need.
        """
        code = self.m * NBITS // 8
        codes = 1.5 * code * rows if self.nlist > 1 else 2 ** math.ceil(math.log2(max(1, code * rows)))
        return int(codes) + ID_BYTES * rows + 4 * self.nlist * self.padded_dim + 4 * self.dim * self.padded_dim

    def disk(self, rows: int) -> int:
        """Return the bytes of the files of an index. Codes are stored in blocks; half a block is empty on average."""
        code = self.m * NBITS // 8
        codes = code * (rows + self.nlist * (BLOCK_CODES - 1) // 2)
        learnt = self.nlist + self.dim + (1 << NBITS)
        return codes + ID_BYTES * (rows + 2 * self.nlist) + 4 * self.padded_dim * learnt

    @property
    def padded_dim(self) -> int:
        """The dimension in which it is quantised: the least multiple of m that holds a row."""
        return -(-self.dim // self.m) * self.m


class _Search(NamedTuple):
    """Queries as they were searched for. homes: the lists in which rows like them would be."""

    queries: NDArray[np.float32]
    turned: NDArray[np.float32]
    homes: NDArray[np.int64]


class IvfPqIndex:
    """The FAISS index of one modality; the kind `pq4` is one with a single list."""

    def __init__(self, params: IvfPqParams) -> None:
        if params.m < 2 or params.m % 2 or params.nlist < 1:
            raise AnnIndexError(f"IVF-PQ needs an even number of sub-quantisers and at least one list, not {params}.")
        self._params = params
        self._mean = np.zeros(params.dim, np.float32)
        self._rotation = np.eye(params.dim, params.padded_dim, dtype=np.float32)
        self._distortion = 0.0
        self._groups = np.empty((0, params.padded_dim), np.float32)
        self._index: Any = None
        self._quantizer: Any = None
        self._grouped: coarse.Groups | None = None
        self._last = threading.local()
        self._sizes: NDArray[np.int64] | None = None
        self._diameters: NDArray[np.float32] | None = None
        self._centroids = self._norms = self._offsets = np.empty(0, np.float32)

    @property
    def kind(self) -> str:
        """`ivfpq`, or `pq4` for one list."""
        return "ivfpq" if self._params.nlist > 1 else "pq4"

    @property
    def params(self) -> Mapping[str, Any]:
        """The IvfPqParams as a mapping."""
        return asdict(self._params)

    @property
    def nlist(self) -> int:
        """How many inverted lists there are."""
        return self._params.nlist

    def __len__(self) -> int:
        return 0 if self._index is None else int(self._index.ntotal)

    def train(self, sample: NDArray[np.float32]) -> None:
        """Learn mean, lists, rotation and codebooks. Raises AnnIndexError below MIN_ROWS rows."""
        if len(sample) < MIN_ROWS:
            raise AnnIndexError(
                f"IVF-PQ needs {MIN_ROWS} vectors to learn from, but there are {len(sample)}. Use flat."
            )
        self._mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = sample - self._mean
        with mapped_errors("IVF-PQ", "trained"):
            few = np.ascontiguousarray(centred[:: -(-len(centred) // MAX_CODEBOOK_ROWS)])
            centroids, groups = coarse.cluster(centred, self._params.nlist)
            residuals = few - centroids[coarse.nearest(few, centroids)]
            self._rotation = balancing_rotation(residuals, self._params.m)
            if self._params.nlist > coarse.LOOKED_UP_AT_ONCE:
                self._groups = groups @ self._rotation
            quantizer = coarse.flat(centroids @ self._rotation)
            self._adopt(self._empty(quantizer), quantizer)
            turned = np.ascontiguousarray(residuals @ self._rotation)
            self._index.pq.train(turned)
            self._index.is_trained = True
            self._distortion = self._loss(turned)

    def add(self, rows: NDArray[np.float16]) -> None:
        """Add rows (n, dim)."""
        turned = self._turned(widen(rows) - self._mean)
        with mapped_errors("IVF-PQ", "filled"):
            if self._grouped is None:
                self._index.add(turned)
            else:
                self._add_by_groups(self._grouped, turned)
        self._sizes = None

    def _add_by_groups(self, grouped: coarse.Groups, turned: NDArray[np.float32]) -> None:
        """Add rows group by group: for each, FAISS is given the centroids around it alone."""
        first = len(self)
        owns = self._quantizer.thisown
        try:
            for group, places in grouped.split(turned):
                near = grouped.around(group)
                self._index.quantizer = near
                near.thisown = True  # to set an attribute of FAISS takes that away, so nobody would free it
                self._index.add_with_ids(turned[places], first + places)
        finally:
            self._index.quantizer = self._quantizer
            self._quantizer.thisown = owns

    def distortion(self, rows: NDArray[np.float32]) -> float:
        """Compare rows (n, dim) with those it learnt from: mean squared error of coding them, 1.0 for the same."""
        with mapped_errors("IVF-PQ", "measured"):
            placed = self._turned(rows - self._mean)
            home = self._lists_of(placed)
            return self._loss(placed - self._centroids[home]) / max(self._distortion, 1e-12)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        probe: Probe | None = None,
    ) -> Neighbors:
        """Find about the k best rows of each query; scores are estimates."""
        probe = probe or Probe()
        k = max(1, min(k, len(self)))
        size = max(1, _SCORES_AT_ONCE // (self.nlist + k))
        parts = [self._search(queries[i : i + size], k, allowed, probe) for i in range(0, max(1, len(queries)), size)]
        return Neighbors(np.concatenate([p.ids for p in parts]), np.concatenate([p.scores for p in parts]))

    def own_scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the least score that `search` can give a row equal to each query (n, dim): float32 (n,).

        Such a row has the list and the code of the query as float16, so its score is known but for the rounding of
        FAISS, which scans with tables of 8 bits: at most half a step for each sub-quantiser.
        """
        turned, homes = self._searched(queries)
        home = self._centroids[homes]
        with mapped_errors("IVF-PQ", "searched"):
            quantizer = self._index.pq
            row = quantizer.decode(quantizer.compute_codes(turned - self._mean @ self._rotation - home))
        row += home
        parts = turned.reshape(len(turned), self._params.m, -1)
        lengths = np.sqrt(np.einsum("nmd,nmd->nm", parts, parts))
        steps = (lengths * self._code_diameters()).max(axis=1, initial=0) / np.float32(255)
        scores = np.einsum("nd,nd->n", turned, row) + queries @ self._mean
        own: NDArray[np.float32] = scores - steps * np.float32(self._params.m / 2)
        return own

    def _searched(self, queries: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return queries turned, and the lists of rows like them; as this thread's last search had them, if it can."""
        last: _Search | None = getattr(self._last, "search", None)
        if last is not None and np.array_equal(last.queries, queries):
            return last.turned, last.homes
        turned = self._turned(widen(queries.astype(np.float16)))
        with mapped_errors("IVF-PQ", "searched"):
            return turned, self._lists_of(turned - self._mean @ self._rotation)

    def _code_diameters(self) -> NDArray[np.float32]:
        """Return the largest distance between two codes of each sub-quantiser: float32 (m,).

        The entries of a query's table for it differ by no more than this times the length of that part of the query.
        """
        if self._diameters is None:
            centroids = import_faiss().vector_to_array(self._index.pq.centroids)
            books = centroids.reshape(self._params.m, 1 << NBITS, -1)
            apart = books[:, :, None] - books[:, None]
            self._diameters = np.sqrt((apart**2).sum(axis=3).max(axis=(1, 2)))
        return self._diameters

    def scanned(self, queries: NDArray[np.float32], probe: Probe) -> float:
        """Return how many rows a query looks at on average."""
        lists, _, _ = self._route(self._turned(queries), probe)
        return float(self.list_sizes()[lists].sum(axis=1).mean())

    def list_sizes(self) -> NDArray[np.int64]:
        """Return how many rows each list holds: int64 (nlist,)."""
        if self._sizes is None:
            lists = self._index.invlists
            self._sizes = np.array([lists.list_size(i) for i in range(self.nlist)], np.int64)
        return self._sizes

    def save(self, folder: Path) -> None:
        """Write the FAISS index, and what is done to a row before."""
        faiss = import_faiss()
        with mapped_errors("IVF-PQ", f"written to {folder}"):
            with _plain_path(folder) as place:
                faiss.write_index(self._index, f"{place}/{_INDEX}")
        path, loss = folder / _TRANSFORM, self._distortion
        np.savez(path, mean=self._mean, rotation=self._rotation, distortion=loss, groups=self._groups)

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> Self:
        """Read an index. Raises AnnIndexError if it cannot be read or is not the one described.

        It is read into memory: FAISS maps no packed codes, and with IO_FLAG_MMAP_IFC it holds both them and the file.
        """
        faiss = import_faiss()
        try:
            index = cls(IvfPqParams(**params))
            with _plain_path(folder) as path:
                loaded = faiss.read_index(f"{path}/{_INDEX}")
            with np.load(folder / _TRANSFORM, allow_pickle=False) as stored:
                index._mean, index._rotation = stored["mean"], stored["rotation"]
                index._distortion = float(stored["distortion"])
                index._groups = stored["groups"] if "groups" in stored else index._groups
        except (RuntimeError, OSError, ValueError, TypeError, EOFError, KeyError) as error:
            raise AnnIndexError(f"The index in {folder} cannot be read: {error}.") from error
        dim = index._params.padded_dim
        expected = (dim, index._params.nlist, index._params.dim, dim)
        found = (loaded.d, getattr(loaded, "nlist", 0), len(index._mean), index._groups.shape[-1])
        if not isinstance(loaded, faiss.IndexIVFPQFastScan) or expected != found:
            raise AnnIndexError(f"The index in {folder} is not the IVF-PQ index of {index._params}.")
        index._adopt(loaded, faiss.downcast_index(loaded.quantizer))
        return index

    def emptied(self) -> Self:
        """Return an index that has learnt the same and holds no row."""
        faiss = import_faiss()
        other = type(self)(self._params)
        other._mean, other._rotation, other._distortion = self._mean, self._rotation, self._distortion
        other._groups = self._groups
        quantizer = coarse.flat(self._centroids)
        other._adopt(other._empty(quantizer), quantizer)
        faiss.copy_array_to_vector(faiss.vector_to_array(self._index.pq.centroids), other._index.pq.centroids)
        other._index.is_trained = True
        return other

    def _loss(self, residuals: NDArray[np.float32]) -> float:
        """Return the mean squared error of coding residuals (n, padded dim)."""
        decoded = self._index.pq.decode(self._index.pq.compute_codes(residuals))
        return float(((residuals - decoded) ** 2).sum(axis=1).mean())

    def _empty(self, quantizer: Any) -> Any:  # noqa: ANN401
        faiss = import_faiss()
        p = self._params
        metric = faiss.METRIC_INNER_PRODUCT
        index = faiss.IndexIVFPQFastScan(quantizer, p.padded_dim, p.nlist, p.m, NBITS, metric, BLOCK_CODES)
        index.by_residual = True
        # How many rows to learn from is our decision; FAISS would warn on stderr.
        index.pq.cp.min_points_per_centroid = 1
        index.pq.cp.max_points_per_centroid = MAX_CODEBOOK_ROWS >> NBITS
        return index

    def _adopt(self, index: Any, quantizer: Any) -> None:  # noqa: ANN401
        """Use a FAISS index; its centroids are looked at where it keeps them."""
        faiss = import_faiss()
        self._index, self._quantizer = index, quantizer  # the second owns the centroids
        self._sizes = self._diameters = None
        shape = (self.nlist, self._params.padded_dim)
        self._centroids = faiss.rev_swig_ptr(quantizer.get_xb(), shape[0] * shape[1]).reshape(shape)
        self._norms = (self._centroids**2).sum(axis=1)
        self._offsets = self._centroids @ (self._mean @ self._rotation) + 0.5 * self._norms
        self._grouped = coarse.Groups(self._centroids, self._groups) if len(self._groups) else None
        self._last = threading.local()

    def _turned(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        turned: NDArray[np.float32] = np.ascontiguousarray(rows @ self._rotation, np.float32)
        return turned

    def _route(
        self, turned: NDArray[np.float32], probe: Probe
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Choose the lists of each turned query: their numbers and inner products, both (n_queries, nprobe).

        Returns also the list in which a row like each query would be: (n_queries,).
        """
        products = turned @ self._centroids.T
        homes = self._home(turned, products)
        nprobe = min(probe.nprobe, self.nlist)
        if nprobe == self.nlist:
            lists = np.broadcast_to(np.arange(self.nlist), products.shape)
        else:
            merit = products - np.float32(probe.radius) * self._norms
            # where a row like the query would be: a picture must find itself
            merit[np.arange(len(merit)), homes] = np.inf
            lists = coarse.best_columns(merit, nprobe)
        return np.ascontiguousarray(lists, np.int64), np.take_along_axis(products, lists, 1), homes

    def _home(self, turned: NDArray[np.float32], products: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the list in which a row like each query would be: int64 (n_queries,)."""
        scores = products - self._offsets
        if self._grouped is not None:
            return self._grouped.best(scores, turned - self._mean @ self._rotation)
        nearest: NDArray[np.int64] = scores.argmax(axis=1)
        return nearest

    def _lists_of(self, turned: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the lists in which rows, centred and turned, are: int64 (n,)."""
        if self._grouped is not None:
            return self._grouped.assign(turned)
        lists: NDArray[np.int64] = self._quantizer.assign(turned, 1)[:, 0]
        return lists

    def _search(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.bool_] | None, probe: Probe
    ) -> Neighbors:
        faiss = import_faiss()
        rounded = widen(queries.astype(np.float16))  # as the rows are: equal ones share a list
        turned = self._turned(rounded)
        lists, products, homes = self._route(turned, probe)
        self._last.search = _Search(queries.copy(), turned, homes) if len(queries) <= _KEPT_QUERIES else None
        options = faiss.SearchParametersIVF(nprobe=lists.shape[1])
        if allowed is not None:
            # FAISS keeps bare pointers: bits and selector must live until the search is over.
            bits = np.packbits(allowed[: len(self)], bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            options.sel = selector
        ids, scores = np.empty((len(turned), k), np.int64), np.empty((len(turned), k), np.float32)
        with mapped_errors("IVF-PQ", "searched"):
            arrays = [faiss.swig_ptr(array) for array in (lists, products, scores, ids)]
            self._index.search_preassigned_c(len(turned), faiss.swig_ptr(turned), k, *arrays, False, options, None)
        scores = np.where(ids < 0, np.float32(-np.inf), scores + (queries @ self._mean)[:, None])
        return Neighbors(ids, scores)


@contextmanager
def _plain_path(folder: Path) -> Iterator[str]:
    """Give a folder's path as FAISS takes it, which is UTF-8; where it is not, a name of the open folder."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        yield str(folder)
