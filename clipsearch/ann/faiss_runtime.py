"""FAISS itself: its import, its threads, its GPU, its errors."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from clipsearch.errors import AnnIndexError
from clipsearch.forking import register

GPU_LOCK = threading.Lock()
"""Held during every FAISS call on the (first) GPU: FAISS aborts the process if two threads call it at once."""

GPU_QUERIES = 64
"""Queries per call on the GPU: FAISS keeps two blocks of scores of 1 MiB per query (its gpu/impl/Distance.cu)."""

SCRATCH_BYTES = 256 << 20
"""GPU memory that each index reserves for temporary results. By default FAISS reserves 1.5 GiB (its
gpu/StandardGpuResources.cpp), which an encoder on the same GPU may need."""

_BLAS_VALUES, _FEWER_BLAS_VALUES = 128_000, 800
"""Values of queries from which FAISS compares vectors by BLAS: in all as FAISS 1.15 has it, and for each thread as it
should be. On a few cores, fewer took three times as long without (github.com/facebookresearch/faiss/pull/5109)."""


def import_faiss() -> Any:  # noqa: ANN401
    """Import FAISS with OpenMP threads that sleep while they wait.

    By default they spin, and beside another busy process or runtime training takes many times as long. The
    variable is read when the OpenMP library is loaded, so it must be set before.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import faiss

    if faiss.cvar.distance_compute_blas_threshold == _BLAS_VALUES:
        faiss.cvar.distance_compute_blas_threshold = _FEWER_BLAS_VALUES * faiss.omp_get_max_threads()
    register(_threads)
    return faiss


class _Threads:
    """The OpenMP threads of FAISS, which a fork does not have."""

    def renew_after_fork(self) -> None:
        """Let the thread that lives on search alone: it would wait for ever for the threads that it had."""
        import_faiss().omp_set_num_threads(1)


_threads = _Threads()


def has_gpu() -> bool:
    """Tell whether FAISS can use a GPU here; `faiss-cpu` has no code for any."""
    faiss = import_faiss()
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def nearest_on_gpu(flat: Any) -> Any:  # noqa: ANN401
    """Copy a flat FAISS index to the first GPU, as float32. The caller holds GPU_LOCK."""
    faiss = import_faiss()
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(SCRATCH_BYTES)
    return faiss.index_cpu_to_gpu(resources, 0, flat)


@contextmanager
def mapped_errors(name: str, what: str) -> Iterator[None]:
    """Turn what FAISS raises into AnnIndexError. name: of the index, for people; what: was tried with it."""
    try:
        yield
    except (RuntimeError, AssertionError, AttributeError, TypeError, MemoryError) as error:
        reason = str(error).partition(" at ")[0] or "wrong dimensions"
        raise AnnIndexError(
            f"The {name} index could not be {what}: {reason}. Search stays exact; `clipsearch build` tries again."
        ) from error
