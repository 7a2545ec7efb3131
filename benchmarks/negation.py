"""What a sentence says is not there, on photographs with captions: python benchmarks/negation.py --data FOLDER

FOLDER holds photographs and `captions.csv` (image,caption), several captions each. A photograph *has* a thing where at
least two of its captions name it. Asked for are things without others, in sentences of five languages: "dog without
snow", "child, no ball", "ein Hund ohne Ball", 没有雪的狗. Right are photographs that have the one and not the other.
`sentence` is what clipsearch finds by the sentence as it is, `kept` by what is left of it without what it negates; the
others take that away as a term, fused in a way and with a weight. The way is chosen on every other photograph and
sentence, and reported on the others. Figures: mean average precision over queries; of the first ten, how many show what
was not wanted; and the 95 % interval, by a paired bootstrap, of what the chosen way gains. And of the captions of the
data that say "no shirt", which split_negation leaves as they are: how high each finds its own photograph.
"""

import csv
import re
from collections import defaultdict
from itertools import permutations

import numpy as np
from boolean import average_precision
from fusion import ENOUGH, THINGS, Gallery, gain
from harness import data_parser, write_result

from clipsearch.encoders import registry
from clipsearch.query.fusion import compose, decide
from clipsearch.query.negation import Negation, split_negation
from clipsearch.ranking import null_model

WAYS = ("sentence", "kept", "decision", "feature", "feature 0.5", "feature 0.75")
ENGLISH = {
    "without": "{} without {}", "with no": "{} with no {}", "comma, no": "{}, no {}",
    "without a or b": "{} without {} or {}",
}  # fmt: skip
OTHERS = {
    "German": ("{} ohne {}", {
        "dog": "Hund", "child": "Kind", "man": "Mann", "woman": "Frau", "snow": "Schnee", "water": "Wasser",
        "beach": "Strand", "ball": "Ball", "bicycle": "Fahrrad", "grass": "Gras", "mountain": "Berg",
        "street": "Straße", "horse": "Pferd", "car": "Auto", "tree": "Baum", "crowd": "Menschenmenge",
    }),
    "French": ("{} sans {}", {
        "dog": "chien", "child": "enfant", "man": "homme", "woman": "femme", "snow": "neige", "water": "eau",
        "beach": "plage", "ball": "ballon", "bicycle": "vélo", "grass": "herbe", "mountain": "montagne",
        "street": "rue", "horse": "cheval", "car": "voiture", "tree": "arbre", "crowd": "foule",
    }),
    "Spanish": ("{} sin {}", {
        "dog": "perro", "child": "niño", "man": "hombre", "woman": "mujer", "snow": "nieve", "water": "agua",
        "beach": "playa", "ball": "pelota", "bicycle": "bicicleta", "grass": "hierba", "mountain": "montaña",
        "street": "calle", "horse": "caballo", "car": "coche", "tree": "árbol", "crowd": "multitud",
    }),
    "Chinese": ("没有{1}的{0}", {
        "dog": "狗", "child": "孩子", "man": "男人", "woman": "女人", "snow": "雪", "water": "水", "beach": "海滩",
        "ball": "球", "bicycle": "自行车", "grass": "草地", "mountain": "山", "street": "街道", "horse": "马",
        "car": "汽车", "tree": "树", "crowd": "人群",
    }),
}  # fmt: skip
_MOST = 150
NOUNS = [
    name for name in THINGS if not name.endswith("ing") and name not in ("red", "black", "white", "yellow", "blue")
]
"""What a sentence says is there or not; "without jumping" is no thing, and is not taken away."""


class Asker:
    """Asks for sentences in every way."""

    def __init__(self, gallery: Gallery, model: str) -> None:
        self.rows = gallery.rows
        self._encoder = registry.load(model, threads=2, offline=True)
        self._known = {}

    def vector(self, text):
        """Embed a text once."""
        if text not in self._known:
            self._known[text] = self._encoder.encode_queries([text])[0]
        return self._known[text]

    def merits(self, sentence, split, rows):
        """Return what rows are worth in every way."""
        vectors = np.stack([self.vector(each) for each in (split.kept, *split.taken_away)])
        signs = np.array([1.0] + [-1.0] * len(split.taken_away))
        scores = vectors @ rows.T
        seen = [null_model(each, len(rows)) for each in scores]
        found = {"sentence": rows @ self.vector(sentence), "kept": scores[0]}
        found["decision"] = decide(scores, signs, seen, [False] * len(signs))
        for name, weight in (("feature", 1.0), ("feature 0.5", 0.5), ("feature 0.75", 0.75)):
            found[name] = rows @ compose(vectors, np.where(signs > 0, signs, weight * signs))
        return found


def cases(has):
    """Yield (kind, sentence, what is right, what is right but for what is not wanted, what shows that)."""
    for a, b in permutations(NOUNS, 2):
        for kind, sentence in list(ENGLISH.items())[:3]:
            yield kind, sentence.format(a, b), has[a] & ~has[b], has[a] & has[b], has[b]
        for kind, (sentence, words) in OTHERS.items():
            if a in words and b in words:
                yield kind, sentence.format(words[a], words[b]), has[a] & ~has[b], has[a] & has[b], has[b]
    for a, b, c in permutations(NOUNS, 3):
        if b < c:
            other = has[b] | has[c]
            sentence = ENGLISH["without a or b"].format(a, b, c)
            yield "without a or b", sentence, has[a] & ~other, has[a] & other, other


def measure(asker, gallery, half):
    """Return the figures of one half of the photographs and of the sentences, by kind and way."""
    places = np.arange(len(gallery.rows)) % 2 == half
    has = {thing: each[places] for thing, each in gallery.has.items()}
    rows = gallery.rows[places]
    chosen = defaultdict(list)
    for kind, *case in cases(has):
        if case[1].sum() >= ENOUGH and case[2].sum() >= ENOUGH:
            chosen[kind].append(case)
    found = {}
    for kind, own in chosen.items():
        own = own[half::2]
        own = own[:: max(1, -(-len(own) // _MOST))]
        found[kind] = {way: ([], []) for way in WAYS}
        for sentence, right, _, unwanted in own:
            split = split_negation(sentence)
            assert split.taken_away, sentence
            for way, merit in asker.merits(sentence, split, rows).items():
                found[kind][way][0].append(average_precision(merit, right))
                found[kind][way][1].append(unwanted[np.argsort(-merit, kind="stable")[:10]].sum())
    return found


def own_photographs(asker, data):
    """Return the place of its own photograph for each caption without a shirt, by the sentence and by each way."""
    with (data / "captions.csv").open(encoding="utf-8", newline="") as file:
        captions = [(row["image"], row["caption"]) for row in csv.DictReader(file)]
    names = list(dict.fromkeys(name for name, _ in captions))
    found = defaultdict(list)
    for name, caption in captions:
        if match := re.fullmatch(
            r"(.*?)(?: (?:wearing|with) no| without a) (shirt)(?: on)?\b(.*?) ?\.?", caption, re.I
        ):
            merits = asker.merits(caption, Negation(match[1] + match[3], (match[2],)), asker.rows)
            for way, merit in merits.items():
                found[way].append(int((merit > merit[names.index(name)]).sum()) + 1)
    return dict(found)


def main() -> None:
    given = data_parser(__doc__).parse_args()
    gallery = Gallery(given.data, given.model)
    asker = Asker(gallery, given.model)
    fitted = measure(asker, gallery, 0)
    mean = {way: float(np.mean([np.mean(each[way][0]) for each in fitted.values()])) for way in WAYS}
    best = max(WAYS[2:], key=mean.__getitem__)
    print("on the half that chooses:", {way: round(value, 3) for way, value in mean.items()}, "chosen:", best)
    rows = []
    for kind, by_way in measure(asker, gallery, 1).items():
        row = {"sentence of": kind, "queries": len(by_way[best][0])}
        row |= {way: round(float(np.mean(by_way[way][0])), 3) for way in WAYS}
        row |= {f"gain on {way}": gain(np.array(by_way[best][0]), np.array(by_way[way][0])) for way in WAYS[:2]}
        shown = {way: float(np.mean(by_way[way][1])) for way in ("sentence", "kept", best)}
        row["unwanted of the first 10: sentence, kept, chosen"] = ", ".join(f"{each:.1f}" for each in shown.values())
        rows.append(row)
        print(row, flush=True)
    places = own_photographs(asker, given.data)
    print("places of their own photographs:", places)
    values = {"model": given.model, "photographs": len(gallery.rows), "chosen": best, "chosen by": mean}
    write_result("negation", {**values, "rows": rows, "places of own photographs": places})


if __name__ == "__main__":
    main()
