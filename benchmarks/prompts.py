"""What a search text had best be put into before it is encoded: python benchmarks/prompts.py FOLDER

FOLDER holds photographs and `captions.csv` (image,caption), several captions each. The builtin encoders are fitted
again on 400 of them and asked for the other 300, as in builtin_quality.py; MiniLM alone reads all texts. `captions` are
whole sentences, whose own photograph is right; `words` those of fusion.py ("dog", "snow"), for which the photographs
are right of which two captions name it. Vectors of several texts are averaged, as `clipsearch eval --template` does.
`gains`: the 95 % interval of the mean difference to the plain text, in reciprocal rank and in average precision, by a
paired bootstrap."""

import argparse
from pathlib import Path

import builtin_quality as quality
import numpy as np
from fusion import THINGS, gain
from harness import write_result
from held_out import Photographs, projection
from labels import TEMPLATES, photographs

from clipsearch.encoders.builtin.encoder import PROMPTS
from clipsearch.encoders.builtin.towers import TextTower
from clipsearch.linalg import unit_rows

WAYS = {
    "plain": ("{}",),
    "a photo of a {}": ("a photo of a {}",),
    "both, averaged": PROMPTS,
    "seven of CLIP": TEMPLATES["seven of CLIP"],
}


def embed(tower, texts, templates):
    return [tower.run([template.format(text) for text in texts]) for template in templates]


def average_precision(scores, right):
    ordered = np.take_along_axis(right, np.argsort(-scores, axis=1, kind="stable"), axis=1)
    ranks = np.arange(1, scores.shape[1] + 1)
    return ((np.cumsum(ordered, axis=1) / ranks) * ordered).sum(axis=1) / ordered.sum(axis=1)


def measure(known, texts, has, repeats):
    """Ranks of the right photograph by caption, and average precisions by word, of each way."""
    found = {way: ([], []) for way in WAYS}
    for train, test in quality.partitions(len(known.paths), repeats):
        fitted, held = projection(known.fit(train)), known.photos.take(test)
        pictures = fitted.pictures(held.features, held.logits)
        each = len(known.captions[0])
        asked = (np.array(test)[:, None] * each + np.arange(each)).ravel()
        own = np.repeat(np.arange(len(test)), each)
        named = has[test].T.any(axis=1)
        for way, (sentences, words) in texts.items():
            vectors = unit_rows(np.mean([fitted.texts(rows[asked]) for rows in sentences], axis=0))
            scores = vectors @ pictures.T
            found[way][0].append(1 + (scores > scores[np.arange(len(own)), own][:, None]).sum(axis=1))
            vectors = unit_rows(np.mean([fitted.texts(rows) for rows in words], axis=0))
            found[way][1].append(average_precision(vectors[named] @ pictures.T, has[test].T[named]))
    return {way: tuple(map(np.concatenate, lists)) for way, lists in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=2, help="shuffles; each gives two galleries")
    given = parser.parse_args()
    has, tower = photographs(given.folder)[1], TextTower(2)
    encoders = [Photographs(given.folder, variant, tower) for variant in quality.VARIANTS]
    flat = [text for each in encoders[0].captions for text in each]
    texts = {way: (embed(tower, flat, put), embed(tower, list(THINGS), put)) for way, put in WAYS.items()}
    rows = []
    for known in encoders:
        found = measure(known, texts, has, given.repeats)
        ranks, precisions = found["plain"]
        for way, (own_ranks, own_precisions) in found.items():
            row = {"encoder": f"builtin-{known.variant}", "put_into": way}
            row |= {f"captions_hit_rate@{k}": round(float((own_ranks <= k).mean()), 3) for k in (1, 10)}
            row |= {"captions_gains": None if way == "plain" else gain(1 / own_ranks, 1 / ranks)}
            row |= {"words_map": round(float(own_precisions.mean()), 3)}
            row |= {"words_gains": None if way == "plain" else gain(own_precisions, precisions)}
            rows.append(row)
            print(row, flush=True)
    write_result("prompts", {"rows": rows})


if __name__ == "__main__":
    main()
