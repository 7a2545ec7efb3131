"""Tens of millions of vectors on one machine: import, build, search, through the commands, in bounded memory.

    python benchmarks/ann/scale.py --rows 10000000 --dim 512 --work FOLDER

A library that stands in FOLDER already is only searched again. Needs 25 GB of disk for 10 M vectors of 512 dimensions.
The own (anonymous) memory of each command is watched: mapped rows are the system's cache, which it takes back when it
needs the room.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np
from harness import COMMAND, write_result
from vectors import Maker, Profile

import clipsearch
from clipsearch.ann.flat import ArrayRows, exact_search
from clipsearch.query.eval.metrics import knn_recall

K, QUERIES = 10, 200


def main() -> None:
    """Import, build, search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    work, library = options.work, options.work / "library"
    make(work, options.rows, options.dim)
    kept = work / "made.json"
    if not kept.exists():
        encoder = ["--encoder", "made/vectors", "--library", str(library)]
        run([COMMAND, "import-embeddings", str(work / "captions.npy"), "--modality", "text", *encoder])
        run([COMMAND, "build", "--index", "flat", "--library", str(library)])
        imported = run([COMMAND, "import-embeddings", str(work / "rows.npy"), *encoder])
        built = run([COMMAND, "build", "--index", "ivfpq", "--library", str(library)])
        kept.write_text(json.dumps([imported, built]))
    imported, built = json.loads(kept.read_text())
    row = {
        "vectors": options.rows,
        "dim": options.dim,
        "import_seconds": round(imported[0]),
        "import_own_mib": imported[1],
        "build_seconds": round(built[0]),
        "build_own_mib": built[1],
        **search(work, library),
    }
    print(row, flush=True)
    write_result(f"scale_{options.rows // 1_000_000}m", {"rows": [row]})


def make(work: Path, rows: int, dim: int) -> None:
    """Write vectors, captions to calibrate with, and other texts to ask, unless they are there."""
    if (work / "texts.npy").exists():
        return
    work.mkdir(parents=True, exist_ok=True)
    maker = Maker(Profile.read("builtin-base").stretched(dim), rows, seed=10)
    out = np.lib.format.open_memmap(work / "rows.npy", "w+", np.float16, (rows, dim))
    at = 0
    for block in maker.pictures():
        out[at : at + len(block)] = block
        at += len(block)
    np.save(work / "captions.npy", maker.texts(1000, seed=1).astype(np.float16))
    np.save(work / "texts.npy", maker.texts(QUERIES))


def run(command: list[str]) -> tuple[float, int]:
    """Run a command: wall seconds, and the peak of its own memory in MiB. Raises if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(command)
    peak = [0]

    def watch() -> None:
        while process.poll() is None:
            try:
                lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            except OSError:
                break
            peak[0] = max([peak[0], *(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))])
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = process.wait()
    watcher.join()
    if code:
        raise RuntimeError(f"{command} failed with {code}")
    return time.perf_counter() - started, peak[0]


def search(work: Path, library: Path) -> dict:
    """Ask by texts that calibration did not see."""
    texts = np.load(work / "texts.npy")
    before = own_mib()
    times, found = [], []
    with clipsearch.open(library) as engine:
        for text in texts:
            started = time.perf_counter()
            hits = engine.search(vector=text, k=K, modality="image")
            times.append(time.perf_counter() - started)
            found.append([int(Path(hit.path).name) for hit in hits])
        grown = own_mib() - before
    true = exact_search(ArrayRows(np.load(work / "rows.npy", mmap_mode="r").view(np.ndarray)), texts, K).ids
    size = sum(path.stat().st_size for path in library.glob("ann/image*/*"))
    p50, p95 = np.percentile(times[10:], [50, 95]) * 1000
    return {
        "text_recall": round(float(knn_recall(np.array(found), true).mean()), 3),
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "index_bytes_per_vector": round(size / len(np.load(work / "rows.npy", mmap_mode="r")), 1),
        "search_own_mib": grown,
    }


def own_mib() -> int:
    """Return the anonymous memory of this process, in MiB."""
    lines = Path(f"/proc/{os.getpid()}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    main()
