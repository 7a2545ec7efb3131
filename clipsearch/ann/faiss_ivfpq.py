"""Inverted lists of product-quantised rows (IVF-PQ), by FAISS.

Jégou, Douze, Schmid: Product quantization for nearest neighbor search, PAMI 2011. Rows are centred on the mean of
the training sample first: for a ranking by inner product that only shifts each query's scores by a constant, and it
leaves the quantiser more precision where text and picture vectors lie far from the origin.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import AnnIndexError
from clipsearch.types import Neighbors

MIN_ROWS = 256
"""Below this many rows an 8-bit quantiser cannot be trained, and a scan is instant anyway."""

_INDEX, _MEAN = "index.faiss", "mean.npy"


@dataclass(frozen=True, slots=True)
class IvfPqParams:
    """nlist: inverted lists. m: sub-quantisers, a divisor of dim. nbits: bits a code. nprobe: lists searched."""

    dim: int
    nlist: int
    m: int
    nbits: int = 8
    nprobe: int = 16

    @classmethod
    def for_rows(cls, rows: int, dim: int) -> IvfPqParams:
        """Choose for a number of rows: about 4 sqrt(rows) lists of 39 rows or more, 4 dimensions a code byte."""
        nlist = max(1, min(int(4 * rows**0.5), rows // 39))
        m = next(m for m in range(max(1, dim // 4), 0, -1) if dim % m == 0)
        return cls(dim, nlist, m, 8, max(1, min(nlist, max(16, nlist // 8))))


class IvfPqIndex:
    """The FAISS IVF-PQ index of one modality."""

    kind = "ivfpq"

    def __init__(self, params: IvfPqParams) -> None:
        faiss = _import_faiss()
        self._params = params
        self._mean = np.zeros(params.dim, np.float32)
        quantizer = faiss.IndexFlatIP(params.dim)
        self._index = faiss.IndexIVFPQ(
            quantizer, params.dim, params.nlist, params.m, params.nbits, faiss.METRIC_INNER_PRODUCT
        )
        # The number of training rows is our decision; FAISS would warn on stderr, once a sub-quantiser.
        self._index.cp.min_points_per_centroid = 1
        self._index.pq.cp.min_points_per_centroid = 1

    @property
    def params(self) -> Mapping[str, Any]:
        """The IvfPqParams as a mapping."""
        return asdict(self._params)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def train(self, sample: NDArray[np.float32]) -> None:
        """Learn mean, lists and codebooks. Raises AnnIndexError below MIN_ROWS rows."""
        if len(sample) < MIN_ROWS:
            raise AnnIndexError(f"IVF-PQ needs {MIN_ROWS} vectors to learn from, there are {len(sample)}. Use flat.")
        self._mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
        with _mapped_errors("trained"):
            self._index.train(np.ascontiguousarray(sample - self._mean, np.float32))

    def add(self, rows: NDArray[np.float16]) -> None:
        """Add rows (n, dim)."""
        with _mapped_errors("filled"):
            self._index.add(np.ascontiguousarray(rows.astype(np.float32) - self._mean))

    def search(self, queries: NDArray[np.float32], k: int, *, allowed: NDArray[np.bool_] | None = None) -> Neighbors:
        """Find about the k best rows of each query; scores are estimates."""
        faiss = _import_faiss()
        options = faiss.SearchParametersIVF(nprobe=self._params.nprobe)
        if allowed is not None:
            # FAISS keeps bare pointers: bits and selector must live until the search is over.
            bits = np.packbits(allowed[: len(self)], bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            options.sel = selector
        queries = np.ascontiguousarray(queries, np.float32)
        with _mapped_errors("searched"):
            scores, ids = self._index.search(queries, min(k, max(1, len(self))), params=options)
        scores = np.where(ids < 0, -np.inf, scores + (queries @ self._mean)[:, None]).astype(np.float32)
        return Neighbors(ids.astype(np.int64), scores)

    def save(self, folder: Path) -> None:
        """Write the FAISS index and the mean."""
        faiss = _import_faiss()
        with _mapped_errors(f"written to {folder}"):
            faiss.write_index(self._index, str(folder / _INDEX))
        np.save(folder / _MEAN, self._mean)

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> Self:
        """Read an index. Raises AnnIndexError if it cannot be read or is not the one described."""
        faiss = _import_faiss()
        try:
            index = cls(IvfPqParams(**params))
            loaded = faiss.read_index(str(folder / _INDEX), faiss.IO_FLAG_MMAP_IFC)
            index._mean = np.load(folder / _MEAN, allow_pickle=False)
        except (RuntimeError, OSError, ValueError, TypeError, EOFError) as error:
            raise AnnIndexError(f"The index in {folder} cannot be read: {error}.") from error
        if not isinstance(loaded, faiss.IndexIVFPQ) or loaded.d != index._params.dim:
            raise AnnIndexError(f"The index in {folder} is not the IVF-PQ index of {index._params.dim} dimensions.")
        index._index = loaded
        return index


@contextmanager
def _mapped_errors(what: str) -> Iterator[None]:
    """Turn what FAISS raises into AnnIndexError."""
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition(" at ")[0] or "wrong dimensions"
        raise AnnIndexError(
            f"The IVF-PQ index could not be {what}: {reason}. Search stays exact; `clipsearch build` tries again."
        ) from error


def _import_faiss() -> Any:  # noqa: ANN401
    """Import FAISS with OpenMP threads that sleep while they wait.

    By default they spin, and beside another busy process or runtime training takes many times as long. The
    variable is read when the OpenMP library is loaded, so it must be set before.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import faiss

    return faiss
