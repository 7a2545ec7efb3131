"""Inverted lists that are learnt and looked up on one level, and on two: time, and what a text query has to scan.

python benchmarks/run.py ann/lists
"""

import os
import sys
import time
from pathlib import Path
from unittest import mock

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "ann")]

import numpy as np
from blocks import BlockMaker
from harness import write_result
from vectors import Profile

from clipsearch.ann import coarse
from clipsearch.ann.faiss_runtime import import_faiss
from clipsearch.ann.flat import ArrayRows, exact_search

ROWS, DIM, LISTS, ASKED, RADIUS = 1_000_000, 64, 4000, 500, 0.25
TARGET = 0.95


def main() -> None:
    """Learn, look up and route in each way."""
    import_faiss().omp_set_num_threads(1)
    maker = BlockMaker(Profile.read("builtin-base").stretched(DIM), ROWS, seed=10)
    rows = np.concatenate([block.astype(np.float16) for block in maker.pictures()])
    texts = maker.texts(ASKED)
    true = exact_search(ArrayRows(rows), texts, 10).ids
    mean = rows[::10].astype(np.float32).mean(axis=0)
    centred = rows.astype(np.float32) - mean
    sample = centred[:: ROWS // (LISTS * coarse.TRAINING_ROWS_PER_LIST)]
    result = []
    for learnt in ("one level", "two levels"):
        started = time.process_time()
        with mock.patch.object(coarse, "LEARNT_AT_ONCE", LISTS if learnt == "one level" else 0):
            centroids, groups = coarse.cluster(sample, LISTS)
        learning = time.process_time() - started
        nearest = coarse.nearest(centred, centroids)
        if learnt == "one level":
            looked_up = {"one level": lambda own=centroids: coarse.nearest(centred, own)}
        else:
            grouped = coarse.Groups(centroids, groups)
            looked_up = {"one level": lambda own=centroids: coarse.nearest(centred, own)}
            looked_up["two levels"] = lambda own=grouped: own.assign(centred)
        for name, look_up in looked_up.items():
            started = time.process_time()
            home = look_up()
            looking_up = time.process_time() - started
            row = {"learnt on": learnt, "looked up on": name, "learn_seconds": round(learning, 1)}
            row |= {"look_up_seconds": round(looking_up, 1), "nearest": round(float((home == nearest).mean()), 3)}
            result.append({**row, "rows_scanned": scanned(centroids, home, texts, true)})
            print(result[-1], flush=True)
    write_result("lists", {"rows": result, "vectors": ROWS, "dim": DIM, "lists": LISTS, "target": TARGET})


def scanned(centroids: np.ndarray, home: np.ndarray, queries: np.ndarray, true: np.ndarray) -> int:
    """Return the rows of the lists that hold `TARGET` of the true nearest, on average; home: the list of each row."""
    merit = queries @ centroids.T - RADIUS * (centroids**2).sum(axis=1)
    order = np.argsort(-merit, axis=1)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(len(centroids)), order.shape), 1)
    needed = int(np.quantile(np.take_along_axis(rank, home[true], 1), TARGET)) + 1
    sizes = np.bincount(home, minlength=len(centroids))
    return int(sizes[order[:, :needed]].sum(axis=1).mean())


if __name__ == "__main__":
    main()
