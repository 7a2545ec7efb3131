"""Pictures a second on GPUs: the bare tower, our encoder fed from memory and from files, clip-retrieval's loop.

    python benchmarks/gpu_encode.py [--tiny] [--clip-retrieval FOLDER]

Weights are random, which changes no time. `--tiny` runs every step once with a tiny model, on whatever device there
is, and keeps no result. FOLDER is one where `pip install --no-deps --target FOLDER clip-retrieval` put that package:
its own FilesReader is used then; without it, a DataLoader with the arguments that its reader passes.
"""

import argparse
import importlib.util
import itertools
import json
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from harness import make_pictures, write_result
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from clipsearch.config import Settings
from clipsearch.encoders.export_folder import TOKENIZER, ExportMeta
from clipsearch.encoders.openclip import Reference, quiet
from clipsearch.encoders.preprocessing import PictureTransform
from clipsearch.encoders.tokenizer_export import convert_tokenizer
from clipsearch.encoders.torch_runtime import COMMIT_BATCH, DEVICE_BATCH, TorchEncoder
from clipsearch.encoders.towers import build_towers
from clipsearch.media.decode import decode_picture
from indexer import pipeline

MODELS = ("ViT-B-32", "ViT-L-14")
TINY = "tiny"
# Dense bfloat16 rates of the data sheets, in TFLOP/s, by a part of the name that torch gives.
DATA_SHEET = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165, "A10": 125}
ROUNDS = 3


def main() -> None:
    """Measure each model, and keep the result where there is a GPU."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--clip-retrieval", type=Path)
    options = parser.parse_args()
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if not devices and not options.tiny:
        print("There is no CUDA GPU here; --tiny shows that everything runs.")
        return
    if not devices:
        torch.set_num_threads(1)  # the threads of a shared processor wait for each other in the bare loop only
        devices = ["cpu"]
    name = torch.cuda.get_device_name(0) if devices[0] != "cpu" else "no GPU: the processor"
    print(f"on {len(devices)} x {name}, torch {torch.__version__}")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        make_pictures(photos, 48 if options.tiny else 8192, side=512)
        for model in (TINY,) if options.tiny else MODELS:
            row = measure(model, devices, name, photos, Path(scratch), options)
            print(json.dumps(row, indent=1), flush=True)
            rows.append(row)
    if not options.tiny:
        write_result("gpu_encode", {"gpus": len(devices), "gpu": name, "files": "512 x 512 JPEG", "rows": rows})


def measure(model: str, devices: list[str], gpu: str, photos: Path, scratch: Path, options) -> dict:
    """Measure one model."""
    reference = load(model)
    dtype = torch.bfloat16
    tower, _ = build_towers(reference.model, reference.picture, torch.device(devices[0]), dtype)
    sizes = (8, 16) if options.tiny else (64, 128, 256, 512, 1024)
    seconds = 0.2 if options.tiny else 5.0
    bare = {size: bare_rate(tower, reference, devices[0], size, seconds) for size in sizes}
    best = max(bare, key=bare.__getitem__)
    compiled, compile_seconds = compiled_rate(tower, reference, devices[0], best, seconds)
    encoder = make_encoder(reference, devices, scratch / model, 16 if options.tiny else DEVICE_BATCH)
    all_bare = bare[best] * len(devices)
    from_memory = memory_rate(encoder, reference, 64 if options.tiny else COMMIT_BATCH, all_bare, seconds)
    flops = count_flops(reference)
    peak = next((rate for part, rate in DATA_SHEET.items() if part in gpu), None)
    matmul = matmul_rate(devices[0])
    indexed, peer = from_files(encoder, reference, tower, devices[0], photos, options)
    return {
        "model": model,
        "bare_per_second": round(bare[best]),
        "at_batch": best,
        "compiled_per_second": compiled and round(compiled),
        "compile_seconds": compile_seconds and round(compile_seconds, 1),
        "from_memory_per_second": round(from_memory),
        "share_of_bare": round(from_memory / all_bare, 3),
        "gflop_a_picture": round(flops / 1e9, 3),
        "share_of_a_large_matmul": round(bare[best] * flops / matmul, 3),
        "mfu_by_data_sheet": peak and round(bare[best] * flops / (peak * 1e12), 3),
        "decode_per_second": round(decode_rate(encoder, photos)),
        "index_per_second": round(statistics.median(indexed)),
        "clip_retrieval_per_second": round(statistics.median(peer)),
        "index_over_clip_retrieval": round(statistics.median(a / b for a, b in zip(indexed, peer, strict=True)), 2),
    }


def load(name: str) -> Reference:
    """Make a model with random weights."""
    with quiet():
        import open_clip

        if name == TINY:
            vision = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
            text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
            model = open_clip.CLIP(24, vision, text)
            picture = PictureTransform(32, 32, "shortest", "bicubic", 0, (0.5,) * 3, (0.5,) * 3)
        else:
            model = open_clip.create_model(name, pretrained=None)
            picture = PictureTransform.from_open_clip(model.visual.preprocess_cfg)
        return Reference(name, model.eval(), open_clip.get_tokenizer("ViT-B-32"), picture, 77)


def make_encoder(reference: Reference, devices: list[str], folder: Path, device_batch: int) -> TorchEncoder:
    """Make our encoder without the export, which the GPU does not need."""
    folder.mkdir()
    tokenizer, rules = convert_tokenizer(reference.tokenizer, 77, bucketed=True)
    (folder / TOKENIZER).write_text(tokenizer)
    dim = reference.model.visual.output_dim
    meta = ExportMeta(f"openclip:{reference.name}", "0" * 64, dim, reference.picture, rules, (), {})
    return TorchEncoder(folder, meta, reference, devices, precision="bf16", device_batch=device_batch)


@torch.inference_mode()
def bare_rate(tower, reference: Reference, device: str, size: int, seconds: float) -> float:
    """Pictures a second of the tower alone, pixels on the device, nothing fetched."""
    pixels = torch.randint(0, 256, (size, *shape_of(reference)), dtype=torch.uint8, device=device)
    for _ in range(3):
        tower(pixels)
    synchronize(device)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(10):
            tower(pixels)
        synchronize(device)
        done += 10 * size
    return done / (time.perf_counter() - started)


def compiled_rate(tower, reference: Reference, device: str, size: int, seconds: float):
    """Rate of the tower under torch.compile, and the seconds that the first batch took; None where it fails."""
    compiled = torch.compile(tower, dynamic=False)
    pixels = torch.zeros((size, *shape_of(reference)), dtype=torch.uint8, device=device)
    try:
        started = time.perf_counter()
        with torch.inference_mode():
            compiled(pixels)
        synchronize(device)
        took = time.perf_counter() - started
        return bare_rate(compiled, reference, device, size, seconds), took
    except Exception as error:
        print(f"torch.compile fails: {type(error).__name__}: {str(error)[:200]}")
        return None, None


def memory_rate(encoder: TorchEncoder, reference: Reference, call: int, expected: float, seconds: float) -> float:
    """Pictures a second through encode_pixels, called as the indexer does, from pictures in memory."""
    rng = np.random.default_rng(0)
    pixels = [(rng.integers(0, 256, shape_of(reference), np.uint8),) for _ in range(call)]
    calls = max(4 * encoder.streams, int(expected * seconds / call))
    with ThreadPoolExecutor(encoder.streams) as pool:
        list(pool.map(encoder.encode_pixels, [pixels] * encoder.streams))
        started = time.perf_counter()
        list(pool.map(encoder.encode_pixels, [pixels] * calls))
        return calls * call / (time.perf_counter() - started)


def count_flops(reference: Reference) -> int:
    """Floating-point operations of the image tower for one picture: 2 for each multiply and add of its products.

    Counted by torch on the operators that run, with attention spelled out as products.
    """
    tower, _ = build_towers(reference.model, reference.picture, torch.device("cpu"), torch.float32)
    pixels = torch.zeros((1, *shape_of(reference)), dtype=torch.uint8)
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        tower(pixels)
    return counter.get_total_flops()


@torch.inference_mode()
def matmul_rate(device: str) -> float:
    """FLOP/s of a large bfloat16 product: what this device gives at best."""
    side = 8192 if device != "cpu" else 512
    one, other = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    times = []
    for _ in range(10):
        synchronize(device)
        started = time.perf_counter()
        for _ in range(10):
            one @ other
        synchronize(device)
        times.append((time.perf_counter() - started) / 10)
    return 2 * side**3 / statistics.median(times)


def from_files(encoder: TorchEncoder, reference: Reference, tower, device: str, photos: Path, options):
    """Files a second of a whole `index` run, and of clip-retrieval's loop, in turn."""
    count = len(list(photos.iterdir()))
    settings = Settings(threads=0, offline=True, batch_size=16 if options.tiny else 0)
    ours, peers = [], []
    for _ in range(1 if options.tiny else ROUNDS):
        with tempfile.TemporaryDirectory() as scratch:
            started = time.perf_counter()
            report = pipeline.index(Path(scratch) / "library", [str(photos)], settings, encoder=encoder)
            ours.append(count / (time.perf_counter() - started))
            assert report.encoded == count, report
            started = time.perf_counter()
            assert clip_retrieval(reference, device, photos, Path(scratch), options) == count
            peers.append(count / (time.perf_counter() - started))
    return ours, peers


def clip_retrieval(reference: Reference, device: str, photos: Path, output: Path, options) -> int:
    """Encode a folder as `clip-retrieval inference` does with an open_clip model; returns how many pictures.

    The loop is that of its Runner, ClipMapper and NumpyWriter: a batch is loaded by a DataLoader's processes as
    float32, copied, encoded under autocast, and fetched before the next is begun.
    """
    from open_clip.transform import PreprocessCfg, image_transform_v2

    picture = reference.picture
    config = PreprocessCfg(size=(picture.height, picture.width), mean=picture.mean, std=picture.std)
    transform = image_transform_v2(config, is_train=False)
    model = peer_model(reference, device)
    parts = []
    with torch.no_grad():
        for batch in peer_reader(transform, photos, options):
            with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=device != "cpu"):
                rows = model.encode_image(batch["image_tensor"].to(device))
            rows /= rows.norm(dim=-1, keepdim=True)
            parts.append(rows.cpu().to(torch.float16).numpy())
    np.save(output / "img_emb_0.npy", np.concatenate(parts))
    return sum(map(len, parts))


_peer_models: dict[str, object] = {}


def peer_model(reference: Reference, device: str):
    """Keep the model on the device: loading it is not what is measured."""
    if reference.name not in _peer_models:
        _peer_models.clear()
        _peer_models[reference.name] = reference.model.to(device)
    return _peer_models[reference.name]


def peer_reader(transform, photos: Path, options):
    """Return clip-retrieval's own reader, or a DataLoader made as it makes one."""
    workers = 0 if options.tiny else Settings().cores
    size = 16 if options.tiny else 256
    if options.clip_retrieval:
        path = options.clip_retrieval / "clip_retrieval" / "clip_inference" / "reader.py"
        spec = importlib.util.spec_from_file_location("clip_retrieval_reader", path)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        every = lambda keys: keys  # noqa: E731
        return module.FilesReader(every, transform, None, str(photos), size, workers, enable_text=False)
    prefetch = {"prefetch_factor": 2} if workers else {}
    dataset = Pictures(transform, sorted(photos.iterdir()))
    pin = torch.cuda.is_available()
    return torch.utils.data.DataLoader(dataset, batch_size=size, num_workers=workers, pin_memory=pin, **prefetch)


class Pictures(torch.utils.data.Dataset):
    """Files to float32 tensors."""

    def __init__(self, transform, paths: list[Path]) -> None:
        self.transform, self.paths = transform, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict:
        from PIL import Image

        return {"image_tensor": self.transform(Image.open(self.paths[index]))}


def decode_rate(encoder: TorchEncoder, photos: Path) -> float:
    """Files a second that the decode threads make ready, with nothing else at work."""

    def decode(path: Path) -> None:
        picture, _ = decode_picture(path.read_bytes(), min_side=encoder.picture_side, max_pixels=10**8)
        encoder.preprocess(picture)

    paths = list(itertools.islice(photos.iterdir(), 2048))
    with ThreadPoolExecutor(Settings().cores) as pool:
        started = time.perf_counter()
        list(pool.map(decode, paths))
        return len(paths) / (time.perf_counter() - started)


def shape_of(reference: Reference) -> tuple[int, int, int]:
    """Shape of a prepared picture."""
    return reference.picture.height, reference.picture.width, 3


def synchronize(device: str) -> None:
    """Wait for a GPU."""
    if device != "cpu":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
