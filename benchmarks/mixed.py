"""Pictures and texts in one ranking, one kind being what is asked for: python benchmarks/mixed.py FOLDER

FOLDER holds photographs and `captions.csv` (image,caption). The builtin encoder is fitted again on 400 photographs, as
in builtin_quality.py; MiniLM alone reads all texts. A library holds the 300 others and n texts that have to do with
none (prose.py), then 300 texts and n pictures (from 301 on parts and mirror images of the photographs). What is asked:

    captions       a caption of each photograph
    things         the names of 26 things, and pairs of them (fusion.py)
    a - b, a + b - c   the same, composed
    three words    three of the 20 rarest words of a text, which no other text has all of; `one word` is one of them
    questions      the first paragraph of a docstring, the rest of which is the text; the summary of a package

`wrong first`: in how many of 100 answers the first hit is of the other kind than what is asked for, and `which` of the
things. `lost`: how many of 100 no longer have the right item among the first 1, 5 and 10, against asking for the right
kind alone. `first`: how many of 100 texts that are asked for come first. `sure`: how many of 100 first hits of the
other kind, asked for alone, have a confidence of 75 % and more. The rule was chosen with --half 0, other photographs,
captions and texts, but for what one word is worth.

--few: instead of these libraries, small ones: 1 to 20 of the photographs with 1 to 100 texts.
--before CHECKOUT: measure a working tree of another version as well, on the same files.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COUNTS, TEXTS, ASKED = (1, 10, 100, 1000), 300, 300
FEW_PICTURES, FEW_TEXTS = (1, 5, 20), (1, 3, 10, 100)
CUTS = (1, 5, 10)
OF_TEXTS = ("three words", "one word", "questions")
SURE = 0.75


def prepare(folder, work, half):
    """Fit the encoder and write the files and the questions of a half."""
    import builtin_quality as quality
    import numpy as np
    from fusion import THINGS, WHERE, WHO
    from held_out import Photographs
    from prose import corpus, telling_words

    from clipsearch.encoders.builtin.towers import TextTower

    known = Photographs(folder, "base", TextTower(2))
    paths, captions = known.paths, known.captions
    train, test = list(quality.partitions(len(paths), 1))[half]
    np.savez(work / "fitted.npz", **known.fit(train))
    texts = corpus(half)[: COUNTS[-1]]
    for number, each in enumerate(texts):
        path = work / "texts" / f"{number:04d}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(each.text, "utf-8")
    write_pictures([paths[i] for i in test], work / "pictures")
    pairs = [(who, where) for who in WHO for where in WHERE]
    asked = {
        "captions": [[f"{n:04d}.jpg", captions[i][1]] for n, i in enumerate(test)],
        "things": [["", words] for words in (*THINGS, *(f"{who} and {where}" for who, where in pairs))],
        "a - b": [["", f'"{who}" - "{where}"'] for who, where in pairs],
        "a + b - c": [["", f'"{who}" + "{w}" - "{v}"'] for who in WHO for w, v in zip(WHERE, WHERE[5:], strict=False)],
        "three words": [[f"{n:04d}.md", words] for n, words in enumerate(telling_words(texts, 3)) if words],
        "one word": [[f"{n:04d}.md", words] for n, words in enumerate(telling_words(texts, 1)) if words],
        "questions": [[f"{n:04d}.md", each.asks] for n, each in enumerate(texts) if each.asks],
    }
    (work / "asked.json").write_text(json.dumps(asked))


def write_pictures(paths, folder):
    """Copy photographs, then write parts and mirror images of them."""
    from PIL import Image, ImageOps

    folder.mkdir()
    for number in range(COUNTS[-1]):
        source, to = paths[number % len(paths)], folder / f"{number:04d}.jpg"
        if number < len(paths):
            shutil.copy(source, to)
            continue
        with Image.open(source) as picture:
            mirrored, side = ImageOps.mirror(picture.convert("RGB")), number // len(paths)
            left = (side - 1) * mirrored.width // 6
            mirrored.crop((left, 0, left + 2 * mirrored.width // 3, mirrored.height)).save(to)


class Mixed:
    """A library that grows, of files whose names say their kind."""

    def __init__(self, work, name):
        import numpy as np
        from held_out import HeldOutEncoder

        with np.load(work / "fitted.npz") as file:
            self.encoder = HeldOutEncoder("base", dict(file))
        self.work, self.folder, self.library = work, work / f"files of {name}", work / f"library of {name}"
        self.folder.mkdir()

    def add(self, kind, count):
        """Let the library hold the first `count` files of a kind."""
        from clipsearch.config import Settings
        from indexer import pipeline

        for path in sorted((self.work / kind).iterdir())[:count]:
            if not (self.folder / path.name).exists():
                os.link(path, self.folder / path.name)
        pipeline.index(self.library, [str(self.folder)], Settings(threads=2, offline=True), encoder=self.encoder)

    def ask(self, texts, modality=None):
        """Answer texts, or terms where they are composed: lists of (file name, confidence)."""
        from clipsearch.query.engine import SearchEngine
        from clipsearch.query.parser import parse
        from clipsearch.store.library import Library

        with SearchEngine(Library(self.library), encoder=self.encoder) as engine:
            if texts[0].startswith('"'):
                found = [engine.search(parse(text), k=CUTS[-1], modality=modality) for text in texts]
            else:
                found = engine.search_batch(texts=texts, k=CUTS[-1], modality=modality)
        return [[(Path(hit.path).name, hit.confidence) for hit in hits] for hits in found]

    def measure(self, questions, wanted):
        """Figures of questions (file name or "", words) that are about `wanted`, image or text."""
        ending, other = (".jpg", "text") if wanted == "image" else (".md", "image")
        texts = [words for _, words in questions]
        mixed, alone = self.ask(texts), self.ask(texts, wanted)
        wrong = [not hits[0][0].endswith(ending) for hits in mixed]
        row = {"queries": len(texts), "wrong_first": share(wrong)}
        if questions[0][0] == "" and not texts[0].startswith('"'):
            row["which"] = ", ".join(text for text, is_wrong in zip(texts, wrong, strict=True) if is_wrong)
        right = [name for name, _ in questions]
        if right[0]:
            at = {k: [recall(found, right, k) for found in (alone, mixed)] for k in CUTS}
            row["lost"] = " / ".join(f"{one - other:.1f}" for one, other in at.values())
            row["first"] = at[1][1] if wanted == "text" else None
        seen = [hits[0][1] for hits in self.ask(texts, other) if hits and hits[0][1] is not None]
        return row | {"sure": share(value >= SURE for value in seen) if seen else None}


def share(flags):
    flags = list(flags)
    return round(100 * sum(flags) / len(flags), 1)


def recall(found, right, k):
    return share(name in [hit for hit, _ in hits[:k]] for hits, name in zip(found, right, strict=True))


def measure(work):
    """Print a row for each library and kind of question."""
    asked = json.loads((work / "asked.json").read_text())
    about = dict.fromkeys(asked, "image") | dict.fromkeys(OF_TEXTS, "text")
    library = Mixed(work, "pictures")
    library.add("pictures", ASKED)
    for count in COUNTS:
        library.add("texts", count)
        for kind, questions in asked.items():
            there = [each for each in questions if about[kind] == "image" or int(each[0][:4]) < count][-ASKED:]
            if there:
                show(f"{ASKED} pictures, {count} texts", kind, library.measure(there, about[kind]))
    library = Mixed(work, "texts")
    library.add("texts", TEXTS)
    for count in COUNTS:
        library.add("pictures", count)
        for kind in OF_TEXTS:
            there = [each for each in asked[kind] if int(each[0][:4]) < TEXTS]
            show(f"{TEXTS} texts, {count} pictures", kind, library.measure(there, "text"))


def measure_few(work):
    """Print a row for each small library and kind of question."""
    asked = json.loads((work / "asked.json").read_text())
    for pictures in FEW_PICTURES:
        library = Mixed(work, f"{pictures} pictures")
        library.add("pictures", pictures)
        for texts in FEW_TEXTS:
            library.add("texts", texts)
            for kind, wanted, count in (("captions", "image", pictures), ("three words", "text", texts)):
                there = [each for each in asked[kind] if int(each[0][:4]) < count]
                if there:
                    show(f"{pictures} pictures, {texts} texts", kind, library.measure(there, wanted))


def run_once(work, version, tree, few):
    """Measure the version in a working tree in a process of its own; return its rows."""
    own, rows = work / version, []
    own.mkdir()
    for path in ("fitted.npz", "asked.json", "texts", "pictures"):
        (own / path).symlink_to(work / path)
    command = [sys.executable, __file__, "--once", str(own), *(["--few"] if few else [])]
    environment = os.environ | {"PYTHONPATH": str(tree)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        for line in process.stdout:
            rows.append(json.loads(line))
            print(version, line, end="", flush=True)
    if process.returncode:
        raise SystemExit(process.returncode)
    return rows


def show(library, kind, figures):
    print(json.dumps({"library": library, "asked": kind, **figures}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    parser.add_argument("--few", action="store_true")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.once:
        return measure_few(given.folder) if given.few else measure(given.folder)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        prepare(given.folder, work, given.half)
        found = {"now": run_once(work, "now", ROOT, given.few)}
        if given.before:
            found["before"] = run_once(work, "before", given.before, given.few)
    rows = []
    for number, now in enumerate(found["now"]):
        row = {name: now[name] for name in ("library", "asked", "queries")}
        for name in ("wrong_first", *(() if given.few else ("which",)), "lost", "first", "sure"):
            row[name] = now.get(name)
            if "before" in found and name != "which":
                row[f"{name}_before"] = found["before"][number].get(name)
        rows.append(row)
    from harness import write_result

    if given.half == 1:
        write_result("mixed_few" if given.few else "mixed", {"rows": rows})


if __name__ == "__main__":
    main()
