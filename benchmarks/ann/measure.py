"""How an index answers: recall, queries a second, latency, and the memory it really takes."""

import importlib
import re
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from math import exp, log
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from peers import PEERS

ROUNDS, CALLS = 3, 300

ENOUGH = 0.997
"""More thorough settings than the first that finds so much are left out."""
_REGION = re.compile(
    r"^[0-9a-f]+-[0-9a-f]+(?: \S+){4} *(.*)\n(?:.*\n)*?Rss: +(\d+).*\n(?:.*\n)*?Anonymous: +(\d+)", re.M
)


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Mean share of the true nearest that were found: both (q, k) row numbers; -1 in `found` is none."""
    hits = [len(np.intersect1d(one, other)) for one, other in zip(found, truth, strict=True)]
    return float(np.mean(hits)) / truth.shape[1]


def curve(peer, queries: np.ndarray, truth: np.ndarray, k: int, threads: int) -> list[dict]:
    """Recall and queries a second for each setting of a built or loaded peer, in the order of its settings.

    Every setting first answers all queries once, which gives the recall and is the warm-up; then the settings take
    turns, ROUNDS times, and the median time counts.
    """
    settings, recalls = [], []
    for setting in peer.settings():
        settings.append(setting)
        recalls.append(recall(peer.search(queries, k, threads, **setting), truth[:, :k]))
        if recalls[-1] >= ENOUGH:
            break
    times: list[list[float]] = [[] for _ in settings]
    for _ in range(ROUNDS):
        for setting, taken in zip(settings, times, strict=True):
            started = time.perf_counter()
            peer.search(queries, k, threads, **setting)
            taken.append(time.perf_counter() - started)
    return [
        {"setting": setting, "recall": seen, "qps": len(queries) / statistics.median(taken)}
        for setting, seen, taken in zip(settings, recalls, times, strict=True)
    ]


def qps_at(points: list[dict], target: float) -> float | None:
    """Queries a second at a recall, between the two settings around it, log-linear; None where it is not reached.

    Settings that another one beats in both recall and speed do not count. Where even the cheapest setting finds more
    than `target`, its own speed is the answer: nothing is extrapolated.
    """
    below, above = _around(points, target)
    if above is None:
        return None
    if below is None or above["recall"] == below["recall"]:
        return above["qps"]
    share = (target - below["recall"]) / (above["recall"] - below["recall"])
    return exp((1 - share) * log(below["qps"]) + share * log(above["qps"]))


def setting_at(points: list[dict], target: float) -> dict | None:
    """Choose the fastest setting that reaches a recall; None where none does."""
    above = _around(points, target)[1]
    return None if above is None else above["setting"]


def _around(points: list[dict], target: float) -> tuple[dict | None, dict | None]:
    """Find the best settings just below and just above a recall."""
    fastest = sorted(points, key=lambda point: -point["qps"])
    above = next((point for point in fastest if point["recall"] >= target), None)
    faster = fastest[: fastest.index(above)] if above else []
    return max(faster, key=lambda point: point["recall"], default=None), above


def latency(peer, queries: np.ndarray, k: int, threads: int, setting: dict) -> tuple[float, float]:
    """Milliseconds of a call with one query: the median and the 95th of a hundred, over CALLS calls."""
    times = []
    for call in range(CALLS + CALLS // 10):
        query = queries[[call % len(queries)]]
        started = time.perf_counter()
        peer.search(query, k, threads, **setting)
        times.append(time.perf_counter() - started)
    p50, p95 = np.percentile(times[CALLS // 10 :], [50, 95]) * 1000
    return float(p50), float(p95)


def resident_bytes(
    name: str, folder: Path, queries: np.ndarray, threads: int, k: int = 10, setting: dict | None = None
) -> dict[str, int]:
    """Load a saved index in a fresh process, search it query by query, and report what its memory grew by, in bytes.

    `anonymous` is the process's own memory; `mapped` are resident pages of files, which the system can drop and read
    again; `resident` is both. `disk` is the size of the folder: a peer that reads files without mapping them leaves
    their pages to the system, where no process shows them. `queries`: a few hundred, float32 (q, dim). Without a
    setting the most thorough is used.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        grown = fresh.submit(_grown, PEERS[name], folder, queries, threads, k, setting).result()
    disk = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {**grown, "disk": disk}


def _grown(kind: type, folder: Path, queries: np.ndarray, threads: int, k: int, setting: dict | None) -> dict[str, int]:
    """Runs in the fresh process: the imports are made before the first reading, so they do not count."""
    importlib.import_module(kind.library)
    before = _resident()
    peer = kind()
    peer.load(folder)
    for query in queries:
        peer.search(query[None], k, threads, **(setting or peer.settings()[-1]))
    after = _resident()
    return {name: after[name] - before[name] for name in before}


def _resident() -> dict[str, int]:
    """Read the resident memory of this process, in bytes; the pages of libraries that it touched are left out."""
    regions = _REGION.findall(Path("/proc/self/smaps").read_text())
    anonymous = 1024 * sum(int(own) for _, _, own in regions)
    mapped = 1024 * sum(int(rss) - int(own) for path, rss, own in regions if ".so" not in path)
    return {"resident": anonymous + mapped, "anonymous": anonymous, "mapped": mapped}
