"""Our encoder and pipeline on a GPU: from memory, decoding alone, bookkeeping alone, and whole runs from files."""

import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from gpu.rates import Steady
from PIL import Image

from clipsearch.config import Settings
from clipsearch.encoders.export_folder import TOKENIZER, ExportMeta
from clipsearch.encoders.openclip import Reference
from clipsearch.encoders.tokenizer_export import convert_tokenizer
from clipsearch.encoders.torch_runtime import TorchEncoder
from indexer import pipeline
from indexer.isolation import make_reader
from indexer.report import Silent

HERE = Path(__file__).resolve().parents[1]


def make_encoder(reference: Reference, devices: list[str], folder: Path, device_batch: int) -> TorchEncoder:
    """Make our encoder without the export, which the GPU does not need."""
    folder.mkdir()
    tokenizer, rules = convert_tokenizer(reference.tokenizer, 77, bucketed=True)
    (folder / TOKENIZER).write_text(tokenizer)
    dim = reference.model.visual.output_dim
    meta = ExportMeta(f"openclip:{reference.name}", "0" * 64, dim, reference.picture, rules, (), {})
    return TorchEncoder(folder, meta, reference, devices, precision="bf16", device_batch=device_batch)


def from_memory(encoder: TorchEncoder, reference: Reference, call: int, seconds: float) -> dict:
    """Measure encode_pixels, called as the indexer does, with prepared pictures in memory."""
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
    """Progress that keeps the rate."""

    def __init__(self) -> None:
        self.steady = Steady()

    def start(self, total: int) -> None:
        self.steady = Steady()

    def advance(self, files: int) -> None:
        self.steady.add(files)


def from_files(encoder: TorchEncoder, photos: Path, batch_size: int, seconds: float) -> dict:
    """Measure a run of the indexer, commits included, for so many seconds at most."""
    progress, until = _Noting(), time.monotonic() + seconds
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
    return progress.steady.report() | {"interrupted": report.interrupted}


def trace(encoder: TorchEncoder, photos: Path, batch_size: int, path: Path, seconds: float) -> dict:
    """Keep a trace of a short run of the indexer, for chrome://tracing or Perfetto."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    kinds += [torch.profiler.ProfilerActivity.CUDA] if torch.cuda.is_available() else []
    with torch.profiler.profile(activities=kinds) as profile:
        found = from_files(encoder, photos, batch_size, seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile.export_chrome_trace(str(path))
    return {"file": path.name, "per_second": found["per_second"]}


def nvjpeg(photos: Path, device: str, seconds: float) -> dict:
    """Measure torchvision's JPEG decoder on the GPU, which knows no reduced size; for 512 and 12-megapixel files."""
    from torchvision.io import decode_jpeg

    small = [path.read_bytes() for path in sorted(photos.iterdir())[:256]]
    large = BytesIO()
    with Image.open(BytesIO(small[0])) as picture:
        picture.resize((4000, 3000), Image.Resampling.BICUBIC).save(large, "JPEG", quality=90)
    found = {}
    for name, batch in (("512", small), ("12_megapixels", [large.getvalue()] * 16)):
        data = [torch.frombuffer(bytearray(each), dtype=torch.uint8) for each in batch]
        decode_jpeg(data, device=device)
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds / 2 or not done:
            decode_jpeg(data, device=device)
            torch.cuda.synchronize(device)
            done += len(data)
        found[f"{name}_per_second"] = round(done / (time.perf_counter() - started))
    return found
