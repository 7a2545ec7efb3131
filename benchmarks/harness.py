"""What every benchmark shares: pictures, timed processes, results that say where they were seen."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
RESULTS = HERE / "results"
COMMAND = str(Path(sys.executable).with_name("clipsearch"))
PACKAGES = (
    "clipsearch",
    "faiss-gpu",
    "numpy",
    "onnxruntime",
    "open_clip_torch",
    "pillow",
    "pymilvus",
    "sqlalchemy",
    "torch",
)


def make_pictures(folder: Path, count: int, side: int = 256, seed: int = 0) -> None:
    """Write `count` different synthetic JPEG pictures of side x side pixels: smooth colour fields with some noise."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
        picture = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
        grain = rng.integers(-12, 13, (side, side, 1))
        noisy = np.clip(np.asarray(picture, np.int16) + grain, 0, 255).astype(np.uint8)
        data = BytesIO()
        Image.fromarray(noisy).save(data, "JPEG", quality=85)
        (folder / f"{number:06d}.jpg").write_bytes(data.getvalue())


# A process starts with the peak memory of the one it was forked from, so each is started by a small one.
_LAUNCHER = """
import os, sys, time
started = time.perf_counter()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as report:
    report.write(f"{time.perf_counter() - started} {usage.ru_maxrss}")
sys.exit(os.waitstatus_to_exitcode(status))
"""


def run(arguments: list[str], environment: dict[str, str] | None = None) -> tuple[float, float, bytes]:
    """Run a process: wall seconds, peak resident MiB of that process, stdout. Raises if it fails."""
    with tempfile.NamedTemporaryFile("r") as report:
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, report.name, *arguments]
        done = subprocess.run(command, capture_output=True, env={**os.environ, **(environment or {})})
        if done.returncode:
            raise RuntimeError(f"{arguments} failed with {done.returncode}: {done.stderr.decode()}")
        seconds, peak = report.read().split()
    return float(seconds), int(peak) / 1024, done.stdout


def interleaved(commands: dict[str, list[str]], rounds: int, environment: dict[str, str]) -> dict[str, list[float]]:
    """Time several commands in turn, A B A B ..., after one warm-up of each: wall seconds per round."""
    for command in commands.values():
        run(command, environment)
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(run(command, environment)[0])
    return times


def median_ratio(one: list[float], other: list[float]) -> float:
    """Median over rounds of one / other: what a drifting machine leaves standing."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def median_ms(call: Callable[[], object], rounds: int) -> float:
    """Return the median of some calls in milliseconds, after one that does not count."""
    call()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def data_parser(about: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark over captioned photographs. about: its docstring."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="builtin-base")
    return parser


def write_result(case: str, values: dict, folder: Path = RESULTS) -> None:
    """Keep a result with the machine, the versions and the commit it belongs to; what was there is replaced whole."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    versions = {name: found for name in PACKAGES if (found := installed(name))}
    record = {"case": case, "values": values, "machine": machine, "versions": versions, "commit": commit()}
    partial = folder / f"{case}.json.part"
    partial.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(partial, folder / f"{case}.json")


def commit() -> str:
    """Return the short name of the commit at hand; "" in a copy without git or its history."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, cwd=HERE, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def installed(name: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """Name the processor, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
