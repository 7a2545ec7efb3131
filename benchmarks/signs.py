"""Photographs that bear signs, asked for by what they show and by what the signs say: python benchmarks/signs.py FOLDER

FOLDER holds photographs and `captions.csv` (image,caption). The builtin encoder is fitted again on 400 photographs;
MiniLM alone reads all texts. Of the 300 others some bear a sign that has to do with nothing in them: one or two words
and a number, which no other sign has. A library of them is asked before and after `index --ocr`:

    captions   a caption of each photograph: how many of 100 are among the first 1, 5 and 10
    signs      what each sign says; `words` without its number, which several signs may share

With --half 0, other photographs, captions and words.
"""

import argparse
import random
import tempfile
from pathlib import Path

import builtin_quality as quality
from harness import write_result
from held_out import HeldOutEncoder, Photographs
from ocr import ENGLISH
from PIL import Image, ImageDraw, ImageFont

from clipsearch.config import Settings
from clipsearch.encoders.builtin.towers import TextTower
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from indexer.pipeline import IndexOptions, index

COUNTS, CUTS = (10, 150, 300), (1, 5, 10)


def write_photographs(paths, folder, count, half):
    """Write photographs, evenly spread `count` of which bear a sign; return what it says by name."""
    rng, font, said = random.Random(half), ImageFont.load_default(18), {}
    words, folder = ENGLISH[half == 0].split(), Path(folder)
    folder.mkdir()
    for number, path in enumerate(paths):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        if number % (len(paths) // count) == 0:
            text = f"{' '.join(rng.sample(words, rng.randint(1, 2)))} {100 + number}"
            said[f"{number:03d}"] = text
            draw = ImageDraw.Draw(picture)
            draw.rectangle((3, 3, 9 + draw.textlength(text.upper(), font=font), 27), fill="gold")
            draw.text((6, 4), text.upper(), font=font, fill="black")
        picture.save(folder / f"{number:03d}.png")
    return said


def recalls(engine, asked):
    """How many of 100 pictures are among the first of what is asked for them: (name, text)."""
    found = engine.search_batch(texts=[text for _, text in asked], k=CUTS[-1])
    places = [[Path(hit.path).stem for hit in hits] for hits in found]
    shares = (sum(name in hits[:cut] for (name, _), hits in zip(asked, places, strict=True)) for cut in CUTS)
    return " / ".join(f"{100 * share / len(asked):.1f}" for share in shares)


def measure(paths, captions, encoder, count, half, work):
    """Ask one library before and after the text in its pictures is recognised."""
    said = write_photographs(paths, work / "photographs", count, half)
    asked = [(f"{number:03d}", text) for number, text in enumerate(captions)]
    row = {"signs": count}
    for way, options in (("without", IndexOptions()), ("with", IndexOptions(ocr=True))):
        index(
            work / "library", [str(work / "photographs")], Settings(threads=2, offline=True), options, encoder=encoder
        )
        with SearchEngine(Library(work / "library"), encoder=encoder) as engine:
            row[f"captions_{way}_ocr"] = recalls(engine, asked)
            bearing = [each for each in asked if each[0] in said]
            row[f"captions_of_these_{way}"] = recalls(engine, bearing)
            if options.ocr:
                row["signs_found"] = recalls(engine, list(said.items()))
                row["words_found"] = recalls(engine, [(name, text.rpartition(" ")[0]) for name, text in said.items()])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    given = parser.parse_args()
    known = Photographs(given.folder, "base", TextTower(2))
    train, test = list(quality.partitions(len(known.paths), 1))[given.half]
    encoder, rows = HeldOutEncoder("base", known.fit(train)), []
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as scratch:
            paths, captions = [known.paths[i] for i in test], [known.captions[i][1] for i in test]
            rows.append(measure(paths, captions, encoder, count, given.half, Path(scratch)))
        print(rows[-1], flush=True)
    if given.half == 1:
        write_result("signs", {"rows": rows})


if __name__ == "__main__":
    main()
