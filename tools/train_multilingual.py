"""Fit what the builtin encoder needs to read sixteen languages; run it after train_builtin.py.

    python tools/train_multilingual.py FOLDER --annotations CLDR/annotations --wordnet WORDNET

FOLDER: as for train_builtin.py. CLDR: the npm package cldr-annotations-full 48, unpacked. WORDNET: a folder with
data.noun and the like of WordNet 3.0. Writes multilingual.npz, the network behind the multilingual encoder, and
english.npz, the classifier that tells English from other languages in Latin letters, to clipsearch/encoders/builtin.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from builtin_data import read_captions
from english_recipe import fit_english
from multilingual_recipe import Lesson, Recipe, fit_student
from multilingual_texts import read_texts

from clipsearch.encoders.builtin.encoder import PROMPTS, VARIANTS, BuiltinEncoder
from clipsearch.encoders.builtin.multilingual import MultilingualTower
from clipsearch.encoders.builtin.projection import Projection
from clipsearch.encoders.builtin.towers import TextTower
from clipsearch.linalg import unit_rows

TARGET = Path(__file__).resolve().parent.parent / "clipsearch" / "encoders" / "builtin"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--target", type=Path, default=TARGET)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    begun = time.perf_counter()
    paths, captions = read_captions(options.folder)
    texts = read_texts(options.annotations, options.wordnet)
    fitted = fit_english(texts, [caption for each in captions for caption in each])
    np.savez(options.target / "english.npz", **fitted)
    pictures = {variant: read_pictures(variant, paths, options.threads) for variant in VARIANTS}
    projections = {variant: Projection.read(variant) for variant in VARIANTS}
    embedded = embed(texts, captions, options.threads)
    share = float(projections["base"].arrays["label_share"])
    np.savez(options.target / "multilingual.npz", **distil(embedded, projections, pictures, share, Recipe()))
    for name in ("english", "multilingual"):
        print(f"{name}: {(options.target / f'{name}.npz').stat().st_size / 1e3:.0f} KB")
    print(f"{time.perf_counter() - begun:.0f} s")


def read_pictures(variant, paths, threads):
    """Return the vectors of photographs without their last column, float32 (n, dim - 1)."""
    from PIL import Image

    encoder = BuiltinEncoder(variant, threads=threads)
    rows = []
    for start in range(0, len(paths), 50):
        opened = [Image.open(path).convert("RGB") for path in paths[start : start + 50]]
        rows.append(encoder.encode_images(opened)[:, :-1])
    return np.vstack(rows)


def embed(texts, captions, threads):
    """Return the features of all texts and what MiniLM makes of the English ones as queries.

    Captions come first, five a photograph. Returns dicts by source: features of English texts, embeddings of these,
    and, of what is translated, features by language, without English.
    """
    teacher, student = TextTower(threads), MultilingualTower(threads)
    english = {"captions": [caption for each in captions for caption in each], **texts.english}
    features = {name: student.features(each) for name, each in english.items()}
    queries = {name: as_queries(teacher, each) for name, each in english.items()}
    others = {
        source: {language: student.features(each) for language, each in rows.items() if language != "en"}
        for source, rows in texts.translated.items()
    }
    return features, queries, others


def as_queries(tower, texts):
    return unit_rows(sum(tower.run([prompt.format(text) for text in texts]) for prompt in PROMPTS))


def distil(embedded, projections, pictures, label_share, recipe, photographs=slice(None)):
    """Fit the network for the projections. pictures: by variant, of all photographs. photographs: those to fit on."""
    features, queries, others = embedded
    weights = dict(recipe.weights)
    translated = [(source, rows) for source, languages in others.items() for rows in languages.values()]
    chosen = {source: _of(rows, source, photographs) for source, rows in features.items()}
    inputs = [*chosen.values(), *(rows for _, rows in translated)]
    targets = {}
    for variant, projection in projections.items():
        made = {source: projection.plain_texts(each).astype(np.float32) for source, each in queries.items()}
        seen = np.repeat(pictures[variant], 5, axis=0)
        made["captions"] = (1 - recipe.picture_share) * made["captions"] + recipe.picture_share * seen
        english = [_of(rows, source, photographs) for source, rows in made.items()]
        targets[variant] = np.vstack([*english, *(made[source] for source, _ in translated)])
    sources = [*chosen, *(source for source, _ in translated)]
    counts = [len(rows) for rows in inputs]
    lesson = Lesson(
        np.vstack(inputs),
        targets,
        np.repeat([weights[source] / (len(others.get(source, ())) + 1) for source in sources], counts),
        np.repeat(np.arange(len(inputs)) < len(chosen), counts),
    )
    differences = np.vstack([rows - features["things"] for rows in others["things"].values()])
    return fit_student(lesson, differences, label_share, recipe)


def _of(rows, name, photographs):
    """Return the rows of the photographs to fit on, of captions; all rows of anything else."""
    if name != "captions":
        return rows
    return rows.reshape(-1, 5, rows.shape[1])[photographs].reshape(-1, rows.shape[1])


if __name__ == "__main__":
    main()
