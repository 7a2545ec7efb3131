"""How fast this machine decodes and encodes: a short measurement, kept in the user's cache for the next plan."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from clipsearch.durable import replace_file
from clipsearch.encoders.base import Encoder
from clipsearch.locations import cache_dir
from indexer.calibration import generic_queries
from indexer.picture_reader import DirectReader

FILE = "rates.json"
WIDTH, HEIGHT = 683, 512
"""Pixels of the pictures that are decoded: those of the data sets that fill large libraries."""

_SECONDS = 2.0
_PICTURES = 16
_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class MachineRates:
    """What was measured. decoding_seconds: of one core, for a picture. The others: items a second on all cores."""

    decoding_seconds: float
    pictures_per_second: float
    texts_per_second: float


def measured_rates(encoder: Encoder, cores: int, *, again: bool = False) -> MachineRates:
    """Return the rates of this machine with an encoder, from the cache where they are; again: measure anyhow."""
    path, key = cache_dir() / FILE, f"{encoder.fingerprint}-{cores}"
    kept = _read(path)
    if key in kept and not again:
        return kept[key]
    found = measure(encoder)
    with suppress(OSError):  # a cache that cannot be written is measured again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, json.dumps({name: asdict(each) for name, each in {**kept, key: found}.items()}).encode())
    return found


def measure(encoder: Encoder) -> MachineRates:
    """Measure for some seconds: JPEGs in memory, the encoder's preferred batch, short queries."""
    reader, files = DirectReader(), [_jpeg(seed) for seed in range(_PICTURES)]
    pixels = [reader.prepare(data, encoder, max_pixels=WIDTH * HEIGHT)[0] for data in files]
    batch = [pixels[i % _PICTURES] for i in range(encoder.batch_size)]
    texts = generic_queries()[: encoder.batch_size]
    decoding = _rate(lambda: [reader.prepare(data, encoder, max_pixels=WIDTH * HEIGHT) for data in files], _PICTURES)
    pictures = _rate(lambda: encoder.encode_pixels(batch), len(batch))
    return MachineRates(1 / decoding, pictures, _rate(lambda: encoder.encode_texts(texts), len(texts)))


def _rate(work: Callable[[], object], count: int) -> float:
    """Return how many items a second are done, by the fastest of the calls that fit into the time, after a first."""
    work()
    best, end = float("inf"), time.perf_counter() + _SECONDS
    while (started := time.perf_counter()) < end or best == float("inf"):
        work()
        best = min(best, time.perf_counter() - started)
    return count / best


def _jpeg(seed: int) -> bytes:
    """Make a picture with large areas, edges and grain."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8))
    smooth = coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    noisy = np.clip(np.asarray(smooth, np.int16) + rng.integers(-10, 11, (HEIGHT, WIDTH, 1)), 0, 255)
    data = BytesIO()
    Image.fromarray(noisy.astype(np.uint8)).save(data, "JPEG", quality=85)
    return data.getvalue()


def _read(path: Path) -> dict[str, MachineRates]:
    """Return what is kept; nothing of a file that is damaged."""
    try:
        with path.open("rb") as file:
            kept = json.loads(file.read(_MAX_BYTES))
        found = {key: MachineRates(**each) for key, each in kept.items()}
        return {k: r for k, r in found.items() if all(type(v) is float and 0 < v < 1e9 for v in asdict(r).values())}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
