"""How far encoders of different ranges move copies, and what `dupes` and --collapse make of that.

    python benchmarks/copy_distance.py --data FOLDER [--cost]

FOLDER holds photographs. Every other one is the library in which the distance of copies is measured, as an index run
measures it; the others are changed, and compared with what they were and with each other. The encoders: both builtin
ones, builtin-base squeezed into a tenth of its range, and the features of its two networks without the projection, one
of them also less its mean: real networks whose cosines are unlike each other's. --cost times index runs of 1,000
pictures, and the measurement at their end.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from dupes import crop, jpeg
from harness import make_pictures, write_result
from PIL import Image, ImageEnhance, ImageOps

from clipsearch.config import Settings
from clipsearch.copy_distance import estimate, measure
from clipsearch.encoders import registry
from clipsearch.linalg import unit_rows
from indexer import pipeline
from indexer.copy_distance import cut_margins

EDITS = {
    "JPEG at quality 30": lambda p: jpeg(p, 30),
    "half the size": lambda p: p.resize((p.width // 2, p.height // 2)),
    "a third of the size": lambda p: p.resize((p.width // 3, p.height // 3)),
    "3 % cut off each side": lambda p: crop(p, 0.03),
    "20 % brighter": lambda p: ImageEnhance.Brightness(p).enhance(1.2),
    "grey": lambda p: ImageOps.grayscale(p).convert("RGB"),
}
CHOSEN_ON = 240
"""The first photographs, on which the multiples in clipsearch/copy_distance.py were chosen; not reported on."""

FIXED = {"near": 0.85, "same": 0.97}
PICTURES = 9


def at_size(edit):
    """An edit of the pixels that the encoder sees."""
    return lambda pixels: np.asarray(edit(Image.fromarray(pixels)).resize(pixels.shape[1::-1]))


MOVES = {
    "6 % cut off each side": cut_margins,
    "JPEG at quality 60": at_size(lambda p: jpeg(p, 60)),
    "half the size": at_size(lambda p: p.resize((p.width // 2, p.height // 2))),
}


class Encoders:
    """What each encoder makes of prepared pictures."""

    def __init__(self) -> None:
        self.base, self.small = (
            registry.load(f"builtin-{name}", threads=2, offline=True) for name in ("base", "small")
        )
        self._mean = None

    def encode(self, pixels):
        """Return unit rows of each encoder, by name. pixels: inputs of builtin-base."""
        runs = [tower.run([each[i] for each in pixels]) for i, tower in enumerate(self.base._picture_towers())]
        base = self.base._projection.pictures(
            np.hstack([row for row, _ in runs]), np.mean([s for _, s in runs], axis=0)
        )
        lite0, lite2 = (unit_rows(features) for features, _ in runs)
        self._mean = lite0.mean(axis=0) if self._mean is None else self._mean
        return {
            "builtin-small": self.small.encode_pixels([each[:1] for each in pixels]),
            "builtin-base": base,
            "squeezed": unit_rows(np.hstack([base, np.full((len(base), 1), 3.0, np.float32)])),
            "lite0 features": lite0,
            "lite2 features": lite2,
            "lite0 less its mean": unit_rows(lite0 - self._mean),
        }


def quality(folder: Path, count: int) -> None:
    encoders, prepare = Encoders(), None
    prepare = encoders.base.preprocess
    files = sorted(folder.rglob("*.jpg"))[CHOSEN_ON : CHOSEN_ON + count]
    pictures = [Image.open(path).convert("RGB") for path in files]
    pixels = [prepare(picture) for picture in pictures]
    library, rest = pixels[::2], pixels[1::2]
    own, theirs = encoders.encode(library), encoders.encode(rest)
    moved = {way: encoders.encode([tuple(map(change, arrays)) for arrays in library]) for way, change in MOVES.items()}
    changed = {way: encoders.encode([prepare(edit(p)) for p in pictures[1::2]]) for way, edit in EDITS.items()}
    chosen = np.linspace(0, len(library) - 1, PICTURES).astype(int)
    rows = []
    for name, vectors in own.items():
        by_way = {way: 1 - (found[name] * vectors).sum(axis=1) for way, found in moved.items()}
        measured = measure(by_way["6 % cut off each side"][chosen], vectors, len(vectors))
        limits = {"measured": measured, "estimated": estimate(vectors)}
        limits = {how: {"near": each.near, "same": each.same} for how, each in limits.items()} | {"fixed": FIXED}
        pairs = theirs[name] @ theirs[name].T
        np.fill_diagonal(pairs, -1)
        for how, limit in limits.items():
            row = {"encoder": name, "two_at_random": float(np.median(vectors @ vectors.T)), "limits": how, **limit}
            row |= {"others_near": float((pairs.max(axis=1) >= limit["near"]).mean())}
            row |= {"others_same": int((pairs >= limit["same"]).sum() // 2)}
            for way, found in changed.items():
                scores = (found[name] * theirs[name]).sum(axis=1)
                row[way] = " / ".join(f"{(scores >= limit[which]).mean():.2f}" for which in ("near", "same"))
            rows.append({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
            print(rows[-1], flush=True)
    write_result("copy_distance", {"photographs": len(rest), "rows": rows})


def stability(folder: Path, count: int) -> None:
    """How far an edit at the size that the encoder sees moves photographs that were small or large before."""
    encoders = Encoders()
    base = encoders.base
    pictures = [
        Image.open(path).convert("RGB") for path in sorted(folder.rglob("*.jpg"))[CHOSEN_ON : CHOSEN_ON + count]
    ]
    import skimage.data

    names = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg", "ihc.png")
    large = [Image.open(Path(skimage.data.__path__[0]) / name).convert("RGB") for name in names]
    rows = []
    for way, change in MOVES.items():
        row = {"changed": way}
        for kind, chosen in (("small", pictures), ("large", large)):
            pixels = [base.preprocess(picture) for picture in chosen]
            own = base.encode_pixels(pixels)
            moved = base.encode_pixels([tuple(map(change, arrays)) for arrays in pixels])
            row[kind] = round(float(np.median(1 - (own * moved).sum(axis=1))), 4)
        rows.append(row | {"ratio": round(row["large"] / row["small"], 2)})
        print(rows[-1], flush=True)
    write_result("copy_distance_edits", {"rows": rows})


def cost(rounds: int = 2) -> None:
    """Take the processor time of index runs of 1,000 pictures, and of the measurement at their end."""
    encoder = registry.load("builtin-base", threads=2, offline=True)
    whole, part = [], []
    plain = pipeline.refresh_copy_distance

    def timed(*arguments):
        started = time.process_time()
        plain(*arguments)
        part.append(time.process_time() - started)

    pipeline.refresh_copy_distance = timed
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder) / "pictures", 1000)
        for _ in range(rounds):
            started = time.process_time()
            settings = Settings(threads=2, offline=True)
            pipeline.index(Path(folder) / "library", [f"{folder}/pictures"], settings, encoder=encoder)
            whole.append(time.process_time() - started)
            shutil.rmtree(Path(folder) / "library")
    row = {"pictures": 1000, "cpu_seconds": round(float(np.median(whole)), 2)}
    row |= {"measurement_cpu_seconds": round(float(np.median(part)), 3)}
    row |= {"share_percent": round(100 * float(np.median(np.array(part) / np.array(whole))), 2)}
    print(row)
    write_result("copy_distance_cost", {"rows": [row]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--photographs", type=int, default=400)
    parser.add_argument("--cost", action="store_true")
    given = parser.parse_args()
    if given.data:
        stability(given.data, 60)
        quality(given.data, given.photographs)
    if given.cost:
        cost()


if __name__ == "__main__":
    main()
