"""Text and picture queries against peers: recall, queries a second, latency, memory, build time, all in one run.

    python benchmarks/ann/approximate.py --rows 1000000 --dim 512

Every index is built and measured in a process of its own, one after the other, on the same vectors; exact search by
FAISS in float32 is measured before and after them all. Needs the peers: see requirements.txt.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "ann")]

import numpy as np
from harness import write_result
from measure import curve, latency, qps_at, resident_bytes, setting_at
from ours import OURS
from peers import PEERS
from vectors import Maker, Profile

from clipsearch.ann.flat import ArrayRows, exact_search

K, QUERIES, THREADS = 10, 500, len(os.sched_getaffinity(0))
TARGETS = (0.90, 0.95, 0.99)
EXACT = "faiss_flat"


def main() -> None:
    """Make the vectors, then measure each index in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--peers", default=",".join([*OURS, *PEERS]))
    parser.add_argument(
        "--work", type=Path, help="Where vectors and indexes go; kept. A temporary folder unless given."
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.work)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        make(work, options.rows, options.dim)
        names = [EXACT, *(name for name in options.peers.split(",") if name != EXACT), EXACT]
        results = []
        for name in names:
            command = [sys.executable, __file__, "--one", name, "--work", str(work)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
            if done.returncode:
                print(f"{name} failed", file=sys.stderr)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            print(json.dumps({key: value for key, value in found.items() if key != "curves"}), flush=True)
            results.append(found)
    write_result(
        f"approximate_{options.rows // 1000}k",
        {"vectors": options.rows, "dim": options.dim, "rows": [row_of(found) for found in results], "all": results},
    )


def row_of(found: dict) -> dict:
    """Return what the table shows of an index; empty where it does not reach that recall."""
    row = {"index": found["name"], "build_seconds": round(found["build_seconds"])}
    row["own bytes per vector"] = round(found.get("anonymous_bytes_per_row", 0)) or None
    row["mapped"] = round(found.get("mapped_bytes_per_row", 0)) if "mapped_bytes_per_row" in found else None
    for kind in ("text", "picture"):
        for target in TARGETS:
            qps = found[f"{kind}_qps_{target:.2f}"]
            row[f"{kind} QPS at {target:.2f}"] = qps and round(qps)
    text, picture = found["text_qps_0.95"], found["picture_qps_0.95"]
    row["picture / text at 0.95"] = round(picture / text, 1) if text and picture else None
    row["p50 ms"] = round(found["p50_ms"], 2) if "p50_ms" in found else None
    return row


def make(work: Path, rows: int, dim: int) -> None:
    """Write the vectors, the queries and the truth, unless they are there."""
    if (work / "truth_picture.npy").exists():
        return
    maker = Maker(Profile.read("builtin-base").stretched(dim), rows)
    out = np.lib.format.open_memmap(work / "rows.npy", "w+", np.float16, (rows, dim))
    at = 0
    for block in maker.pictures():
        out[at : at + len(block)] = block
        at += len(block)
    for kind, queries in (("text", maker.texts(QUERIES)), ("picture", maker.unseen_pictures(QUERIES))):
        np.save(work / f"{kind}.npy", queries)
        np.save(work / f"truth_{kind}.npy", exact_search(ArrayRows(out), queries, K).ids)


def measure(name: str, work: Path) -> dict:
    """Build one index and measure it."""
    rows = np.load(work / "rows.npy", mmap_mode="r").astype(np.float32)
    peer = {**PEERS, **OURS}[name]()
    started = time.perf_counter()
    peer.build(rows, THREADS)
    found = {"name": name, "description": peer.description(), "build_seconds": time.perf_counter() - started}
    count = len(rows)
    del rows
    queries = {kind: np.load(work / f"{kind}.npy") for kind in ("text", "picture")}
    found["curves"] = {}
    for kind, asked in queries.items():
        asked = asked[:100] if name == EXACT or name.startswith("lancedb") else asked  # these take long
        points = curve(peer, asked, np.load(work / f"truth_{kind}.npy")[: len(asked)], K, THREADS)
        found["curves"][kind] = points
        for target in TARGETS:
            found[f"{kind}_qps_{target:.2f}"] = qps_at(points, target)
    setting = setting_at(found["curves"]["text"], 0.95)
    if setting is not None:
        found["p50_ms"], found["p95_ms"] = latency(peer, queries["text"], K, THREADS, setting)
    if name != EXACT:
        PEERS.update(OURS)
        with tempfile.TemporaryDirectory(dir=work) as folder:
            peer.save(Path(folder))
            grown = resident_bytes(name, Path(folder), queries["text"][:200], THREADS, K, setting)
        found |= {f"{key}_bytes_per_row": value / count for key, value in grown.items()}
    return found


if __name__ == "__main__":
    main()
