"""What it costs to read rows instead of mapping them, and to verify the rows of an answer.

    python benchmarks/reliability/reading.py [--rows 200000]

A mapped file that another program shortens ends the process by SIGBUS, so rows are read (`pread`). Here the same
searches run both ways in turn, over a library of made vectors with an IVF-PQ index and over an exact scan of a quarter
of it; "unverified" leaves out the checksums of the rows that are returned. Ratios are medians over the rounds.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np
from harness import median_ratio, write_result

from clipsearch.float16 import widen
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.store.records import CollectionRecord, RecordBlock
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.vectors import ROW_DTYPE, VectorStore
from clipsearch.types import EncoderPin, Modality
from indexer.build import build
from indexer.plan import IndexPlan

DIM, BLOCK, QUERIES, ROUNDS = 512, 10_000, 40, 15


class MappedRows:
    """Rows as a mapped array: what reading is compared with."""

    def __init__(self, path, count, dim):
        self._rows = np.asarray(np.memmap(path, ROW_DTYPE, "r", shape=(count, dim)))
        self.dim = dim

    def __len__(self):
        return len(self._rows)

    def take(self, rows):
        return self._rows[rows]

    def row(self, number):
        return self._rows[number]

    def gather(self, rows):
        return widen(self._rows[rows])

    def blocks(self, start=0, stop=None, size=16384):
        stop = len(self) if stop is None else min(stop, len(self))
        for begin in range(start, stop, size):
            yield begin, self._rows[begin : min(begin + size, stop)]


def made(folder, rows, kind):
    """Make a library of `rows` vectors in clusters."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((2000, DIM)).astype(np.float32)
    library = Library.create(folder)
    library.pin(EncoderPin("vectors", "0" * 40, DIM))
    with library.writer() as writer:
        root = writer.add_collection("", str(folder / "made.npy"))
        for first in range(0, rows, BLOCK):
            x = centres[rng.integers(len(centres), size=BLOCK)] + 0.9 * rng.standard_normal((BLOCK, DIM))
            x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)
            writer.commit_records(
                root, RecordBlock([CollectionRecord(f"{first + i}") for i in range(BLOCK)], {Modality.IMAGE: x})
            )
        build(library, writer, IndexPlan(kind))
    library.close()
    return folder


def mapped_view(store, segments):
    """Map the only segment, where VectorStore.view opens it."""
    if not segments:
        return read_view(store, [])
    return MappedRows(store.folder / segments[0].name, segments[0].committed_rows, store.dim)


read_view = VectorStore.view
WAYS = {
    "mapped, unverified": (mapped_view, lambda snapshot, match: True),
    "read, unverified": (read_view, lambda snapshot, match: True),
    "read": (read_view, Snapshot.is_sound),
}


def measure(folder, queries):
    """Milliseconds of a search, by way, a value for each round."""
    engines, times = {}, {way: [] for way in WAYS}
    for way, (view, _) in WAYS.items():
        with mock.patch.object(VectorStore, "view", view):
            engines[way] = SearchEngine(Library(folder))
            engines[way].search(vector=queries[0], k=10)
    for round_ in range(ROUNDS):
        for way, (_, is_sound) in WAYS.items():
            with mock.patch.object(Snapshot, "is_sound", is_sound):
                started = time.process_time()
                for query in queries[round_ * QUERIES : (round_ + 1) * QUERIES]:
                    engines[way].search(vector=query, k=10)
                times[way].append(1000 * (time.process_time() - started) / QUERIES)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    rows = parser.parse_args().rows
    queries = np.random.default_rng(5).standard_normal((ROUNDS * QUERIES, DIM)).astype(np.float32)
    values = {}
    with tempfile.TemporaryDirectory() as work:
        for kind, count in (("ivfpq", rows), ("flat", rows // 4)):
            times = measure(made(Path(work) / kind, count, kind), queries)
            base = times["mapped, unverified"]
            for way, each in times.items():
                ratio = round(median_ratio(each, base), 3)
                values[f"{kind}, {count:,} rows, {way}"] = {"ms": round(statistics.median(each), 3), "ratio": ratio}
                print(f"{kind:6} {count:>8,} rows  {way:20} {statistics.median(each):7.3f} ms  x {ratio}")
    write_result("reliability_reading", values)


if __name__ == "__main__":
    main()
