"""Data sets of captions in Parquet: rows a second in ten slices of the run, and the memory of the process.

    python benchmarks/datasets.py [--rows 1000000] [--pictures 64] [--encoder null|builtin] [--kills 5]

Without options, the cases of the table. The null encoder gives the same vector for everything, so that what is measured
is all but the model: reading, commits, words and metadata. A rate that falls from slice to slice is a cost that grows
with the library. `CPU us a row` is of this process, in the first and the last slice: other jobs change it less.
--kills: then index the table again, killed that many times on the way, and compare the two libraries row by row.
"""

import argparse
import hashlib
import io
import json
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

SLICES, GROUP, DIM = 10, 10_000, 512
WORDS = "red blue old small boat house tree river cat dog hill road snow rain sun door child bird lamp stone".split()


CASES = (
    {"rows": 1_000_000, "encoder": "null", "kills": 5},
    {"rows": 100_000, "pictures": 64, "encoder": "null"},
    {"rows": 50_000, "encoder": "builtin"},
    {"rows": 10_000, "pictures": 64, "encoder": "builtin"},
)
KILLED_AFTER = 0.1
"""Of the seconds of the whole run, how many pass before each kill."""


def write(path: Path, rows: int, pictures: int) -> None:
    """Write a table of captions, each of other words, with two columns of metadata and maybe a JPEG of that side."""
    import numpy as np
    import pyarrow as arrow
    from PIL import Image
    from pyarrow import parquet

    chance = np.random.default_rng(0)
    writer = None
    for first in range(0, rows, GROUP):
        numbers = range(first, min(first + GROUP, rows))
        words = chance.integers(0, len(WORDS), (len(numbers), 8))
        table = {
            "id": [f"row-{number:09d}" for number in numbers],
            "caption": [f"{' '.join(WORDS[i] for i in row)} {n}" for n, row in zip(numbers, words, strict=True)],
            "price": [number % 1000 / 10 for number in numbers],
            "brand": [f"brand {number % 50}" for number in numbers],
        }
        if pictures:
            table["image"] = []
            for pixels in chance.integers(0, 255, (len(numbers), 6, 8, 3), np.uint8):
                file = io.BytesIO()
                Image.fromarray(pixels).resize((pictures, pictures)).save(file, "JPEG", quality=80)
                table["image"].append({"bytes": file.getvalue(), "path": None})
        block = arrow.table(table)
        writer = writer or parquet.ParquetWriter(path, block.schema)
        writer.write_table(block)
    writer.close()


class NullEncoder:
    """The same vector for everything."""

    name, fingerprint, dim, logit_scale = "openclip:null/benchmark", "0" * 40, DIM, 100.0
    picture_side, batch_size, streams, max_tokens = 32, 64, 1, 1 << 20

    def count_tokens(self, text):
        """Count words."""
        return len(text.split())

    def tokens_per_letter(self, text):
        """Return what is usual."""
        return 0.3

    def preprocess(self, picture):
        """Take what is there."""
        import numpy as np

        return (np.asarray(picture.resize((32, 32))),)

    def encode_texts(self, texts):
        """Return the vector for each."""
        import numpy as np

        rows = np.zeros((len(texts), DIM), np.float32)
        rows[:, 0] = 1
        return rows

    encode_queries = encode_pixels = encode_images = encode_texts


class Clock:
    """Progress that notes when each slice was done: wall and processor seconds."""

    def __init__(self, rows: int) -> None:
        self.times = [(time.perf_counter(), time.process_time())]
        self._done, self._slice = 0, rows / SLICES

    def scanned(self, files):
        """Ignore it."""

    def preparing(self):
        """Begin to count where the first row is encoded."""
        self.times = [(time.perf_counter(), time.process_time())]

    def start(self, total):
        """Ignore it."""

    def advance(self, files):
        """Note the time where a slice ends."""
        self._done += files
        while self._done >= self._slice * len(self.times) and len(self.times) <= SLICES:
            self.times.append((time.perf_counter(), time.process_time()))


def index(path: str, folder: str, encoder: str, clock: Clock | None = None):
    """Index the table, but for what is built when all is committed."""
    from unittest import mock

    from clipsearch.config import Settings
    from indexer import pipeline

    options = pipeline.IndexOptions(model="builtin")
    given = NullEncoder() if encoder == "null" else None
    with mock.patch.object(pipeline._Run, "_refresh"):
        return pipeline.index(Path(folder), [path], Settings(), options, encoder=given, progress=clock)


def measure(path: str, folder: str, rows: int, encoder: str) -> dict:
    """Index the table; return the rates of the slices, and the memory before the first row and at the end."""
    clock = Clock(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    report = index(path, folder, encoder, clock)
    assert report.added == rows, report.failed[:3]
    whole = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.perf_counter()
    again = index(path, folder, encoder)
    seconds = round(time.perf_counter() - started, 2)
    assert again.unchanged == rows and not again.encoded
    steps = [[b - a for a, b in zip(*pair, strict=True)] for pair in pairwise(clock.times)]
    return {
        "rates": [round(rows / SLICES / wall) for wall, _ in steps],
        "cpu_us": [round(1e6 * cpu * SLICES / rows) for _, cpu in steps],
        "seconds": round(whole, 1),
        "before_mib": round(before),
        "peak_mib": round(peak),
        "again_seconds": seconds,
    }


def digest(folder: str) -> str:
    """Return a digest of all that a library says of its rows, by their ids: not in which order they were added."""
    catalog = sqlite3.connect(f"file:{folder}/catalog.db?mode=ro", uri=True)
    query = (
        "SELECT path, substr(content_hash, -32), caption, width, height, deleted, text, data, modality, shards.rows "
        "FROM items LEFT JOIN record_contents USING (item_id) LEFT JOIN item_metadata USING (item_id) "
        "LEFT JOIN shard_items USING (item_id) LEFT JOIN shards ON shards.id = shard_id ORDER BY path"
    ).replace("FROM items", "FROM (SELECT *, id AS item_id FROM items) items")
    hashed = hashlib.blake2b(digest_size=16)
    for row in catalog.execute(query):
        hashed.update(repr(row).encode())
    for row in catalog.execute("SELECT modality, count(*), count(DISTINCT item_id) FROM vectors GROUP BY modality"):
        hashed.update(repr(row).encode())
    return hashed.hexdigest()


def interrupt(command: list[str], kills: int, seconds: float) -> int:
    """Run a command to its end, killed that many times before; return how many kills came before it ended."""
    landed = 0
    for _ in range(kills):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            child.wait(KILLED_AFTER * seconds)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            landed += 1
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return landed


def measure_case(rows: int, encoder: str, pictures: int = 0, kills: int = 0) -> dict:
    """Measure one case in a process of its own; return a row of the table."""
    from harness import run

    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "captions.parquet"
        write(table, rows, pictures)
        command = [sys.executable, __file__, "--rows", str(rows), "--encoder", encoder, "--run", str(table)]
        found = json.loads(run([*command, f"{scratch}/library"])[2])
        print(json.dumps({"rows": rows, "encoder": encoder, "pictures": pictures, **found}), flush=True)
        landed = None
        if kills:
            landed = interrupt([*command, f"{scratch}/killed", "--once"], kills, found["seconds"])
            assert digest(f"{scratch}/library") == digest(f"{scratch}/killed"), "the libraries differ"
    what = f"JPEGs of {pictures} x {pictures} and captions" if pictures else "captions"
    return {
        "rows": rows,
        "of": f"{what}, {encoder} encoder",
        "seconds": found["seconds"],
        "rows a second, first tenth": found["rates"][0],
        "median": sorted(found["rates"])[SLICES // 2],
        "last tenth": found["rates"][-1],
        "CPU us a row, first tenth": found["cpu_us"][0],
        "last": found["cpu_us"][-1],
        "peak MiB": found["peak_mib"],
        "second run, s": found["again_seconds"],
        "kills, then the same": landed,
    }


def main() -> None:
    """Measure the cases of the table, or the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--pictures", type=int, default=0, metavar="SIDE")
    parser.add_argument("--encoder", choices=("null", "builtin"), default="null")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run and given.once:
        index(*given.run, given.encoder)
    elif given.run:
        print(json.dumps(measure(*given.run, given.rows, given.encoder)))
    elif given.rows:
        print(json.dumps(measure_case(given.rows, given.encoder, given.pictures, given.kills)))
    else:
        from harness import write_result

        cases = [measure_case(**case) for case in CASES]
        write_result("datasets", {"rows": cases})


if __name__ == "__main__":
    main()
