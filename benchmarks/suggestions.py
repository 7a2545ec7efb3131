"""Suggestions for misspelled words: python benchmarks/suggestions.py --data FOLDER [--fit] [--items 1000000]

FOLDER holds `captions.csv` (image,caption). Their distinct words of four letters or more are misspelled by rules of
typing and of hearing (neighbours swapped, a letter left out, doubled, hit beside its key, a vowel for another, two
vowels in each other's place, endings and letters that sound alike). Words are halved by their checksum: the costs of
`store/near_words.py` are chosen on one half (--fit prints the grid), the figures are of the other. A misspelling that
is itself a word of the captions is left out. Figures: the share whose right word is suggested first, among the first
three, not at all. And how long a search takes that finds nothing confident, with and without suggestions, interleaved;
with --items so many further items are put into the catalog, of words as frequent as those of the captions and of made
ones, so that what is looked up is that of a large library.
"""

import argparse
import csv
import itertools
import json
import math
import random
import re
import sqlite3
import statistics
import tempfile
import time
import zlib
from collections import Counter
from pathlib import Path

from harness import write_result

import clipsearch
from clipsearch.config import Settings
from clipsearch.store import near_words

KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
VOWELS = "aeiouy"
SOUNDS = (
    ("ph", "f"),
    ("ck", "k"),
    ("ie", "ei"),
    ("ei", "ie"),
    ("c", "s"),
    ("tion", "sion"),
    ("able", "ible"),
    ("er", "or"),
)
ABSENT = ("quantum chromodynamics", "a zebra in a submarien", "photosynthesis diagram", "tax retrun form", "xylophon")


def beside(letter):
    """Return the letters beside a key."""
    for row in KEYS:
        if (at := row.find(letter)) >= 0:
            return row[max(at - 1, 0) : at] + row[at + 1 : at + 2]
    return ""


def misspell(word, rule, chance):
    """Return a word misspelled by a rule, or None where that does not apply."""
    at = chance.randrange(1, len(word))
    vowels = [i for i, letter in enumerate(word) if letter in VOWELS]
    if rule == "swapped":
        return word[: at - 1] + word[at] + word[at - 1] + word[at + 1 :]
    if rule == "left out":
        return word[:at] + word[at + 1 :]
    if rule == "doubled":
        return word[:at] + word[at] + word[at:]
    if rule == "beside":
        others = beside(word[at])
        return word[:at] + chance.choice(others) + word[at + 1 :] if others else None
    if rule == "added":
        others = beside(word[at])
        return word[:at] + chance.choice(others) + word[at:] if others else None
    if rule == "vowel" and vowels:
        at = chance.choice(vowels)
        return word[:at] + chance.choice(VOWELS) + word[at + 1 :]
    if rule == "two vowels" and len(vowels) > 1:
        one, other = sorted(chance.sample(vowels, 2))
        return word[:one] + word[other] + word[one + 1 : other] + word[one] + word[other + 1 :]
    if rule == "sound":
        fitting = [(a, b) for a, b in SOUNDS if a in word]
        return word.replace(*chance.choice(fitting), 1) if fitting else None
    if rule == "two errors":
        once = misspell(word, chance.choice(("swapped", "left out", "vowel", "doubled")), chance)
        return once and misspell(once, chance.choice(("left out", "beside", "vowel", "added")), chance)
    return None


RULES = ("swapped", "left out", "doubled", "beside", "added", "vowel", "two vowels", "sound", "two errors")


def read_captions(data):
    with (data / "captions.csv").open(encoding="utf-8", newline="") as file:
        return [row["caption"] for row in csv.DictReader(file)]


def misspellings(vocabulary, half):
    """Return (rule, misspelled, right) of the words of one half."""
    made = []
    for word in sorted(vocabulary):
        if len(word) < 4 or zlib.crc32(word.encode()) % 2 != half:
            continue
        for rule in RULES:
            wrong = misspell(word, rule, random.Random(f"{word} {rule}"))
            if wrong and wrong not in vocabulary and len(wrong) >= 3:
                made.append((rule, wrong, word))
    return made


def fit(vocabulary):
    """Print how often the right word is first on the half for fitting, for each choice of costs."""
    cases = []
    for _, wrong, word in misspellings(vocabulary, 0):
        edits = near_words._edits(wrong, near_words._ALPHABETS[0])
        cases.append((word, {each for each in edits if each[0] in vocabulary}))
    grid = itertools.product((0, 0.5, 1), (0.5, 1, 2), (1, 2, 3), (1, 2, 3), (1, 2, 3), (0, 1))
    results = []
    for double, missing, other, first, far, vowel in grid:
        costs = {**near_words.COSTS, "double": double, "vowel": vowel, "missing": missing, "added": missing}
        costs |= {"other": other, "far swap": far}

        def merit(edit, costs=costs, first=first):
            spelling, way, place = edit
            cost = costs[way] + (first if place == 0 and way != "swap" else 0)
            return math.log(vocabulary[spelling]) - cost, spelling

        right = sum(max(near, key=merit, default=("",))[0] == word for word, near in cases)
        results.append((right / len(cases), double, missing, other, first, far, vowel))
    for share, *chosen in (*sorted(results, reverse=True)[:8], *sorted(results)[:2]):
        names = ("double", "missing and added", "other", "first", "far swap", "vowel")
        print(f"right first {share:.4f}", dict(zip(names, chosen, strict=True)))


def judge(library, vocabulary):
    """Return the figures of the half that nothing was chosen on, for each rule and for all."""
    counts = {rule: Counter() for rule in (*RULES, "all")}
    with library.read() as snapshot:
        for rule, wrong, word in misspellings(vocabulary, 1):
            found = [each.word for each in snapshot.near_words(wrong, None, 3) or ()]
            for name in (rule, "all"):
                counts[name].update(
                    misspelled=1, first=found[:1] == [word], three=word in found, none=not found,
                )  # fmt: skip
    return [
        {
            "misspelled by": rule,
            "words": count["misspelled"],
            "right first %": _share(count, "first"),
            "± 95 %": round(196 * math.sqrt(_p(count) * (1 - _p(count)) / count["misspelled"]), 1),
            "among three %": _share(count, "three"),
            "none %": _share(count, "none"),
        }
        for rule, count in counts.items()
        if count["misspelled"]
    ]


def _p(count):
    return count["first"] / count["misspelled"]


def _share(count, name):
    return round(100 * count[name] / count["misspelled"], 1)


def enlarge(folder, vocabulary, items):
    """Put items without vectors into the catalog, whose captions are in the index of words."""
    chance = random.Random(0)
    words, weights = zip(*vocabulary.items(), strict=True)
    made = ["".join(chance.choices("aeiounrstlkmdpbg", k=chance.randrange(4, 10))) for _ in range(200_000)]
    with sqlite3.connect(folder / "catalog.db") as db:
        (root,) = db.execute("SELECT min(id) FROM roots").fetchone()
        (last,) = db.execute("SELECT max(id) FROM items").fetchone()
        for (trigger,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'items'"
        ).fetchall():
            db.execute(f"DROP TRIGGER {trigger}")
        for start in range(0, items, 10_000):
            block = range(last + 1 + start, last + 1 + start + 10_000)
            texts = [" ".join([*chance.choices(words, weights, k=9), chance.choice(made)]) for _ in block]
            db.executemany(
                "INSERT INTO items (id, root_id, path, modality, size, mtime_ns, content_hash, deleted, caption, "
                "digest) VALUES (?, ?, ?, 'image', 0, 0, '', 0, ?, 0)",
                [(n, root, f"made/{n}", text) for n, text in zip(block, texts, strict=True)],
            )
            db.executemany("INSERT INTO full_text (rowid, words) VALUES (?, ?)", zip(block, texts, strict=True))
    db.close()


def time_it(engine, rounds):
    """Return milliseconds of searches without and with suggestions, interleaved, of queries that find nothing."""
    spent = {False: [], True: []}
    for number in range(rounds):
        for text in ABSENT:
            for suggest in (False, True) if number % 2 else (True, False):
                started = time.perf_counter()
                found = engine.search(text, k=10, suggest=suggest)
                spent[suggest].append((time.perf_counter() - started) * 1000)
                assert found.confident or bool(found.suggestions) is suggest
    return {str(suggest): round(statistics.median(times), 2) for suggest, times in spent.items()}


def main() -> None:
    captions = read_captions(ARGUMENTS.data)
    vocabulary = Counter(near_words.fold(word) for text in captions for word in set(re.findall(r"[^\W\d_]+", text)))
    if ARGUMENTS.fit:
        return fit(vocabulary)
    with tempfile.TemporaryDirectory() as work:
        settings = Settings(offline=True, threads=1)
        folder = Path(work) / "library"
        with clipsearch.open(folder, settings=settings, create=True, model="builtin-small") as engine:
            engine.add({"id": str(i), "text": text} for i, text in enumerate(captions))
            rows = judge(engine.library, vocabulary)
            times = [{"items": len(captions), **time_it(engine, 10)}]
        if ARGUMENTS.items:
            enlarge(folder, vocabulary, ARGUMENTS.items)
            with clipsearch.open(folder, settings=settings) as engine:
                times.append({"items": len(captions) + ARGUMENTS.items, **time_it(engine, 10)})
    write_result("suggestions", {"costs": dict(near_words.COSTS), "times": times, "rows": rows})
    for row in (*rows, *times):
        print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--items", type=int, default=0)
    ARGUMENTS = parser.parse_args()
    main()
