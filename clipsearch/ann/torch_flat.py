"""Exact search as a matrix product, on a GPU if there is one, by PyTorch.

The rows lie on the device as float16. A block of them at a time is multiplied with the queries, which are split into
two float16 halves so that tensor cores lose nothing of them. These products only estimate: how they round depends on
the device. Every row that the estimate's error bound leaves a chance is therefore scored again in float64, and those
scores, rounded to float32, decide. So the answer does not depend on device, block size or batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.base import Probe, RowSource
from clipsearch.ann.flat import load_rows, no_neighbors, save_rows, squared_norms
from clipsearch.errors import AnnIndexError
from clipsearch.types import Neighbors

if TYPE_CHECKING:
    import torch

BLOCK_BYTES = {"cuda": 256 << 20, "cpu": 16 << 20}
"""Bytes of a block of scores, by type of device; a search holds a few blocks of that size beside the rows."""

_QUERIES = 1024
_CHUNK_ROWS = 1 << 17
_LOW_HALF = 2.0**11
_MAPPED = (RuntimeError, AssertionError, MemoryError)


@dataclass(frozen=True, slots=True)
class TorchFlatParams:
    """dim: length of a row."""

    dim: int


class TorchFlatIndex:
    """The exact index of one modality, held in the memory of a device."""

    kind = "torch_flat"

    def __init__(self, params: TorchFlatParams, *, device: str | None = None, block_bytes: int | None = None) -> None:
        """Make an empty index on a device: None for CUDA if there is one, else the CPU.

        block_bytes: limit of a block of scores; None for that of BLOCK_BYTES. Raises AnnIndexError without the device.
        """
        _let_threads_sleep()
        try:
            import torch
        except (ImportError, OSError) as error:
            raise AnnIndexError(f"torch_flat needs PyTorch, which cannot be loaded: {error}.") from error
        self._params = params
        name = device or ("cuda" if torch.cuda.is_available() else "cpu")
        with _mapped_errors(f"set up on {name}"):
            self._device = torch.empty(0, device=name).device
        self._block_bytes = block_bytes or BLOCK_BYTES.get(self._device.type, BLOCK_BYTES["cpu"])
        self._chunks: list[torch.Tensor] = []
        self._longest = 0.0

    @classmethod
    def over(cls, rows: RowSource, device: str | None = None, stop: int | None = None) -> Self:
        """Copy rows, such as those of a library, up to `stop` to a device. Raises AnnIndexError if they do not fit."""
        index = cls(TorchFlatParams(rows.dim), device=device)
        for _, block in rows.blocks(0, stop, size=_CHUNK_ROWS):
            index.add(block)
        return index

    @property
    def params(self) -> Mapping[str, Any]:
        """The TorchFlatParams as a mapping."""
        return asdict(self._params)

    def __len__(self) -> int:
        return sum(len(chunk) for chunk in self._chunks)

    def train(self, sample: NDArray[np.float32]) -> None:
        """Learn nothing: an exact index has nothing to learn."""

    def add(self, rows: NDArray[np.float16]) -> None:
        """Add rows (n, dim), all or none.

        Raises AnnIndexError if they do not fit the dimension or the memory of the device.
        """
        import torch

        self._check(rows, "rows")
        chunks, longest = self._chunks, self._longest
        with _mapped_errors(f"filled with {len(self) + len(rows):,} rows on {self._device}"):
            for start in range(0, len(rows), _CHUNK_ROWS):
                chunk = torch.tensor(rows[start : start + _CHUNK_ROWS], dtype=torch.float16, device=self._device)
                lengths = torch.linalg.vector_norm(chunk, dim=1, dtype=torch.float32)
                chunks = _joined(chunks, chunk)
                longest = max(longest, float(lengths.max()))
        self._chunks, self._longest = chunks, longest

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        *,
        allowed: NDArray[np.bool_] | None = None,
        probe: Probe | None = None,
    ) -> Neighbors:
        """Find the k best rows of each query; always all of them where there are k."""
        import torch

        self._check(queries, "queries")
        k = max(0, min(k, len(self)))
        if not k or not len(queries):
            return no_neighbors(len(queries), k)
        with _mapped_errors(f"searched on {self._device}"):
            mask = (
                None if allowed is None else torch.tensor(allowed[: len(self)], dtype=torch.bool, device=self._device)
            )
            batches = torch.split(torch.tensor(queries, dtype=torch.float32, device=self._device), _QUERIES)
            found = [self._scan(batch, k, mask) for batch in batches]
            ids, scores = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
        return Neighbors(np.where(np.isneginf(scores), -1, ids), scores)

    def own_scores(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the score of a row equal to each query (n, dim): float32 (n,)."""
        return squared_norms(queries)

    def save(self, folder: Path) -> None:
        """Write the rows as one .npy file."""
        import torch

        empty = torch.empty((0, self._params.dim), dtype=torch.float16)
        with _mapped_errors(f"written to {folder}"):
            save_rows(folder, torch.cat([empty, *(chunk.cpu() for chunk in self._chunks)]).numpy())

    @classmethod
    def load(cls, folder: Path, params: Mapping[str, Any]) -> Self:
        """Read the rows. Raises AnnIndexError if the file is not what `save` wrote, or does not fit the device."""
        return cls.over(load_rows(folder, int(params["dim"])))

    def _check(self, array: NDArray[Any], what: str) -> None:
        if array.ndim != 2 or array.shape[1] != self._params.dim:
            raise AnnIndexError(
                f"The index takes {what} of shape (n, {self._params.dim}), but these are {array.shape}."
            )

    def _blocks(self, queries: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (number of the first row, rows) so that neither scores nor rows take more than a block as float32."""
        import torch

        first, size = 0, max(1, self._block_bytes // (4 * max(2 * queries, self._params.dim)))
        for chunk in self._chunks:
            for rows in torch.split(chunk, size):
                yield first, rows
                first += len(rows)

    def _scan(self, queries: torch.Tensor, k: int, allowed: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ids and scores (n_queries, k) of the best rows; k > 0 and at most the number of rows."""
        import torch

        lengths = queries.double().norm(dim=1, keepdim=True).float().clamp(min=torch.finfo(torch.float32).tiny)
        parts = _halved(queries / lengths)
        # Cauchy-Schwarz on the worst rounding of dim truncated float32 sums, for two estimates that are compared
        margin = (self._params.dim + 8) * 2.0**-22 * self._longest
        ids = torch.empty((len(queries), 0), dtype=torch.int64, device=self._device)
        scores = torch.empty((len(queries), 0), device=self._device)
        for first, rows in self._blocks(len(queries)):
            estimates = _estimates(parts, rows)
            if allowed is not None:
                estimates.masked_fill_(~allowed[first : first + len(rows)], -torch.inf)
            floor = scores[:, -1:] / lengths if scores.shape[1] == k else torch.full_like(lengths, -torch.inf)
            near = _candidates(estimates, floor, k, margin)
            exact = self._exact_scores(queries, rows, near)
            exact.masked_fill_(estimates.gather(1, near).isneginf(), -torch.inf)
            ids, scores = torch.cat([ids, near + first], 1), torch.cat([scores, exact], 1)
            # ids ascend wherever scores are equal, and a stable sort keeps it so
            best = scores.sort(dim=1, descending=True, stable=True).indices[:, :k]
            ids, scores = ids.gather(1, best), scores.gather(1, best)
        return ids, scores

    def _exact_scores(self, queries: torch.Tensor, rows: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
        """Compute the inner products of queries with the rows near (n_queries, n) of each, rounded to float32 once."""
        import torch

        factors = queries.double()[:, None]
        width = max(1, self._block_bytes // (8 * queries.numel()))
        products = [rows[some].double().mul_(factors).sum(dim=2).float() for some in torch.split(near, width, dim=1)]
        return torch.cat(products, 1).add_(0.0)  # turns -0.0 into 0.0, which some sorts put first


def _joined(chunks: list[torch.Tensor], chunk: torch.Tensor) -> list[torch.Tensor]:
    """Return chunks with another one, joined with the last while they are as small: few chunks, few copies of a row."""
    import torch

    first, size = len(chunks), len(chunk)
    while first and len(chunks[first - 1]) <= size and size + len(chunks[first - 1]) <= _CHUNK_ROWS:
        first -= 1
        size += len(chunks[first])
    return [*chunks[:first], torch.cat([*chunks[first:], chunk]) if first < len(chunks) else chunk]


def _halved(queries: torch.Tensor) -> torch.Tensor:
    """Split unit queries (n, dim) into float16 (2 n, dim): the rounded ones, then what rounding took, scaled up."""
    import torch

    high = queries.half()
    return torch.cat([high, ((queries - high.float()) * _LOW_HALF).half()])


def _estimates(parts: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Multiply halved queries (2 n, dim) with rows (m, dim), accumulating in float32: (n, m)."""
    import torch

    if rows.is_cuda:
        # a float32 result also keeps split sums in float32, whatever allow_fp16_reduced_precision_reduction says
        products = torch.mm(parts, rows.T, out_dtype=torch.float32)
    else:
        products = parts.float() @ rows.float().T
    high, low = products.chunk(2)
    return high.add_(low, alpha=1 / _LOW_HALF)


def _candidates(estimates: torch.Tensor, floor: torch.Tensor, k: int, margin: float) -> torch.Tensor:
    """Return the columns, ascending, of all estimates (n, m) that may be among the k best.

    floor (n, 1): what the k best so far all reach. A few more than k nearly always hold them; where many rows score
    alike, the width grows until the last of each query is below what could still win.
    """
    import torch

    width = k + k // 4 + 16
    while True:
        top = estimates.topk(min(width, estimates.shape[1]), dim=1)
        kth, last = top.values[:, :k][:, -1:], top.values[:, -1:]
        may_win = (last >= torch.maximum(kth, floor) - margin) & ~last.isneginf()
        if width >= estimates.shape[1] or not bool(may_win.any()):
            return top.indices.sort(dim=1).values
        width *= 4


@contextmanager
def _mapped_errors(what: str) -> Iterator[None]:
    """Turn what PyTorch raises into AnnIndexError."""
    try:
        yield
    except _MAPPED as error:
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise AnnIndexError(
            f"The torch_flat index could not be {what}: {reason}. Free memory there, or choose an index that needs "
            "less: clipsearch build --index ivfpq"
        ) from error


def _let_threads_sleep() -> None:
    """Have the OpenMP threads of PyTorch sleep while they wait, as those of FAISS beside them do.

    The variable is read when the OpenMP library is loaded, so it must be set before PyTorch is first imported.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
