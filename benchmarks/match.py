"""The picture that an edited copy was made from: how often it is first, beside plain search and a perceptual hash.

    python benchmarks/match.py --data FOLDER             # photographs; reports on the second half of them
    python benchmarks/match.py --data FOLDER --tune      # points of true and false pairs, on the first half

The library has all photographs. A picture that is absent is held out by a filter. Sides, thresholds and views were
chosen on the first half.
"""

import json
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from edits import EDITS, edited
from harness import COMMAND, data_parser, run, write_result
from PIL import Image

import clipsearch
from clipsearch import Filter
from clipsearch.media import local_features
from clipsearch.media.phash import distance, perceptual_hash
from clipsearch.query import originals

GOAL = "crop of 30 %"
_PARTS = 4


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
        originals.SECONDS = float("inf")  # a busy machine shall not decide what is found
        self.names = {id(picture): path for path, picture in self.pictures.items()}
        self.searched = None
        search = engine._search_batch

        def record(*given, **queries):  # the first view is the picture itself: what plain search answers
            self.searched = search(*given, **queries)
            return self.searched

        engine._search_batch = record

    def described(self, picture, side):
        name = self.names.get(id(picture))
        if name is None:
            return self.describe(picture, side)
        if name not in self.features:
            self.features[name] = self.describe(picture, side)
        return self.features[name]


def hashes_of(files):
    return np.array([perceptual_hash(Image.open(path).convert("RGB")) or 0 for path in files], np.uint64)


def count_right(library, files, way, chosen):
    """How often the right picture is first, by match, by search and by hash; without a way, what absent ones match."""
    found = Counter({"way": way, "pictures": len(chosen)})
    with clipsearch.open(library) as engine:
        known, own = Known(engine, files), hashes_of(files)
        for number in chosen:
            whole, path = known.pictures[str(files[number])], str(files[number])
            if way is None:
                matches = engine.match(whole, filters=~Filter(keys=(path,)))
                found["wrong"] += bool(matches)
                continue
            picture = edited(whole, way, number)
            matches = engine.match(picture, k=1)
            found["match"] += bool(matches) and matches[0].path == path
            found["wrong"] += bool(matches) and matches[0].path != path
            found["search"] += known.searched[0][0].path == path
            hashed = perceptual_hash(picture)
            found["hash"] += hashed is not None and int(distance(own, np.uint64(hashed)).argmin()) == number
    return found


def to_row(way, parts):
    """A row of the table, of the counts of parts of the photographs."""
    count, right, wrong, search, alike = (
        sum(part[name] for part in parts) for name in ("pictures", "match", "wrong", "search", "hash")
    )
    row = {"edit": way, "pictures": count, "match_first_%": round(100 * right / count, 1)}
    row |= {"interval": interval(right, count), "another_first": wrong}
    row |= {"search_first_%": round(100 * search / count, 1), "interval_of_search": interval(search, count)}
    return row | {"hash_first_%": round(100 * alike / count, 1)}


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
    for number in range(0, len(files) // 2, 14):
        picture = known.pictures[str(files[number])]
        matches = engine.match(picture, k=1, filters=~Filter(keys=(str(files[number]),)))
        false.append(matches[0].points if matches else 0)
    print("most points of a wrong candidate, sorted:", sorted(false), flush=True)
    for way in ("crop of 30 %", "crop of 15 %", "screenshot"):
        true = []
        for number in range(0, len(files) // 2, 7):
            picture = known.pictures[str(files[number])]
            part = known.describe(edited(picture, way, number), local_features.SIDE)
            placed = local_features.locate(part, known.described(picture, local_features.WHOLE_SIDE))
            true.append(0 if placed is None else placed.points)
        print(way, "points of the right one, sorted:", sorted(true)[:15], flush=True)


def main() -> None:
    parser = data_parser(__doc__)
    parser.add_argument("--step", type=int, default=10, help="of the second half every so many")
    parser.add_argument("--goal-step", type=int, default=3, help="the same for the edit that the goal is about")
    parser.add_argument("--absent", type=int, default=100)
    parser.add_argument("--kept", type=Path, default=Path("match-parts.jsonl"), help="counts, by which a run goes on")
    parser.add_argument("--report", action="store_true", help="the table of the counts that are kept")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--library", help="one that has the photographs already")
    parser.add_argument("--times", action="store_true", help="only the seconds of a query")
    given = parser.parse_args()
    files = sorted(given.data.resolve().rglob("*.jpg"))
    half = len(files) // 2
    with ExitStack() as stack:
        folder = given.library or stack.enter_context(tempfile.TemporaryDirectory())
        if given.library is None:
            run([COMMAND, "index", "--model", given.model, "--library", folder, str(given.data.resolve())])
        with clipsearch.open(folder) as engine:
            if given.times:
                times = seconds(engine, files, range(half, len(files), 3 * given.step))
                print(times)
                write_result("match_seconds", {"model": given.model, "library": len(files), "rows": [times]})
                return
            if given.tune:
                tune(engine, Known(engine, files), files)
                return
        with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
            asked = {way: range(half, len(files), given.goal_step if way == GOAL else given.step) for way in EDITS}
            asked[None] = np.linspace(half, len(files) - 1, given.absent).astype(int).tolist()
            parts = [
                (way, [*numbers[start::_PARTS]])
                for start in range(_PARTS)
                for way, numbers in sorted(asked.items(), key=lambda each: each[0] != GOAL)
            ]
            kept = [json.loads(line) for line in given.kept.read_text().splitlines()] if given.kept.exists() else []
            left = [] if given.report else parts[len(kept) :]
            done = [pool.submit(count_right, folder, files, *part) for part in left]
            for each in done:
                kept.append(each.result())
                given.kept.write_text("".join(json.dumps(part) + "\n" for part in kept))
    counted = [Counter(part) for part in kept]
    rows = [to_row(way, [part for part in counted if part["way"] == way]) for way in EDITS]
    held = [part for part in counted if part["way"] is None]
    absent, wrong = sum(part["pictures"] for part in held), sum(part["wrong"] for part in held)
    absent = {"pictures": absent, "matched": wrong, "interval": interval(wrong, absent)}
    write_result("match", {"model": given.model, "library": len(files), "rows": rows, "absent": absent})


if __name__ == "__main__":
    main()
