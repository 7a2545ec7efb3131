"""How many made queries are understood as they were written: dates, places, tags and cameras lifted out of the words.

    python benchmarks/understanding.py            # all 200
    python benchmarks/understanding.py develop    # the 100 to work with, with what goes wrong
    python benchmarks/understanding.py --captions FOLDER_OF_CAPTIONED_PHOTOGRAPHS

The queries are in understanding.json, and so is the library that they are about: a picture of each month, of which some
have coordinates, all a camera, and some tags. It is made here, indexed by the builtin encoder, and its places are named
by the extra `places`. A query counts if the words that remain, the period, and the pictures that places, tags and
cameras each allow are those of the file. Intervals: 95 %, by Wilson.

With `--captions`: out of how many captions, as they stand and in lower case, anything is lifted by the names of the
same library, which also gets tags such as "Dog" and "Man"; all that is lifted is printed, for a person to judge.
"""

import csv
import json
import math
import re
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
from harness import HERE, write_result
from PIL import Image

import clipsearch
from clipsearch import Filter
from clipsearch.query.understanding.library_names import LibraryNames
from clipsearch.query.understanding.understand import understand_words

EDGES = frozenset("a an the in on at from with of by and la le les el los las der die das un une".split())
MODEL, TAKEN, GPS = 0x0110, 0x9003, 0x8825
GROUPS = {
    "all": lambda query: True,
    "look-alikes": lambda query: "look_alike" in query,
    "with a filter": lambda query: "look_alike" not in query,
    "Chinese": lambda query: query["language"] == "zh",
    "German, French, Spanish": lambda query: query["language"] in ("de", "fr", "es"),
}


def make_photos(folder: Path, library: dict) -> None:
    """Write a picture for each month, in the order of the places, with cameras in turn."""
    folder.mkdir()
    rng = np.random.default_rng(19)
    places = list(library["places"].values())
    until = datetime.fromisoformat(library["now"])
    months = [(year, month) for year in range(2005, until.year + 1) for month in range(1, 13)]
    for number, (year, month) in enumerate(each for each in months if each <= (until.year, until.month)):
        exif = Image.Exif()
        exif[MODEL] = library["cameras"][number % len(library["cameras"])]
        exif.get_ifd(0x8769)[TAKEN] = f"{year}:{month:02}:15 12:00:00"
        if number < len(places):
            latitude, longitude = places[number]
            gps = exif.get_ifd(GPS)
            gps[1], gps[2] = "S" if latitude < 0 else "N", sexagesimal(latitude)
            gps[3], gps[4] = "W" if longitude < 0 else "E", sexagesimal(longitude)
        picture = Image.fromarray(rng.integers(0, 255, (6, 8, 3), np.uint8)).resize((64, 48))
        picture.save(folder / f"{number:03}.jpg", exif=exif)


def sexagesimal(degrees: float) -> tuple[float, float, float]:
    minutes, seconds = divmod(round(abs(degrees) * 3600, 2), 60)
    whole, minutes = divmod(minutes, 60)
    return whole, minutes, seconds


def open_library(folder: Path, library: dict) -> clipsearch.SearchEngine:
    make_photos(folder / "photos", library)
    engine = clipsearch.open(folder / ".clipsearch", create=True, model="builtin")
    engine.index(folder / "photos")
    items = sorted(engine.find(), key=lambda item: item.path)
    for tag, item in zip(library["tags"], items, strict=False):
        engine.tag([item.key], add=[tag])
    return engine


def normal(text: str) -> str:
    words = re.sub(r"[^\w\s'’]", " ", text.lower()).split()
    while words and words[0] in EDGES:
        words = words[1:]
    while words and words[-1] in EDGES:
        words = words[:-1]
    return " ".join(words)


def allowed(engine: clipsearch.SearchEngine, field: str, names: list[str]) -> frozenset[int]:
    """Return the items that each of the names allows alone, all together."""
    return frozenset(item.id for name in names for item in engine.find(Filter(**{field: (name,)})))


def meaning(engine: clipsearch.SearchEngine, text: str, taken: object, names: dict[str, list[str]]) -> tuple:
    fields = ("places", "tags", "cameras")
    return normal(text), taken, *(allowed(engine, field, names.get(field, [])) for field in fields)


def understood(engine: clipsearch.SearchEngine, found) -> tuple:
    parts = [] if found.filters is None else [found.filters, *found.filters.all_of]
    periods = [[f"{each.taken_from:%Y-%m-%d}", f"{each.taken_until:%Y-%m-%d}"] for each in parts if each.taken_from]
    names = {field: [n for each in parts for n in getattr(each, field)] for field in ("places", "tags", "cameras")}
    return meaning(engine, found.text, periods[0] if periods else None, names)


def wilson(right: int, count: int) -> str:
    share, z = right / count, 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return f"{middle - half:.1%} to {min(middle + half, 1):.1%}"


def lift_captions(engine: clipsearch.SearchEngine, folder: Path, now: datetime) -> None:
    key = engine.find(limit=1)[0].key
    engine.tag([key], add=["Beach", "Dog", "Garden", "Wedding", "Family", "John", "Sarah", "Black", "Will", "Man"])
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as lines:
        captions = [row["caption"] for row in csv.DictReader(lines)]
    lifted = 0
    with engine.library.read() as snapshot:
        for text in [*captions, *(caption.lower().rstrip(" .") for caption in captions)]:
            if found := understand_words(text, LibraryNames(snapshot), now):
                lifted += 1
                print(f"{text!r} is understood as {found!s}", flush=True)
    print(f"out of {2 * len(captions):,} captions, {lifted:,} have something lifted")


def main() -> None:
    asked = json.loads((HERE / "understanding.json").read_text(encoding="utf-8"))
    library, chosen = asked["library"], sys.argv[1:] or ["develop", "report"]
    if chosen[0] == "--captions":
        with tempfile.TemporaryDirectory() as folder, open_library(Path(folder), library) as engine:
            return lift_captions(engine, Path(chosen[1]), datetime.fromisoformat(library["now"]))
    queries = [query for query in asked["queries"] if query["set"] in chosen]
    now = datetime.fromisoformat(library["now"])
    with tempfile.TemporaryDirectory() as folder, open_library(Path(folder), library) as engine:
        right, times = {}, []
        for query in queries:
            with engine.library.read() as snapshot:
                started = time.perf_counter()
                found = understand_words(query["query"], LibraryNames(snapshot), now)
                times.append(time.perf_counter() - started)
            wanted = meaning(engine, query["text"], query.get("taken"), query)
            right[query["query"]] = understood(engine, found) == wanted
            if not right[query["query"]]:
                print(f"{query['query']!r} is understood as {found!s}", flush=True)
    rows = []
    for part in ("report", "develop", "both"):
        for name, belongs in GROUPS.items():
            own = [query for query in queries if belongs(query) and part in (query["set"], "both")]
            if own and not (part != "both" and name in list(GROUPS)[3:]):
                count = sum(right[query["query"]] for query in own)
                row = {"queries": name, "set": part, "count": len(own), "as_written": count}
                rows.append(row | {"share": f"{count / len(own):.1%}", "interval": wilson(count, len(own))})
                print(rows[-1], flush=True)
    print(f"{statistics.median(times) * 1000:.2f} ms a query (median)")
    if chosen == ["develop", "report"]:
        write_result("understanding", {"milliseconds": round(statistics.median(times) * 1000, 2), "rows": rows})


if __name__ == "__main__":
    main()
