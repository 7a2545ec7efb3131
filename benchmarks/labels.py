"""What labels had best be put into, on photographs with captions: python benchmarks/labels.py --data FOLDER

FOLDER holds photographs and `captions.csv` (image,caption), several captions each. A photograph has a label where at
least two of its captions name it; those with exactly one of a set are classified.
"""

import argparse
import csv
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from fusion import THINGS
from harness import write_result
from PIL import Image

from clipsearch.encoders import registry
from clipsearch.query.eval.evaluation import encode_templates

SETS = {
    "who": ("dog", "man", "woman", "child", "horse", "crowd"),
    "where": ("snow", "water", "beach", "grass", "mountain", "street", "pool"),
    "what": ("ball", "bicycle", "skateboard", "surfing", "car", "horse", "dog"),
}
TEMPLATES = {
    "query": (),
    "{}": ("{}",),
    "a photo of a {}": ("a photo of a {}",),
    "a photo of a {}.": ("a photo of a {}.",),
    "This is a photo of {}.": ("This is a photo of {}.",),
    "seven of CLIP": (
        "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.", "a {} in a video game.",
        "art of the {}.", "a photo of the small {}.",
    ),
}  # fmt: skip
SCALES = (5, 8, 10, 12, 15, 20, 25, 30, 40, 60, 100)


def photographs(folder: Path):
    """Names of photographs, and which of THINGS each has: bool (photographs, things)."""
    captions = defaultdict(list)
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions[row["image"]].append(row["caption"].lower())
    has = [
        [sum(bool(re.search(rf"\b({words})\b", c)) for c in own) >= 2 for words in THINGS.values()]
        for own in captions.values()
    ]
    return list(captions), np.array(has)


def unlikeliness(scores, right, scale):
    """Mean negative logarithm of the chance of the right label."""
    logits = scale * scores
    logits -= logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(right)), right]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=["builtin-small", "builtin-base"])
    given = parser.parse_args()
    names, has = photographs(given.data)
    places = {path.name: path for path in given.data.rglob("*") if path.suffix == ".jpg"}
    rows = []
    for model in given.models:
        encoder = registry.load(model, threads=2, offline=True)
        seen = np.concatenate([encoder.encode_images([Image.open(places[name]).convert("RGB")]) for name in names])
        for kind, labels in SETS.items():
            mine = has[:, [list(THINGS).index(label) for label in labels]]
            chosen = mine.sum(axis=1) == 1
            right = mine[chosen].argmax(axis=1)
            for name, put in TEMPLATES.items():
                texts = encode_templates(encoder, labels, put) if put else encoder.encode_queries(labels)
                scores = seen[chosen] @ texts.T
                best = min(SCALES, key=lambda scale: unlikeliness(scores, right, scale))
                row = {"encoder": model, "labels": kind, "photographs": len(right), "put_into": name}
                row |= {"right": round(float((scores.argmax(axis=1) == right).mean()), 3), "best_scale": best}
                rows.append(row)
                print(row, flush=True)
    write_result("labels", {"rows": rows})


if __name__ == "__main__":
    main()
