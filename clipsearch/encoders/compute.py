"""Where a model runs, and how precisely."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clipsearch.errors import InvalidInputError

PRECISIONS = ("auto", "fp32", "bf16", "fp16", "int8")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class Compute:
    """What one encoder may use.

    device: `cpu`, `cuda` (every GPU), `cuda:N` (that one), `mps`, or `auto`: the GPUs where there are any and the model
    can use them, else the processor. precision: one of PRECISIONS; `auto` is what costs no recall on the device.
    threads: of the processor, at least 1.
    Raises InvalidInputError for anything else, and for `int8` on a GPU.
    """

    device: str = "auto"
    precision: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        if not _DEVICE.fullmatch(self.device):
            raise InvalidInputError(f"There is no device {self.device!r}. Use auto, cpu, cuda, cuda:0 or mps.")
        if self.precision not in PRECISIONS:
            raise InvalidInputError(f"There is no precision {self.precision!r}. Use one of {', '.join(PRECISIONS)}.")
        if self.threads < 1:
            raise InvalidInputError(f"An encoder cannot use {self.threads} threads. Use 1 or more.")
        if self.precision == "int8" and self.device not in ("auto", "cpu"):
            raise InvalidInputError(
                f"{self.device} cannot encode with int8, which runs only on the processor. Use `--precision auto` or "
                "`--device cpu` (in Python: those arguments of Settings)."
            )
