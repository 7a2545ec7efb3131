"""Adding records from Python: records a second with vectors and metadata, beside an import of the same vectors.

    python benchmarks/records.py [--records 100000] [--million]

Each measurement is a process of its own, by turns, medians of several rounds. The last ones are of a library of these
records in a new process: the seconds from its start to the first answer, and those after `clipsearch.open`. --million:
measure only those, of 1,000,000 records.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

STARTED = time.perf_counter()
ROUNDS, DIM, BLOCK = 3, 512, 8192
MODEL = "ViT-B-32/openai"


def blocks(count: int):
    """Yield made vectors, float32 (n, dim): each block is the first one, turned and moved, which is cheap."""
    import numpy as np

    chance = np.random.default_rng(0)
    base = chance.standard_normal((BLOCK, DIM), dtype=np.float32)
    for number, start in enumerate(range(0, count, BLOCK)):
        yield start, np.roll(base, number, axis=1)[: count - start] + np.float32(0.01 * number)


def records(count: int):
    """Yield records with a vector, a number, a truth value, a text and a list."""
    from clipsearch import Record

    for start, rows in blocks(count):
        for number, row in enumerate(rows, start):
            metadata = {
                "price": number % 1000 / 10,
                "brand": f"brand {number % 50}",
                "sold": not number % 3,
                "tags": ["a", "b"],
            }
            yield Record(f"item-{number:08d}", vector=row, metadata=metadata)


def add(folder: str, count: int, again: bool = False) -> float:
    """Add records; return the seconds of the call."""
    import clipsearch

    with clipsearch.open(folder, create=True, model=MODEL, dim=DIM) as engine:
        report = engine.add(records(count))
    assert report.failed == () and (report.unchanged if again else report.added) == count
    return report.seconds


def make(count: int) -> float:
    """Make the records alone, which is part of adding them here; return the seconds."""
    started = time.perf_counter()
    for _ in records(count):
        pass
    return time.perf_counter() - started


def import_same(folder: str, count: int) -> float:
    """Import the same vectors, without metadata and without building an index; return the seconds of the call."""
    import numpy as np

    from clipsearch.types import Modality
    from indexer import importing

    source = Path(folder).with_suffix(".npy")
    array = np.lib.format.open_memmap(source, "w+", np.float32, (count, DIM))
    for start, rows in blocks(count):
        array[start : start + len(rows)] = rows
    array.flush()
    with mock.patch.object(importing, "_refresh"):  # which builds an index; `add` leaves that to `build`
        report = importing.import_embeddings(Path(folder), str(source), encoder=MODEL, modality=Modality.IMAGE)
    assert report.imported == count
    source.unlink()
    return report.seconds


def first_hit(folder: str) -> tuple[float, float]:
    """Open a library and search it; return the seconds from the start of the program, and those of open and search."""
    import numpy as np

    import clipsearch

    opened = time.perf_counter()
    with clipsearch.open(folder) as engine:
        assert len(engine.search(vector=np.ones(DIM), k=10)) == 10
        done = time.perf_counter()
    return done - STARTED, done - opened


def measure(*arguments: object) -> dict[str, float]:
    """Run one measurement in a process of its own."""
    from harness import run

    _, peak, out = run([sys.executable, __file__, "--run", *map(str, arguments)])
    values = json.loads(out)
    return {"seconds": values[0], "after_open": values[-1], "peak_mib": peak}


def main() -> None:
    """Measure, or do what a measurement is of."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--run", nargs="+")
    options = parser.parse_args()
    if options.run:
        name, *rest = options.run
        given = [int(each) if each.isdecimal() else each for each in rest]
        functions = {
            "add": add,
            "again": lambda f, n: add(f, n, True),
            "make": make,
            "import": import_same,
            "hit": first_hit,
        }
        done = functions[name](*given)
        print(json.dumps(done if isinstance(done, tuple) else [done]))
        return
    from harness import write_result

    if options.million:
        write_result("records_million", {"rows": open_million()})
    else:
        write_result("records", {"records": options.records, "dim": DIM, "rows": add_rows(options.records)})


def add_rows(count: int) -> list[dict[str, object]]:
    """Measure what is added, by turns."""
    found: dict[str, list[dict[str, float]]] = {
        "make the records": [],
        "engine.add": [],
        "again, unchanged": [],
        "import-embeddings": [],
    }
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            found["make the records"].append(measure("make", count))
            found["engine.add"].append(measure("add", f"{folder}/added", count))
            found["again, unchanged"].append(measure("again", f"{folder}/added", count))
            found["import-embeddings"].append(measure("import", f"{folder}/imported", count))
    rows = []
    for name, measured in found.items():
        seconds = statistics.median(each["seconds"] for each in measured)
        peak = max(each["peak_mib"] for each in measured)
        rows.append(
            {
                "what": name,
                "seconds": round(seconds, 2),
                "records_a_second": round(count / seconds),
                "peak_mib": round(peak),
            }
        )
        print(rows[-1], flush=True)
    return rows


def open_million() -> list[dict[str, object]]:
    """Measure the first answers of a library of a million records."""
    count, rows = 1_000_000, []
    with tempfile.TemporaryDirectory() as folder:
        measured = {"engine.add": [measure("add", f"{folder}/lib", count)]}
        hits = [measure("hit", f"{folder}/lib") for _ in range(ROUNDS + 1)]
        measured |= {"first answer, first process": hits[:1], "first answer, median of the next": hits[1:]}
    for what, found in measured.items():
        middle = {key: statistics.median(each[key] for each in found) for key in found[0]}
        after = None if what == "engine.add" else round(middle["after_open"], 2)
        rows.append({"what": what, "records": count, "seconds": round(middle["seconds"], 2), "seconds_of_open": after})
        rows[-1]["peak_mib"] = round(middle["peak_mib"])
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    main()
