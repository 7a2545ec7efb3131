"""clip-retrieval's loop over the same files, as its Runner, ClipMapper and NumpyWriter run it."""

import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import torch
from gpu.rates import Steady
from gpu.session import SHARED_MEMORY, free_shared_memory

from clipsearch.config import Settings
from clipsearch.encoders.openclip import Reference

_PREFETCH = 2
_WAIT_SECONDS = 60
"""Seconds to wait for one batch; without a limit, a worker that died at its start would block the run."""


def encode_folder(
    reference: Reference, device: str, photos: Path, output: Path, size: int, package: Path | None, seconds: float
) -> dict:
    """Encode a folder as `clip-retrieval inference` does with an open_clip model, for at most `seconds`.

    A batch is loaded by a DataLoader's processes as float32, copied, encoded under autocast, and fetched before the
    next is begun. package: where clip-retrieval lies, for its own reader.
    """
    from open_clip.transform import PreprocessCfg, image_transform_v2

    picture = reference.picture
    config = PreprocessCfg(size=(picture.height, picture.width), mean=picture.mean, std=picture.std)
    transform = image_transform_v2(config, is_train=False)
    cores = Settings().cores
    workers = 0 if device == "cpu" else fitting_workers(cores, size, 12 * picture.height * picture.width)
    steady, parts = Steady(), []
    until = time.monotonic() + seconds
    try:
        model = reference.model.to(device)
        with torch.no_grad():
            for batch in _reader(transform, photos, size, workers, package):
                with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=device != "cpu"):
                    rows = model.encode_image(batch["image_tensor"].to(device))
                rows /= rows.norm(dim=-1, keepdim=True)
                parts.append(rows.cpu().to(torch.float16).numpy())
                steady.add(len(parts[-1]))
                if time.monotonic() > until:
                    break
    finally:
        reference.model.to("cpu")  # where the phases after this one expect it
    np.save(output / "img_emb_0.npy", np.concatenate(parts))
    return steady.report() | {"workers": workers, "workers_wanted": cores}


def fitting_workers(wanted: int, size: int, picture_bytes: int) -> int:
    """Return how many workers the shared memory has room for: each keeps a few batches there.

    size: pictures in a batch. picture_bytes: of one of them. A worker that finds no room dies with a bus error.
    """
    free, each = free_shared_memory(), (_PREFETCH + 1) * size * picture_bytes
    if free is None:
        return wanted
    fitting = min(wanted, int(0.9 * free) // each)
    if fitting < wanted:
        print(
            f"The peer gets {fitting} of {wanted} workers: {SHARED_MEMORY} has {free / 2**30:.1f} GiB free, and a "
            f"worker takes {each / 2**30:.2f}. Enlarge it for a fair comparison (docker run --shm-size)."
        )
    return fitting


def _reader(transform, photos: Path, size: int, workers: int, package: Path | None):
    """Return clip-retrieval's own reader, or a DataLoader made as it makes one."""
    if package:
        path = package / "clip_retrieval" / "clip_inference" / "reader.py"
        spec = importlib.util.spec_from_file_location("clip_retrieval_reader", path)
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        every = lambda keys: keys  # noqa: E731
        return module.FilesReader(every, transform, None, str(photos), size, workers, enable_text=False)
    extra = {"prefetch_factor": _PREFETCH, "timeout": _WAIT_SECONDS} if workers else {}
    dataset = _Pictures(transform, sorted(photos.iterdir()))
    pin = torch.cuda.is_available()
    return torch.utils.data.DataLoader(dataset, batch_size=size, num_workers=workers, pin_memory=pin, **extra)


class _Pictures(torch.utils.data.Dataset):
    """Files to float32 tensors."""

    def __init__(self, transform, paths: list[Path]) -> None:
        self.transform, self.paths = transform, paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict:
        from PIL import Image

        return {"image_tensor": self.transform(Image.open(self.paths[index]))}
