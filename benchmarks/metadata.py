"""How fast filters on metadata find their items, with and without an index, beside the same in plain SQLite.

    python benchmarks/metadata.py --records 200000

Records have a price below 400, evenly spread, a brand and a list of texts; `price < 20` holds for 5 %.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import clipsearch
from clipsearch.filtering import Filter

BENCHMARKS = Path(__file__).parent
ROUNDS = 5
DIM = 8
FILTERS = {
    "price < 20 (5 %)": {"price": {"lt": 20}},
    "price = 7": {"price": 7},
    "one of two brands (2 %)": {"brand": ["brand-3", "brand-77"]},
    "price < 20, and a text of the list (0.5 %)": {"price": {"lt": 20}, "tags": "t3"},
}
PLAIN = "SELECT id FROM plain WHERE price < 20"


def main() -> None:
    """Measure, and write the figures and their table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), given.records)
    output = given.output or BENCHMARKS / "results" / f"metadata_{given.records // 1000}k.json"
    output.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def measure(folder: Path, count: int) -> dict[str, object]:
    """Make a library and a plain table of the same records, and time the filters."""
    records = make_records(count)
    with clipsearch.open(folder / "lib", create=True, model="ViT-B-32/openai", dim=DIM) as engine:
        rows = np.random.default_rng(0).standard_normal((count, DIM)).astype(np.float32)
        added = engine.add({"id": f"r{i}", "vector": rows[i], "metadata": each} for i, each in enumerate(records))
        scanned = {name: clock(lambda where=where: look(engine, where)) for name, where in FILTERS.items()}
        started = time.perf_counter()
        engine.index_metadata(("price", "brand"))
        seconds = time.perf_counter() - started
        indexed = {name: clock(lambda where=where: look(engine, where)) for name, where in FILTERS.items()}
        items = {name: look(engine, where) for name, where in FILTERS.items()}
    plain = plain_table(folder / "plain.db", records)
    bare = clock(lambda: len(plain.execute(PLAIN).fetchall()))
    plain.execute("CREATE INDEX prices ON plain (price)")
    return {
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
        },
        "records": count,
        "records_per_second": round(count / added.seconds),
        "index_seconds": round(seconds, 2),
        "filters": [
            {"filter": name, "items": items[name], "scan_ms": scanned[name], "index_ms": indexed[name]}
            for name in FILTERS
        ],
        "plain": {"scan_ms": bare, "index_ms": clock(lambda: len(plain.execute(PLAIN).fetchall()))},
    }


def look(engine: clipsearch.SearchEngine, where: dict[str, object]) -> int:
    """Find the ids of the items; not those that were kept, for a filter that was asked for before."""
    with engine.library.read() as snapshot:
        snapshot._cache._values.clear()
        return len(snapshot.matching_ids(Filter(where=where)))


def make_records(count: int) -> list[dict[str, object]]:
    """Return the metadata of records."""
    chance = random.Random(0)
    return [
        {
            "price": chance.randrange(40_000) / 100 if i % 2 else chance.randrange(400),
            "brand": f"brand-{chance.randrange(100)}",
            "tags": [f"t{chance.randrange(10)}", "all"],
        }
        for i in range(count)
    ]


def plain_table(path: Path, records: list[dict[str, object]]) -> sqlite3.Connection:
    """Make a table of SQLite with a column for each name."""
    plain = sqlite3.connect(path)
    plain.execute("CREATE TABLE plain (id INTEGER PRIMARY KEY, price, brand TEXT, tags TEXT)")
    rows = ((each["price"], each["brand"], json.dumps(each["tags"])) for each in records)
    plain.executemany("INSERT INTO plain (price, brand, tags) VALUES (?, ?, ?)", rows)
    plain.commit()
    return plain


def clock(run: Callable[[], int]) -> float:
    """Return the median of ROUNDS runs, in milliseconds, after one that does not count."""
    run()
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        taken.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(taken), 1)


def table(found: dict[str, object]) -> str:
    """Return the figures as a table of Markdown."""
    lines = [f"| filter, {found['records']:,} records | items | without an index | with one |", "|---|---|---|---|"]
    for each in found["filters"]:
        lines.append(f"| {each['filter']} | {each['items']:,} | {each['scan_ms']:g} ms | {each['index_ms']:g} ms |")
    plain = found["plain"]
    lines.append(f"| the first, plain SQLite, a column | | {plain['scan_ms']:g} ms | {plain['index_ms']:g} ms |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
