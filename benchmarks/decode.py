"""JPEG files to the input of builtin-base: clipsearch's way beside other libraries, one thread and two.

    python benchmarks/decode.py [--sources FOLDER_OF_PHOTOGRAPHS] [--rounds 5]

Every way ends with the same resizing, so that they differ in decoding alone. A peer that is not installed is left out:

    pip install --no-deps simplejpeg opencv-python-headless 'PyTurboJPEG<2'    # in an environment of its own

PyTurboJPEG needs the library libturbojpeg of the system besides; name it with --turbojpeg where it is not found.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from harness import median_ratio, write_result
from photographs import write_photographs
from PIL import Image

from clipsearch.encoders.builtin import BuiltinEncoder
from clipsearch.media.decode import OVERSIZE, decode_picture

SIZES = {"4000 x 3000": (4000, 3000, 12), "1600 x 1200": (1600, 1200, 32), "500 x 375": (500, 375, 200)}
Decode = Callable[[bytes], Image.Image]


def main() -> None:
    """Time every way on every size of picture, in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sources", type=Path)
    parser.add_argument("--turbojpeg", help="path of libturbojpeg.so")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    encoder = BuiltinEncoder("base", threads=1)
    side = math.ceil(OVERSIZE * encoder.picture_side)
    ways = {name: way for name, make in PEERS.items() if (way := _made(make, side, arguments.turbojpeg))}
    rows = []
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(2) as pool:
        for name, (width, height, count) in SIZES.items():
            paths = write_photographs(Path(scratch) / name, count, (width, height), arguments.sources)
            files = [path.read_bytes() for path in paths]
            rows += measure(name, ways, files, encoder.preprocess, arguments.rounds, pool)
    write_result("decode", {"encoder": "builtin-base", "rounds": arguments.rounds, "rows": rows})


def measure(
    size: str, ways: dict[str, Decode], files: list[bytes], prepare: Callable, rounds: int, pool: ThreadPoolExecutor
) -> list[dict]:
    """Time every way, one thread and two; the first is what the others are compared with."""
    alone: dict[str, list[float]] = {name: [] for name in ways}
    computed: dict[str, list[float]] = {name: [] for name in ways}
    paired: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            started, spent = time.perf_counter(), time.process_time()
            for data in files:
                prepare(way(data))
            alone[name].append(time.perf_counter() - started)
            computed[name].append(time.process_time() - spent)
            started = time.perf_counter()
            list(pool.map(lambda data, way=way: prepare(way(data)), files))
            paired[name].append(time.perf_counter() - started)
    first = next(iter(ways))
    rows = [
        {
            "picture": size,
            "way": name,
            "decoded_to": "{} x {}".format(*way(files[0]).size),
            "cpu_ms": round(statistics.median(computed[name][1:]) / len(files) * 1000, 2),
            "per_second_1_thread": round(len(files) / statistics.median(alone[name][1:]), 1),
            "per_second_2_threads": round(len(files) / statistics.median(paired[name][1:]), 1),
            "time_over_clipsearch": round(median_ratio(computed[name][1:], computed[first][1:]), 2),
        }
        for name, way in ways.items()
    ]
    for row in rows:
        print(row, flush=True)
    return rows


def _made(make: Callable[[int, str | None], Decode], side: int, library: str | None) -> Decode | None:
    try:
        return make(side, library)
    except (ImportError, RuntimeError) as error:
        print(f"left out: {error}", flush=True)
        return None


def clipsearch(side: int, library: str | None) -> Decode:
    return lambda data: decode_picture(data, min_side=round(side / OVERSIZE), max_pixels=100_000_000)[0]


def pillow_full(side: int, library: str | None) -> Decode:
    return lambda data: Image.open(BytesIO(data)).convert("RGB")


def pillow_draft(side: int, library: str | None) -> Decode:
    def decode(data: bytes) -> Image.Image:
        picture = Image.open(BytesIO(data))
        picture.draft("RGB", (side, side))
        return picture.convert("RGB")

    return decode


def simplejpeg(options: dict) -> Callable[[int, str | None], Decode]:
    """Scales by eighths, as libjpeg-turbo can: 3/8 where Pillow takes a half."""

    def make(side: int, library: str | None) -> Decode:
        from simplejpeg import decode_jpeg

        limits = {"min_height": side, "min_width": side, **options}
        return lambda data: Image.fromarray(decode_jpeg(data, "RGB", **limits))

    return make


def turbojpeg(side: int, library: str | None) -> Decode:
    from turbojpeg import TJPF_RGB, TurboJPEG

    codec = TurboJPEG(library)

    def decode(data: bytes) -> Image.Image:
        width, height, *_ = codec.decode_header(data)
        scales = ((1, 8), (1, 4), (3, 8), (1, 2), (5, 8), (3, 4), (7, 8))
        scale = next((scale for scale in scales if min(width, height) * scale[0] // scale[1] >= side), None)
        return Image.fromarray(codec.decode(data, pixel_format=TJPF_RGB, scaling_factor=scale))

    return decode


def opencv(side: int, library: str | None) -> Decode:
    import cv2

    cv2.setNumThreads(1)
    flags = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}

    def decode(data: bytes) -> Image.Image:
        shorter = min(Image.open(BytesIO(data)).size)
        flag = next((flag for scale, flag in flags.items() if shorter >= side * scale), cv2.IMREAD_COLOR)
        found = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        return Image.fromarray(cv2.cvtColor(found, cv2.COLOR_BGR2RGB))

    return decode


def torchvision(side: int, library: str | None) -> Decode:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    torch.set_num_threads(1)

    def decode(data: bytes) -> Image.Image:
        found = decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)
        return Image.fromarray(found.permute(1, 2, 0).contiguous().numpy())

    return decode


PEERS: dict[str, Callable[[int, str | None], Decode]] = {
    "clipsearch": clipsearch,
    "Pillow, full size": pillow_full,
    "Pillow, draft": pillow_draft,
    "simplejpeg": simplejpeg({}),
    "simplejpeg, fast DCT and upsampling": simplejpeg({"fastdct": True, "fastupsample": True}),
    "PyTurboJPEG": turbojpeg,
    "OpenCV": opencv,
    "torchvision": torchvision,
}


if __name__ == "__main__":
    main()
