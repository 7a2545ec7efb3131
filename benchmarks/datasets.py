"""A data set of captions in Parquet: rows a second in ten slices of the run, and the memory of the process.

    python benchmarks/datasets.py [--rows 100000] [--pictures] [--encoder null|builtin]

The null encoder gives the same vector for everything, so that what is measured is all but the model: reading, commits,
words and metadata. A rate that falls from slice to slice is a cost that grows with the library. --pictures: rows with
small pictures too. Kills of this run: tests/indexer/test_datasets_killed.py.
"""

import argparse
import io
import json
import resource
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

SLICES, GROUP, DIM = 10, 10_000, 512
WORDS = "red blue old small boat house tree river cat dog hill road snow rain sun door child bird lamp stone".split()


def write(path: Path, rows: int, pictures: bool) -> None:
    """Write a table of captions, each of other words, with two columns of metadata and maybe a picture of 32 x 24."""
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
            for pixels in chance.integers(0, 255, (len(numbers), 24, 32, 3), np.uint8):
                file = io.BytesIO()
                Image.fromarray(pixels).save(file, "JPEG", quality=50)
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
    """Progress that notes when each slice was done."""

    def __init__(self, rows: int) -> None:
        self.times = [time.perf_counter()]
        self._done, self._slice = 0, rows / SLICES

    def scanned(self, files):
        """Ignore it."""

    def preparing(self):
        """Begin to count where the first row is encoded."""
        self.times = [time.perf_counter()]

    def start(self, total):
        """Ignore it."""

    def advance(self, files):
        """Note the time where a slice ends."""
        self._done += files
        while self._done >= self._slice * len(self.times) and len(self.times) <= SLICES:
            self.times.append(time.perf_counter())


def index(path: str, folder: str, rows: int, encoder: str) -> dict:
    """Index the table; return the rates of the slices, and the memory before the first row and at the end."""
    from unittest import mock

    from clipsearch.config import Settings
    from indexer import pipeline

    clock = Clock(rows)
    options = pipeline.IndexOptions(model="builtin")
    given = NullEncoder() if encoder == "null" else None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with mock.patch.object(pipeline._Run, "_refresh"):  # indexes and spreads are built when all is committed
        report = pipeline.index(Path(folder), [path], Settings(), options, encoder=given, progress=clock)
        assert report.added == rows, report.failed[:3]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        started = time.perf_counter()
        again = pipeline.index(Path(folder), [path], Settings(), options, encoder=given)
    seconds = round(time.perf_counter() - started, 2)
    assert again.unchanged == rows and not again.encoded
    times = clock.times
    rates = [round(rows / SLICES / (after - first)) for first, after in pairwise(times)]
    return {"rates": rates, "before_mib": round(before), "peak_mib": round(peak), "again_seconds": seconds}


def main() -> None:
    """Measure in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pictures", action="store_true")
    parser.add_argument("--encoder", choices=("null", "builtin"), default="null")
    parser.add_argument("--run", nargs=2)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(index(*options.run, options.rows, options.encoder)))
        return
    from harness import run, write_result

    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "captions.parquet"
        write(table, options.rows, options.pictures)
        command = [sys.executable, __file__, "--run", str(table), f"{scratch}/library", "--rows", str(options.rows)]
        seconds, _, out = run([*command, "--encoder", options.encoder])
        found = json.loads(out)
    kind = "pictures and captions" if options.pictures else "texts"
    row = {
        "rows": options.rows,
        "what": f"{kind}, {options.encoder} encoder",
        "first tenth, rows/s": found["rates"][0],
        "median": sorted(found["rates"])[SLICES // 2],
        "last tenth": found["rates"][-1],
        "peak MiB": found["peak_mib"],
        "of these before the first row": found["before_mib"],
        "second run, s": found["again_seconds"],
    }
    print(json.dumps(row | {"rates": found["rates"], "seconds": round(seconds, 1)}))
    write_result("datasets", {"rows": [row], "slices": found["rates"]})


if __name__ == "__main__":
    main()
