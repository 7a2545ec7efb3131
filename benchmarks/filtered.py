"""What is confident where a filter leaves few: python benchmarks/filtered.py FOLDER [--half 0|1]

FOLDER holds photographs and `captions.csv` (image,caption). The builtin encoder is fitted again on other photographs
than it is asked for, as in builtin_quality.py. The library is 300 of them, with four parts and mirror images of each.
Filters leave sets of 20, 100 and 1,000 of these 1,500 pictures: drawn at random, or from those of one thing, such as
"dog" (of two captions, fusion.py), as folders and tags are; then maybe fewer.

    answered  captions whose photograph is in the set and comes first, that are said to have a match
    refused   those that are said to have none: captions of photographs outside the set (most have something similar in
              it), things that no caption names, and letters at random, as in confidence.py

Ways to set a score against what is unrelated:

    library  scores and number of the whole library; what clipsearch did before
    number   scores of the whole library, number of the rows that pass; what clipsearch did next
    twice    as number, but each row counts twice, up to MAX_ADDED_TRIES
    4 times  so many times; what clipsearch does
    8 times  so many times
    passing  scores and number of the rows that pass, where these are 32 and more

The way was chosen on half 0; the table is of half 1, whose photographs are others. `heavier` are how many times as many
pictures score so high for the things that are not there as a normal distribution has.
"""

import argparse
import re
from pathlib import Path

import builtin_quality as quality
import numpy as np
from confidence import VARIANT, absent, gibberish
from fusion import THINGS
from harness import write_result
from held_out import Photographs, embed_queries, projection
from PIL import Image, ImageOps
from scipy.stats import norm

from clipsearch.encoders.builtin.encoder import REDUCING_GAP, VARIANTS
from clipsearch.encoders.builtin.projection import Projection
from clipsearch.encoders.builtin.towers import PictureTower, TextTower
from clipsearch.encoders.preprocessing import Squash
from clipsearch.ranking import (
    CONFIDENT,
    MAX_ADDED_TRIES,
    MIN_SAMPLE,
    NullModel,
    confidence,
    counted_rows,
    counted_tries,
    lower_spread,
)
from indexer.calibration import generic_queries

SIZES, SETS, CAPTIONS = (20, 100, 1000), 6, 400
TIMES = {"twice": 2, "4 times": 4, "8 times": 8}
WAYS = ("library", "number", *TIMES, "passing")
TOPICS = ("dog", "child", "snow", "ball", "grass", "street")


def parts_of(paths):
    """Yield four parts and mirror images of each picture."""
    for path in paths:
        with Image.open(path) as picture:
            rgb = picture.convert("RGB")
        (width, height), mirrored = rgb.size, ImageOps.mirror(rgb)
        yield from (
            mirrored,
            rgb.crop((0, 0, 2 * width // 3, height)),
            mirrored.crop((0, 0, 2 * width // 3, height)),
            rgb.crop((width // 6, height // 6, width, height)),
        )


def features(pictures):
    """Return features and logits of pictures, as photographs have them."""
    shipped, found = Projection.read(VARIANT), []
    for backbone in VARIANTS[VARIANT]:
        squash = Squash(backbone.side, REDUCING_GAP)
        tower = PictureTower(backbone.source, backbone.side, shipped.ranges(backbone.name), 2)
        found.append(tower.run([squash.apply(picture) for picture in pictures]))
    return np.hstack([seen for seen, _ in found]), np.mean([said for _, said in found], axis=0)


class Library:
    """A library of pictures, and what was asked of it. owner: of which photograph each picture is."""

    def __init__(self, known, half, tower):
        train, test = list(quality.partitions(len(known.paths), 1))[half]
        fitted, held = projection(known.fit(train)), known.photos.take(test)
        made = fitted.pictures(*features([*parts_of(known.paths[i] for i in test)]))
        self.pictures = np.vstack([fitted.pictures(held.features, held.logits), made])
        self.owner = np.concatenate([np.arange(len(test)), np.repeat(np.arange(len(test)), 4)])
        self.captions = fitted.texts(held.queries.reshape(-1, held.queries.shape[-1]))
        self.about = np.repeat(np.arange(len(test)), held.queries.shape[1])
        self.said = [[caption.lower() for caption in known.captions[i]] for i in test]
        asked = {"objects": absent(known.captions), "gibberish": gibberish(120), "generic": generic_queries()[::20]}
        self.asked = {name: fitted.texts(embed_queries(tower, texts)) for name, texts in asked.items()}
        self.spread = float(np.median([lower_spread(row) for row in self.asked["generic"] @ self.pictures.T]))

    def sets(self, topical, size, rng):
        """Yield the rows that filters leave."""
        for topic in TOPICS[:SETS]:
            pool = np.arange(len(self.pictures))
            if topical:
                named = [sum(bool(re.search(rf"\b({THINGS[topic]})\b", c)) for c in own) >= 2 for own in self.said]
                pool = np.flatnonzero(np.array(named)[self.owner])
            yield np.sort(rng.choice(pool, min(size, len(pool)), replace=False))

    def best(self, queries, rows, way):
        """Return the confidence of the first hit among rows for each query, and of which photograph it is."""
        scores = queries @ self.pictures.T
        firsts = scores[:, rows].argmax(axis=1)
        found = [
            confidence(float(row[rows[first]]), self.null(row, rows, way))
            for row, first in zip(scores, firsts, strict=True)
        ]
        return np.array(found), self.owner[rows[firsts]]

    def null(self, scores, rows, way):
        centre, count = float(np.median(scores)), len(rows) if way != "library" else len(scores)
        count = max(counted_rows(count), min(TIMES.get(way, 1) * count, MAX_ADDED_TRIES))
        assert way != "4 times" or count == counted_tries(len(rows))
        if way == "passing" and len(rows) >= MIN_SAMPLE:
            centre = float(np.median(scores[rows]))
        return NullModel(centre, self.spread, count, len(scores))

    def heavier(self, deviates):
        """Return how many times as many pictures are so far above the centre as of a normal distribution."""
        scores = self.asked["objects"] @ self.pictures.T
        z = (scores - np.median(scores, axis=1, keepdims=True)) / self.spread
        return {str(each): round(float((z > each).mean() / norm.sf(each)), 2) for each in deviates}


def measure(library, topical, size):
    rng = np.random.default_rng(size)
    found = {way: {name: [] for name in ("answered", "others", "objects", "gibberish")} for way in WAYS}
    passing = []
    for rows in library.sets(topical, size, rng):
        passing.append(len(rows))
        chosen = rng.choice(len(library.captions), CAPTIONS, replace=False)
        is_there = np.isin(library.about[chosen], library.owner[rows])
        for way, kept in found.items():
            sure, owner = library.best(library.captions[chosen], rows, way)
            first = is_there & (owner == library.about[chosen])
            kept["answered"] += (sure[first] >= CONFIDENT).tolist()
            kept["others"] += (sure[~is_there] < CONFIDENT).tolist()
            for name in ("objects", "gibberish"):
                kept[name] += (library.best(library.asked[name], rows, way)[0] < CONFIDENT).tolist()
    for way, kept in found.items():
        share = {name: f"{np.mean(each):.0%}" if len(each) >= 50 else None for name, each in kept.items()}
        yield {
            "filter": "one thing" if topical else "random",
            "leaves": f"{size:,}" if min(passing) == size else f"{min(passing):,} to {max(passing):,}",
            "way": way,
            "answered": share["answered"],
            **{f"refused: {name}": share[name] for name in ("others", "objects", "gibberish")},
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    given = parser.parse_args()
    tower = TextTower(2)
    library = Library(Photographs(given.folder, VARIANT, tower), given.half, tower)
    rows, heavier = [], library.heavier((1.0, 2.0, 2.5, 3.0))
    print(heavier)
    for topical in (False, True):
        for size in SIZES:
            for row in measure(library, topical, size):
                rows.append(row)
                print(row, flush=True)
    if given.half == 1:
        write_result("filtered", {"pictures": len(library.pictures), "heavier": heavier, "rows": rows})


if __name__ == "__main__":
    main()
