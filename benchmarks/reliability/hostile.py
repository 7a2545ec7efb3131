"""Index a folder of hostile files, while some of them grow, shrink and vanish, and check what comes of each.

    python benchmarks/reliability/hostile.py [--seed 0] [--short] [--large]

Indexes the corpus of hostile_corpus.py with the command, with and without --isolate. A trial is a file. Fails where the
command crashes, a good file is not indexed, a bad one is not reported with a reason, a file is neither indexed nor
reported, or a second run does not leave all of it alone.
"""

import argparse
import json
import os
import random
import sqlite3
import sys
import tempfile
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parents[2]),
    str(Path(__file__).resolve().parents[1]),
    str(Path(__file__).parent),
]

from harness import COMMAND, run, write_result
from hostile_corpus import ANY, BAD, GOOD, make

from clipsearch.config import Settings
from clipsearch.encoders import registry
from clipsearch.paths import quote_path
from clipsearch.store.records import FileRecord
from indexer.decode import Decoder
from tests.support.pictures import encode, noise_picture


def main() -> None:
    """Make the corpus, check it both ways, find the slowest file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--large", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        expected = make(root / "files", arguments.seed, short=arguments.short, large=arguments.large)
        rows = [check(root / "files", root / flag, expected, flag) for flag in ("--no-isolate", "--isolate")]
        name, seconds = slowest(root / "files", expected)
    values = {"seed": arguments.seed, "trials": len(expected), "slowest_file": name, "slowest_seconds": seconds}
    print(json.dumps(values | {"rows": rows}, indent=1))
    if any(row["crashes"] or row["wrong"] for row in rows):
        sys.exit(1)
    if not arguments.short:
        write_result("hostile", values | {"rows": rows})


def check(files: Path, library: Path, expected: dict[str, str], flag: str) -> dict:
    """Index the files twice; return what a row of the table says, and in `wrong` what should not be."""
    command = [COMMAND, "index", str(files), "--library", str(library), "--model", "builtin-small", "--json", flag]
    wrong: list[str] = []
    with Moving(files / "moving"):
        try:
            seconds, peak, _ = run(command)
        except RuntimeError as error:
            return {"flag": flag, "crashes": 1, "wrong": [str(error)[-2000:]]}
    indexed, failures = outcomes(library)
    for path, outcome in expected.items():
        stored = quote_path(path)
        is_indexed, is_failed = stored in indexed, stored in failures
        if (outcome == GOOD and not is_indexed) or (outcome == BAD and not is_failed):
            wrong.append(f"{stored} is {outcome}, but not so found")
        if outcome == ANY and not (is_indexed or is_failed):
            wrong.append(f"{stored} is neither indexed nor reported")
    wrong += [f"{path} failed without a reason" for path, reason in failures.items() if not reason.strip()]
    again = json.loads(run(command)[2])
    if again["encoded"]:
        wrong.append(f"a second run encoded {again['encoded']} again")
    values = {"indexed": len(indexed), "failed": len(failures), "seconds": round(seconds, 1), "peak_mib": round(peak)}
    return {"flag": flag, "crashes": 0, "wrong": wrong, **values}


def outcomes(library: Path) -> tuple[set[str], dict[str, str]]:
    """Return the paths that are indexed, and those that failed with the reason, past the code under test."""
    with closing(sqlite3.connect(library / "catalog.db")) as db:
        indexed = {path for (path,) in db.execute("SELECT path FROM items WHERE NOT deleted")}
        return indexed, dict(db.execute("SELECT path, reason FROM failures"))


def slowest(files: Path, expected: dict[str, str]) -> tuple[str, float]:
    """Return the file that takes longest to read and decode by itself, and how many seconds."""
    encoder = registry.load("builtin-small", threads=1, offline=True)
    decoder = Decoder(encoder, Settings(threads=1), {1: str(files)}, lambda content_hash: False)
    encoder.count_tokens("the tokenizer is loaded now")
    warnings.simplefilter("ignore")
    times: dict[str, float] = {}
    for path in expected:
        started = time.perf_counter()
        decoder(FileRecord(1, quote_path(path), 0, 0))
        times[path] = time.perf_counter() - started
    name = max(times, key=times.__getitem__)
    return quote_path(name), round(times[name], 2)


class Moving:
    """Files that grow, shrink, vanish, come back and turn into something else while they are indexed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._move)
        self._folder.mkdir(exist_ok=True)
        self._pictures = [encode(noise_picture(20_000 + number)) for number in range(8)]
        for number in range(40):
            self._path(number).write_bytes(self._pictures[number % 8])

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for number in range(40):
            self._remove(self._path(number))
        self._folder.rmdir()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:02d}.jpg"

    @staticmethod
    def _remove(path: Path) -> None:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)

    def _move(self) -> None:
        rng = random.Random(0)
        while not self._stop.wait(0.002):
            path = self._path(rng.randrange(40))
            data = rng.choice(self._pictures)
            what = rng.randrange(6)
            if what > 2 or not path.is_file() or path.is_symlink():
                self._remove(path)
            if what == 0 and path.exists():
                os.truncate(path, rng.randrange(len(data)))
            elif what in (1, 3):
                with path.open("ab") as file:
                    file.write(data)
            elif what == 4:
                os.mkfifo(path)
            elif what == 5:
                path.mkdir()


if __name__ == "__main__":
    main()
