"""Which GPUs an encoder may use; torch, which takes seconds to import, is asked only where there may be one."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from clipsearch.encoders.compute import Compute
from clipsearch.errors import EncoderUnavailableError

# NVIDIA's driver, AMD's, and that of Windows for Linux.
_DRIVERS = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/kfd", "/dev/dxg")
_REMEDY = "Leave the device out, or write `--device cpu`"


def find_devices(compute: Compute) -> tuple[str, ...]:
    """Return the torch names of the devices to use, such as `cuda:0`; none means the processor.

    Raises EncoderUnavailableError for a device that is asked for by name and is not there.
    """
    asked = compute.device
    if asked == "cpu" or (asked == "auto" and (compute.precision == "int8" or not _may_have_gpu())):
        return ()
    try:
        there = _list_devices()
    except (ImportError, OSError) as error:
        if asked == "auto":
            return ()
        raise EncoderUnavailableError(f"{asked} needs torch, which cannot be imported: {error}. {_REMEDY}.") from error
    matching = tuple(name for name in there if asked in ("auto", name, name.partition(":")[0]))
    if matching or asked == "auto":
        return matching
    seen = f"torch sees {', '.join(there)}" if there else "torch sees no GPU"
    raise EncoderUnavailableError(
        f"There is no {asked} here: {seen}. Check the driver (`nvidia-smi`), CUDA_VISIBLE_DEVICES, and that torch "
        f"was built for this GPU. {_REMEDY}."
    )


def _may_have_gpu() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").exists()
    return any(os.path.exists(path) for path in _DRIVERS)


def _list_devices() -> list[str]:
    from clipsearch.encoders.openclip import quiet

    with quiet():
        import torch

        if torch.cuda.is_available():
            return [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        return ["mps"] if torch.backends.mps.is_available() else []
