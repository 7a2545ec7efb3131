"""Our encoder and pipeline on a GPU: from memory, decoding alone, bookkeeping alone, and whole runs from files."""

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from gpu.rates import Steady
from gpu.towers import synchronize
from harness import make_pictures
from torch._C._profiler import _ExperimentalConfig

from clipsearch.config import Settings
from clipsearch.encoders.export_folder import TOKENIZER, ExportMeta
from clipsearch.encoders.openclip import Reference
from clipsearch.encoders.tokenizer_export import convert_tokenizer
from clipsearch.encoders.torch_runtime import TorchEncoder
from clipsearch.media.decode import decode_picture
from indexer import pipeline
from indexer.isolation import make_reader
from indexer.report import Silent

HERE = Path(__file__).resolve().parents[1]
TRACED_BATCHES = 8
LARGE_SIDE = 3464
"""Of a square picture of 12 megapixels."""


def make_encoder(reference: Reference, devices: list[str], folder: Path, device_batch: int) -> TorchEncoder:
    """Make our encoder without the export, which the GPU does not need; folder: an empty one that stays."""
    tokenizer, rules = convert_tokenizer(reference.tokenizer, 77, bucketed=True)
    (folder / TOKENIZER).write_text(tokenizer)
    dim = reference.model.visual.output_dim
    meta = ExportMeta(f"openclip:{reference.name}", "0" * 64, dim, reference.picture, rules, (), {})
    return TorchEncoder(folder, meta, reference, devices, precision="bf16", device_batch=device_batch)


def from_memory(encoder: TorchEncoder, reference: Reference, call: int, seconds: float) -> dict:
    """Measure encode_pixels, called as the indexer does, with preprocessed pictures in memory."""
    rng = np.random.default_rng(0)
    shape = (reference.picture.height, reference.picture.width, 3)
    pixels = [(rng.integers(0, 256, shape, np.uint8),) for _ in range(call)]
    with ThreadPoolExecutor(encoder.streams) as pool:
        list(pool.map(encoder.encode_pixels, [pixels] * encoder.streams))
        started = time.perf_counter()
        until = started + seconds

        def work(_: int) -> int:
            done = 0
            while time.perf_counter() < until or not done:
                encoder.encode_pixels(pixels)
                done += call
            return done

        done = sum(pool.map(work, range(encoder.streams)))
        return {"per_second": round(done / (time.perf_counter() - started))}


def decode_alone(encoder: TorchEncoder, photos: Path, isolate: bool, seconds: float) -> dict:
    """Measure how many files a second are read and made ready, in threads or in worker processes."""
    settings = Settings(isolate=isolate)
    reader = make_reader(settings)
    paths = cycle(sorted(photos.iterdir()))
    steady = Steady()
    until = time.monotonic() + seconds

    def prepare(path: Path) -> None:
        reader.prepare(path.read_bytes(), encoder, max_pixels=settings.max_pixels)

    try:
        with ThreadPoolExecutor(settings.cores) as pool:
            while time.monotonic() < until:
                steady.add(sum(1 for _ in pool.map(prepare, islice(paths, 32 * settings.cores))))
    finally:
        reader.close()
    return steady.report()


def bookkeeping(threads: int, files: Path) -> dict:
    """Measure what a file costs apart from decoding and encoding, with benchmarks/pipeline_overhead.py."""
    with tempfile.TemporaryDirectory() as library:
        script = str(HERE / "pipeline_overhead.py")
        command = [sys.executable, script, "--once", "null", str(files), library, str(threads)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        out = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    found = json.loads(out)
    per_file = found["seconds"] / found["files"]
    return {"ms_a_file": round(1000 * per_file, 4), "per_second": round(1 / per_file), "threads": threads}


class _Noting(Silent):
    """Progress that measures the rate."""

    def __init__(self) -> None:
        self.steady = Steady()

    def start(self, total: int) -> None:
        self.steady = Steady()

    def advance(self, files: int) -> None:
        self.steady.add(files)


class _Tracing(_Noting):
    """Progress that profiles a few batches, once a quarter of the files or half of the time has passed."""

    def __init__(self, profile: torch.profiler.profile, half_time: float) -> None:
        super().__init__()
        self._profile, self._half_time = profile, half_time
        self._quarter = self._done = self.batches = 0
        self._is_running = False

    def start(self, total: int) -> None:
        super().start(total)
        self._quarter = total // 4

    def advance(self, files: int) -> None:
        super().advance(files)
        self._done += files
        if self._is_running:
            self.batches += 1
            if self.batches == TRACED_BATCHES:
                self.stop()
        elif not self.batches and (self._done >= self._quarter or time.monotonic() > self._half_time):
            self._profile.start()
            self._is_running = True

    def stop(self) -> None:
        """End the profile, if it runs."""
        if self._is_running:
            self._is_running = False
            self._profile.stop()


def from_files(encoder: TorchEncoder, photos: Path, batch_size: int, seconds: float) -> dict:
    """Measure a run of the indexer, commits included, for at most `seconds`."""
    progress = _Noting()
    interrupted = _index(encoder, photos, batch_size, progress, time.monotonic() + seconds)
    return progress.steady.report() | {"interrupted": interrupted}


def _index(encoder: TorchEncoder, photos: Path, batch_size: int, progress: Silent, until: float) -> bool:
    """Run the indexer into a new library, up to a deadline; return whether it was stopped by it."""
    settings = Settings(offline=True, batch_size=batch_size)
    with tempfile.TemporaryDirectory() as scratch:
        report = pipeline.index(
            Path(scratch) / "library",
            [str(photos)],
            settings,
            encoder=encoder,
            progress=progress,
            should_stop=lambda: time.monotonic() > until,
        )
    if report.failed:
        raise RuntimeError(f"{len(report.failed)} files failed, the first: {report.failed[0]}")
    return report.interrupted


def trace(encoder: TorchEncoder, photos: Path, batch_size: int, path: Path, seconds: float) -> dict:
    """Keep a trace of a few batches of a run that is under way, for chrome://tracing or Perfetto."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    # The encoder runs in threads that this one did not start under the profile.
    threads = _ExperimentalConfig(profile_all_threads=True)
    with torch.profiler.profile(activities=kinds, experimental_config=threads):
        pass  # what it loads at first would hold up the run
    profile = torch.profiler.profile(activities=kinds, experimental_config=threads)
    progress = _Tracing(profile, time.monotonic() + seconds / 2)
    try:
        _index(encoder, photos, batch_size, progress, time.monotonic() + seconds)
    finally:
        progress.stop()
    if not progress.batches:
        raise RuntimeError(f"no batch was encoded within {seconds:.0f} s after the profile began")
    path.parent.mkdir(parents=True, exist_ok=True)
    profile.export_chrome_trace(str(path))
    return {"file": path.name, "batches": progress.batches, "pictures_in_a_batch": batch_size}


def jpeg_on_device(photos: Path, scratch: Path, device: str, side: int, seconds: float) -> dict:
    """Measure torchvision's JPEG decoder on a device (nvJPEG on a GPU), beside ours in threads on all cores.

    Files of 512 pixels and of 12 megapixels. The device decodes to the full size, since it knows no reduced one, and
    resizes nothing; ours reduces a JPEG while it decodes it, to no less than 1.4 times `side`.
    """
    from torchvision.io import ImageReadMode, decode_jpeg

    make_pictures(scratch / "large", 4, LARGE_SIDE)
    small = [path.read_bytes() for path in islice(sorted(photos.iterdir()), 256)]
    large = [path.read_bytes() for path in sorted((scratch / "large").iterdir())] * 4

    def on_device(data: list[bytes]) -> None:
        tensors = [torch.frombuffer(bytearray(each), dtype=torch.uint8) for each in data]
        decode_jpeg(tensors, mode=ImageReadMode.RGB, device=device)
        synchronize(torch.device(device))

    found: dict = {"device": device}
    with ThreadPoolExecutor(Settings().cores) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision wants torchcodec to be used instead

        def on_cores(data: list[bytes]) -> None:
            list(pool.map(lambda each: decode_picture(each, min_side=side, max_pixels=10**8), data))

        for size, data in (("512", small), ("12_megapixels", large)):
            for name, decode in (("", on_device), ("cores_", on_cores)):
                found[f"{name}{size}_per_second"] = _decodes(decode, data, seconds / 4)
    return found


def _decodes(decode: Callable[[list[bytes]], None], data: list[bytes], seconds: float) -> float:
    """Return how many files a second go through a decoder."""
    decode(data)
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not done:
        decode(data)
        done += len(data)
    return round(done / elapsed, 1)
