"""What a batch of queries by pictures takes in an approximate index, stage by stage, and what the threads cost.

    python benchmarks/ann/stages.py --rows 200000 --dim 512

The index is searched in a new process for each setting of OPENBLAS_THREAD_TIMEOUT: after a product, a thread of
OpenBLAS spins for 2 ** n cycles. Each stage is also timed alone, in a loop, where no threads of another library are
awake. Medians of 30 calls, in milliseconds for a batch of 500; `one` is a single query by words.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "ann")]

import numpy as np
from approximate import THREADS, make
from harness import median_ms, write_result
from ours import Clipsearch

from clipsearch.ann.base import Probe
from clipsearch.ann.faiss_runtime import import_faiss
from clipsearch.ann.flat import ArrayRows, exact_scores_of

CALLS = 30
TIMEOUTS = ("", "16", "10", "4")
PICTURES = {"nprobe": 8, "candidates": 20, "radius": 0.25}
TEXTS = {"nprobe": 48, "candidates": 40, "radius": 0.25}


def main() -> None:
    """Build the index once, then time each setting in a fresh process, in two rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--work", type=Path, help="Where vectors and index go; kept. A temporary folder unless given.")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.work)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        prepare(work, options.rows, options.dim)
        rounds = [{timeout: run(work, timeout) for timeout in TIMEOUTS} for _ in range(2)]
    rows = [
        {"OPENBLAS_THREAD_TIMEOUT": timeout or "as it comes"}
        | {name: round(float(np.mean([each[timeout][name] for each in rounds])), 2) for name in rounds[0][timeout]}
        for timeout in TIMEOUTS
    ]
    write_result("stages", {"vectors": options.rows, "dim": options.dim, "rows": rows, "rounds": rounds})


def prepare(work: Path, rows: int, dim: int) -> None:
    """Make the vectors and the index, unless they are there."""
    work.mkdir(parents=True, exist_ok=True)
    make(work, rows, dim)
    folder = work / "clipsearch"
    if not (folder / "params").exists():
        folder.mkdir(exist_ok=True)
        peer = Clipsearch()
        peer.build(np.load(work / "rows.npy", mmap_mode="r").astype(np.float32), THREADS)
        peer.save(folder)


def run(work: Path, timeout: str) -> dict[str, float]:
    """Measure with one setting."""
    setting = {"OPENBLAS_THREAD_TIMEOUT": timeout} if timeout else {}
    command = [sys.executable, __file__, "--one", "--work", str(work)]
    done = subprocess.run(command, env=os.environ | setting, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    print(timeout or "as it comes", found, flush=True)
    return found


def measure(work: Path) -> dict[str, float]:
    """Time whole batches, then each stage of one by pictures alone."""
    peer = Clipsearch()
    peer.load(work / "clipsearch")
    peer._rows = np.array(peer._rows)
    pictures, texts = np.load(work / "picture.npy"), np.load(work / "text.npy")
    index, faiss = peer._index, import_faiss()
    faiss.omp_set_num_threads(THREADS)
    found = {
        "pictures": timed(lambda: peer.search(pictures, 10, THREADS, **PICTURES)),
        "texts": timed(lambda: peer.search(texts, 10, THREADS, **TEXTS)),
        "one": timed(lambda: peer.search(texts[:1], 10, THREADS, **TEXTS)),
    }
    probe = Probe(PICTURES["nprobe"], PICTURES["radius"], PICTURES["candidates"])
    turned = index._turned(pictures)
    lists, products, _ = index._route(turned, probe)
    ids = np.empty((len(pictures), probe.candidates), np.int64)
    scores = np.empty(ids.shape, np.float32)
    arrays = [faiss.swig_ptr(array) for array in (lists, products, scores, ids)]
    given = faiss.SearchParametersIVF(nprobe=probe.nprobe)

    def scan() -> None:
        index._index.search_preassigned_c(
            len(turned), faiss.swig_ptr(turned), probe.candidates, *arrays, False, given, None
        )

    return found | {
        "round and turn": timed(lambda: index._turned(pictures.astype(np.float16).astype(np.float32))),
        "product with centroids": timed(lambda: turned @ index._centroids.T),
        "choose lists": timed(lambda: index._route(turned, probe)) - timed(lambda: turned @ index._centroids.T),
        "scan": timed(scan),
        "codes of the queries": timed(lambda: index._index.pq.compute_codes(turned)),
        "exact scores": timed(lambda: exact_scores_of(ArrayRows(peer._rows), pictures, ids)),
    }


def timed(call: Callable[[], object]) -> float:
    """Return the median of CALLS calls, in milliseconds."""
    return median_ms(call, CALLS)


if __name__ == "__main__":
    main()
