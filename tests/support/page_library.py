"""Pictures for the tests of the page: of several shapes, dated, placed, captioned, and some that mean harm."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from tests.support.pictures import write_exif_jpeg

HOSTILE = '<img src=x onerror="document.title=1">'
"""A caption that would run a script, were it taken for HTML."""

HOSTILE_NAME = "<img src=x onerror=alert(1)> & \"quotes\" 'n' %2e.jpg"

CAMERAS = (("Canon", "Canon EOS R6"), ("Apple", "iPhone 15"), ("FUJIFILM", "X-T5"))
SHAPES = ((240, 160), (160, 240), (200, 200), (320, 120), (240, 180))
PLACES = (
    (48.8566, 2.3522),  # Paris
    (48.8606, 2.3376),
    (40.7128, -74.0060),  # New York
    (35.6762, 139.6503),  # Tokyo
    (-33.8688, 151.2093),  # Sydney
    (-17.7134, 178.0650),  # Fiji, beside the date line
    (-13.8507, -171.7514),  # Samoa, at its other side
    (64.1466, -21.9426),  # Reykjavik
)


def write_pictures(folder: Path, count: int = 48) -> None:
    """Write pictures of two years in two folders, two texts, and a picture whose name and caption mean harm."""
    start = datetime(2023, 1, 15, 12)
    for n in range(count):
        path = folder / ("travel" if n % 3 else "home") / f"p{n:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        taken_at = start + timedelta(days=15 * n) if n % 8 else None
        gps = None if n % 4 == 3 else PLACES[n % len(PLACES)]
        write_exif_jpeg(path, 1, taken_at, CAMERAS[n % 3], gps, seed=n, size=SHAPES[n % len(SHAPES)])
        if n % 2:
            path.with_suffix(".txt").write_text(f"Picture {n}, a red bicycle by the sea.\n")
    hostile = folder / HOSTILE_NAME
    write_exif_jpeg(hostile, 1, start, (HOSTILE, HOSTILE), PLACES[0], seed=999, size=(200, 150))
    hostile.with_name(hostile.name + ".txt").write_text(HOSTILE)
    (folder / "note.txt").write_text("A note about a red bicycle.\n" * 30)
    (folder / "hostile.txt").write_text(f"{HOSTILE}</script><script>document.title = 1</script>\n" * 20)
