"""Rows that look for themselves among rows that are almost alike, such as the shots of bursts, and what that costs.

    python benchmarks/ann/self_search.py

Made bursts: groups of rows with a spread of their own each. A row is missed if the first answer to a query by it has
an exact score below 0.9999. Then the time of queries by picture over 200,000 made rows, one after the other on one
core, with `find_equal` and without, in turn.
"""

import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from ann.vectors import Maker, Profile
from harness import write_result

from clipsearch.ann.base import Probe
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.faiss_ivfpq import IvfPqIndex, IvfPqParams
from clipsearch.ann.faiss_runtime import import_faiss
from clipsearch.ann.flat import ArrayRows
from clipsearch.linalg import unit_rows

DIM, SEEDS, ROWS, ROUNDS = 512, range(100, 106), 200_000, 5


def bursts(seed):
    """Unit rows: 1 to 20 groups, members of which lie at most unequal distances from its middle."""
    rng = np.random.default_rng(seed)
    count, groups = int(rng.integers(500, 6000)), int(rng.choice([1, 3, 20]))
    middles = unit_rows(rng.standard_normal((groups, DIM)))[rng.integers(0, groups, count)]
    own = rng.standard_normal((count, 12)) @ rng.standard_normal((12, DIM)) + 0.5 * rng.standard_normal((count, DIM))
    spread = rng.choice([0.02, 0.1, 0.3], size=(count, 1)) * rng.exponential(1, (count, 1))
    return unit_rows(middles + spread * unit_rows(own)).astype(np.float32)


def built(rows, nlist):
    index = IvfPqIndex(IvfPqParams(DIM, nlist, DIM // 4))
    index.train(rows.astype(np.float32)[:: max(1, len(rows) // 80_000)])
    index.add(rows)
    return index


def missed(queries, find_equal):
    """How many rows do not find themselves, over kinds of index and probes; and of how many."""
    rows, count, total = queries.astype(np.float16), 0, 0
    for nlist in (1, max(2, min(int(4 * len(rows) ** 0.5), len(rows) // 39))):
        index = built(rows, nlist)
        for probe in (Probe(4, 0.25, 50), Probe(16, 0.25, 200)):
            near = search_candidates(index, ArrayRows(rows), queries, 1, probe, find_equal=find_equal)
            own = near.ids[:, 0] == np.arange(len(rows))
            count += int((~own & (near.scores[:, 0] < 0.9999)).sum())
            total += len(rows)
    return count, total


def seconds(index, rows, queries, find_equal):
    started = time.process_time()
    for query in queries:
        search_candidates(index, ArrayRows(rows), query[None], 10, Probe(32, 0.25, 200), find_equal=find_equal)
    return (time.process_time() - started) / len(queries)


def main():
    import_faiss().omp_set_num_threads(1)
    found = {}
    for name, find_equal in (("without", False), ("with", True)):
        counts = [missed(bursts(seed), find_equal) for seed in SEEDS]
        found[f"missed {name}"], found["queries"] = (sum(part) for part in zip(*counts, strict=True))
        print(name, counts, flush=True)
    maker = Maker(Profile.read("builtin-base").stretched(DIM), ROWS)
    rows = np.concatenate([block.astype(np.float16) for block in maker.pictures()])
    index, queries = built(rows, 1788), maker.unseen_pictures(500).astype(np.float32)
    times = [[seconds(index, rows, queries, each) for each in (False, True)] for _ in range(ROUNDS)]
    without, with_it = np.median(times, axis=0)
    found |= {"ms without": round(1000 * float(without), 3), "ms with": round(1000 * float(with_it), 3)}
    print(found)
    write_result("self_search", found)


if __name__ == "__main__":
    main()
