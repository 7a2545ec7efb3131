"""Which GPUs an encoder may use; torch, which takes seconds to import, is asked only where there may be one."""

from __future__ import annotations

import logging
import os
import platform
import sys
import warnings
from pathlib import Path

from clipsearch.encoders.compute import Compute
from clipsearch.errors import EncoderUnavailableError

# NVIDIA's driver, AMD's, and that of Windows for Linux.
_DRIVERS = ("/dev/nvidiactl", "/proc/driver/nvidia/version", "/dev/kfd", "/dev/dxg")
_CHECK = "Check the driver (`nvidia-smi`), CUDA_VISIBLE_DEVICES, and that torch was built for this GPU"
_REMEDY = "Leave out `--device`, or write `--device cpu` (in Python: Settings(device='cpu'))"

log = logging.getLogger("clipsearch")


def find_devices(compute: Compute) -> tuple[str, ...]:
    """Return the torch names of the devices to use, such as `cuda:0`; none means the processor.

    Each device first runs a tiny computation. A device that fails is left out with a warning.
    Raises EncoderUnavailableError for a device that is asked for by name and is not there or cannot be used.
    """
    asked = compute.device
    if asked == "cpu" or (asked == "auto" and (compute.precision == "int8" or not _may_have_gpu())):
        return ()
    try:
        there, trouble = _list_devices()
    except (ImportError, OSError) as error:
        if asked == "auto":
            return ()
        raise EncoderUnavailableError(f"{asked} needs torch, which cannot be imported: {error}. {_REMEDY}.") from error
    matching = [name for name in there if asked in ("auto", name, name.partition(":")[0])]
    failing = {name: why for name in matching if (why := _why_unusable(name))}
    usable = tuple(name for name in matching if name not in failing)
    trouble = "; ".join(f"{name}: {why}" for name, why in failing.items()) or trouble
    if usable or asked == "auto":
        if trouble and (failing or not there):
            where = ", ".join(usable) or "the processor"
            log.warning("torch cannot use a GPU of this machine (%s), so %s encodes. %s.", trouble, where, _CHECK)
        return usable
    if failing:
        raise EncoderUnavailableError(f"torch cannot use {asked} ({trouble}). {_CHECK}. {_REMEDY}.")
    seen = f"torch sees {', '.join(there)}" if there else f"torch sees no GPU{f' ({trouble})' if trouble else ''}"
    raise EncoderUnavailableError(f"There is no {asked} here: {seen}. {_CHECK}. {_REMEDY}.")


def _why_unusable(device: str) -> str:
    """Return why a device cannot run a computation, for example a missing kernel; "" if it can."""
    from clipsearch.encoders import device_errors
    from clipsearch.encoders.openclip import brief

    try:
        device_errors.check_device(device)
    except RuntimeError as error:
        return brief(error)
    return ""


def _may_have_gpu() -> bool:
    if sys.platform == "darwin":
        return platform.machine() == "arm64"
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").exists()
    return any(os.path.exists(path) for path in _DRIVERS)


def _list_devices() -> tuple[list[str], str]:
    """Return torch's devices, and torch's message about a driver that does not work, or ""."""
    from clipsearch.encoders.openclip import quiet

    with quiet():
        import torch

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            if torch.cuda.is_available():
                return [f"cuda:{number}" for number in range(torch.cuda.device_count())], ""
        trouble = next((str(one.message) for one in said if "CUDA" in str(one.message)), "").partition("\n")[0]
        return ["mps"] if torch.backends.mps.is_available() else [], trouble.strip().rstrip(".")
