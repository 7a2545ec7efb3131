"""How well confidence tells what is there from what is not: python benchmarks/confidence.py FOLDER [--plot FILE.svg]

FOLDER holds photographs and `captions.csv` (image,caption). The builtin encoder is fitted again on some of them and
asked for others, as in builtin_quality.py; the gallery is half of those. MiniLM alone reads all texts. Queries that
should be answered are captions of the gallery whose own photograph comes first. Queries that should not:

    others    captions of the half that was taken out; many have a like in the gallery, which is no mistake to show
    far       of these the third whose captions are least like any of the gallery
    objects   things that no caption of FOLDER names
    gibberish letters drawn at random, as words

Given for each way to set a score against the library, `spread` being that of the query alone (`query`) or of queries
at large (`library`, what clipsearch does): the area under the ROC curve, and what share is refused where 95 % of the
queries that should be answered are. The last columns are those at the threshold that clipsearch uses; `before` counts
each picture once, as it did.
"""

import argparse
import string
from pathlib import Path

import builtin_quality as quality
import numpy as np
from harness import write_result
from held_out import Photographs, embed_queries, projection

from clipsearch.encoders.builtin.towers import TextTower
from clipsearch.linalg import unit_rows
from clipsearch.ranking import CONFIDENT, confidence, counted_tries, lower_spread, null_model
from indexer.calibration import generic_queries

VARIANT = "base"
OBJECTS = (
    "an elephant", "a submarine", "a piano", "a giraffe", "a pizza", "an x-ray of a hand", "a galaxy",
    "a washing machine", "cells under a microscope", "the eiffel tower", "a plate of sushi", "a violin",
    "a helicopter", "a penguin", "a castle", "a spider", "a map of europe", "a handwritten letter", "a jellyfish",
    "a sewing machine", "a chess board", "a steam locomotive", "a bank statement", "a circuit board", "a volcano",
    "a cactus", "a toaster", "a skeleton", "a wedding cake", "a zebra", "a lighthouse", "an octopus", "a windmill",
    "a tank", "a pineapple", "a typewriter", "a telescope", "a mosque", "a tractor", "a bottle of perfume",
)  # fmt: skip
SHOWN = {
    "others": "captions of other photographs",
    "far": "the third least like any here",
    "objects": "objects that no caption names",
    "gibberish": "gibberish",
}


def gibberish(count):
    rng = np.random.default_rng(1)
    words = lambda: "".join(rng.choice(list(string.ascii_lowercase), rng.integers(4, 12)))  # noqa: E731
    return [" ".join(words() for _ in range(rng.integers(1, 5))) for _ in range(count)]


class Split:
    """One fit and its gallery: the scores of every set of queries over it."""

    def __init__(self, photographs, train, test, asked, seed):
        fitted, held = projection(photographs.fit(train)), photographs.photos.take(test)
        pictures = fitted.pictures(held.features, held.logits)
        inside = np.sort(np.random.default_rng(seed).permutation(len(test))[: len(test) // 2])
        owner = np.repeat(np.arange(len(test)), held.captions.shape[1])
        self.scores = {name: fitted.texts(rows) @ pictures[inside].T for name, rows in asked.items()}
        captions = fitted.texts(held.queries.reshape(-1, held.queries.shape[-1])) @ pictures[inside].T
        first = inside[captions.argmax(axis=1)] == owner
        out = ~np.isin(owner, inside)
        means = unit_rows(held.captions.mean(axis=1))[inside]
        likeness = (held.captions.reshape(-1, held.captions.shape[-1]) @ means.T).max(axis=1)
        self.scores |= {
            "answerable": captions[first],
            "others": captions[out],
            "far": captions[out & (likeness < np.quantile(likeness[out], 1 / 3))],
        }
        self.spread = float(np.median([lower_spread(row) for row in self.scores.pop("generic")]))

    def confidences(self, name, way):
        spread = None if way == "query" else self.spread
        count = len if way == "before" else lambda row: counted_tries(len(row))
        nulls = ((row, null_model(row, count(row), spread=spread)) for row in self.scores[name])
        return np.array([confidence(row.max(), null) for row, null in nulls])


def area(right, wrong):
    return (right[:, None] > wrong).mean() + 0.5 * (right[:, None] == wrong).mean()


def absent(captions):
    """Objects that no caption names."""
    said = " ".join(text.lower() for each in captions for text in each)
    return [text for text in OBJECTS if text.split()[-1] not in said]


def splits(folder):
    tower = TextTower(2)
    photographs = Photographs(folder, VARIANT, tower)
    asked = {"objects": absent(photographs.captions), "gibberish": gibberish(120), "generic": generic_queries()[::20]}
    asked = {name: embed_queries(tower, texts) for name, texts in asked.items()}
    for seed, (train, test) in enumerate(quality.partitions(len(photographs.paths), 2)):
        yield Split(photographs, train, test, asked, seed)


def draw(curves, path):
    """Draw the curves of the way that is used: what is answered rightly against what is answered though absent."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "confidence", "font.family": "sans-serif"}):
        figure = Figure(figsize=(5.4, 5.4), layout="constrained")
        axes = figure.subplots()
        for name, (right, wrong) in curves.items():
            cuts = [*np.quantile(right, np.linspace(1, 0, 201)), -np.inf]
            there, absent = [(right >= cut).mean() for cut in cuts], [(wrong >= cut).mean() for cut in cuts]
            (line,) = axes.plot(absent, there, label=f"{SHOWN[name]}, area {area(right, wrong):.2f}")
            axes.plot((wrong >= CONFIDENT).mean(), (right >= CONFIDENT).mean(), "o", color=line.get_color())
        axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":", label="chance")
        axes.plot([], [], "o", color="black", label=f"where clipsearch stands, {CONFIDENT:.0%}")
        axes.set(xlabel="not there, answered all the same", ylabel="there, answered", xlim=(-0.01, 1), ylim=(0, 1.01))
        axes.grid(linewidth=0.3)
        axes.legend(loc="lower right", fontsize="small", title="queries for what is not there")
        figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plot", type=Path, help="write the ROC curves there; needs matplotlib")
    given = parser.parse_args()
    found = list(splits(given.folder))
    rows, curves = [], {}
    for way in ("query", "before", "library"):
        right = np.concatenate([each.confidences("answerable", way) for each in found])
        for name in ("others", "far", "objects", "gibberish"):
            wrong = np.concatenate([each.confidences(name, way) for each in found])
            cut = np.quantile(right, 0.05)
            rows.append(
                {
                    "spread": way,
                    "absent": name,
                    "queries": len(wrong),
                    "area": round(float(area(right, wrong)), 3),
                    "refused_at_95": f"{(wrong < cut).mean():.0%}",
                    "threshold_at_95": round(float(cut), 3),
                    "answered_as_is": f"{(right >= CONFIDENT).mean():.0%}",
                    "refused_as_is": f"{(wrong < CONFIDENT).mean():.0%}",
                }
            )
            print(rows[-1], flush=True)
            if way == "library":
                curves[name] = right, wrong
    write_result("confidence", {"answerable": len(right), "threshold": CONFIDENT, "rows": rows})
    if given.plot:
        draw(curves, given.plot)


if __name__ == "__main__":
    main()
