"""What a pass of many small operators costs beside other threads, on the processor in the place of a GPU.

    python benchmarks/launches.py [--quick]

A launch on a GPU is a call that gives up the interpreter and takes it again; so is a small operator of torch on the
processor. A ViT-B/32 tower makes 231 of them for a batch. The same operators in one call, which gives it up once, stand
for a captured CUDA graph; they are recorded by torch.jit.trace. Each pass is timed alone, beside threads that decode
JPEG files, beside processes that do, and beside a thread that runs nothing but Python, with three switch intervals.

It needs two cores that nothing else uses: a thread that waits for the interpreter and finds no free core does not get
it between two calls, and what is measured here does not happen.
"""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from harness import make_pictures, write_result
from PIL import Image

from clipsearch.media.decode import decode_picture

OPERATORS = 231
WIDTH = 56
"""Of the matrices, so that an operator takes about as long as a launch on a GPU, some five microseconds."""
INTERVALS_MS = (5.0, 0.5, 0.1)
THREADS = 16
SIDE = 224


def main() -> None:
    """Time every kind of pass beside every load, in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="only show that everything runs")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds, passes, seconds = (1, 2, 0.1) if options.quick else (options.rounds, 200, 1.5)
    torch.set_num_threads(1)
    ways = make_passes()
    times: dict[tuple, list[float]] = {}
    rates: dict[tuple, list[float]] = {}
    before = sys.getswitchinterval()
    with tempfile.TemporaryDirectory() as folder:
        make_pictures(Path(folder), 4 if options.quick else 40, side=512)
        files = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
        for _ in range(rounds):
            for load, begin in LOADS.items():
                with begin(files) as count:
                    for way, run in ways.items():
                        for interval in INTERVALS_MS:
                            sys.setswitchinterval(interval / 1000)
                            took, rate = timed(run, passes, seconds, count)
                            times.setdefault((load, way, interval), []).extend(took)
                            rates.setdefault((load, way, interval), []).append(rate)
                    sys.setswitchinterval(before)
    rows = [row(key, times, rates[key]) for key in times]
    for one in rows:
        print(one, flush=True)
    if not options.quick:
        write_result("launches", {"operators": OPERATORS, "decode_threads": THREADS, "rounds": rounds, "rows": rows})


def row(key: tuple, times: dict[tuple, list[float]], rates: list[float]) -> dict:
    """Sum up the passes of one kind."""
    load, way, interval = key
    mean, alone = statistics.mean(times[key]), statistics.mean(times["nothing", way, INTERVALS_MS[0]])
    return {
        "beside": load,
        "pass": way,
        "switch_interval_ms": interval,
        "median_ms": round(1000 * statistics.median(times[key]), 2),
        "mean_ms": round(1000 * mean, 2),
        "mean_times_alone": round(mean / alone, 1),
        "others_per_second": round(statistics.median(rates)) or None,
    }


def make_passes() -> dict[str, Callable[[], object]]:
    """Make the same operators as separate calls, and as one call."""
    values, weights = torch.full((WIDTH, WIDTH), 0.1), torch.full((WIDTH, WIDTH), 1 / WIDTH)

    def operators(x: torch.Tensor) -> torch.Tensor:
        for _ in range(OPERATORS):
            x = torch.mm(x, weights)
        return x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        recorded = torch.jit.trace(operators, (values,))
    for _ in range(5):
        recorded(values)
    return {f"{OPERATORS} calls": lambda: operators(values), "one call": lambda: recorded(values)}


@torch.inference_mode()
def timed(run: Callable, passes: int, seconds: float, count: Callable[[], int]) -> tuple[list[float], float]:
    """Time up to `passes` passes, two at least; also return what the load did a second meanwhile."""
    took: list[float] = []
    run()
    began, done = time.perf_counter(), count()
    while len(took) < passes and (len(took) < 2 or time.perf_counter() - began < seconds):
        started = time.perf_counter()
        run()
        took.append(time.perf_counter() - started)
    return took, (count() - done) / (time.perf_counter() - began)


@contextlib.contextmanager
def nothing(files: list[bytes]) -> Iterator[Callable[[], int]]:
    yield lambda: 0


@contextlib.contextmanager
def threads(count: int, work: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Run work repeatedly in `count` threads, and count the rounds."""
    ended, done = threading.Event(), [0] * count

    def loop(number: int) -> None:
        while not ended.is_set():
            work()
            done[number] += 1

    running = [threading.Thread(target=loop, args=(number,), daemon=True) for number in range(count)]
    yield from run_beside(running, ended, lambda: sum(done), lambda: None)


def run_beside(running, ended, count: Callable[[], int], wait: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Start threads or processes, wait until they are ready, yield what counts their rounds, and end them."""
    for one in running:
        one.start()
    wait()
    try:
        yield count
    finally:
        ended.set()
        for one in running:
            one.join()


def decode(data: bytes) -> None:
    picture = decode_picture(data, min_side=SIDE, max_pixels=100_000_000)[0]
    np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def decoding(files: list[bytes]) -> contextlib.AbstractContextManager:
    numbers = iter(range(10**9))
    return threads(THREADS, lambda: decode(files[next(numbers) % len(files)]))


def python_only(files: list[bytes]) -> contextlib.AbstractContextManager:
    def work() -> None:
        total = 0
        for number in range(1000):
            total += number

    return threads(1, work)


@contextlib.contextmanager
def processes(files: list[bytes]) -> Iterator[Callable[[], int]]:
    """Decode in as many processes as there are cores."""
    context = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0))
    ended, done, ready = context.Event(), context.Array("q", cores), context.Barrier(cores + 1)
    running = [
        context.Process(target=decode_apart, args=(files, number, ended, done, ready), daemon=True)
        for number in range(cores)
    ]
    yield from run_beside(running, ended, lambda: sum(done), ready.wait)


def decode_apart(files: list[bytes], number: int, ended, done, ready) -> None:
    ready.wait()
    while not ended.is_set():
        decode(files[done[number] % len(files)])
        done[number] += 1


LOADS = {
    "nothing": nothing,
    f"{THREADS} decode threads": decoding,
    "decode processes": processes,
    "one Python thread": python_only,
}


if __name__ == "__main__":
    main()
