"""Tags that are suggested where nothing is confident: python benchmarks/suggested_tags.py --data FOLDER

FOLDER holds `captions.csv` (image,caption) and `images`. Half of the photographs are indexed; words that three captions
of one have are its tags. Two captions of each other photograph are asked for: a suggested tag is right if it would be
one of that photograph. Compared: all tags of the hits, as before there was a rule; those of so many hits at least; and
those that are more frequent among the hits than in the library too. `unsure` are the captions that find nothing
confident, which is where suggestions are made.
"""

import argparse
import collections
import csv
import json
import math
import random
import re
import tempfile
from pathlib import Path

from harness import write_result

import clipsearch
from clipsearch.config import Settings
from clipsearch.query import suggesting

COMMON = set(
    "a an the of in on at with and is are to his her its their while through by from for as it two three one some into "
    "over up down out another he she they there who that this off near behind front next across around against".split()
)
SAID_BY = 3


def read_captions(data):
    found = collections.defaultdict(list)
    with (data / "captions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["image"]].append(row["caption"])
    return dict(found)


def tags_of(captions):
    """Return the words that several captions of a photograph have."""
    words = (set(re.findall(r"[a-z]{3,}", text.lower())) - COMMON for text in captions)
    counts = collections.Counter(word for each in words for word in each)
    return {word for word, count in counts.items() if count >= SAID_BY}


def build(engine, data, indexed, captions):
    engine.index([data / "images" / name for name in indexed])
    tagged = collections.defaultdict(list)
    for item in engine.find():
        for tag in tags_of(captions[Path(item.path).name]):
            tagged[tag].append(item.id)
    for tag, ids in tagged.items():
        engine.tag(ids, add=[tag])


def tags_by(library, found, holders, is_usual):
    """Return the tags that a rule suggests for an answer; is_usual: whether frequent ones of the library count too."""
    before = suggesting._HOLDERS, suggesting._frequent
    suggesting._HOLDERS = holders
    if is_usual:
        suggesting._frequent = lambda snapshot, counts, hits, wanted: iter(counts)
    try:
        with library.read() as snapshot:
            return suggesting._tags(snapshot, found, None, None)[: suggesting.MOST]
    finally:
        suggesting._HOLDERS, suggesting._frequent = before


def judge(engine, asked):
    """Return a row for each rule and kind of queries."""
    answers = [(truth, engine.search(text)) for text, truth in asked]
    rows = []
    for name, holders, is_usual in (
        ("any hit has", 1, True), ("one hit has, more often than all items", 1, False),
        ("two hits have", 2, True), ("two hits have, more often than all items", 2, False),
        ("three hits have, more often than all items", 3, False),
    ):  # fmt: skip
        for which in ("unsure", "all"):
            own = [(truth, found) for truth, found in answers if which == "all" or not found.confident]
            made = [(truth, tags_by(engine.library, found, holders, is_usual)) for truth, found in own]
            count, right = sum(len(tags) for _, tags in made), sum(len(truth & {*tags}) for truth, tags in made)
            share = right / max(count, 1)
            spread = 196 * math.sqrt(share * (1 - share) / max(count, 1))
            rows.append({
                "tags that": name, "captions": which, "queries": len(made), "tags a query": round(count / len(made), 2),
                "right %": round(100 * share, 1), "± 95 %": round(spread, 1),
                "queries with a right one %": round(100 * sum(bool(t & {*tags}) for t, tags in made) / len(made), 1),
            })  # fmt: skip
    return rows


def main() -> None:
    captions = read_captions(ARGUMENTS.data)
    names = sorted(captions)
    random.Random(1).shuffle(names)
    indexed, others = names[: len(names) // 2], names[len(names) // 2 :]
    asked = [(text, tags_of(captions[name])) for name in others for text in captions[name][:2]]
    with tempfile.TemporaryDirectory() as work:
        folder, settings = Path(work) / "library", Settings(offline=True, threads=1)
        with clipsearch.open(folder, settings=settings, create=True, model="builtin-small") as engine:
            build(engine, ARGUMENTS.data, indexed, captions)
            rows = judge(engine, asked)
    write_result("suggested_tags", {"pictures": len(indexed), "rows": rows})
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    ARGUMENTS = parser.parse_args()
    main()
