"""Ways to fuse the terms of a composed query, on photographs with captions: python benchmarks/fusion.py --data FOLDER

FOLDER holds photographs and `captions.csv` (image,caption), several captions each. A photograph *has* a thing where at
least two of its captions name it; what a query asks for follows from that. Every kind of query is asked for all sets of
things with enough photographs. Figures: mean average precision over queries, and beside it the 95 % interval, by a
paired bootstrap, of what decision gains on each other way. The builtin encoder was fitted on such photographs: compare
the columns of a row, not the figures with others.
"""

import csv
import itertools
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from harness import data_parser, write_result
from PIL import Image

from clipsearch.encoders import registry
from clipsearch.query.fusion import compose, decide, fuse_ranks
from clipsearch.ranking import null_model

THINGS = {
    "dog": "dogs?|puppy", "child": "child(ren)?|kids?|boys?|girls?|toddler|baby", "man": "man|men|guy",
    "woman": "woman|women|lady", "snow": r"snow\w*", "water": "water|ocean|sea|lake|river|pool",
    "beach": "beach|sand|shore", "ball": "ball|football|soccer|basketball|tennis",
    "bicycle": "bike|bicycle|bicyclist|biker",
    "grass": r"grass\w*|field|lawn", "mountain": "mountains?|cliff|hill|rocks?", "street": "street|sidewalk|road|city",
    "horse": "horses?", "car": "cars?", "skateboard": r"skateboard\w*", "tree": "trees?|forest|woods", "pool": "pool",
    "surfing": r"surf\w*", "jumping": r"jump\w*", "running": r"run\w*", "crowd": "crowd|group|people", "red": "red",
    "black": "black", "white": "white", "yellow": "yellow", "blue": "blue",
}  # fmt: skip
WHO, WHERE = ("dog", "child", "man", "woman"), ("snow", "water", "beach", "ball", "bicycle", "grass", "mountain",
    "street", "pool", "crowd", "skateboard", "tree")  # fmt: skip
ENOUGH = 5
WAYS = ("decision", "feature", "rank")


class Gallery:
    """Photographs as vectors, and what is on them."""

    def __init__(self, folder: Path, model: str) -> None:
        captions = defaultdict(list)
        with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                captions[row["image"]].append(row["caption"].lower())
        places = {path.name: path for path in folder.rglob("*") if path.suffix == ".jpg"}
        encoder = registry.load(model, threads=2, offline=True)
        opened = (Image.open(places[name]).convert("RGB") for name in captions)
        self.rows = np.concatenate([encoder.encode_images([picture]) for picture in opened])
        self.texts = dict(zip(THINGS, encoder.encode_queries(list(THINGS)), strict=True))
        self.has = {
            thing: np.array([sum(bool(re.search(rf"\b({words})\b", c)) for c in own) >= 2 for own in captions.values()])
            for thing, words in THINGS.items()
        }

    def precision(self, way, vectors, weights, pictures, wanted, without=None) -> float:
        """Average precision of one query; without: a photograph that is left out of the gallery."""
        weights = np.array(weights, np.float64)
        vectors = np.stack(vectors)
        scores = vectors @ self.rows.T
        if way == "feature":
            merit = self.rows @ compose(vectors, weights)
        elif way == "rank":
            merit = fuse_ranks(scores, weights)
        else:
            merit = decide(scores, weights, [null_model(row, len(self.rows)) for row in scores], pictures)
        keep = np.arange(len(self.rows)) != without
        right = wanted[keep][np.argsort(-merit[keep], kind="stable")]
        return float((np.cumsum(right) / np.arange(1, len(right) + 1))[right].mean())


def text_queries(has):
    """Yield (kind, positive things, negative things, wanted)."""
    for count in (2, 3):
        for things in itertools.combinations(THINGS, count):
            yield f"{count} texts", things, (), np.all([has[t] for t in things], axis=0)
    for a, b in itertools.product(THINGS, THINGS):
        if a != b and (has[a] & has[b]).sum() >= ENOUGH:
            yield "text - text", (a,), (b,), has[a] & ~has[b]
    for who in WHO:
        beside = [w for w in WHERE if (has[who] & has[w]).sum() >= ENOUGH]
        for b, c in itertools.permutations(beside, 2):
            yield "2 texts - text", (who, b), (c,), has[who] & has[b] & ~has[c]
        for count in (2, 4):
            for some in list(itertools.combinations(beside, count))[:60]:
                yield f"text - {count} texts", (who,), some, has[who] & ~np.any([has[s] for s in some], axis=0)


def cases(gallery: Gallery):
    """Yield (kind, vectors, weights, pictures, wanted, photograph to leave out)."""
    has, texts = gallery.has, gallery.texts
    for kind, plus, minus, wanted in text_queries(has):
        vectors = [texts[t] for t in (*plus, *minus)]
        yield kind, vectors, [1.0] * len(plus) + [-1.0] * len(minus), [False] * len(vectors), wanted, None
    rng = np.random.default_rng(0)
    for who, place in itertools.product(WHO, WHERE):
        both, alone = has[who] & has[place], has[who] & ~has[place]
        if both.sum() < ENOUGH or alone.sum() < ENOUGH:
            continue
        for one, other in zip(rng.choice(np.flatnonzero(alone), 3), rng.choice(np.flatnonzero(both), 3), strict=True):
            vectors = [gallery.rows[one], texts[place]]
            yield "picture + text", vectors, [1.0, 1.0], [True, False], _but(both, one), one
            vectors = [gallery.rows[other], texts[place]]
            yield "picture - text", vectors, [1.0, -1.0], [True, False], _but(alone, other), other


def _but(wanted, one):
    wanted = wanted.copy()
    wanted[one] = False
    return wanted


def gain(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Return the 95 % interval of the mean difference, by 2,000 resamplings of the queries."""
    rng = np.random.default_rng(0)
    means = (ours - theirs)[rng.integers(len(ours), size=(2000, len(ours)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{low:+.3f} to {high:+.3f}"


def main() -> None:
    given = data_parser(__doc__).parse_args()
    gallery = Gallery(given.data, given.model)
    found = defaultdict(lambda: {way: [] for way in WAYS})
    for kind, vectors, weights, pictures, wanted, without in cases(gallery):
        if wanted.sum() >= ENOUGH:
            for way in WAYS:
                found[kind][way].append(gallery.precision(way, vectors, weights, pictures, wanted, without))
    rows = []
    for kind, by_way in found.items():
        values = {way: np.array(by_way[way]) for way in WAYS}
        row = {"query": kind, "queries": len(values["decision"])} | {
            way: round(float(values[way].mean()), 3) for way in WAYS
        }
        row |= {f"decision_gains_on_{way}": gain(values["decision"], values[way]) for way in WAYS[1:]}
        rows.append(row)
        print(row, flush=True)
    write_result("fusion", {"model": given.model, "photographs": len(gallery.rows), "rows": rows})


if __name__ == "__main__":
    main()
