"""What a search of a library that is larger than memory waits for: reading its candidates from the disk.

    python benchmarks/run.py cold_rows

Random rows of a segment are gathered with and without telling the system before which ones, in turn. Before each
`cold` round the pages of the file are dropped from the system's cache.
"""

import os
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np
from harness import write_result

from clipsearch.store.segment_file import SegmentFile
from clipsearch.store.vectors import ROW_DTYPE, VectorStore, new_segment
from clipsearch.types import Modality

ROWS, DIM, BLOCK, GATHERED, ROUNDS = 1_000_000, 512, 50_000, 100, 60


def main() -> None:
    """Write a segment, then gather from it."""
    with tempfile.TemporaryDirectory() as folder:
        store, segment = VectorStore(Path(folder) / "vectors", DIM), new_segment(Modality.IMAGE, 0)
        store.recover([])
        rng = np.random.default_rng(0)
        for _ in range(ROWS // BLOCK):
            store.append(segment, rng.standard_normal((BLOCK, DIM), np.float32).astype(ROW_DTYPE))
            segment = type(segment)(0, Modality.IMAGE, segment.name, 0, segment.committed_rows + BLOCK)
        rows, file = store.view([segment]), Path(folder) / "vectors" / segment.name
        result = [measure(rows, file, rng, is_cold=is_cold) for is_cold in (True, False)]
    write_result("cold_rows", {"rows": [row for rows in result for row in rows], "gathered": GATHERED, "dim": DIM})


def measure(rows, file: Path, rng: np.random.Generator, *, is_cold: bool) -> list[dict]:
    """Time both ways in turn, with rows that no other round reads."""
    times: dict[str, list[float]] = {"one by one": [], "prefetched": []}
    descriptor = os.open(file, os.O_RDONLY)
    for _ in range(ROUNDS):
        for name, taken in times.items():
            numbers = rng.integers(0, ROWS, GATHERED)
            if is_cold:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                rows.gather(numbers)
            without = mock.patch.object(SegmentFile, "prefetch", lambda *_: None)
            with without if name == "one by one" else nullcontext():
                started = time.perf_counter()
                rows.gather(numbers)
                taken.append(1000 * (time.perf_counter() - started))
    os.close(descriptor)
    cache = "cold" if is_cold else "warm"
    found = []
    for name, taken in times.items():
        p50, p95, p99 = np.percentile(taken, [50, 95, 99]).round(2).tolist()
        found.append({"cache": cache, "rows are read": name, "p50_ms": p50, "p95_ms": p95, "p99_ms": p99})
    return found


if __name__ == "__main__":
    main()
