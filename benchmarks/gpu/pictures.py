"""Many JPEG files of different bytes, made once and kept."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import make_pictures
from pipeline_overhead import make_files

from clipsearch.config import Settings

_DIFFERENT = 1024
"""Number of different pictures. The others are copies, each with its own APP15 segment, which decoders skip."""
_SMALL_BYTES = 16_384


def keep_pictures(folder: Path, count: int, side: int) -> Path:
    """Return a folder with `count` JPEG files of side x side pixels; make it if it is missing or incomplete."""
    photos = folder / f"{count}-of-{side}"
    if _is_whole(photos, count):
        return photos
    photos.mkdir(parents=True, exist_ok=True)
    _manifest(photos).unlink(missing_ok=True)
    workers = min(count, Settings().cores)
    # Processes of this module, which start in no time: those of multiprocessing would import the benchmark, and torch.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    commands = [[sys.executable, __file__, photos, count, side, number, workers] for number in range(workers)]
    processes = [subprocess.Popen([str(part) for part in command], env=environment) for command in commands]
    if any([process.wait() for process in processes]):
        raise RuntimeError(f"The pictures could not be made in {photos}; see above.")
    _record(photos)
    return photos


def keep_small_files(folder: Path, count: int) -> Path:
    """Return a folder with `count` files that begin as a JPEG does; make it if it is missing or incomplete."""
    files = folder / f"{count}-small"
    if not _is_whole(files, count):
        shutil.rmtree(files, ignore_errors=True)
        make_files(files, count, _SMALL_BYTES)
        _record(files)
    return files


def _make_share(photos: Path, count: int, side: int, first: int, step: int) -> None:
    """Make every `step`-th of the different pictures, from `first` on, with all its copies."""
    different = min(count, _DIFFERENT)
    numbers = range(first, different, step)
    with tempfile.TemporaryDirectory() as own:
        make_pictures(Path(own), len(numbers), side, seed=first)
        for number, path in zip(numbers, sorted(Path(own).iterdir()), strict=True):
            data = path.read_bytes()
            for copy in range(number, count, different):
                text = b"%08d" % copy
                segment = b"\xff\xef" + (len(text) + 2).to_bytes(2, "big") + text
                (photos / f"{copy:08d}.jpg").write_bytes(data[:2] + segment + data[2:])


def _manifest(files: Path) -> Path:
    return files.with_name(f"{files.name}-manifest.json")


def _record(files: Path) -> None:
    """Record what was made, so that an incomplete folder is noticed."""
    part = _manifest(files).with_suffix(".part")
    part.write_text(json.dumps(_measure(files)))
    os.replace(part, _manifest(files))


def _measure(files: Path) -> dict:
    sizes = [path.stat().st_size for path in files.rglob("*.jpg")]
    return {"files": len(sizes), "bytes": sum(sizes)}


def _is_whole(files: Path, count: int) -> bool:
    """Tell whether the folder has all files and bytes that were recorded."""
    try:
        made = json.loads(_manifest(files).read_text())
    except (OSError, ValueError):
        return False
    return made == _measure(files) and made["files"] == count


if __name__ == "__main__":
    _make_share(Path(sys.argv[1]), *map(int, sys.argv[2:]))
