"""Where each step of the ladder starts to pay, and what a candidate and a list cost beside a scanned code.

    python benchmarks/ann/ladder.py [--dim 512]

Every kind answers single queries by text, one after the other, on the same rows, at a recall of 0.95; the ratio to the
exact scan is what counts. Build seconds tell when the time to build is won back.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np
from harness import write_result
from vectors import Maker, Profile

from clipsearch.ann import registry
from clipsearch.ann.base import Probe
from clipsearch.ann.calibrate import Queries, calibrate, truth
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.faiss_ivfpq import IvfPqIndex, IvfPqParams
from clipsearch.ann.flat import ArrayRows, exact_search

SIZES = (10_000, 20_000, 50_000, 100_000, 200_000)
CALLS, K = 60, 10


def main() -> None:
    """Measure every kind at every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=512)
    options = parser.parse_args()
    maker = Maker(Profile.read("builtin-base").stretched(options.dim), SIZES[-1])
    rows = np.concatenate([block.astype(np.float16) for block in maker.pictures()])
    texts = maker.texts(400)
    table = []
    for size in SIZES:
        # families of kin stand together, so a part is as clustered as the whole
        table.append({"vectors": size, **at_size(ArrayRows(rows[:size]), texts)})
        print(table[-1], flush=True)
    costs = unit_costs(ArrayRows(rows), texts)
    print(costs, flush=True)
    write_result("ladder", {"dim": options.dim, **costs, "rows": table})


def at_size(rows: ArrayRows, texts: np.ndarray) -> dict:
    """Return milliseconds of a query and seconds of a build, by kind."""
    asked = Queries(texts[:200], "texts")
    true = truth(rows, asked, len(rows))
    ways = {"flat": lambda q: exact_search(rows, q, K)}
    found: dict = {}
    for kind in registry.APPROXIMATE:
        started = time.perf_counter()
        index = build(kind, rows)
        found[f"{kind}_build_seconds"] = round(time.perf_counter() - started, 1)
        probe = calibrate(index, asked, true, 0.95).probe
        ways[kind] = lambda q, i=index, p=probe: search_candidates(i, rows, q, K, p)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for call in range(CALLS):
        for name, search in ways.items():
            query = texts[200 + call % 200][None]
            started = time.perf_counter()
            search(query)
            times[name].append(time.perf_counter() - started)
    flat = statistics.median(times["flat"])
    for name in ways:
        found[f"{name}_ms"] = round(1000 * statistics.median(times[name]), 3)
    return {**found, **{f"{kind}_times_flat": round(flat / statistics.median(times[kind]), 2) for kind in ways}}


def build(kind: str, rows: ArrayRows) -> IvfPqIndex:
    """Build an index as `clipsearch build` does."""
    choice = registry.choose(kind, len(rows), rows.dim)
    index = IvfPqIndex(IvfPqParams(rows.dim, choice.nlist, choice.m))
    ranks = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 40 * choice.nlist + 65_536)).astype(np.int64))
    index.train(rows.gather(ranks))
    for _, block in rows.blocks():
        index.add(block)
    return index


def unit_costs(rows: ArrayRows, texts: np.ndarray) -> dict:
    """Return what a list and a candidate cost, in scanned codes: slopes of the time of batches of queries."""
    index = build("ivfpq", rows)

    def seconds(nprobe: int, candidates: int) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            search_candidates(index, rows, texts, K, Probe(nprobe, 0.25, candidates))
            times.append(time.perf_counter() - started)
        return statistics.median(times) / len(texts)

    one = build("pq4", rows)
    started = time.perf_counter()
    one.search(texts[:50], 50, probe=Probe(1))
    code = (time.perf_counter() - started) / 50 / len(rows)
    few, many = Probe(32, 0.25), Probe(256, 0.25)
    codes = index.scanned(texts, many) - index.scanned(texts, few)
    a_list = (seconds(256, 50) - seconds(32, 50) - codes * code) / (256 - 32)
    candidate = (seconds(32, 500) - seconds(32, 50)) / 450
    return {
        "code_ns": round(1e9 * code, 2),
        "list_as_codes": round(a_list / code),
        "candidate_as_codes": round(candidate / code),
    }


if __name__ == "__main__":
    main()
