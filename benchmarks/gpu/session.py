"""One benchmark run on a GPU machine: a time budget shared by phases, and results saved after each phase."""

import json
import os
import subprocess
import time
import traceback
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from harness import write_result

SHARED_MEMORY = Path("/dev/shm")
NOT_REACHED = {"skipped": "the run ended before this phase"}
UNFINISHED = {"unfinished": "the run ended in this phase"}


@dataclass(frozen=True)
class Phase:
    """A measurement. wants: seconds beyond which more adds nothing. least: seconds below which it measures nothing.

    work: takes the seconds that it may use, returns what it found. shared: phases with the same value find the same
    whatever the model, so that one model measures for all; None for what depends on the model.
    """

    name: str
    wants: float
    least: float
    work: Callable[[float], dict]
    shared: Hashable | None = None


class Benchmark(Protocol):
    """What is measured of one model."""

    name: str

    def phases(self) -> list[Phase]:
        """List the phases, in order; cheap."""

    def row(self, found: dict[str, dict]) -> dict:
        """Return the row of the table, from what the phases found."""

    def close(self) -> None:
        """Free the memory of the model."""


class Session:
    """Runs phases and saves their results; a phase that failed, was skipped or was cut off is marked as such."""

    def __init__(self, values: dict, budget: float, folder: Path | None) -> None:
        """Begin. values: what else goes into the result. budget: seconds. folder: for the result; None keeps none."""
        self._started = time.monotonic()
        self._budget = budget
        self._folder = folder
        self._values = values | {"budget_seconds": budget, "models": {}, "rows": []}
        self._shared: dict[Hashable, dict] = {}

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._started + self._budget - time.monotonic()

    def run(self, benchmarks: Sequence[Benchmark]) -> None:
        """Run the phases of every model, one model after the other.

        The result names all phases from the start, so that one that is cut off says what it lacks.
        """
        todo = [(benchmark.name, phase) for benchmark in benchmarks for phase in benchmark.phases()]
        models = self._values["models"]
        for name, phase in todo:
            models.setdefault(name, {})[phase.name] = dict(NOT_REACHED)
        for benchmark in benchmarks:
            found = models[benchmark.name]
            while todo and todo[0][0] == benchmark.name:
                phase = todo[0][1]
                seconds = phase.wants * min(1.0, self.left / max(self._wanted(todo), 1e-9))
                found[phase.name] = dict(UNFINISHED)
                self._save()
                found[phase.name] = self._run(benchmark.name, phase, seconds)
                print(f"{benchmark.name} {phase.name}: {json.dumps(found[phase.name])}", flush=True)
                todo.pop(0)
            benchmark.close()
            self._values["rows"].append(benchmark.row(found))
            self._save()

    def _wanted(self, todo: list[tuple[str, Phase]]) -> float:
        """Return the seconds that phases still want; what is shared counts once."""
        wants = {}
        for name, phase in todo:
            key = (name, phase.name) if phase.shared is None else phase.shared
            if key not in self._shared:
                wants.setdefault(key, phase.wants)
        return sum(wants.values())

    def _save(self) -> None:
        if self._folder is not None:
            write_result("gpu_encode", self._values, self._folder)

    def _run(self, model: str, phase: Phase, seconds: float) -> dict:
        if phase.shared is not None and phase.shared in self._shared:
            return self._shared[phase.shared]
        if seconds < phase.least:
            return {"skipped": f"{max(0.0, seconds):.1f} s would be left of the {phase.least:g} that it needs"}
        started = time.monotonic()
        try:
            found = phase.work(seconds)
        except Exception as error:
            traceback.print_exc()
            return {
                "failed": f"{type(error).__name__}: {str(error)[:500]}",
                "took_seconds": round(time.monotonic() - started, 1),
            }
        if phase.shared is not None:
            self._shared[phase.shared] = found | {"measured_with": model}
        return found | {"took_seconds": round(time.monotonic() - started, 1)}


def describe_gpus(devices: list[str]) -> dict:
    """Name the GPUs, their driver and memory, what drives them, and the shared memory of the machine."""
    query = "name,driver_version,memory.total,power.limit,clocks.max.sm"
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        listed = []
    gpu_facts = dict(zip(query.split(","), map(str.strip, listed[0].split(",")), strict=True)) if listed else None
    on_cuda = devices[0] != "cpu"
    free = free_shared_memory()
    return {
        "gpu": torch.cuda.get_device_name(0) if on_cuda else "no GPU: the processor",
        "gpus": len(devices),
        "nvidia_smi": gpu_facts,
        "memory_of_gpu_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if on_cuda else None,
        "capability": ".".join(map(str, torch.cuda.get_device_capability(0))) if on_cuda else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if on_cuda else None,
        "shared_memory_gib": None if free is None else round(free / 2**30, 2),
    }


def free_shared_memory() -> int | None:
    """Return the free bytes of the shared memory; None where that is unknown."""
    try:
        system = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    return system.f_bavail * system.f_frsize
