"""Find pictures that look the same, and list each group, the largest picture first.

    python examples/duplicate_finder.py
    python examples/duplicate_finder.py ~/Pictures --least 0.97

Without a folder, a few pictures are drawn, two of which are copies of others. Nothing is written to the folder: the
library is made elsewhere, and is gone at the end. `clipsearch dupes` does more: it checks what it finds by a perceptual
hash, and measures how near copies are with the encoder.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

import clipsearch
from clipsearch import Filter, Item, SearchEngine

BLOCK = 1024
"""Rows that are compared with all others at a time."""


def groups(engine: SearchEngine, least: float) -> Iterator[list[Item]]:
    """Yield groups of pictures, each of which has a cosine of at least `least` with another of its group."""
    items = list(engine.items(Filter(types=("image",))))
    rows = engine.vectors([item.key for item in items])  # float32 (n, dim), unit length
    first = list(range(len(items)))  # of each picture, an earlier one of its group, or itself

    def find(number: int) -> int:
        while first[number] != number:
            number = first[number]
        return number

    for start in range(0, len(rows), BLOCK):
        for one, other in np.argwhere(rows[start : start + BLOCK] @ rows.T >= least):
            low, high = sorted((find(start + int(one)), find(int(other))))
            first[high] = low
    found: dict[int, list[Item]] = defaultdict(list)
    for number, item in enumerate(items):
        found[find(number)].append(item)
    return (group for group in found.values() if len(group) > 1)


def pixels(item: Item) -> int:
    """Return how many pixels a picture has."""
    return item.picture.width * item.picture.height if item.picture else 0


def draw(folder: Path) -> None:
    """Draw three pictures, and copies of two: one smaller, one of less quality."""
    for name, color, box in (("sun", "gold", (60, 60, 180, 180)), ("sea", "navy", (0, 130, 240, 240))):
        picture = Image.new("RGB", (240, 240), "skyblue")
        ImageDraw.Draw(picture).ellipse(box, fill=color)
        picture.save(folder / f"{name}.png")
        copy = ImageOps.contain(picture, (200, 200)) if name == "sun" else picture
        copy.save(folder / f"{name}-copy.jpg", quality=80)
    Image.linear_gradient("L").save(folder / "other.png")


def main() -> None:
    """Run the example."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", nargs="?", type=Path, help="pictures; a few are drawn if it is not given")
    options.add_argument("--least", type=float, default=0.95, help="cosine of two copies")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        if given.folder is None:
            draw(folder)
        with clipsearch.open(Path(scratch) / "library", create=True) as engine:
            engine.index([folder], exclude=["library"])
            for group in groups(engine, given.least):
                print(*(item.path for item in sorted(group, key=pixels, reverse=True)), sep="\n  = ")


if __name__ == "__main__":
    main()
