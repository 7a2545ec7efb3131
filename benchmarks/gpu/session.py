"""One visit to a GPU machine: a budget of time, shared out over phases, and results that are kept after each."""

import json
import subprocess
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from harness import write_result


@dataclass(frozen=True)
class Phase:
    """A measurement. wants, least: seconds, the most that are of use and the fewest that say anything.

    work: takes the seconds that it may use, returns what it found.
    """

    name: str
    wants: float
    least: float
    work: Callable[[float], dict]


class Session:
    """Runs phases and keeps what they find; a phase that fails or has no time left is named as such."""

    def __init__(self, values: dict, budget: float, folder: Path | None) -> None:
        """Begin. values: what else goes into the result. budget: seconds. folder: for the result; None keeps none."""
        self._started = time.monotonic()
        self._budget = budget
        self._folder = folder
        self._values = values | {"budget_seconds": budget, "models": {}, "rows": []}

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._started + self._budget - time.monotonic()

    def run(self, model: str, phases: list[Phase], later: float) -> dict[str, dict]:
        """Run the phases of a model and return what each found. later: seconds that other models still want."""
        found = self._values["models"].setdefault(model, {})
        for number, phase in enumerate(phases):
            wanted = sum(each.wants for each in phases[number:]) + later
            seconds = phase.wants * min(1.0, self.left / wanted)
            found[phase.name] = self._run(phase, seconds)
            print(f"{model} {phase.name}: {json.dumps(found[phase.name])}", flush=True)
            self.save()
        return found

    def add_row(self, row: dict) -> None:
        """Add a row to the table of the result."""
        self._values["rows"].append(row)
        self.save()

    def save(self) -> None:
        """Keep what there is."""
        if self._folder is not None:
            write_result("gpu_encode", self._values, self._folder)

    def _run(self, phase: Phase, seconds: float) -> dict:
        if seconds < phase.least:
            return {"skipped": f"{max(0.0, seconds):.0f} s would be left of the {phase.least:.0f} that it needs"}
        started = time.monotonic()
        try:
            found = phase.work(seconds)
        except Exception as error:
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {str(error)[:500]}"}
        return found | {"took_seconds": round(time.monotonic() - started, 1)}


def describe_gpus(devices: list[str]) -> dict:
    """Name the GPUs, their driver and memory, and the versions of what drives them."""
    query = "name,driver_version,memory.total,power.limit,clocks.max.sm"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        listed = []
    told = dict(zip(query.split(","), map(str.strip, listed[0].split(",")), strict=True)) if listed else None
    on_cuda = devices[0] != "cpu"
    return {
        "gpu": torch.cuda.get_device_name(0) if on_cuda else "no GPU: the processor",
        "gpus": len(devices),
        "nvidia_smi": told,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_cuda else None,
    }
