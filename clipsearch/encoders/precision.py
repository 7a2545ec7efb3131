"""Number formats in which a tower may compute on a GPU, fastest first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

FP16_ROOM = 65504 / 4
"""The largest activation with which float16 is used: a quarter of its range, since other inputs may go higher."""


@dataclass(frozen=True, slots=True)
class Precision:
    """One number format. least: the cosine to the float32 rows that it must reach.

    tf32: products of float32 numbers that are rounded to 10 bits of fraction, as those of float16, with the range of
    float32 (NVIDIA A100 Tensor Core GPU Architecture, 2020).
    """

    name: str
    dtype: torch.dtype
    least: float = 0.999
    tf32: bool = False


BF16 = Precision("bf16", torch.bfloat16)
FP16 = Precision("fp16", torch.float16)
TF32 = Precision("tf32", torch.float32, tf32=True)
FP32 = Precision("fp32", torch.float32, least=0.9999)


def choices(precision: str, devices: Sequence[torch.device]) -> list[Precision]:
    """List what to try, fastest first; `auto` is what the slowest device computes fast, and fp32 at the end."""
    if precision != "auto":
        return [{"fp32": FP32, "bf16": BF16, "fp16": FP16}[precision]]
    kinds = {device.type for device in devices}
    if kinds == {"mps"}:
        return [FP16, FP32]
    if kinds != {"cuda"}:
        return [FP32]
    generation = min(torch.cuda.get_device_capability(device) for device in devices)
    # Ampere brought bfloat16, which no activation overflows, and TF32; Volta brought matrix units for float16.
    if generation >= (8, 0):
        return [BF16, FP16, TF32, FP32]
    return [FP16, FP32] if generation >= (7, 0) else [FP32]


@contextlib.contextmanager
def tf32_products() -> Iterator[None]:
    """Launch float32 products in TF32. Torch has one switch for all threads; its value is restored."""
    matmul = torch.backends.cuda.matmul
    try:
        before = matmul.allow_tf32
    except RuntimeError:  # the application uses the newer switch, which excludes the other one, and so has chosen
        yield
        return
    if before:  # as it should be; the older switch could not restore the newer one's "medium"
        yield
        return
    newer = getattr(matmul, "fp32_precision", None)
    matmul.allow_tf32 = True
    try:
        yield
    finally:
        matmul.allow_tf32 = before
        if newer is not None:
            matmul.fp32_precision = newer  # which the older one set too


@contextlib.contextmanager
def watch_activations(model: torch.nn.Module) -> Iterator[list[float]]:
    """Collect the largest absolute value that each module of a model returns meanwhile."""
    largest: list[float] = []

    def keep(module: torch.nn.Module, given: object, made: object) -> None:
        if isinstance(made, torch.Tensor) and made.is_floating_point() and made.numel():
            largest.append(float(made.abs().max()))

    handles = [module.register_forward_hook(keep) for module in model.modules()]
    try:
        yield largest
    finally:
        for handle in handles:
            handle.remove()
