"""Whether a confidence is the share of right hits: python benchmarks/judged.py FOLDER [--plot FILE.svg]

FOLDER holds photographs and `captions.csv` (image,caption). judged.json has 80 queries by words and 20 by picture with
the names of their first hits (20 for words, 10 for a picture), each judged by eye before any confidence was computed:
`right` shows all that the query says (for a picture: the same subject in the same kind of scene), `partly` some of it,
which counts as wrong. The builtin encoder is fitted again on photographs that are not searched, as in
builtin_quality.py. Queries to `fit` with were asked of one gallery of 300, those to `report` of another.

What texts answer is not judged by eye: right are captions of the same photograph, and for THINGS (fusion.py) captions
that name the thing. Half of the photographs are taken out, so that half of the captions ask for what is not there.

ECE is the expected calibration error over ten bins of equal width (Guo et al., ICML 2017), with the 95 % interval of
2,000 bootstrap samples of the queries. `before` is the chance that nothing unrelated scores as high, `exp(-n Q(z))`. Of
hits that a filter leaves, `of what passes` counts the rows that pass and compares with the best of these, which
clipsearch did for a while; `after` counts and compares with the library. Texts that filters leave are those of
`caption_hits`.
"""

import argparse
import json
import re
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import builtin_quality as quality
import numpy as np
from fusion import THINGS
from harness import HERE, write_result
from held_out import Photographs, embed_queries, projection
from scipy.optimize import minimize

from clipsearch.encoders.builtin.multilingual import MultilingualTower
from clipsearch.encoders.builtin.projection import Projection
from clipsearch.encoders.builtin.reading import english_share
from clipsearch.encoders.builtin.towers import TextTower
from clipsearch.ranking import (
    PRIOR_SPREAD,
    bounded_log_evalue,
    counted_rows,
    log_evalues,
    lower_spread,
    null_model,
    upper_tail,
)
from clipsearch.relevance import TYPICAL_WORDS, RelevanceCurve, count_words, curve_of
from clipsearch.types import Modality
from indexer.calibration import generic_queries

VARIANT, PARTS, DEPTH = "base", ("fit", "report"), 20
RIDGE = 1e-3
PENALTY = 1e-3
SHOWN = {
    ("text", "image"): "words, pictures found",
    ("text", "text"): "words, texts found",
    ("image", "image"): "picture, pictures found",
    ("image", "text"): "picture, texts found",
}


class Gallery:
    """One half: an encoder that was not fitted on its pictures, and what was asked of them."""

    def __init__(self, known, half, tower):
        train, test = list(quality.partitions(len(known.paths), 1))[half]
        self._fitted, self._tower = projection(known.fit(train)), tower
        self._taught = known.photos.take(train).queries.reshape(-1, known.photos.queries.shape[-1])
        held = known.photos.take(test)
        self.names = [known.paths[i].stem for i in test]
        self.captions = [caption for i in test for caption in known.captions[i]]
        self.pictures = self._fitted.pictures(held.features, held.logits)
        self.asked = self._fitted.texts(held.queries.reshape(-1, held.queries.shape[-1]))
        self.passages = self._fitted.texts(held.captions.reshape(-1, held.captions.shape[-1]))
        self.generic = self.embed(generic_queries()[::20])

    def embed(self, texts):
        """Embed queries; those that are not English by the multilingual network, led on from the shipped space."""
        rows = self._fitted.texts(embed_queries(self._tower, texts))
        for i in (i for i, text in enumerate(texts) if english_share(text) < 0.5):
            rows[i] = self._embed_other(texts[i])
        return rows

    def _embed_other(self, text):
        shipped = Projection.read(VARIANT)
        there, here = shipped.plain_texts(self._taught), self._fitted.plain_texts(self._taught)
        way = np.linalg.solve(there.T @ there + RIDGE * np.eye(there.shape[1]), there.T @ here)
        return self._fitted.complete(shipped.unit_parts(multilingual().run([text], VARIANT)) @ way)[0]


@cache
def multilingual():
    return MultilingualTower(2)


class Hits:
    """The first hits of a query: their log E-values, whether they are right, and the content words of the query."""

    def __init__(self, scores, right, seen, words, *, depth=DEPTH, bounded=False):
        order = np.argsort(-scores, kind="stable")[:depth]
        self.right, self.words = np.asarray(right)[order], words
        self.log_evalues = log_evalues(scores[order], seen)
        if bounded:
            self.log_evalues = np.array([bounded_log_evalue(float(score), seen) for score in scores[order]])

    def before(self):
        return np.exp(-np.exp(np.minimum(-self.log_evalues, 700)))

    def after(self, curve, best=None):
        """Return the confidences. best: the highest log E-value of the library, where a filter left these hits."""
        best = self.log_evalues.max() if best is None else best
        return np.array([curve.chance(each, best - each, self.words) for each in self.log_evalues])


def judged_hits(gallery, part, judged):
    """Yield the hits of words over pictures, then of pictures over pictures."""
    mine = [each for each in judged if each["part"] == part]
    words = [each for each in mine if "query" in each]
    spread = typical(gallery.generic @ gallery.pictures.T)
    yield [
        judge(gallery, gallery.pictures @ row, each, spread, count_words(each["query"]))
        for each, row in zip(words, gallery.embed([each["query"] for each in words]), strict=True)
    ]
    own = typical(gallery.pictures[::10] @ gallery.pictures.T)
    found = []
    for each in (each for each in mine if "picture" in each):
        number = gallery.names.index(each["picture"])
        scores = gallery.pictures @ gallery.pictures[number]
        scores[number] = -1
        found.append(judge(gallery, scores, each, own, TYPICAL_WORDS, depth=10, bounded=True))
    yield found


def filtered_hits(gallery, part, judged, leaves, depth):
    """Yield, for each query by words of a part, its first hits in ten random sets, by the library and by the set."""
    rng = np.random.default_rng(leaves)
    words = [each for each in judged if each["part"] == part and "query" in each]
    spread = typical(gallery.generic @ gallery.pictures.T)
    for each, row in zip(words, gallery.embed([each["query"] for each in words]), strict=True):
        scores = gallery.pictures @ row
        library = null_model(scores, len(scores), spread=spread)
        best = float(log_evalues(scores, library).max())
        known = np.isin(gallery.names, [*each["right"], *each["partly"], *each["wrong"]])
        right, said, found = np.isin(gallery.names, each["right"]), count_words(each["query"]), []
        for _ in range(10):
            passing = rng.choice(len(scores), leaves, replace=False)
            first = passing[np.argsort(-scores[passing], kind="stable")[:depth]]
            first = first[known[first]]
            if len(first):
                counts = (library, replace(library, rows=counted_rows(leaves)))
                found.append([*(Hits(scores[first], right[first], seen, said) for seen in counts), best])
        if found:
            yield found


def measure_filtered(gallery, part, judged, curve):
    """Yield rows of hits that random filters leave."""
    for leaves, depth in ((100, 5), (20, 1)):
        found = [*filtered_hits(gallery, part, judged, leaves, depth)]
        answers = [SimpleNamespace(right=np.concatenate([own.right for _, own, _ in each])) for each in found]
        ways = {
            "before": lambda library, own, best: library.before(),
            "of what passes": lambda library, own, best: own.after(curve),
            "after": lambda library, own, best: library.after(curve, best),
        }
        for way, chance in ways.items():
            chances = [np.concatenate([chance(*each) for each in sets]) for sets in found]
            what = f"words, first {depth} of {leaves} pictures that pass"
            yield {"asked": what, "confidence": way, "queries": len(found), **measure(chances, answers)}


def judge(gallery, scores, verdicts, spread, words, depth=DEPTH, bounded=False):
    known = np.isin(gallery.names, [*verdicts["right"], *verdicts["partly"], *verdicts["wrong"]])
    strange = ~known[np.argsort(-scores, kind="stable")[:depth]]
    assert strange.sum() <= 2, f"{strange.sum()} hits were not judged: the encoder has changed since"
    seen = null_model(scores, len(scores), spread=spread)
    scores = np.where(known, scores, -1)  # two that are about as good may change places on another machine
    right = np.isin(gallery.names, verdicts["right"])
    return Hits(scores, right, seen, words, depth=depth, bounded=bounded)


def typical(scores):
    return float(np.median([lower_spread(row) for row in scores]))


def caption_hits(gallery, half, depth=DEPTH):
    """Return the first hits of words, and of pictures, over captions of half of the photographs."""
    count = len(gallery.names)
    inside = np.sort(np.random.default_rng(half).permutation(count)[: count // 2])
    owner, number = np.repeat(np.arange(count), 5), np.tile(np.arange(5), count)
    kept = np.isin(owner, inside) & (number > 0)
    texts, owners = gallery.passages[kept], owner[kept]
    said = [text.lower() for text, is_in in zip(gallery.captions, kept, strict=True) if is_in]

    def null(queries):
        scores = queries @ texts.T
        spread = typical(scores)
        tail = upper_tail(np.concatenate([row - np.median(row) for row in scores]), spread / PRIOR_SPREAD)
        return lambda row: null_model(row, counted_rows(len(row)), spread=spread, tail=tail)

    of_text, by_picture = null(gallery.generic), null(gallery.pictures[inside][:32])
    words = []
    for i in range(0, len(owner), 5):
        scores = texts @ gallery.asked[i]
        words.append(Hits(scores, owners == owner[i], of_text(scores), count_words(gallery.captions[i]), depth=depth))
    for (name, pattern), row in zip(THINGS.items(), gallery.embed(list(THINGS)), strict=True):
        scores, names_it = texts @ row, [bool(re.search(rf"\b({pattern})\b", text)) for text in said]
        words.append(Hits(scores, names_it, of_text(scores), count_words(name), depth=depth))
    pictures = []
    for i, row in enumerate(gallery.pictures):
        scores = texts @ row
        pictures.append(Hits(scores, owners == i, by_picture(scores), TYPICAL_WORDS, depth=depth))
    return words, pictures


def measure_filtered_texts(words, curve):
    """Yield rows of the first 5 of 100 texts that random filters leave. words: hits of each query, of all texts."""
    rng, sets = np.random.default_rng(100), []
    for each in words:
        first = np.concatenate([np.sort(rng.choice(len(each.right), 100, replace=False))[:5] for _ in range(10)])
        sets.append((each.log_evalues[first], SimpleNamespace(right=each.right[first]), each.words))
    fewer = np.log(len(words[0].right) / counted_rows(100))
    for way, relief in (("of what passes", fewer), ("after", 0.0)):
        chances = [np.array([curve.chance(e + relief, 0, said) for e in values]) for values, _, said in sets]
        what = "words, first 5 of 100 texts that pass"
        yield {
            "asked": what,
            "confidence": way,
            "queries": len(sets),
            **measure(chances, [hits for _, hits, _ in sets]),
        }


def fit(hits, *, gap, words):
    """Fit a curve by penalised likelihood; gap, words: whether these count."""
    columns = [
        np.stack([np.ones_like(e), e, e.max() - e if gap else 0 * e, 0 * e + (np.log(each.words) if words else 0)], 1)
        for each in hits
        for e in [each.log_evalues]
    ]
    inputs, right = np.concatenate(columns), np.concatenate([each.right for each in hits]).astype(float)
    centre, scale = inputs[:, 1:].mean(0), np.maximum(inputs[:, 1:].std(0), 1e-9)
    scaled = np.hstack([inputs[:, :1], (inputs[:, 1:] - centre) / scale])

    def loss(b):
        logits, penalty = scaled @ b, PENALTY * len(right) * b[1:]
        slope = scaled.T @ (1 / (1 + np.exp(-logits)) - right)
        slope[1:] += penalty
        return np.logaddexp(0, logits).sum() - right @ logits + penalty @ b[1:] / 2, slope

    found = minimize(loss, np.zeros(4), jac=True).x
    slopes = found[1:] / scale
    base = found[0] - slopes @ centre
    return RelevanceCurve(*(round(float(v) + 0.0, 2) for v in (base, slopes[0], -slopes[1], -slopes[2])))


def calibration_error(chances, right, bins=10):
    places = np.minimum((chances * bins).astype(int), bins - 1)
    gaps = [abs((chances[places == b] - right[places == b]).sum()) for b in range(bins)]
    return sum(gaps) / len(chances)


def measure(chances, hits):
    """Return what a table shows of the confidences of each query's hits."""
    right = [each.right.astype(float) for each in hits]
    rng = np.random.default_rng(0)
    gaps = np.array([np.histogram(c, 10, (0, 1), weights=c - y)[0] for c, y in zip(chances, right, strict=True)])
    counts = np.array([*map(len, right)])
    samples = []
    for _ in range(2000):
        chosen = rng.integers(0, len(hits), len(hits))
        samples.append(np.abs(gaps[chosen].sum(0)).sum() / counts[chosen].sum())
    low, high = np.quantile(samples, [0.025, 0.975])
    all_chances, all_right = np.concatenate(chances), np.concatenate(right)
    row = {"hits": len(all_right), "right": f"{all_right.mean():.0%}"}
    row |= {"ece": round(float(calibration_error(all_chances, all_right)), 3), "interval": f"{low:.3f} to {high:.3f}"}
    row["brier"] = round(float(((all_chances - all_right) ** 2).mean()), 3)
    for least in (0.9, 0.7):
        shown = all_right[all_chances >= least]
        row[f"shown_at_{least:.0%}"] = len(shown)
        row[f"right_of_{least:.0%}"] = f"{shown.mean():.0%}" if len(shown) else None
    return row


def left_out(hits, **what):
    """Return the confidences of each query by a curve that was fitted without it."""
    return [each.after(fit([other for other in hits if other is not each], **what)) for each in hits]


def draw(panels, path):
    """Draw reliability diagrams: of hits shown at a confidence, how many are right."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "judged", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7.6, 4), layout="constrained")
        for axes, (title, chances, right) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
            places = np.minimum((chances * 10).astype(int), 9)
            for b in np.unique(places):
                own = places == b
                axes.plot(chances[own].mean(), right[own].mean(), "o", color="C0", markersize=3 + own.sum() ** 0.5)
                axes.annotate(f"{own.sum()}", (chances[own].mean(), right[own].mean()), (6, -10),
                              textcoords="offset points", fontsize="x-small")  # fmt: skip
            axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
            axes.set(title=title, xlabel="confidence shown", xlim=(-0.02, 1.04), ylim=(-0.04, 1.04))
            axes.grid(linewidth=0.3)
        figure.axes[0].set_ylabel("share of these hits that are right")
        figure.savefig(path, metadata={"Date": None})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plot", type=Path, help="write the reliability diagrams there; needs matplotlib")
    given = parser.parse_args()
    judged = json.loads((HERE / "judged.json").read_text(encoding="utf-8"))
    tower = TextTower(2)
    known = Photographs(given.folder, VARIANT, tower)
    found, filtered = {}, {part: [] for part in PARTS}
    for half, part in enumerate(PARTS):
        gallery = Gallery(known, half, tower)
        words, pictures = judged_hits(gallery, part, judged)
        of_words, of_pictures = caption_hits(gallery, half)
        for row in measure_filtered(gallery, part, judged, curve_of("text", Modality.IMAGE)):
            filtered[part].append(row)
            print(part, row, flush=True)
        found[part] = dict(zip(SHOWN, (words, of_words, pictures, of_pictures), strict=True))
    rows, curves = [], {}
    for (asked, modality), name in SHOWN.items():
        what = {"gap": (asked, modality) == ("text", "image"), "words": asked == "text"}
        fitting, hits = (found[part][asked, modality] for part in PARTS)
        curve = fit(fitting, **what)
        curves[name] = astuple(curve)
        shipped = curve_of(asked, Modality(modality))
        assert np.allclose(curves[name], astuple(shipped), atol=0.2), f"{name}: {curve} is fitted, {shipped} is shipped"
        ways = {"before": [each.before() for each in hits], "after": [each.after(shipped) for each in hits]}
        for way, chances in ways.items():
            rows.append({"asked": name, "confidence": way, "queries": len(hits), **measure(chances, hits)})
            print(rows[-1], flush=True)
        if what["gap"]:
            chances = left_out(fitting, **what)
            rows.append({"asked": f"{name}: those to fit with, each left out", "confidence": "after",
                         "queries": len(fitting), **measure(chances, fitting)})  # fmt: skip
            print(rows[-1], flush=True)
            if given.plot:
                right = np.concatenate([each.right for each in hits])
                draw([(way, np.concatenate(of), right) for way, of in ways.items()], given.plot)
    all_texts, _ = caption_hits(gallery, half, depth=None)
    by_texts = measure_filtered_texts(all_texts, curve_of("text", Modality.TEXT))
    for row in (*filtered["report"], *by_texts):
        rows.append(row)
        print(row, flush=True)
    write_result("judged", {"curves": curves, "filtered_to_fit_with": filtered["fit"], "rows": rows})


if __name__ == "__main__":
    main()
