"""Many queries at once, and many callers at once: python benchmarks/bulk.py [--records N]

A library of N pictures with captions of seven words (5,000 by default): texts embedded by the small builtin
encoder for a few hundred of them, the rest of the vectors near these, as only the time counts. 200 texts like the
captions are asked one by one and by `search_batch`, and awaited from `asearch` one by one and by 32 callers at a time.
The ways are interleaved and repeated; the figures are medians. `not cached`: the encoder reads every text. `cached`:
each text was asked before. `by vectors`: no text at all; `by meaning`: without the words of captions. Answers are
compared with those of one by one.
"""

import argparse
import asyncio
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import write_result

from clipsearch.config import Settings
from clipsearch.encoders import registry
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from clipsearch.store.records import CollectionRecord, RecordBlock
from clipsearch.types import EncoderPin, Modality
from indexer.spreads import refresh_spreads

QUERIES, CALLERS, ROUNDS = 200, 32, 3
COMMON = "a the two red small dogs cats boats people on in near beach street sofa run sit play".split()
RARE = """
anchor apron armchair bakery balloon banjo barrel basket bathtub beetle bicycle binoculars blanket blender bonfire
bracelet bridge broom bucket cactus camel candle canoe carpet castle cello chimney cliff compass cradle crayon curtain
dolphin donkey dragonfly drum easel elevator engine escalator falcon fence ferry fireplace flamingo fountain garlic
giraffe goggles guitar hammer hammock harbour helmet hydrant iceberg igloo jacket jigsaw kettle kite ladder lantern
laptop lighthouse lizard lobster magnet mailbox meadow mermaid microscope mosque mushroom necklace orchard ostrich
paddle parachute peacock penguin piano pigeon pumpkin quilt raccoon saddle scarecrow scissors shipwreck skateboard
snowman staircase submarine sunflower tractor trumpet umbrella violin windmill
""".split()


def captions(count, seed):
    """Captions of five common words and two rare ones."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(COMMON, k=5) + rng.choices(RARE, k=2)) for _ in range(count)]


def make_library(folder, encoder, count):
    """Make the library."""
    library = Library.create(folder)
    library.pin(EncoderPin(encoder.name, encoder.fingerprint, encoder.dim))
    said, rng = captions(count, 0), np.random.default_rng(0)
    some = encoder.encode_texts(said[:256])

    def near(rows, noise):
        moved = rows + noise * rng.standard_normal(rows.shape) / np.sqrt(encoder.dim)
        return (moved / np.linalg.norm(moved, axis=1, keepdims=True)).astype(np.float16)

    with library.writer() as writer:
        source = writer.add_root("", "/pictures").root_id
        for start in range(0, count, 1000):
            block = range(start, min(start + 1000, count))
            texts = near(some[rng.integers(len(some), size=len(block))], 0.5)
            rows = {Modality.IMAGE: near(texts.astype(np.float32), 1.0), Modality.TEXT: texts}
            writer.commit_records(source, RecordBlock([CollectionRecord(f"{i}.jpg", said[i]) for i in block], rows))
        refresh_spreads(library, writer, lambda: encoder)
    library.close()


def shown(answers):
    """What must be the same."""
    return [[(hit.item.id, round(hit.score, 5)) for hit in answer] for answer in answers]


async def one_after_the_other(engine, texts):
    """Await each search before the next is asked."""
    return [await engine.asearch(text) for text in texts]


async def at_the_same_time(engine, texts):
    """Have CALLERS callers await, each its share of the texts."""

    async def caller(number):
        return [(i, await engine.asearch(texts[i])) for i in range(number, len(texts), CALLERS)]

    found = await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return [answer for _, answer in sorted(pair for each in found for pair in each)]


def ways(engine, texts, vectors):
    """Return what is timed: pairs of one by one and together."""
    return {
        "search_batch": (lambda: [engine.search(t) for t in texts], lambda: engine.search_batch(texts=texts)),
        "search_batch by meaning": (
            lambda: [engine.search(t, hybrid=False) for t in texts],
            lambda: engine.search_batch(texts=texts, hybrid=False),
        ),
        "search_batch by vectors": (
            lambda: [engine.search(vector=v, kind="text") for v in vectors],
            lambda: engine.search_batch(vectors=vectors, kind="text"),
        ),
        "asearch": (
            lambda: asyncio.run(one_after_the_other(engine, texts)),
            lambda: asyncio.run(at_the_same_time(engine, texts)),
        ),
    }


def measure(engine, texts, vectors, names):
    """Time each way, interleaved: the median seconds of both, and whether all answers were the same."""
    timed = {name: ([], []) for name in names}
    known = ways(engine, texts, vectors)
    for name in names:  # warm
        expected, found = (way() for way in known[name])
        assert shown(expected) == shown(found), name
    for _ in range(ROUNDS):
        for name in names:
            for times, way in zip(timed[name], known[name], strict=True):
                begun = time.perf_counter()
                way()
                times.append(time.perf_counter() - begun)
    return {name: [statistics.median(times) for times in both] for name, both in timed.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=5_000)
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    encoder = registry.load("builtin-small", threads=cores, offline=True)
    texts = captions(QUERIES, 1)
    vectors = encoder.encode_queries(texts)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_STATE_HOME"] = os.environ["CLIPSEARCH_CACHE"] = f"{scratch}/user"
        folder = Path(scratch, "library")
        make_library(folder, encoder, arguments.records)
        for cached in (False, True):
            settings = Settings(threads=cores, offline=True, query_cache=cached)
            with SearchEngine(Library(folder), settings) as engine:
                names = ["search_batch", "search_batch by meaning", "asearch"]
                names += [] if cached else ["search_batch by vectors"]
                for name, (alone, together) in measure(engine, texts, vectors, names).items():
                    state = "" if name.endswith("vectors") else "cached" if cached else "not cached"
                    row = {"way": name, "texts": state, "one_by_one_ms": round(1000 * alone / QUERIES, 2)}
                    row |= {"together_ms": round(1000 * together / QUERIES, 2), "ratio": round(alone / together, 1)}
                    rows.append(row)
                    print(row)
    write_result("bulk", {"records": arguments.records, "queries": QUERIES, "callers": CALLERS, "rows": rows})


if __name__ == "__main__":
    main()
