"""The demonstration behind `make demo`: index a folder of photographs, then ask it.

Without a folder of your own it takes the photographs that scikit-image and scikit-learn ship.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shlex import quote

COMMAND = Path(sys.executable).with_name("clipsearch.exe" if os.name == "nt" else "clipsearch")

# Photographs only: these packages ship textures, diagrams and scans as well.
SHIPPED = {
    "skimage/data": (
        "astronaut.png camera.png chelsea.png coffee.png coins.png hubble_deep_field.jpg moon.png motorcycle_left.png "
        "rocket.jpg"
    ).split(),
    "sklearn/datasets/images": ["china.jpg", "flower.jpg"],
}
QUERIES = [
    "a cat",
    "沙发上的猫",
    "a cup of coffee",
    "a motorcycle",
    "a rocket launch",
    "a temple",
    "a flower",
    "coins",
    "stars in space",
]


def main() -> int:
    """Run the demonstration with the installed command, as a user would."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", default="", help="a folder of pictures; without it, those that packages ship")
    parser.add_argument("--query", default="")
    parser.add_argument("--work", type=Path, required=True, help="where the demonstration keeps its files")
    options = parser.parse_args()
    photos, library = os.path.expanduser(options.photos), options.work / "library-of-yours"
    if not photos:
        photos, library = str(options.work / "photos"), options.work / "library"
        copy_shipped(Path(photos))
    run("index", photos, "--library", str(library))
    for query in [options.query] if options.query else QUERIES:
        run("query", query, "-k", "3", "--library", str(library))
    print(f"\nTo search these pictures in a browser, run\n\n    {COMMAND} serve --library {quote(str(library))}\n")
    print("and open http://127.0.0.1:8756")
    return 0


def copy_shipped(folder: Path) -> None:
    """Copy the photographs that the packages ship into a folder, those that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, names in SHIPPED.items():
        package, _, inner = place.partition("/")
        spec = find_spec(package)
        assert spec is not None and spec.origin is not None, f"{package} is not installed"
        for name in names:
            if not (folder / name).exists():
                shutil.copy(Path(spec.origin).parent / inner / name, folder / f".{name}.part")
                os.replace(folder / f".{name}.part", folder / name)


def run(*arguments: str) -> None:
    """Show a command and run it."""
    shown = " ".join(f'"{a}"' if " " in a else a for a in arguments)
    print(f"\n$ clipsearch {shown}", flush=True)
    code = subprocess.run([COMMAND, *arguments]).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    sys.exit(main())
