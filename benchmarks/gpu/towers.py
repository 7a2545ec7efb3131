"""The image tower by itself: eager, compiled, as a CUDA graph; its operations, and what a device gives at best."""

import statistics
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from clipsearch.encoders.openclip import Reference, quiet
from clipsearch.encoders.preprocessing import PictureTransform
from clipsearch.encoders.towers import build_towers

TINY = "tiny"


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


def picture_side(name: str) -> int:
    """Return the side of a model's pictures, in pixels, without loading it."""
    if name == TINY:
        return 32
    with quiet():
        import open_clip

        size = (open_clip.get_model_config(name) or {}).get("vision_cfg", {}).get("image_size", 224)
    return max(size) if isinstance(size, list | tuple) else size


def build(reference: Reference, device: str):
    """Put the image tower on a device, in bfloat16."""
    return build_towers(reference.model, reference.picture, torch.device(device), torch.bfloat16)[0]


@torch.inference_mode()
def rate(tower, pixels: torch.Tensor, seconds: float) -> float:
    """Pictures a second through a callable, pixels on the device, nothing fetched."""
    for _ in range(2):
        tower(pixels)
    synchronize(pixels.device)
    started = time.perf_counter()
    tower(pixels)
    synchronize(pixels.device)
    # Several between two waits, so that the device never idles, but no more than there is time for.
    once = max(1, min(10, int(seconds / 4 / (time.perf_counter() - started))))
    done, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds or not done:
        for _ in range(once):
            tower(pixels)
        synchronize(pixels.device)
        done += once * len(pixels)
    return done / elapsed


def eager(tower, reference: Reference, device: str, sizes: tuple[int, ...], seconds: float) -> dict:
    """Measure the tower at several batch sizes, ascending, up to the first that the device has no memory for."""
    found = {}
    for size in sizes:
        try:
            found[size] = round(rate(tower, make_pixels(reference, device, size), seconds / len(sizes)))
        except torch.OutOfMemoryError:
            break
    best = max(found, key=found.__getitem__)
    too_large = [size for size in sizes if size not in found]
    return {"per_second": found[best], "at_batch": best, "by_batch": found, "too_large": too_large}


def compiled(tower, reference: Reference, device: str, size: int, seconds: float) -> dict:
    """Measure the tower under torch.compile, and the seconds that the first batch took."""
    module = torch.compile(tower, dynamic=False)
    pixels = make_pixels(reference, device, size)
    started = time.perf_counter()
    with torch.inference_mode():
        module(pixels)
    synchronize(pixels.device)
    took = time.perf_counter() - started
    return {
        "per_second": round(rate(module, pixels, max(1.0, (seconds - took) / 2))),
        "compile_seconds": round(took, 1),
    }


@torch.inference_mode()
def graphed(tower, reference: Reference, device: str, size: int, seconds: float) -> dict:
    """Measure the replay of a CUDA graph of the tower: one launch where the eager tower makes hundreds."""
    pixels = make_pixels(reference, device, size)
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            tower(pixels)
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        tower(pixels)
    return {"per_second": round(rate(lambda pixels: graph.replay(), pixels, seconds))}


def count_flops(reference: Reference) -> int:
    """Floating-point operations of the image tower for one picture: 2 for each multiply and add of its products.

    Counted by torch on the operators that run, with attention spelled out as products.
    """
    tower, _ = build_towers(reference.model, reference.picture, torch.device("cpu"), torch.float32)
    pixels = make_pixels(reference, "cpu", 1)
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
        synchronize(one.device)
        started = time.perf_counter()
        for _ in range(10):
            one @ other
        synchronize(one.device)
        times.append((time.perf_counter() - started) / 10)
    return 2 * side**3 / statistics.median(times)


def upload_rate(reference: Reference, device: str, seconds: float) -> dict:
    """Bytes and pictures a second from pinned memory to the device."""
    host = make_pixels(reference, "cpu", 256)
    host = host.pin_memory() if device != "cpu" else host
    there = torch.empty_like(host, device=device)
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds or not done:
        for _ in range(20):
            there.copy_(host, non_blocking=True)
        synchronize(there.device)
        done += 20
    took = time.perf_counter() - started
    return {"gb_per_second": round(done * host.nbytes / took / 1e9, 1), "per_second": round(done * len(host) / took)}


def make_pixels(reference: Reference, device: str, size: int) -> torch.Tensor:
    """Make random pictures, uint8 (size, height, width, 3)."""
    shape = (size, reference.picture.height, reference.picture.width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=device)


def synchronize(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
