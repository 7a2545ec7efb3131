"""Many JPEG files of different bytes, made once and kept."""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from harness import make_pictures

_MANIFEST = "manifest.json"
_DIFFERENT = 1024
"""Pictures that differ; others are one of these with a segment APP15 of their own, which every decoder skips."""


def keep_pictures(folder: Path, count: int, side: int) -> Path:
    """Return the folder with `count` JPEG files of side x side pixels; make it unless it is there, whole."""
    photos = folder / f"{count}-of-{side}"
    if _is_whole(photos, count):
        return photos
    photos.mkdir(parents=True, exist_ok=True)
    _manifest(photos).unlink(missing_ok=True)
    different = min(count, _DIFFERENT)
    workers = min(different, os.cpu_count() or 1)
    shares = [(photos, number, different, workers, count, side) for number in range(workers)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        sizes = list(pool.map(_make_share, shares))
    _manifest(photos).write_text(json.dumps({"files": count, "bytes": sum(sizes)}))
    return photos


def _make_share(share: tuple[Path, int, int, int, int, int]) -> int:
    """Make every so-many-th of the different pictures with all its copies; return the bytes written."""
    photos, first, different, step, count, side = share
    own = photos.with_name(f"{photos.name}-{first}")
    numbers = range(first, different, step)
    make_pictures(own, len(numbers), side, seed=first)
    total = 0
    for number, path in zip(numbers, sorted(own.iterdir()), strict=True):
        data = path.read_bytes()
        for copy in range(number, count, different):
            text = b"%08d" % copy
            segment = b"\xff\xef" + (len(text) + 2).to_bytes(2, "big") + text
            total += (photos / f"{copy:08d}.jpg").write_bytes(data[:2] + segment + data[2:])
        path.unlink()
    own.rmdir()
    return total


def _manifest(photos: Path) -> Path:
    return photos.with_name(f"{photos.name}-{_MANIFEST}")


def _is_whole(photos: Path, count: int) -> bool:
    """Tell whether all files are there that were made, with all their bytes."""
    if not _manifest(photos).exists():
        return False
    made = json.loads(_manifest(photos).read_text())
    sizes = [entry.stat().st_size for entry in os.scandir(photos)]
    return made == {"files": count, "bytes": sum(sizes)} and len(sizes) == count
