"""Vectors and words in one ranking, on photographs with captions: python benchmarks/hybrid.py --data FOLDER

FOLDER holds photographs and `captions.csv` (image,caption), several captions each. A library is made of them in which
every other photograph has one caption. Asked are another caption of each photograph (`said otherwise`), and three words
in a row of the caption that is in the library (`remembered`). Figures: in how many of 100 queries the photograph that
is meant is among the first 1, 5 and 10, for photographs with a caption in the library and for those without. And the
names of things (`thing`): how many of 100 among the first 1, 5 and 10 have it, by at least two of all their captions.
The builtin encoder was fitted on such photographs: compare the ways, not the figures with others.
"""

import argparse
import csv
import json
import re
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from fusion import THINGS
from harness import write_result

import clipsearch
from clipsearch.config import Settings
from clipsearch.filtering import Filter
from clipsearch.query.candidates import QueryBatch, Retriever
from clipsearch.query.fusion import RRF_RANKS
from clipsearch.query.retrieval import retrieve
from clipsearch.types import Modality
from indexer import pipeline
from indexer.pipeline import IndexOptions

WAYS = ("pictures", "pictures and captions", "words", "rank fusion", "hybrid")
DEPTH, DEEPEST = 200, 10


class Asker:
    """Asks a library in every way; an answer is a list of file names, best first."""

    def __init__(self, engine) -> None:
        self.engine = engine
        self.retriever = Retriever(engine.library)

    def ask(self, text):
        vector = self.engine.encoder.encode_queries([text])[0]
        with self.engine.library.read() as snapshot:
            both = [Modality.IMAGE, Modality.TEXT]
            batch = QueryBatch(snapshot, vector[None], "text")
            found = {
                way: retrieve(self.retriever, batch, DEPTH, modalities)[0].hits
                for way, modalities in (("pictures", both[:1]), ("pictures and captions", both))
            }
            found["hybrid"] = retrieve(self.retriever, batch, DEPTH, both, keywords=[text])[0].hits
            named = snapshot.keyword_search(text, Filter(), DEPTH).ids
        names = {hit.item.id: Path(hit.path).name for hits in found.values() for hit in hits}
        answers = {way: [Path(hit.path).name for hit in hits] for way, hits in found.items()}
        answers["words"] = [names[item] for item in named if item in names]
        merit = defaultdict(float)
        for ranking in (answers["pictures and captions"], answers["words"]):
            for rank, name in enumerate(ranking, 1):
                merit[name] += 1 / (RRF_RANKS + rank)
        answers["rank fusion"] = sorted(merit, key=lambda name: -merit[name])
        return answers


def make_library(data, work):
    """Index the photographs, every other one with its first caption; return all captions by name."""
    captions = defaultdict(list)
    with (data / "captions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions[row["image"]].append(row["caption"])
    places = {path.name: path for path in data.rglob("*.jpg")}
    photos = work / "photos"
    photos.mkdir()
    for name in captions:
        shutil.copy(places[name], photos / name)
    rows = [{"image": name, "caption": said[0]} for name, said in list(captions.items())[::2]]
    (photos / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = Settings(model=ARGUMENTS.model, offline=True, threads=2)
    pipeline.index(work / "library", [str(photos)], settings, IndexOptions())
    return captions, {row["image"] for row in rows}


def queries(captions, captioned):
    """Yield (kind of query, what photographs are right, their names, the query)."""
    for name, said in captions.items():
        kind = "with a caption" if name in captioned else "without"
        yield "said otherwise", kind, {name}, said[1]
        words = said[0].split()
        if name in captioned and len(words) >= 5:
            middle = len(words) // 2
            yield "remembered", kind, {name}, " ".join(words[middle - 1 : middle + 2])
    for thing, pattern in THINGS.items():
        says = re.compile(rf"\b({pattern})\b", re.IGNORECASE)
        right = {name for name, said in captions.items() if sum(bool(says.search(text)) for text in said) >= 2}
        if len(right) >= DEEPEST:
            yield "thing", "any", right, thing


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        captions, captioned = make_library(ARGUMENTS.data, Path(work))
        counts, found = defaultdict(int), defaultdict(lambda: defaultdict(float))
        with clipsearch.open(Path(work) / "library", settings=Settings(offline=True, threads=2)) as engine:
            asker = Asker(engine)
            for kind, which, right, text in queries(captions, captioned):
                counts[kind, which] += 1
                for way, answer in asker.ask(text).items():
                    for k in (1, 5, DEEPEST):
                        found[kind, which, way][k] += len(right.intersection(answer[:k])) / min(k, len(right))
    rows = [
        {
            "query": kind,
            "photograph": which,
            "queries": count,
            "way": way,
            **{f"first {k}": round(100 * found[kind, which, way][k] / count, 1) for k in (1, 5, DEEPEST)},
        }
        for (kind, which), count in counts.items()
        for way in WAYS
    ]
    write_result("hybrid", {"model": ARGUMENTS.model, "rows": rows})
    for row in rows:
        print(row)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="builtin-base")
    ARGUMENTS = parser.parse_args()
    main()
