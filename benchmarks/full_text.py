"""Words of captions: the index as it is made, beside trigrams, plain words and no index at all.

    python benchmarks/full_text.py [--captions 1000000]

A fifth of the captions is Chinese, which has no spaces. Each question is asked in turn, medians of several rounds. The
last column is what storing captions costs an import: seconds with the index over seconds without.
"""

import argparse
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import numpy as np
from harness import median_ratio, write_result

from clipsearch.store import full_text
from clipsearch.store.library import Library
from clipsearch.store.records import CollectionRecord, RecordBlock
from clipsearch.types import EncoderPin, Modality
from clipsearch.words import separate

COMMON = "a the man woman dog cat child red blue black white running jumping beach street snow grass water ball".split()
CHINESE = "一个男人女孩狗猫在海滩上奔跑红色衬衫站街道雪地草水边玩球公园自行车山河船人群前面背景穿着拿相机孩子们跳跃坐"
ROUNDS, BLOCK = 5, 4096
PLAIN = "CREATE VIRTUAL TABLE full_text USING fts5(words, content='', tokenize='{}')"
WAYS = {
    "words, Chinese by the character": (full_text.CREATE, separate),
    "trigrams": (PLAIN.format("trigram"), str),
    "words between spaces": (PLAIN.format("unicode61"), str),
    "no index, LIKE": ("CREATE TABLE full_text (words)", str),
}
ASKED = {"common": ("dog", "beach"), "rare": ("w00017",), "chinese": ("海滩",)}


def captions(count: int) -> list[str]:
    """Made captions of some 60 characters."""
    chance = random.Random(0)
    rare = [f"w{number:05d}" for number in range(20_000)]
    made = []
    for number in range(count):
        if number % 5:
            made.append(" ".join(chance.choices(COMMON, k=9) + chance.choices(rare, k=2)))
        else:
            made.append("".join(chance.choices(CHINESE, k=18)))
    return made


def main() -> None:
    """Measure every way, and the import."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=1_000_000)
    options = parser.parse_args()
    texts = captions(options.captions)
    size = sum(len(text.encode()) for text in texts)
    cost = import_cost(texts[:50_000])
    rows = []
    for way, (create, prepare) in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "words.db"
            with closing(sqlite3.connect(path, isolation_level=None)) as db:
                seconds = fill(db, create, map(prepare, texts))
                share = round(path.stat().st_size / size, 2)
                asked = {name: ask(db, way, words) for name, words in ASKED.items()}
        row = {"way": way, "size_times_text": share, "seconds": round(seconds, 1)}
        row |= {f"{name}_ms": round(1000 * spent, 1) for name, (spent, _) in asked.items()}
        row["chinese_found"] = asked["chinese"][1]
        row["import_times"] = round(cost, 2) if create == full_text.CREATE else None
        rows.append(row)
        print(row, flush=True)
    write_result("full_text", {"captions": options.captions, "bytes": size, "rows": rows})


def fill(db: sqlite3.Connection, create: str, texts) -> float:
    """Store texts in a new table, as many a transaction as an import does; return the seconds."""
    started = time.perf_counter()
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(create)
    numbered = enumerate(texts, 1)
    while block := [pair for pair, _ in zip(numbered, range(BLOCK), strict=False)]:
        db.execute("BEGIN")
        db.executemany("INSERT INTO full_text (rowid, words) VALUES (?, ?)", block)
        db.execute("COMMIT")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return time.perf_counter() - started


def ask(db: sqlite3.Connection, way: str, words: tuple[str, ...]) -> tuple[float, int]:
    """Return the median seconds to find what has these words, and how many have."""
    if way.startswith("no index"):
        condition, values = " AND ".join("words LIKE ?" for _ in words), [f"%{word}%" for word in words]
    else:
        condition, values = "words MATCH ?", [" AND ".join(f'"{WAYS[way][1](word)}"' for word in words)]
    times, found = [], 0
    for _ in range(ROUNDS):
        started = time.perf_counter()
        found = len(db.execute(f"SELECT rowid FROM full_text WHERE {condition}", values).fetchall())
        times.append(time.perf_counter() - started)
    return statistics.median(times), found


def import_cost(texts: list[str]) -> float:
    """Return seconds of an import with the index of words over those without, by turns."""
    times = {True: [], False: []}
    for _ in range(ROUNDS):
        for is_indexed, measured in times.items():
            with mock.patch.object(full_text, "add", full_text.add if is_indexed else lambda *_: None):
                measured.append(import_seconds(texts))
    return median_ratio(times[True], times[False])


def import_seconds(texts: list[str]) -> float:
    """Import captions with vectors of 512 dimensions into a new library."""
    rows = np.zeros((BLOCK, 512), np.float16)
    rows[:, 0] = 1
    with tempfile.TemporaryDirectory() as folder:
        library = Library.create(Path(folder))
        library.pin(EncoderPin("test", "0", 512))
        with library.writer() as writer:
            root = writer.add_collection(library.base, "/captions")
            started = time.perf_counter()
            for first in range(0, len(texts), BLOCK):
                records = [
                    CollectionRecord(f"{first + i}", text) for i, text in enumerate(texts[first : first + BLOCK])
                ]
                writer.commit_records(root, RecordBlock(records, {Modality.IMAGE: rows[: len(records)]}))
            seconds = time.perf_counter() - started
        library.close()
    return seconds


if __name__ == "__main__":
    main()
