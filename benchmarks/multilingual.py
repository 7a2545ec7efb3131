"""How well the builtin encoder reads sixteen languages, on photographs and words that it was not fitted on.

    python benchmarks/multilingual.py FOLDER --annotations CLDR/annotations --wordnet WORDNET

The arguments are those of tools/train_multilingual.py. The projection and the multilingual network are fitted without
300 photographs, which are then searched: with the captions of the data set, and, for 100 of them, with sentences in
nine languages (multilingual_captions.json). 40 words in sixteen languages (multilingual_words.json) are compared with
the English ones; things that have them in their name are left out of the fit. multilingual_latin.json has texts in
Latin letters, for the rule that chooses the tower. `--part dev` takes the other photographs, sentences and words, on
which the recipe and the rule were chosen.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tools"), str(HERE)]

from builtin_data import caption_embeddings, class_texts, picture_features, read_captions
from builtin_recipe import RECIPES, Labels, Photos, fit
from harness import write_result
from multilingual_recipe import Recipe
from multilingual_texts import LATIN, Texts, read_texts
from train_multilingual import as_queries, distil, embed

from clipsearch.encoders.builtin.encoder import VARIANTS
from clipsearch.encoders.builtin.english import english_chance
from clipsearch.encoders.builtin.multilingual import MultilingualTower, lead_in
from clipsearch.encoders.builtin.projection import Projection
from clipsearch.encoders.builtin.reading import ENGLISH, FOREIGN, english_share
from clipsearch.encoders.builtin.towers import TextTower
from clipsearch.encoders.builtin.weights import read_pth, read_verified

GALLERY = 300
CUTS = (1, 5, 10)
WAYS = ("MiniLM", "multilingual", "mean", "rule")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, required=True)
    parser.add_argument("--variant", choices=list(VARIANTS), default="base")
    parser.add_argument("--part", choices=["dev", "test"], default="test")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    begun = time.perf_counter()
    written = {name: read_written(name)[options.part] for name in ("captions", "words", "latin")}
    paths, captions = read_captions(options.folder)
    photos, labels = read_photos(options.variant, paths, captions, options.threads)
    gallery = choose_gallery([path.name for path in paths], written["captions"], options.part)
    train = np.setdiff1d(np.arange(len(paths)), gallery)
    arrays = fit(photos.take(train), labels, RECIPES[options.variant])
    projection = Projection("", {name: value.astype(np.float32) for name, value in arrays.items()})
    pictures = projection.pictures(photos.features, photos.logits)
    known = without(read_texts(options.annotations, options.wordnet), [each["en"] for each in written["words"]])
    texts = embed(known, captions, options.threads)
    share = float(projection.arrays["label_share"])
    fitted = distil(texts, {"own": projection}, {"own": pictures[:, :-1]}, share, Recipe(), train)
    towers = Towers(projection, fitted, options.threads)
    fitted_words = {word for text in known.translated["phrases"]["en"] for word in text.split()}
    names = [paths[index].name for index in gallery]
    held = [caption for index in gallery for caption in captions[index]]
    owner = np.repeat(np.arange(len(gallery)), 5)
    rows = [{"texts": "captions of the data set, en", **towers.recalls(held, owner, pictures[gallery])}]
    rows += of_sentences(towers, written["captions"], names, pictures[gallery])
    tables = {
        "multilingual": rows,
        "multilingual_words": of_words(towers, written["words"], pictures[gallery], fitted_words),
        "multilingual_rule": of_latin(written["latin"]),
    }
    for case, table in tables.items():
        print(case, *table, sep="\n")
        if options.part == "test" and options.variant == "base":
            write_result(case, {"rows": table})
    print(f"{options.variant}, {options.part}: {time.perf_counter() - begun:.0f} s")


def read_written(name):
    return json.loads((HERE / f"multilingual_{name}.json").read_text(encoding="utf-8"))


def without(texts, words):
    """Leave out of the things of the fit, in all languages, those whose English name has one of the words."""
    names = texts.translated["things"]
    kept = [index for index, name in enumerate(names["en"]) if not set(words) & set(name.lower().split())]
    things = {language: [each[index] for index in kept] for language, each in names.items()}
    return Texts(texts.english | {"things": things["en"]}, texts.translated | {"things": things}, texts.keywords)


def read_photos(variant, paths, captions, threads):
    """Return the photographs and the classes that the projection is fitted on."""
    text, projection = TextTower(threads), Projection.read(variant)
    ranges = {backbone.name: projection.ranges(backbone.name) for backbone in VARIANTS[variant]}
    features = picture_features(VARIANTS[variant], ranges, paths, threads)
    rows = [read_pth(read_verified(backbone.source))["_fc.weight"] for backbone in VARIANTS[variant]]
    return Photos(*features, *caption_embeddings(text, captions)), Labels(rows, *class_texts(text))


def choose_gallery(names, sentences, part):
    """Return the indices of the photographs that have sentences of a part, and of others that have none at all."""
    both = read_written("captions")
    plain = [name for name in names if name not in both["dev"] and name not in both["test"]]
    missing = GALLERY - len(sentences)
    chosen = [*sentences, *(plain[:missing] if part == "dev" else plain[-missing:])]
    return np.array([names.index(name) for name in chosen])


class Towers:
    """Both text towers with one projection, and the ways to use them."""

    def __init__(self, projection, fitted, threads):
        self.projection = projection
        own = {key.removeprefix("own_"): value for key, value in fitted.items()}
        self.readout = {key: value.astype(np.float32) for key, value in own.items()}
        self.english, self.multilingual = TextTower(threads), MultilingualTower(threads)

    def vectors(self, texts):
        """Return the vectors of queries by way."""
        one = self.projection.plain_texts(as_queries(self.english, texts))
        other = self.projection.unit_parts(lead_in(self.multilingual.features(texts), self.readout))
        weight = np.array([english_share(text) for text in texts])[:, None]
        rows = dict(zip(WAYS, (one, other, one + other, weight * one + (1 - weight) * other), strict=True))
        return {way: self.projection.complete(each) for way, each in rows.items()}

    def recalls(self, texts, right, pictures):
        """Return R@1 / 5 / 10 in percent by way. right (n,): which picture each text describes."""
        return {way: recalls(rows @ pictures.T, right) for way, rows in self.vectors(texts).items()}


def recalls(scores, right):
    match = scores[np.arange(len(right)), right]
    ranks = (scores > match[:, None]).sum(axis=1)
    return " / ".join(f"{100 * (ranks < cut).mean():.1f}" for cut in CUTS)


def of_sentences(towers, sentences, names, pictures):
    right = np.array([names.index(name) for name in sentences])
    languages = next(iter(sentences.values()))
    return [
        {
            "texts": f"sentences, {language}",
            **towers.recalls([each[language] for each in sentences.values()], right, pictures),
        }
        for language in languages
    ]


def of_words(towers, words, pictures, fitted):
    """Return, by language, how alike words are to the English ones, and how many of their ten first pictures agree.

    fitted: English words that the sentences of the fit have; the last column is of the others.
    """
    new = np.array([not {each["en"], f"{each['en']}s"} & fitted for each in words])
    english = towers.vectors([each["en"] for each in words])["MiniLM"]
    best = np.argsort(-(english @ pictures.T), axis=1)[:, :10]
    report = []
    for language in words[0]:
        rows = towers.vectors([each[language] for each in words])["rule"]
        own = np.argsort(-(rows @ pictures.T), axis=1)[:, :10]
        same = np.mean([len(set(one) & set(other)) / 10 for one, other in zip(best, own, strict=True)])
        first = ((rows @ english.T).argmax(axis=1) == np.arange(len(words))).mean()
        cosines = (rows * english).sum(axis=1)
        report.append(
            {
                "language": language,
                "cosine": round(float(cosines.mean()), 2),
                "same_of_ten_pictures": round(float(same), 2),
                "nearest_is_its_own": round(float(first), 2),
                "cosine_of_new": round(float(cosines[new].mean()), 2),
            }
        )
    return report


def of_latin(texts):
    """Return, by language, the shares of texts that the rule gives to MiniLM, to both and to the other tower."""
    report = []
    for language in ("en", "same", *LATIN):
        chances = np.array([english_chance(text) for text in texts[language]])
        alone, other = float((chances >= ENGLISH).mean()), float((chances <= FOREIGN).mean())
        shares = {"MiniLM": alone, "both": 1 - alone - other, "multilingual": other}
        report.append({"language": language, **{tower: round(share, 2) for tower, share in shares.items()}})
    return report


if __name__ == "__main__":
    main()
