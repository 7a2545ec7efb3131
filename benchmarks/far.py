"""How build, opening and search grow with the rows, far beyond what a test can hold: slopes of the approximate index.

    python benchmarks/far.py --rows 1000000,3000000,10000000 --dim 64 --work FOLDER

The index, its calibration and the reading of rows are those of a library, on made vectors (ann/blocks.py) of which each
size is a prefix; the catalog, which ann/scale.py includes, is left out. Rows take 2 * dim bytes of disk each, the index
about dim / 2 of disk and memory. What stands in FOLDER already, an index or exact answers, is not made again.
Calibrated with other queries than are asked. Rows are in the system's cache; `cold`: their pages were dropped from it
before each query. `--prepare` makes all of that and does not search, so that a busy machine can do it.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "ann")]

import numpy as np
from blocks import BlockMaker
from harness import write_result
from vectors import Profile

from clipsearch.ann import registry
from clipsearch.ann.calibrate import Calibration, Queries, calibrate, truth
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.faiss_ivfpq import IvfPqIndex, IvfPqParams
from clipsearch.ann.flat import exact_search
from clipsearch.query.eval.metrics import knn_recall
from clipsearch.store.segment_file import SegmentFile
from clipsearch.store.vectors import ROW_DTYPE, Rows
from indexer.build import added_rows, sample_size
from indexer.calibration import sample_rows

K, ASKED, FITTED, BATCH, COLD = 10, 1000, 500, 100, 200
TARGET = 0.95


def main() -> None:
    """Make the rows, then build, open and search each size in processes of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="1000000,3000000,10000000")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--lists", type=int, default=0, help="Inverted lists; by default as many as a library has.")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="far", help="Name of the result.")
    parser.add_argument("--prepare", action="store_true", help="Make the rows, indexes and exact answers alone.")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = [int(size) for size in options.rows.split(",")]
    if options.one:
        step = {"build": build, "truth": find_truth, "open": open_index, "search": search}[options.one]
        print(json.dumps(step(options.work, sizes[0], options.dim, options.lists)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    make(options.work, max(sizes), options.dim)
    for size in sizes:
        prepare(options, size)
    if options.prepare:
        return
    rows = [measure(options, size) for size in sizes]
    write_result(options.name, {"rows": rows, "dim": options.dim, "asked": ASKED, "target": TARGET})


def make(work: Path, count: int, dim: int) -> None:
    """Write the rows of the largest size, unless they are there."""
    path = work / "rows.f16"
    if path.exists() and path.stat().st_size >= 2 * dim * count:
        return
    with open(path, "wb") as file:
        for block in maker_of(work, dim, count).pictures():
            file.write(block.astype(ROW_DTYPE).tobytes())


def maker_of(work: Path, dim: int, count: int = 0) -> BlockMaker:
    """Return what makes the vectors of a folder; count: of all rows, for the first use."""
    path = work / "count"
    if not path.exists():
        path.write_text(str(count))
    return BlockMaker(Profile.read("builtin-base").stretched(dim), int(path.read_text()), seed=10)


def prepare(options: argparse.Namespace, size: int) -> None:
    """Build the index of one size and find the exact answers, unless that was done."""
    folder = folder_of(options.work, size, options.lists)
    for step in ("build", "truth"):
        kept = folder / f"{step}.json"
        if not kept.exists():
            kept.write_text(json.dumps(run(options, size, step)))


def measure(options: argparse.Namespace, size: int) -> dict:
    """Open and search one size; returns that with what its build took."""
    folder = folder_of(options.work, size, options.lists)
    row = json.loads((folder / "build.json").read_text()) | run(options, size, "open") | run(options, size, "search")
    print(json.dumps(row), flush=True)
    return row


def questions(work: Path, size: int, dim: int) -> dict[str, np.ndarray]:
    """Return what is asked about the first `size` rows, which calibration does not see."""
    maker = maker_of(work, dim)
    return {"text": maker.texts(ASKED, among=size), "picture": maker.unseen(ASKED, among=size)}


def find_truth(work: Path, size: int, dim: int, lists: int) -> dict:
    """Keep the exact answers."""
    rows = first_rows(work, size, dim)
    for kind, asked in questions(work, size, dim).items():
        np.save(folder_of(work, size, lists) / f"true_{kind}", exact_search(rows, asked, K).ids)
    return {}


def folder_of(work: Path, size: int, lists: int) -> Path:
    """Return the folder of the index of the first `size` rows."""
    folder = work / (f"{size}-{lists}" if lists else str(size))
    folder.mkdir(exist_ok=True)
    return folder


def run(options: argparse.Namespace, size: int, step: str) -> dict:
    """Run one step in a fresh process: what it found, and for a build the peak of its own memory."""
    arguments = ["--one", step, "--rows", str(size), "--dim", str(options.dim), "--lists", str(options.lists)]
    command = [sys.executable, __file__, *arguments, "--work", str(options.work)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            peak[0] = max(peak[0], own_mib(process.pid))
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = process.communicate()[0]
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command} failed with {process.returncode}")
    found = json.loads(output.splitlines()[-1])
    return found | {"build_own_mib": peak[0]} if step == "build" else found


def own_mib(process: int) -> int:
    """Return the anonymous memory of a process, in MiB; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon")), 0)


def first_rows(work: Path, size: int, dim: int) -> Rows:
    """Return the first rows, read as those of a library are."""
    path = work / "rows.f16"
    return Rows([SegmentFile(path, os.open(path, os.O_RDONLY))], [size], dim)


def build(work: Path, size: int, dim: int, lists: int) -> dict:
    """Learn, add, calibrate and save, as `clipsearch build` does."""
    rows, folder = first_rows(work, size, dim), folder_of(work, size, lists)
    choice = registry.choose("ivfpq", size, dim)
    choice = registry.Choice("ivfpq", lists or choice.nlist, choice.m)
    index = IvfPqIndex(IvfPqParams(dim, choice.nlist, choice.m, size))
    times = [time.perf_counter()]
    index.train(sample_rows(rows, None, sample_size(choice, dim)))
    times.append(time.perf_counter())
    for _, block in rows.blocks(size=added_rows(dim)):
        index.add(block)
    times.append(time.perf_counter())
    maker = maker_of(work, dim)
    queries = {
        "text": Queries(maker.texts(FITTED, seed=1, among=size), "made texts"),
        "image": Queries(maker.unseen(FITTED, seed=1, among=size), "made pictures"),
    }
    found = {kind: calibrate(index, asked, truth(rows, asked, size), TARGET) for kind, asked in queries.items()}
    times.append(time.perf_counter())
    index.save(folder)
    Calibration(size, found).save(folder)
    (folder / "params.json").write_text(json.dumps(dict(index.params)))
    learnt, added, calibrated = np.diff(times).round(1).tolist()
    return {
        "vectors": size,
        "lists": choice.nlist,
        "learn_seconds": learnt,
        "add_seconds": added,
        "calibrate_seconds": calibrated,
        "index_bytes_per_vector": round(sum(path.stat().st_size for path in folder.glob("*.*")) / size, 1),
    }


def load(work: Path, size: int, lists: int) -> tuple[IvfPqIndex, Calibration]:
    """Read an index and its calibration."""
    folder = folder_of(work, size, lists)
    return IvfPqIndex.load(folder, json.loads((folder / "params.json").read_text())), Calibration.load(folder)


def open_index(work: Path, size: int, dim: int, lists: int) -> dict:
    """Time the reading of an index that is not in the system's cache, and what memory it takes."""
    for path in folder_of(work, size, lists).iterdir():
        forget(path)
    started, before = time.perf_counter(), own_mib(os.getpid())
    load(work, size, lists)
    return {
        "open_cold_seconds": round(time.perf_counter() - started, 2),
        "index_own_mib": own_mib(os.getpid()) - before,
    }


def search(work: Path, size: int, dim: int, lists: int) -> dict:
    """Ask by texts and by pictures that calibration did not see, one by one and in batches."""
    index, calibration = load(work, size, lists)
    rows, found = first_rows(work, size, dim), {}
    warm(work / "rows.f16", 2 * dim * size)
    asked_of = questions(work, size, dim)
    probes = {"text": calibration.probe("text"), "picture": calibration.probe("image")}
    for kind, asked in asked_of.items():
        probe = probes[kind]
        true = np.load(folder_of(work, size, lists) / f"true_{kind}.npy")
        one_by_one = [
            search_candidates(index, rows, query[None], K, probe, find_equal=kind != "text").ids for query in asked
        ]
        found[f"{kind}_recall"] = round(float(knn_recall(np.concatenate(one_by_one), true).mean()), 3)
        found[f"{kind}_share_scanned"] = round(index.scanned(asked, probe) / size, 4)
        found |= percentiles(kind, [timed(index, rows, query[None], probe, kind) for query in asked])
        batches = [timed(index, rows, asked[i : i + BATCH], probe, kind) for i in range(0, ASKED, BATCH)]
        found[f"{kind}_qps"] = round(BATCH / float(np.median(batches)))
    cold = []
    for query in asked_of["text"][:COLD]:  # last: what comes after would find nothing in the cache
        forget(work / "rows.f16", 2 * dim * size)
        cold.append(timed(index, rows, query[None], probes["text"], "text"))
    found |= percentiles("cold_text", cold)
    return found


def percentiles(name: str, seconds: list[float]) -> dict:
    """Return the median and the slowest in a hundred and in twenty, in ms."""
    return {f"{name}_p{point}_ms": round(1000 * float(np.percentile(seconds, point)), 2) for point in (50, 95, 99)}


def warm(path: Path, size: int) -> None:
    """Read the beginning of a file into the system's cache."""
    with open(path, "rb", buffering=0) as file:
        for _ in range(0, size, 1 << 24):
            file.read(1 << 24)


def timed(index: IvfPqIndex, rows: Rows, queries: np.ndarray, probe: object, kind: str) -> float:
    """Return the seconds that an answer takes."""
    started = time.perf_counter()
    search_candidates(index, rows, queries, K, probe, find_equal=kind != "text")
    return time.perf_counter() - started


def forget(path: Path, size: int = 0) -> None:
    """Drop the pages of a file from the system's cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, size, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


if __name__ == "__main__":
    main()
