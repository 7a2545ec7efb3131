"""How many different photographs a diverse answer shows: python benchmarks/diverse.py FOLDER

FOLDER holds photographs and `captions.csv` (image,caption), several captions each. Every third photograph becomes a
burst: SHOTS more of it, each cut at other margins and as bright as another moment would be. What is asked are things
and pairs ("dog", "dog and snow"); right are photographs of which two captions name them, and what was made of these.

Of the first ten hits: `repeats`, the share that shows a photograph which a hit before it shows already; `right`, the
share of right ones; `different right`, how many right photographs are seen, each counted once. `likeness` is that of
each hit to the most alike before it, in the mean. lambda was chosen on every other query; the table is of the
other queries, and `chosen on` has the `different right` of the former. The builtin encoder was fitted on these
photographs among others, so `right` is higher than on yours; the ways are compared by the same hits.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from fusion import THINGS, WHERE, WHO
from harness import write_result
from labels import photographs
from PIL import Image, ImageEnhance

import clipsearch
from clipsearch.query.diversity import POOL, SHARE, diversify, likenesses

SHOTS, FIRST = 8, 10
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def make_bursts(folder: Path, names: list[str], target: Path) -> None:
    """Write the photographs as NAME-0.jpg, and of every third SHOTS more."""
    chance = np.random.default_rng(0)
    paths = {path.name: path for path in folder.rglob("*.jpg")}
    for number, name in enumerate(names):
        with Image.open(paths[name]) as opened:
            picture = opened.convert("RGB")
        stem = Path(name).stem
        picture.save(target / f"{stem}-0.jpg", quality=90)
        for shot in range(1, SHOTS + 1) if number % 3 == 0 else ():
            left, top, right, bottom = chance.uniform(0.0, 0.08, 4) * np.tile(picture.size, 2)
            box = (left, top, picture.width - right, picture.height - bottom)
            moved = ImageEnhance.Brightness(picture.crop(tuple(map(round, box)))).enhance(chance.uniform(0.88, 1.12))
            moved.save(target / f"{stem}-{shot}.jpg", quality=88)


def measure(answers, right):
    """Return the figures of the first hits of each query: the photograph of each hit, and which are right."""
    repeats, hits, different = [], [], []
    for shown, wanted in zip(answers, right, strict=True):
        repeats.append(1 - len(set(shown)) / len(shown))
        hits.append(np.mean([wanted[photo] for photo in shown]))
        different.append(len({photo for photo in shown if wanted[photo]}))
    return {
        "repeats": f"{np.mean(repeats):.0%}",
        "right": f"{np.mean(hits):.0%}",
        "different_right": round(float(np.mean(different)), 2),
    }


def answers_of(engine, queries, names):
    """Yield for each query the photographs of the first hits in each way, and their likeness."""
    places = {Path(name).stem: place for place, name in enumerate(names)}

    def photos(hits):
        return [places[Path(hit.path).stem.rpartition("-")[0]] for hit in hits[:FIRST]]

    for query in queries:
        plain = engine.search(query, k=POOL, modality="image")
        with engine.library.read() as snapshot:
            orders = {
                "relevance": [*plain],
                "collapse": [*engine.search(query, k=FIRST, collapse=True, modality="image")],
            }
            orders |= {f"lambda {share}": diversify(snapshot, plain.hits, share) for share in SHARES}
            shown = {way: photos(hits) for way, hits in orders.items()}
            alike = {}
            for way, hits in orders.items():
                found = likenesses(snapshot, hits[:FIRST])
                alike[way] = float(np.mean([found[i, :i].max() for i in range(1, FIRST)]))
        yield shown, alike


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="builtin")
    given = parser.parse_args()
    names, has = photographs(given.folder)
    things = list(THINGS)
    asked = [(thing, has[:, place]) for place, thing in enumerate(things)]
    asked += [
        (f"{who} and {where}", has[:, things.index(who)] & has[:, things.index(where)])
        for who in WHO
        for where in WHERE
    ]
    asked = [(query, right) for query, right in asked if right.sum() >= FIRST]
    with tempfile.TemporaryDirectory() as folder:
        (pictures := Path(folder, "pictures")).mkdir()
        make_bursts(given.folder, names, pictures)
        with clipsearch.open(Path(folder, "library"), create=True, model=given.model) as engine:
            engine.index(pictures)
            found = list(answers_of(engine, [query for query, _ in asked], names))
    rows = []
    for way in found[0][0]:
        both = []
        for half in (slice(0, None, 2), slice(1, None, 2)):
            both.append(measure([shown[way] for shown, _ in found[half]], [right for _, right in asked[half]]))
        row = {"way": way + (", clipsearch" if way == f"lambda {SHARE}" else ""), **both[1]}
        row["likeness"] = round(float(np.mean([alike[way] for _, alike in found[1::2]])), 2)
        row["chosen_on"] = both[0]["different_right"]
        rows.append(row)
        print(row, flush=True)
    write_result("diverse", {"queries": len(asked), "share": SHARE, "shots": SHOTS, "rows": rows})


if __name__ == "__main__":
    main()
