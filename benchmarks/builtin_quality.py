"""Repeat every quality figure of the builtin encoder's model card; prints JSON.

    python benchmarks/builtin_quality.py FOLDER [--objects PICTURES] [--variant small|base]

Retrieval figures are held out: the recipe is fitted again on some photographs and measured on the others. PICTURES
holds, anywhere below it, the pictures that builtin_objects.json names, from the packages it names; a picture that
is missing there is listed and its queries are left out. The object figure uses the shipped matrices.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import binom

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from builtin_data import caption_embeddings, class_texts, load_pixels, picture_features, read_captions
from builtin_recipe import RECIPES, Labels, Photos, fit

from clipsearch.encoders.builtin import BuiltinEncoder
from clipsearch.encoders.builtin.encoder import VARIANTS
from clipsearch.encoders.builtin.graph import picture_tower, pooled_widths, text_tower
from clipsearch.encoders.builtin.projection import Projection
from clipsearch.encoders.builtin.towers import TextTower, open_session
from clipsearch.encoders.builtin.weights import MINILM, read_pth, read_safetensors, read_verified

HERE = Path(__file__).resolve().parent
GALLERY = 300
CUTS = (1, 5, 10)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--objects", type=Path)
    parser.add_argument("--variant", choices=list(VARIANTS), action="append")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="shuffles; each gives two galleries")
    options = parser.parse_args()
    report = {}
    paths, captions = read_captions(options.folder)
    rounded, exact = TextTower(options.threads), ExactText(options.threads)
    texts = {"int8": caption_embeddings(rounded, captions), "fp32": caption_embeddings(exact, captions)}
    classes = class_texts(rounded)
    for variant in options.variant or VARIANTS:
        begun = time.perf_counter()
        photos = {
            "int8": Photos(*shipped_features(variant, paths, options.threads), *texts["int8"]),
            "fp32": Photos(*exact_features(variant, paths, options.threads), *texts["fp32"]),
        }
        tensors = [read_pth(read_verified(backbone.source)) for backbone in VARIANTS[variant]]
        labels = Labels([each["_fc.weight"] for each in tensors], *classes)
        report[variant] = retrieval(photos, labels, RECIPES[variant], options.repeats)
        if options.objects:
            report[variant]["objects"] = objects(variant, options.objects, options.threads)
        report[variant]["seconds"] = round(time.perf_counter() - begun)
    print(json.dumps(report, indent=1))


class ExactText:
    """MiniLM in float32, with the tokenizer of the shipped tower."""

    def __init__(self, threads):
        model = text_tower(read_safetensors(read_verified(MINILM)), int8=False)
        self._session = open_session(model.SerializeToString(), threads)
        self._tokens = TextTower(1)

    def run(self, texts):
        rows = [self._session.run(None, {"ids": np.array([self._tokens.tokenize(text)])})[0] for text in texts]
        rows = np.concatenate(rows)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def shipped_features(variant, paths, threads):
    projection = Projection.read(variant)
    backbones = VARIANTS[variant]
    return picture_features(backbones, {one.name: projection.ranges(one.name) for one in backbones}, paths, threads)


def exact_features(variant, paths, threads):
    features, logits, widths = [], [], []
    for backbone in VARIANTS[variant]:
        tensors = read_pth(read_verified(backbone.source))
        model = picture_tower(tensors, backbone.side)
        session = open_session(model.SerializeToString(), threads)
        runs = [session.run(None, {"pixels": load_pixels(path, backbone.side)[None]}) for path in paths]
        features.append(np.concatenate([seen for seen, _ in runs]))
        logits.append(np.concatenate([said for _, said in runs]))
        widths += pooled_widths(tensors)
    return np.hstack(features), widths, np.mean(logits, axis=0)


def retrieval(photos, labels, recipe, repeats):
    """Fit on all but 300 photographs, search among the 300; and on fewer, for the learning curve."""
    count = len(photos["int8"].features)
    found = []
    for train, test in partitions(count, repeats):
        found.append(measure(photos["int8"], labels, recipe, train, test))
        found[-1]["text_to_image_fp32"] = measure(photos["fp32"], labels, recipe, train, test)["text_to_image"]
    report = {
        key: np.mean([each[key] for each in found], axis=0).astype(float).round(3).tolist()
        for key in found[0]
        if key != "ranks"
    }
    report["learning_curve_r10"] = {}
    for size in (200, 300, count - GALLERY):
        rows = [
            measure(photos["int8"], labels, recipe, train[:size], test)["text_to_image"][-1]
            for train, test in partitions(count, 1)
        ]
        report["learning_curve_r10"][size] = round(float(np.mean(rows)), 1)
    report["five_folds"] = folds(photos["int8"], labels, recipe)
    return {"train": count - GALLERY, "gallery": GALLERY, "splits": 2 * repeats, "cuts": CUTS, **report}


def folds(photos, labels, recipe):
    """Fit on four fifths, search the last fifth, and say what its ranks mean in a gallery of 300.

    A query that ranks its picture behind a share p of the others of a small gallery finds it among the first k of
    300 when at most k - 1 of 299 draws fall into that share: a binomial chance. Only k = 10 is given: for small k the
    share of a query that came first, 0 of few, makes this far too good.
    """
    count = len(photos.features)
    found = []
    for test in np.array_split(np.random.default_rng(0).permutation(count), 5):
        ranks = measure(photos, labels, recipe, np.setdiff1d(np.arange(count), test), test)["ranks"]
        share = ranks / (len(test) - 1)
        found.append(100 * binom.cdf(CUTS[-1] - 1, GALLERY - 1, share).mean())
    return {"train": count * 4 // 5, "expected_r10_at_300": round(float(np.mean(found)), 1)}


def partitions(count, repeats):
    """Yield (train, test) indices: for each shuffle two galleries that share nothing."""
    for seed in range(repeats):
        order = np.random.default_rng(seed).permutation(count)
        for start in (0, GALLERY):
            yield np.concatenate([order[:start], order[start + GALLERY :]]), order[start : start + GALLERY]


def measure(photos, labels, recipe, train, test):
    arrays = fit(photos.take(train), labels, recipe)
    projection = Projection("", {name: value.astype(np.float32) for name, value in arrays.items()})
    held = photos.take(test)
    pictures = projection.pictures(held.features, held.logits)
    queries = projection.texts(held.queries.reshape(-1, held.queries.shape[-1]))
    passages = projection.texts(held.captions.reshape(-1, held.captions.shape[-1]))
    owner = np.repeat(np.arange(len(test)), held.captions.shape[1])
    scores = queries @ pictures.T
    match = scores[np.arange(len(queries)), owner]
    others = scores[owner[:, None] != np.arange(len(test))]
    return {
        "text_to_image": recalls(scores, owner[:, None] == np.arange(len(test))),
        "image_to_text": recalls(pictures @ passages.T, np.arange(len(test))[:, None] == owner),
        "text_to_text": recalls(without_self(queries @ passages.T), owner[:, None] == owner),
        "ranks": (scores > match[:, None]).sum(1),
        "matching_mean_sd": [match.mean(), match.std()],
        "other_mean_sd": [others.mean(), others.std()],
        "other_quantiles_50_99": np.quantile(others, [0.5, 0.99]),
        "text_text_mean": (queries @ passages.T).mean(),
    }


def without_self(scores):
    np.fill_diagonal(scores, -np.inf)
    return scores


def recalls(scores, right):
    """Return, in percent, how often one of the right columns is among the first 1, 5 and 10."""
    order = np.argsort(-scores, axis=1)[:, : max(CUTS)]
    hits = np.take_along_axis(right, order, axis=1)
    hits &= np.isfinite(np.take_along_axis(scores, order, axis=1))
    return [100 * hits[:, :cut].any(axis=1).mean() for cut in CUTS]


def objects(variant, folder, threads):
    """Search plain object words over pictures that packages ship, with the shipped matrices."""
    asked = json.loads((HERE / "builtin_objects.json").read_text(encoding="utf-8"))
    wanted = [Path(name).name for names in asked["pictures"].values() for name in names]
    present = {path.name: path for path in sorted(folder.rglob("*")) if path.name in wanted}
    names = [name for name in wanted if name in present]
    encoder = BuiltinEncoder(variant, threads=threads)
    pictures = []
    for name in names:
        with Image.open(present[name]) as picture:
            pictures.append(picture.convert("RGB"))
    vectors = encoder.encode_images(pictures)
    usable = [each for each in asked["queries"] if set(each["answers"]) <= set(names)]
    scores = encoder.encode_queries([each["query"] for each in usable]) @ vectors.T
    order = np.argsort(-scores, axis=1)
    right = [names[best] in each["answers"] for best, each in zip(order[:, 0], usable, strict=True)]
    wrong = {each["query"]: names[best] for best, each, ok in zip(order[:, 0], usable, right, strict=True) if not ok}
    return {
        "pictures": len(names),
        "missing": sorted(set(wanted) - set(names)),
        "queries": len(usable),
        "right_at_1": sum(right),
        "percent": round(100 * float(np.mean(right)), 1),
        "wrong": wrong,
    }


if __name__ == "__main__":
    main()
