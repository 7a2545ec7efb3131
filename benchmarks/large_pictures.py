"""Indexing photographs of 12 megapixels, beside the plain way and beside the two stages by themselves.

    python benchmarks/large_pictures.py [--pictures 1000] [--work FOLDER] [--sources FOLDER_OF_PHOTOGRAPHS]

The plain way opens a file with Pillow, converts and resizes it, encodes a batch, one thing after the other; it is timed
on some of the pictures, before and after, and compared by rate. ViT-B/32 has random weights and is read by
`local-dir:`; its plain way is open_clip's own, on torch in float32. The made photographs stay in --work.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from harness import COMMAND, run, write_result
from photographs import write_photographs
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clipsearch.config import Settings
from clipsearch.encoders import names, registry
from clipsearch.encoders.base import Encoder
from clipsearch.store.records import FileRecord
from indexer.decode import Decoded, Decoder, load_all
from tests.support.tiny_openclip import save_model

BATCH = 32
STAGE_PICTURES = 192


def main() -> None:
    """Index with both encoders in fresh libraries."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--plain", type=int, default=48, help="pictures that the plain way is timed on, each time")
    parser.add_argument("--models", default="builtin-base,ViT-B/32")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--sources", type=Path)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        paths = write_photographs(
            work / f"photographs-{arguments.pictures}", arguments.pictures, sources=arguments.sources
        )
        os.environ |= {"CLIPSEARCH_CACHE": str(work / "cache"), "HF_HUB_OFFLINE": "1"}
        rows = []
        for model in arguments.models.split(","):
            name = model if model.startswith("builtin") else f"local-dir:{_vit_b_32(work / 'vit-b-32')}"
            rows.append(measure(model, name, paths, paths[: arguments.plain]))
    write_result("large_pictures", {"picture": "4000 x 3000 JPEG, quality 90", "rows": rows})


def measure(model: str, name: str, paths: list[Path], some: list[Path]) -> dict:
    """Time the plain way, the command, the plain way again, then each stage by itself."""
    folder = paths[0].parent
    encode = _plain_builtin(name) if model.startswith("builtin") else _plain_open_clip(name)
    encode(some[:2])
    with tempfile.TemporaryDirectory() as scratch:
        first = [COMMAND, "index", str(some[0]), "--model", name, "--json", "--library", f"{scratch}/first"]
        run(first)
        before = _plain(encode, some)
        spent = _spent_by_children()
        seconds, peak, out = run([*first[:2], str(folder), *first[3:-1], f"{scratch}/library"])
        spent = _spent_by_children() - spent
        after = _plain(encode, some)
    encoded = json.loads(out)["encoded"]
    plain, ours = 2 * len(some) / (before + after), encoded / seconds
    decode, encode_rate = _stages(name, paths[:STAGE_PICTURES])
    slower, together = min(decode, encode_rate), 1 / (1 / decode + 1 / encode_rate)
    row = {
        "encoder": model,
        "pictures": encoded,
        "plain_per_second": round(plain, 2),
        "clipsearch_per_second": round(ours, 2),
        "ratio": round(ours / plain, 2),
        "decoding_alone": round(decode, 1),
        "encoding_alone": round(encode_rate, 1),
        "bound_by": "decoding" if decode < encode_rate else "encoding",
        "share_of_that_alone": round(ours / slower, 2),
        "share_of_both_on_the_same_cores": round(ours / together, 2),
        "cores_busy": round(spent / seconds / Settings().cores, 2),
        "cpu_ms_a_picture": round(spent / encoded * 1000, 1),
        "peak_mib": round(peak),
    }
    print(row, flush=True)
    return row


def _spent_by_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _plain(encode: Callable[[Sequence[Path]], object], paths: list[Path]) -> float:
    started = time.perf_counter()
    for start in range(0, len(paths), BATCH):
        encode(paths[start : start + BATCH])
    return time.perf_counter() - started


def _plain_builtin(name: str) -> Callable[[Sequence[Path]], object]:
    encoder = registry.load(name, threads=Settings().cores, offline=True)
    sides = [pixels.shape[0] for pixels in encoder.preprocess(Image.new("RGB", (9, 9)))]

    def prepare(path: Path) -> tuple[np.ndarray, ...]:
        picture = Image.open(path).convert("RGB")
        return tuple(np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC)) for side in sides)

    return lambda paths: encoder.encode_pixels([prepare(path) for path in paths])


def _plain_open_clip(name: str) -> Callable[[Sequence[Path]], object]:
    import open_clip
    import torch

    torch.set_num_threads(Settings().cores)
    model, _, transform = open_clip.create_model_and_transforms(name)
    model.eval()

    def encode(paths: Sequence[Path]) -> object:
        batch = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
        with torch.inference_mode():
            return model.encode_image(batch, normalize=True).numpy()

    return encode


def _stages(name: str, paths: list[Path]) -> tuple[float, float]:
    """Return pictures a second of decoding alone and of encoding alone, as `clipsearch index` does each."""
    settings = Settings()
    encoder = registry.load(names.resolve(name, offline=True).name, threads=settings.cores, offline=True)
    decoder = Decoder(encoder, settings, {1: str(paths[0].parent)})
    records = [FileRecord(1, path.name, 0, 0) for path in paths]
    started = time.perf_counter()
    decoded = [entry for entry in load_all(records, decoder, settings.cores) if isinstance(entry, Decoded)]
    decode = len(decoded) / (time.perf_counter() - started)
    return decode, _encoding_rate(encoder, decoded)


def _encoding_rate(encoder: Encoder, decoded: list[Decoded]) -> float:
    pixels = [entry.pixels for entry in decoded if entry.pixels is not None]
    encoder.encode_pixels(pixels[:BATCH])
    size = encoder.batch_size
    started = time.perf_counter()
    for start in range(0, len(pixels), size):
        encoder.encode_pixels(pixels[start : start + size])
    return len(pixels) / (time.perf_counter() - started)


def _vit_b_32(folder: Path) -> Path:
    if not (folder / "open_clip_model.safetensors").exists():
        import open_clip

        save_model(folder, open_clip.get_model_config("ViT-B-32"))
    return folder


if __name__ == "__main__":
    main()
