"""Draw docs/answers.jpg: real answers of the installed engine, with the pictures it found.

python tools/readme_picture.py  (needs the `demo` extra). Uses only photographs that are in the public domain or CC0.
"""

from __future__ import annotations

import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from clipsearch import SearchEngine, Settings
from clipsearch.store.library import Library
from indexer.pipeline import IndexOptions, index

FREE = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "moon.png", "rocket.jpg")
QUERIES = ("a cat", "a cup of coffee", "a rocket launch")
TILE, GAP, LABEL, MARGIN = 200, 16, 28, 24
OUT = Path(__file__).parent.parent / "docs" / "answers.jpg"


def main() -> None:
    """Index the pictures, ask, draw."""
    with tempfile.TemporaryDirectory() as scratch:
        photos, library = Path(scratch) / "photos", Path(scratch) / "library"
        photos.mkdir()
        spec = find_spec("skimage")
        assert spec is not None and spec.origin is not None
        for name in FREE:
            shutil.copy(Path(spec.origin).parent / "data" / name, photos / name)
        settings = Settings(offline=True)
        index(library, [str(photos)], settings, IndexOptions(model="builtin"))
        engine = SearchEngine(Library(library), settings)
        draw(engine).save(OUT, quality=88)


def draw(engine: SearchEngine) -> Image.Image:
    """Lay the first three answers to each query out in a row."""
    row = TILE + 2 * LABEL + GAP
    sheet = Image.new("RGB", (3 * TILE + 2 * GAP + 2 * MARGIN, len(QUERIES) * row + 2 * MARGIN - GAP), "white")
    pen = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(18), ImageFont.load_default(15)
    for y, query in enumerate(QUERIES):
        top = MARGIN + y * row
        pen.text((MARGIN, top), f'clipsearch query "{query}"', fill="#111111", font=large)
        for x, hit in enumerate(engine.search(query, k=3)):
            left = MARGIN + x * (TILE + GAP)
            with Image.open(hit.path) as picture:
                tile = cut(picture.convert("RGB"))
            if x:
                tile = Image.blend(tile, Image.new("RGB", tile.size, "white"), 0.45)
            sheet.paste(tile, (left, top + LABEL))
            pen.text((left, top + LABEL + TILE + 3), f"{hit.rank}.  score {hit.score:.3f}", fill="#444444", font=small)
    return sheet


def cut(picture: Image.Image) -> Image.Image:
    """Reduce to a square tile."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((TILE, TILE), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main()
