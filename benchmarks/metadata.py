"""How fast filters on metadata find their items, with and without an index, beside the same in plain SQLite.

    python benchmarks/metadata.py [--million]

200,000 records, or a million, have a price below 400, evenly spread, a brand and a list of two texts; `price < 20`
holds for 5 %. The time is that of finding the ids of the items. `price` and `brand` are indexed, the list is not. The
last row asks a table of SQLite that has a column of prices.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import median_ms, write_result

import clipsearch
from clipsearch.filtering import Filter

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
    parser.add_argument("--million", action="store_true")
    is_million = parser.parse_args().million
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), 1_000_000 if is_million else 200_000)
    for row in rows:
        print(row)
    write_result("metadata_million" if is_million else "metadata", {"rows": rows})


def measure(folder: Path, count: int) -> list[dict[str, object]]:
    """Make a library and a plain table of the same records, and time the filters."""
    records = make_records(count)
    with clipsearch.open(folder / "lib", create=True, model="ViT-B-32/openai", dim=DIM) as engine:
        rows = np.random.default_rng(0).standard_normal((count, DIM)).astype(np.float32)
        engine.add({"id": f"r{i}", "vector": rows[i], "metadata": each} for i, each in enumerate(records))
        scanned = {name: clock(lambda where=where: look(engine, where)) for name, where in FILTERS.items()}
        engine.index_metadata(("price", "brand"))
        indexed = {name: clock(lambda where=where: look(engine, where)) for name, where in FILTERS.items()}
        items = {name: look(engine, where) for name, where in FILTERS.items()}
    plain = plain_table(folder / "plain.db", records)
    bare = clock(lambda: len(plain.execute(PLAIN).fetchall()))
    plain.execute("CREATE INDEX prices ON plain (price)")
    rows = [
        {"filter": name, "items": items[name], "without_an_index_ms": scanned[name], "with_one_ms": indexed[name]}
        for name in FILTERS
    ]
    with_index = clock(lambda: len(plain.execute(PLAIN).fetchall()))
    first = {"filter": "the first, plain SQLite, a column", "items": items[next(iter(FILTERS))]}
    return [*rows, {**first, "without_an_index_ms": bare, "with_one_ms": with_index}]


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
    """Return the median of ROUNDS runs, in milliseconds."""
    return round(median_ms(run, ROUNDS), 1)


if __name__ == "__main__":
    main()
