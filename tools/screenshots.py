"""Take docs/page-light.webp and docs/page-dark.webp: the page of `clipsearch serve`, in Chromium.

PYTHONPATH=. python tools/screenshots.py  (needs the `dev` extra and Chromium). Shows only photographs of scikit-image
that are in the public domain or CC0, and parts of them.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from urllib.parse import urlencode

from PIL import Image

from clipsearch.config import Settings
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from indexer.pipeline import IndexOptions, index
from tests.support.browser import MISSING, browsing, find_chromium, open_page
from tests.support.pictures import exif_block, photograph
from tests.support.serving import serving

ROOT = Path(__file__).resolve().parents[1]
Box = tuple[float, float, float, float]
WHOLE: Box = (0, 0, 1, 1)
PARTS: dict[str, tuple[Box, ...]] = {
    "chelsea.png": (WHOLE, (0.15, 0, 0.85, 0.75), (0.3, 0.1, 0.75, 1), (0, 0, 0.62, 1)),
    "coffee.png": (WHOLE, (0.1, 0.05, 0.8, 0.85), (0.35, 0, 1, 1)),
    "astronaut.png": (WHOLE, (0.25, 0, 0.7, 0.55), (0.55, 0, 1, 0.75)),
    "rocket.jpg": (WHOLE, (0.3, 0, 0.75, 1)),
    "hubble_deep_field.jpg": (WHOLE, (0, 0, 0.5, 0.45), (0.45, 0.4, 1, 1), (0.5, 0, 1, 0.4)),
    "camera.png": (WHOLE, (0.2, 0, 0.9, 0.6)),
    "moon.png": (WHOLE,),
    "coins.png": (WHOLE, (0, 0, 0.6, 0.6)),
}
"""Parts of each photograph: left, upper, right and lower edge, from 0 to 1."""

QUERY = '"a cat" + "a cup of coffee"'
MOST_BYTES = 150_000


def main() -> None:
    """Index the pictures, serve them, take the screenshots."""
    chromium = find_chromium()
    if chromium is None:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory() as scratch:
        photos, library = Path(scratch) / "photos", Path(scratch) / "library"
        write_pictures(photos)
        settings = Settings(offline=True)
        index(library, [str(photos)], settings, IndexOptions(model="builtin"))
        with (
            SearchEngine(Library(library), settings) as engine,
            serving(engine) as served,
            browsing(chromium) as browser,
        ):
            for scheme in ("light", "dark"):
                keep(
                    shoot(browser, f"{served.url}/?{urlencode({'q': QUERY})}", scheme),
                    ROOT / "docs" / f"page-{scheme}.webp",
                )


def write_pictures(folder: Path) -> None:
    """Write all parts as JPEG files, with dates, in a folder for each photograph."""
    taken_at = datetime(2024, 3, 2, 10)
    for name, boxes in PARTS.items():
        whole = Image.open(photograph(name)).convert("RGB")
        for number, (left, upper, right, lower) in enumerate(boxes):
            path = folder / Path(name).stem.partition("_")[0] / f"{number + 1}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            box = (left * whole.width, upper * whole.height, right * whole.width, lower * whole.height)
            whole.crop(tuple(map(round, box))).save(path, quality=92, exif=exif_block(taken_at=taken_at))
            taken_at += timedelta(days=17)


def shoot(browser, address: str, scheme: str) -> bytes:
    """Return a PNG of the page, once all pictures of the screen are there."""
    page, faults = open_page(browser, address, color_scheme=scheme, reduced_motion="reduce")
    page.locator(".tile").first.wait_for()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)
    assert not faults.found, faults.found
    data: bytes = page.screenshot()
    page.context.close()
    return data


def keep(png: bytes, path: Path) -> None:
    """Write a screenshot as WebP."""
    Image.open(BytesIO(png)).save(path, quality=82, method=6)
    size = path.stat().st_size
    assert size < MOST_BYTES, f"{path.name} has {size} bytes"
    print(f"{path}: {size} bytes")


if __name__ == "__main__":
    main()
