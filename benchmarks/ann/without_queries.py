"""Imported vectors of an encoder that is not here: recall of queries by words, their speed, and confidences.

    python benchmarks/ann/without_queries.py --photos FOLDER [--work FOLDER] [--rows 200000]

FOLDER holds images/ and captions.csv (image,caption). Each set of vectors is imported under a name that no encoder has,
so its index is calibrated without a query by words. `before` is what earlier versions took then, the probe for queries
by picture. Real rows are crops of half of the photographs by builtin-base, mixed in pairs to twice as many as are made,
because they have half the dimensions; their queries are captions, sentences of this project's documents, and the
generic queries that are shipped. Made rows: see vectors.py; those of the wide gap are invented, as far from their texts
as rows of CLIP are. Times are of one core.
"""

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # times are those of one core
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "ann")]

import numpy as np
from gap import embed
from harness import write_result
from vectors import Maker, Profile

from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.flat import exact_search
from clipsearch.encoders import registry
from clipsearch.linalg import unit_rows
from clipsearch.query.candidates import QueryBatch, Retriever, open_generation
from clipsearch.query.engine import SearchEngine
from clipsearch.ranking import confidence, null_model
from clipsearch.store.library import Library
from clipsearch.types import Modality
from indexer.calibration import generic_queries
from indexer.importing import import_embeddings

K, QUERIES, TIMED, SEED = 10, 400, 60, 41


def main() -> None:
    """Import each set and measure it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--work", type=Path, help="Keeps the embeddings for another run.")
    parser.add_argument("--rows", type=int, default=200_000)
    options = parser.parse_args()
    rows, sure = [], []
    with tempfile.TemporaryDirectory() as scratch:
        sets = {
            "real": lambda: real(options.photos, options.work or Path(scratch), 2 * options.rows),
            "made": lambda: made(Profile.read("builtin-base"), 512, options.rows),
            "made, wide gap": lambda: made(wide_gap(), 512, options.rows),
        }
        for number, (name, make) in enumerate(sets.items()):
            vectors, asked, known = make()
            library = Path(scratch) / f"{number}"
            bring(library, vectors)
            rows += [{"vectors": name, "rows": len(vectors), **row} for row in measure(library, asked)]
            sure += [{"vectors": name, **row} for row in confidences(library, known)]
            for row in (*rows[-len(asked) :], *sure[-len(known) :]):
                print(row, flush=True)
            write_result("without_queries", {"vectors": options.rows, "rows": rows})
            write_result("foreign_confidence", {"vectors": options.rows, "rows": sure})


def real(photos: Path, work: Path, count: int) -> tuple[np.ndarray, dict, dict]:
    """Return rows, queries by words, and queries whose confidences are looked at; half of the photographs are rows."""
    images, crops, texts, picture_of = embed(photos, work)
    rng = np.random.default_rng(SEED)
    inside = np.zeros(len(images), np.bool_)
    inside[rng.permutation(len(images))[: len(images) // 2]] = True
    base = crops[inside][:, 1:].reshape(-1, crops.shape[2])
    pairs, share = rng.integers(0, len(base), (2, count - len(base))), rng.uniform(0.3, 0.7, (count - len(base), 1))
    rows = np.concatenate([base, unit_rows((1 - share) * base[pairs[0]] + share * base[pairs[1]])]).astype(np.float32)
    encoder = registry.load("builtin-base", threads=1, offline=True)
    words = {
        "captions": texts[rng.permutation(len(texts))[:QUERIES]],
        "sentences of documents": encoder.encode_queries(sentences()[:QUERIES]),
        "generic queries": encoder.encode_queries(generic_queries()[2 :: len(generic_queries()) // QUERIES]),
    }
    some = np.flatnonzero(inside[picture_of])[::10], np.flatnonzero(~inside[picture_of])[::10]
    known = {
        "a picture that is there": rows[rng.integers(0, len(base), 100)],
        "another crop of it": crops[inside][:100, 0],
        "a photograph that is not there": crops[~inside][:100, 0],
        "a caption of one that is there": texts[some[0][:100]],
        "a caption of one that is not": texts[some[1][:100]],
    }
    return rows, words, known


def sentences() -> list[str]:
    """Return sentences of the documents of this project, in random order."""
    text = "\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("*.md")))
    plain = [" ".join(found.split()) for found in re.findall(r"(?<=[.!?:] )[A-Z][^.|`#<>\[\]]{30,150}\.", text)]
    return [plain[i] for i in np.random.default_rng(SEED).permutation(len(plain))]


def made(profile: Profile, dim: int, count: int) -> tuple[np.ndarray, dict, dict]:
    """Return made rows, texts of some of them, and pictures that are there."""
    maker = Maker(profile.stretched(dim), count, seed=SEED)
    rows = np.concatenate([block.astype(np.float16) for block in maker.pictures()])
    return rows, {"made texts": maker.texts(QUERIES)}, {"a picture that is there": rows[:: count // 100]}


def wide_gap() -> Profile:
    """Invent a profile in which pictures have a cosine of 0.5 with each other and of 0.2 with texts they do not fit."""
    axes, rng = np.arange(512), np.random.default_rng(SEED)
    spread = 0.7 * scaled((axes + 6.0) ** -0.7)
    mean = 0.7 * scaled(rng.standard_normal(512))
    away = rng.standard_normal(512)
    text_mean = 0.75 * scaled(away - mean * (away @ mean) / (mean @ mean)) + mean * 0.2 / (mean @ mean)
    stray = 0.5 * scaled((axes + 30.0) ** -0.3)
    parts = (mean, text_mean, spread, 0.35 * spread, stray, 0.5 * spread)
    return Profile("invented", *(part.tolist() for part in parts))


def scaled(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values)


def bring(library: Path, rows: np.ndarray) -> None:
    """Import rows as those of an encoder that nobody has."""
    with tempfile.TemporaryDirectory() as scratch:
        np.save(Path(scratch) / "rows.npy", rows)
        import_embeddings(library, str(Path(scratch) / "rows.npy"), encoder="an encoder that is not here")


def measure(library: Path, asked: dict[str, np.ndarray]) -> list[dict]:
    """Return recall at ten of each set of queries, and the time of single ones."""
    opened, found = Library(library), []
    with opened.read() as snapshot:
        rows, retriever = snapshot.rows(Modality.IMAGE), Retriever(opened)
        index = open_generation(library, snapshot.generation(Modality.IMAGE), rows)
        pictures, text = index.calibration.kinds["image"].probe, index.calibration.kinds["text"]
        for name, queries in asked.items():
            queries = unit_rows(queries.astype(np.float32))
            true = exact_search(rows, queries, K).ids
            ways = {
                "before": lambda q: search_candidates(index.index, rows, q, K, pictures).ids,
                "after": lambda q: retriever.nearest_rows(QueryBatch(snapshot, q), Modality.IMAGE, K)[0],
                "exact": lambda q: exact_search(rows, q, K).ids,
            }
            row = {"queries": name, "asked": len(queries)}
            row |= {f"recall {way}": share(ways[way](queries), true) for way in ("before", "after")}
            row |= {f"ms {way}": milliseconds(ask, queries) for way, ask in ways.items()}
            found.append(row | {"rows scanned": round(text.scanned / len(rows), 3)})
    opened.close()
    return found


def share(ids: np.ndarray, true: np.ndarray) -> float:
    return round(float((ids[:, :, None] == true[:, None, :]).any(axis=1).mean()), 3)


def milliseconds(ask, queries: np.ndarray) -> float:
    """Return the median processor time of single queries."""
    ask(queries[:1])
    times = []
    for query in queries[:TIMED]:
        started = time.process_time()
        ask(query[None])
        times.append(1000 * (time.process_time() - started))
    return round(float(np.median(times)), 2)


def confidences(library: Path, known: dict[str, np.ndarray]) -> list[dict]:
    """Return the middle and the tenths of the confidences of first hits, and those that earlier versions gave."""
    found = []
    with SearchEngine(Library(library)) as engine:
        with engine.library.read() as snapshot:
            sample, count = snapshot.sample(Modality.IMAGE), snapshot.live_count()
        for name, queries in known.items():
            queries = unit_rows(queries.astype(np.float32))
            hits = [engine.search(vector=query, k=1)[0] for query in queries]
            before = [
                confidence(hit.score, null_model(sample @ q, count)) for hit, q in zip(hits, queries, strict=True)
            ]
            row = {"query": name}
            for way, values in (("before", before), ("now", [hit.confidence for hit in hits])):
                row |= {f"{way}, {part}": f"{np.percentile(values, p):.2g}" for part, p in (("10 %", 10), ("50 %", 50))}
            found.append(row)
    return found


if __name__ == "__main__":
    main()
