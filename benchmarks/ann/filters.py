"""Filtered search: exact over the rows that pass, or inside the index with a mask; where one beats the other.

    python benchmarks/ann/filters.py [--rows 200000] [--dim 512]

Rows pass at random, or as one folder of pictures that are alike. Single queries by text; recall is of the first ten.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "ann")]

import numpy as np
from harness import write_result
from ladder import build
from vectors import Maker, Profile

from clipsearch.ann.calibrate import Queries, calibrate, truth
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.flat import ArrayRows, exact_search, search_among
from clipsearch.query.candidates import _widened
from clipsearch.query.eval.metrics import knn_recall

SHARES = (0.5, 0.1, 0.05, 0.01, 0.001)
K, CALLS = 10, 60


def main() -> None:
    """Measure every share, scattered and in one piece."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    maker = Maker(Profile.read("builtin-base").stretched(options.dim), options.rows)
    rows = ArrayRows(np.concatenate([block.astype(np.float16) for block in maker.pictures()]))
    texts = maker.texts(400)
    index = build("ivfpq", rows)
    asked = Queries(texts[:200], "texts")
    probe = calibrate(index, asked, truth(rows, asked, len(rows)), 0.95).probe
    table = []
    for share in SHARES:
        for where, allowed in masks(len(rows), share).items():
            chosen = np.flatnonzero(allowed)
            wide = _widened(probe, K, share)
            ways = {
                "exact": lambda q, c=chosen: search_among(rows, q, K, c).ids,
                "index": lambda q, a=allowed, w=wide: search_candidates(index, rows, q, K, w, a).ids,
            }
            true = exact_search(rows, texts[200 : 200 + CALLS], K, allowed=allowed).ids
            row = {"passing": f"{share:.1%}", "where": where, "rows_passing": len(chosen), **timed(ways, texts, true)}
            table.append(row)
            print(row, flush=True)
    write_result("filters", {"vectors": options.rows, "dim": options.dim, "rows": table})


def masks(rows: int, share: float) -> dict[str, np.ndarray]:
    """Return which rows pass: bool (rows,)."""
    scattered = np.random.default_rng(0).random(rows) < share
    piece = np.zeros(rows, bool)
    piece[: int(share * rows)] = True
    return {"scattered": scattered, "one piece": piece}


def timed(ways: dict, texts: np.ndarray, true: np.ndarray) -> dict:
    """Return median milliseconds and recall of each way."""
    found: dict = {}
    times: dict[str, list[float]] = {name: [] for name in ways}
    shares: dict[str, list[float]] = {name: [] for name in ways}
    for call in range(CALLS):
        for name, search in ways.items():
            started = time.perf_counter()
            ids = search(texts[200 + call][None])
            times[name].append(time.perf_counter() - started)
            shares[name].append(float(knn_recall(ids, true[call : call + 1])[0]))
    for name in ways:
        found[f"{name}_ms"] = round(1000 * statistics.median(times[name]), 2)
        found[f"{name}_recall"] = round(float(np.mean(shares[name])), 3)
    return found


if __name__ == "__main__":
    main()
