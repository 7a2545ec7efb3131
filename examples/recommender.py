"""Recommend pictures like those that someone liked, and unlike those that they disliked.

    python examples/recommender.py
    python examples/recommender.py ~/Pictures --like ~/Pictures/beach.jpg --dislike ~/Pictures/office.jpg

Without a folder, the pictures of a small shop are drawn, some of which are sold out. Nothing is written to the folder:
the library is made elsewhere, and is gone at the end.

Each liked or disliked item is a term of one query, with a weight: how often it was bought, or how long it was looked
at. Recommendations pass a filter on the metadata, and exclude the rated items.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import add
from pathlib import Path

from PIL import Image, ImageDraw

import clipsearch
from clipsearch import Filter, Hit, Indexed, Query, Record, SearchEngine

COLOURS = ("red", "orange", "gold", "green", "navy", "purple")
SHAPES = ("ellipse", "rectangle")


def recommend(
    engine: SearchEngine, weights: Mapping[str, float], k: int, filters: Filter | None = None
) -> Iterator[Hit]:
    """Yield what goes best with items of positive weight, and least with those of negative weight.

    weights: by the keys of items; those that are gone are passed over.
    """
    items = engine.get(weights)
    terms = [weight * Indexed(item.id) for item, weight in zip(items, weights.values(), strict=True) if item]
    if not terms:
        raise SystemExit("None of these pictures is in the library.")
    query: Query = reduce(add, terms)
    yield from engine.search(query, k=k, modality="image", filters=filters)


def draw_shop() -> Iterator[Record]:
    """Draw a picture of each shape in each colour; every fifth is sold out."""
    for number, name in enumerate(f"{colour}-{shape}" for shape in SHAPES for colour in COLOURS):
        colour, shape = name.split("-")
        picture = Image.new("RGB", (160, 160), "white")
        getattr(ImageDraw.Draw(picture), shape)((30, 30, 130, 130), fill=colour)
        yield Record(name, image=picture, metadata={"colour": colour, "sold_out": number % 5 == 4})


def main() -> None:
    """Run the example."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder", nargs="?", help="pictures; a shop is drawn if it is not given")
    options.add_argument("--like", action="append", help="path of a picture; the first of the folder if not given")
    options.add_argument("--dislike", action="append", default=[], help="path of a picture")
    options.add_argument("-k", type=int, default=3, help="how many to recommend")
    given = options.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        clipsearch.open(Path(scratch) / "library", create=True) as engine,
    ):
        if given.folder:
            engine.index([given.folder])
            liked = given.like or [item.key for item in engine.page(Filter(types=("image",)), limit=1).items]
            taste = {**dict.fromkeys(map(absolute, liked), 1.0), **dict.fromkeys(map(absolute, given.dislike), -0.5)}
            allowed = Filter()
        else:
            engine.add(draw_shop())
            taste = {"red-ellipse": 2.0, "orange-ellipse": 1.0, "navy-rectangle": -0.5}
            allowed = Filter(where={"sold_out": False})
        print("taste:", ", ".join(f"{weight:+g} {key}" for key, weight in taste.items()))
        for hit in recommend(engine, taste, given.k, allowed):
            print(f"{hit.rank}. {hit.item.key}")


def absolute(path: str) -> str:
    """Return the key of a file: its absolute path."""
    return str(Path(path).expanduser().absolute())


if __name__ == "__main__":
    main()
