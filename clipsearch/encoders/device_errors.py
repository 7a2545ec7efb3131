"""What an error of a device means: its memory ran out, the device is lost, or one input is to blame."""

from __future__ import annotations

import re

import torch

# CUDA, cuBLAS, cuDNN, HIP and its libraries, Metal, and torch's allocators; each spells it in its own way.
_MEMORY = re.compile(
    r"out[ _]?of[ _]?memory|alloc(ation)?[ _]?failed|rocblas_status_memory_error|insufficient memory"
    r"|cublas_status_not_initialized|not enough memory|can't allocate memory|failed to allocate",
    re.IGNORECASE,
)
# Errors after which every later call of the process on the device fails: "Sticky" ones of the CUDA runtime API
# (cudaError_t 46, 214, 220, 700, 702, 709, 710, 714 to 719, 721, 999), and those of a device that has gone.
_LOST = re.compile(
    r"device-side assert|unspecified launch failure|illegal memory access|illegal instruction|misaligned address"
    r"|invalid program counter|hardware stack error|global/shared address space|launch timed out|uncorrectable"
    r"|\becc error|\bxid\b|contained error|(device|gpu) (is |was |has been )?(lost|removed)|busy or unavailable"
    r"|errordevicesunavailable|no \S+-capable device|context is destroyed|(cuda|hip) error: unknown error",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, of the device or of the machine: fewer inputs at a time may fit."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or bool(_MEMORY.search(str(error)))


def is_lost(error: BaseException, device: torch.device) -> bool:
    """Tell whether a device can compute nothing any more, by the error message, or else by a test computation."""
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    if _LOST.search(str(error)):
        return True
    try:
        check_device(device)
    except RuntimeError as again:
        return not is_out_of_memory(again)
    return False


def check_device(device: torch.device | str) -> None:
    """Run a tiny computation on a device. Raises RuntimeError where that fails."""
    total = torch.ones(8, device=device).sum().item()
    if total != 8:
        raise RuntimeError(f"{device} adds eight ones up to {total}")
