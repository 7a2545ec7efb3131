"""The picture that an edited copy was made from: how often it is first, beside plain search and a perceptual hash.

    python benchmarks/match.py --data FOLDER             # photographs; reports on the second half of them
    python benchmarks/match.py --data FOLDER --tune      # points of true and false pairs, on the first half

The library has all photographs. A picture that is absent is held out by a filter. Sides, thresholds and views were
chosen on the first half.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from edits import EDITS, edited
from harness import COMMAND, run, write_result
from PIL import Image

import clipsearch
from clipsearch import Filter
from clipsearch.media import local_features
from clipsearch.media.phash import distance, perceptual_hash
from clipsearch.query import originals

GOAL = "crop of 30 %"
ABSENT = {"whole": None, "crop of 30 %": "crop of 30 %", "screenshot": "screenshot"}


def interval(hits: int, count: int) -> str:
    """The 95 % interval of a share (Wilson 1927), in percent."""
    z, share = 1.96, hits / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5 / (1 + z * z / count)
    return f"{100 * max(0, middle - half):.1f} to {100 * min(1, middle + half):.1f}"


class Known:
    """The candidates, decoded and described once: so that many queries take less time; what is found is the same."""

    def __init__(self, engine, files):
        self.pictures = {str(path): Image.open(path).convert("RGB") for path in files}
        self.features = {}
        self.describe = local_features.describe
        engine._picture_of = lambda hit, side: self.pictures[hit.path]
        originals.describe = self.described
        self.names = {id(picture): path for path, picture in self.pictures.items()}

    def described(self, picture, side):
        name = self.names.get(id(picture))
        if name is None:
            return self.describe(picture, side)
        if name not in self.features:
            self.features[name] = self.describe(picture, side)
        return self.features[name]


def hashes_of(files):
    return np.array([perceptual_hash(Image.open(path).convert("RGB")) or 0 for path in files], np.uint64)


def compare(engine, known, files, own, way, chosen):
    """How often the right picture is first: by match, by search, by hash; and among the candidates."""
    found = Counter()
    for number in chosen:
        picture = edited(known.pictures[str(files[number])], way, number)
        matches = engine.match(picture, k=1)
        hits = engine.search(image=picture, k=1, modality="image")
        found["match"] += bool(matches) and matches[0].path == str(files[number])
        found["wrong"] += bool(matches) and matches[0].path != str(files[number])
        found["search"] += hits[0].path == str(files[number])
        hashed = perceptual_hash(picture)
        found["hash"] += hashed is not None and int(distance(own, np.uint64(hashed)).argmin()) == number
    count = len(chosen)
    row = {"edit": way, "pictures": count, "match_first_%": round(100 * found["match"] / count, 1)}
    row |= {"interval": interval(found["match"], count), "another_first": found["wrong"]}
    return row | {
        "search_first_%": round(100 * found["search"] / count, 1),
        "interval_of_search": interval(found["search"], count),
        "hash_first_%": round(100 * found["hash"] / count, 1),
    }


def absent(engine, known, files, chosen):
    """How many pictures that are not in the library match something."""
    rows = []
    for name, way in ABSENT.items():
        wrong = []
        for number in chosen:
            whole = known.pictures[str(files[number])]
            picture = whole if way is None else edited(whole, way, number)
            matches = engine.match(picture, filters=~Filter(keys=(str(files[number]),)))
            wrong += [(files[number].name, Path(each.path).name, each.points) for each in matches[:1]]
        rows.append({"absent": name, "pictures": len(chosen), "matched": len(wrong)})
        print(rows[-1], wrong, flush=True)
    return rows


def seconds(engine, files, chosen):
    """Seconds of a query, as a user's: nothing is known before; medians."""
    own, taken = hashes_of(files), {"match": [], "search": [], "hash": [], "no_match": []}
    for number in chosen:
        picture = edited(Image.open(files[number]).convert("RGB"), GOAL, number)
        for name, call in (
            ("match", lambda p=picture: engine.match(p)),
            ("search", lambda p=picture: engine.search(image=p, modality="image")),
            ("hash", lambda p=picture: distance(own, np.uint64(perceptual_hash(p) or 0)).argmin()),
            ("no_match", lambda p=picture, n=number: engine.match(p, filters=~Filter(keys=(str(files[n]),)))),
        ):
            started = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - started)
    return {name: round(float(np.median(each)), 4) for name, each in taken.items()}


def tune(engine, known, files):
    """Points that agree where the picture is the right one, and the most where it is not."""
    local_features.MIN_POINTS, originals.SURE = 3, 10**6
    false = []
    for number in range(0, len(files) // 2, 9):
        picture = known.pictures[str(files[number])]
        for way in (None, "crop of 30 %", "screenshot"):
            shown = picture if way is None else edited(picture, way, number)
            matches = engine.match(shown, k=1, filters=~Filter(keys=(str(files[number]),)))
            false.append(matches[0].points if matches else 0)
    print("most points of a wrong candidate, sorted:", sorted(false)[-20:], flush=True)
    for way in ("crop of 30 %", "crop of 15 %", "screenshot"):
        true = []
        for number in range(0, len(files) // 2, 7):
            matches = engine.match(edited(known.pictures[str(files[number])], way, number), k=20)
            true.append(next((each.points for each in matches if each.path == str(files[number])), 0))
        print(way, "points of the right one, sorted:", sorted(true)[:15], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="builtin-base")
    parser.add_argument("--step", type=int, default=2, help="of the second half every so many; all for the goal")
    parser.add_argument("--absent", type=int, default=100)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--times", action="store_true", help="only the seconds of a query")
    given = parser.parse_args()
    files = sorted(given.data.resolve().rglob("*.jpg"))
    half = len(files) // 2
    with tempfile.TemporaryDirectory() as folder:
        run([COMMAND, "index", "--model", given.model, "--library", folder, str(given.data.resolve())])
        with clipsearch.open(folder) as engine:
            if given.times:
                print(seconds(engine, files, range(half, len(files), 15)))
                return
            known = Known(engine, files)
            if given.tune:
                tune(engine, known, files)
                return
            rows, own = [], hashes_of(files)
            for way in EDITS:
                chosen = range(half, len(files), 1 if way == GOAL else given.step)
                rows.append(compare(engine, known, files, own, way, chosen))
                print(rows[-1], flush=True)
            chosen = np.linspace(half, len(files) - 1, given.absent).astype(int).tolist()
            wrong = absent(engine, known, files, chosen)
    write_result("match", {"model": given.model, "library": len(files), "rows": rows, "absent": wrong})


if __name__ == "__main__":
    main()
