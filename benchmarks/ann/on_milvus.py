"""The same rows in FAISS and on a Milvus server: recall, time of a search and searches a second, in one run.

    python benchmarks/ann/on_milvus.py [--rows 100000] [--dim 512] [--uri http://127.0.0.1:19530]

Without --uri it starts the standalone server of the PyPI package `milvus` on this machine. Rows and text queries are
made as those of benchmarks/ann. Both indexes are calibrated on the same texts to a recall of 0.95; other texts are
asked, in turns, and every score is computed again from the rows. FAISS searches with one thread, the server with a pool
of its own. `exact tens`: the share of texts whose first ten are those of exact search, in its order; `tens as FAISS
ivfpq` likewise. `score off by`: the largest difference of a score from exact search. `index MiB` is the file of FAISS,
and what the memory of a server that was started here grew by, which includes vectors that it buffers.
"""

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "ann")]

import numpy as np
from harness import write_result
from ladder import build
from vectors import Maker, Profile

from clipsearch.ann import milvus, milvus_params, server_trust
from clipsearch.ann.calibrate import Queries, calibrate, truth
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.faiss_ivfpq import IvfPqParams
from clipsearch.ann.flat import ArrayRows, exact_search
from clipsearch.ann.milvus_server import MilvusServer
from clipsearch.types import Modality, Neighbors

K, CLIENTS, ROUNDS = 10, 8, 5


def main() -> None:
    """Build both, then ask both in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--uri")
    options = parser.parse_args()
    maker = Maker(Profile.read("builtin-base").stretched(options.dim), options.rows)
    rows = ArrayRows(np.concatenate([block.astype(np.float16) for block in maker.pictures()]))
    texts = maker.texts(400)
    given = Queries(texts[:200], "texts")
    true = truth(rows, given, len(rows))
    with tempfile.TemporaryDirectory() as state, server(options.uri) as (uri, memory):
        os.environ["XDG_STATE_HOME"] = state
        server_trust.remember(uri)
        before = memory()
        remote, seconds = timed(lambda: collection(uri, rows))
        sizes = {"FAISS ivfpq": 0, "Milvus IVF_PQ": memory() - before}
        local, own_seconds = timed(lambda: build("ivfpq", rows))
        sizes["FAISS ivfpq"] = IvfPqParams(rows.dim, local.nlist, local.params["m"]).memory(len(rows))
        found = {}
        for name, index, took in (("FAISS ivfpq", local, own_seconds), ("Milvus IVF_PQ", remote, seconds)):
            best, calibrating = timed(partial(calibrate, index, given, true, 0.95))
            probe = best.probe
            found[name] = {
                "index": index,
                "probe": probe,
                "costs": {
                    "build s": round(took, 1),
                    "calibrate s": round(calibrating, 1),
                    "index MiB": round(sizes[name] / 2**20),
                },
            }
            print(name, probe, flush=True)
        table = measured(found, rows, texts[200:])
        remote.drop()
        version = MilvusServer(uri).version()
    write_result("milvus", {"vectors": len(rows), "dim": options.dim, "server": version, "rows": table})


def collection(uri: str, rows: ArrayRows) -> milvus.MilvusIndex:
    """Put the rows on the server, indexed and loaded."""
    nlist, m = milvus_params.choose_lists(len(rows), rows.dim)
    name = milvus_params.collection_name("0" * 32, Modality.IMAGE)
    params = milvus_params.MilvusParams(rows.dim, nlist, m, len(rows), uri, name)
    index = milvus.MilvusIndex(params, MilvusServer(uri), label=milvus_params.label("0" * 32, "a benchmark"))
    index.train(rows.gather(np.arange(1)))
    for _, block in rows.blocks():
        index.add(block)
    index.finish(rows.gather(np.arange(200)))
    return index


def measured(found: dict, rows: ArrayRows, texts: np.ndarray) -> list[dict]:
    """Return a row of each: recall, milliseconds of single searches, and searches a second of several threads."""
    exact = exact_search(rows, texts, K)
    times: dict[str, list[float]] = {name: [] for name in found}
    rates: dict[str, list[float]] = {name: [] for name in found}
    answers: dict[str, Neighbors] = {}

    def ask(name: str, query: np.ndarray) -> Neighbors:
        index, probe = found[name]["index"], found[name]["probe"]
        return search_candidates(index, rows, query[None], K, probe, find_equal=False)

    for _ in range(ROUNDS):
        for name in found:
            parts = []
            for query in texts:
                part, took = timed(lambda name=name, query=query: ask(name, query))
                times[name].append(took)
                parts.append(part)
            answers[name] = Neighbors(
                *(np.concatenate([getattr(p, each) for p in parts]) for each in ("ids", "scores"))
            )
            with ThreadPoolExecutor(CLIENTS) as pool:
                _, took = timed(lambda name=name, pool=pool: list(pool.map(partial(ask, name), texts)))
            rates[name].append(len(texts) / took)
    first = next(iter(found))
    return [
        {
            "index": name,
            **compared(answers[name], exact),
            f"tens as {first}": round(float((answers[name].ids == answers[first].ids).all(axis=1).mean()), 3),
            "p50 ms": round(1000 * float(np.percentile(times[name], 50)), 2),
            f"p50 / {first}": round(float(np.median(times[name]) / np.median(times[first])), 1),
            "p99 ms": round(1000 * float(np.percentile(times[name], 99)), 2),
            f"searches/s, {CLIENTS} threads": round(float(np.median(rates[name]))),
        }
        | found[name]["costs"]
        for name in found
    ]


def compared(answer: Neighbors, exact: Neighbors) -> dict[str, float]:
    """Return how an answer differs from the exact one: the rows found, whole first tens in order, and scores."""
    same = answer.ids[:, :, None] == exact.ids[:, None, :]
    difference = np.abs(answer.scores[:, :, None] - exact.scores[:, None, :])[same]
    return {
        "recall": round(float(same.any(axis=2).mean()), 3),
        "exact tens": round(float((answer.ids == exact.ids).all(axis=1).mean()), 3),
        "score off by": float(f"{difference.max(initial=0):.1g}"),
    }


def timed(do):
    """Return what a call gives, and its seconds."""
    started = time.perf_counter()
    return do(), time.perf_counter() - started


@contextmanager
def server(uri: str | None):
    """Give the address of the server that is meant, or of one that is started, and what tells the memory of that."""
    if uri is not None:
        yield server_trust.read_uri(uri), lambda: 0
        return
    from tests.support.milvus_server import MilvusServer as Standalone

    started = Standalone(Path(tempfile.mkdtemp(prefix="milvus-")))
    try:
        started.start()
        yield started.uri, lambda: started.memory
    finally:
        started.remove()


if __name__ == "__main__":
    main()
