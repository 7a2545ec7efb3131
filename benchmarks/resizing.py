"""Ways of resizing a decoded photograph to the input of an encoder, beside the one in use: time, and what it changes.

    python benchmarks/resizing.py [--quick] [--rounds 5] [--sources FOLDER_OF_PHOTOGRAPHS]

`squash` is the transform of builtin-small, `crop` that of most open_clip models, which must give the bytes of
open_clip's own transform: tests/encoders/test_openclip.py. Milliseconds of one thread, medians over rounds, taken in
turn. What differs from the way in use, bytes and vectors of builtin-small, is seen on 500 photographs of 683 x 512
pixels. `recall at 10` is the percentage of the captions that find their photograph among the first ten, where
captions.csv lies beside the folder of photographs. OpenCV is left out where it is not installed.
"""

import argparse
import csv
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import write_result
from photographs import default_sources, write_photographs
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clipsearch.encoders.builtin import BuiltinEncoder
from clipsearch.encoders.preprocessing import PictureTransform, Squash
from clipsearch.media.decode import decode_picture

SIDE = 224
SIZES = {"683 x 512": (683, 512), "4000 x 3000": (4000, 3000)}
Resize = Callable[[Image.Image], np.ndarray]


def main() -> None:
    """Compare the ways."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="60 photographs and one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sources", type=Path)
    arguments = parser.parse_args()
    sources, rounds = arguments.sources or default_sources(), 1 if arguments.quick else arguments.rounds
    encoder = BuiltinEncoder("small", threads=2)
    with tempfile.TemporaryDirectory() as scratch:
        some = {
            name: decode_all(write_photographs(Path(scratch) / name, 12, size, sources)) for name, size in SIZES.items()
        }
        count = 60 if arguments.quick else 500
        paths = write_photographs(Path(scratch) / "many", count, SIZES["683 x 512"], sources)
        pictures, captions = decode_all(paths), captions_of(paths, sources)
    rows = []
    for transform, ways in (("squash", squash_ways()), ("crop", crop_ways())):
        times = {name: time_of(ways, of_size, rounds) for name, of_size in some.items()}
        usual = [next(iter(ways.values()))(picture) for picture in pictures]
        for way, resize in ways.items():
            row = {"transform": transform, "way": way}
            row |= {f"ms_of_{name}": round(each[way] * 1000, 2) for name, each in times.items()}
            made = [resize(picture) for picture in pictures]
            row |= differences(made, usual) | vectors(encoder, made, usual, captions)
            rows.append(row)
            print(row, flush=True)
    write_result("resizing", {"photographs": len(pictures), "rounds": rounds, "rows": rows})


def decode_all(paths: list[Path]) -> list[Image.Image]:
    return [decode_picture(path.read_bytes(), min_side=SIDE, max_pixels=100_000_000)[0] for path in paths]


def captions_of(paths: list[Path], sources: Path) -> list[tuple[str, int]]:
    """Return captions, each with the number of its photograph."""
    table = sources.parent / "captions.csv"
    if not table.is_file():
        return []
    numbers = {path.stem.rpartition("-")[0]: number for number, path in enumerate(paths)}
    with open(table, encoding="utf-8", newline="") as file:
        rows = [(row["caption"], numbers.get(Path(row["image"]).stem)) for row in csv.DictReader(file)]
    return [(caption, number) for caption, number in rows if number is not None]


def squash_ways() -> dict[str, Resize]:
    """Return the ways of the builtin encoder; the first is the one in use."""
    return {
        "Pillow, reducing_gap 3 (in use)": Squash(SIDE, 3.0).apply,
        "Pillow, reducing_gap 2": Squash(SIDE, 2.0).apply,
        "Pillow, reducing_gap 1.1": Squash(SIDE, 1.1).apply,
        "Pillow, bilinear": lambda picture: np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)),
        "torch, uint8": lambda picture: on_torch(picture, (SIDE, SIDE)),
    } | opencv_ways()


def crop_ways() -> dict[str, Resize]:
    """Return the ways of `shortest`; the first is the one in use."""
    transform = PictureTransform(SIDE, SIDE, "shortest", "bicubic", 0, (0.5,) * 3, (0.5,) * 3)

    def resized_size(picture: Image.Image) -> tuple[int, int]:
        short, long = min(picture.size), max(picture.size)
        other = int(SIDE * long / short)
        return (SIDE, other) if picture.width <= picture.height else (other, SIDE)

    def crop_first(picture: Image.Image) -> np.ndarray:
        width, height = resized_size(picture)
        left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
        across, down = picture.width / width, picture.height / height
        box = (left * across, top * down, (left + SIDE) * across, (top + SIDE) * down)
        return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box))

    def torch_crop(picture: Image.Image) -> np.ndarray:
        width, height = resized_size(picture)
        left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
        return on_torch(picture, (height, width))[top : top + SIDE, left : left + SIDE]

    return {"Pillow (in use)": transform.apply, "Pillow, crop first": crop_first, "torch, uint8": torch_crop}


def on_torch(picture: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """Resize with torch's uint8 kernel; size: height, width."""
    import torch

    torch.set_num_threads(1)
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def opencv_ways() -> dict[str, Resize]:
    try:
        import cv2
    except ImportError:
        return {}
    cv2.setNumThreads(1)
    kinds = {"OpenCV, area": cv2.INTER_AREA, "OpenCV, cubic": cv2.INTER_CUBIC}
    return {
        name: lambda picture, kind=kind: cv2.resize(np.asarray(picture), (SIDE, SIDE), interpolation=kind)
        for name, kind in kinds.items()
    }


def time_of(ways: dict[str, Resize], pictures: list[Image.Image], rounds: int) -> dict[str, float]:
    """Return the processor seconds of one picture; the first round is a warm-up."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, resize in ways.items():
            started = time.thread_time()
            for picture in pictures:
                resize(picture)
            found[name].append((time.thread_time() - started) / len(pictures))
    return {name: statistics.median(each[1:]) for name, each in found.items()}


def differences(made: list[np.ndarray], usual: list[np.ndarray]) -> dict:
    """Compare bytes."""
    steps = np.abs(np.stack(made).astype(np.int16) - np.stack(usual))
    return {"percent_of_bytes_that_differ": round(float((steps > 0).mean() * 100), 3), "by_at_most": int(steps.max())}


def vectors(
    encoder: BuiltinEncoder, made: list[np.ndarray], usual: list[np.ndarray], captions: list[tuple[str, int]]
) -> dict:
    """Compare vectors, and what the captions find."""
    one, other = (encoder.encode_pixels([(pixels,) for pixels in each]) for each in (made, usual))
    cosines = (one * other).sum(axis=1)
    row = {"mean_cosine": round(float(cosines.mean()), 5), "least_cosine": round(float(cosines.min()), 4)}
    recall = None
    if captions:
        scores = encoder.encode_queries([caption for caption, _ in captions]) @ one.T
        own = scores[np.arange(len(captions)), [number for _, number in captions]]
        recall = round(float(((scores > own[:, None]).sum(axis=1) < 10).mean() * 100), 2)
    return row | {"recall_at_10": recall}


if __name__ == "__main__":
    main()
