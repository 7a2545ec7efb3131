"""How far decoding scales with cores: in threads, and in worker processes.

    python benchmarks/decode_scaling.py [--quick] [--rounds 5]

Files in memory become the input of builtin-small in three ways: `threads` of this process; `workers, whole picture`,
which decode and send the picture back, to be resized here; `workers`, which resize too. Only one thread of a process
runs Python at a time, so what limits many cores is the time of a file in this process with Python's lock held: `serial
ms`. It is the processor time of the thread less that of the calls that give the lock away (decoding and resizing in C,
system calls); these hold it for moments too, so it is the least that it can be. `share` is the part of `serial ms` in
`cpu ms`, the processor time of a file in all processes; `parent ms` is that of this one.

Two predictions for 16 cores, as a share of 16 times one core: by Amdahl's law, in which nothing runs beside the serial
part; and by mean value analysis of 16 threads at one lock (Reiser and Lavenberg, JACM 1980), in which others go on
while one holds it. `16 stand ins` is measured: 16 threads and, for `workers`, 16 processes, in which a sleep stands for
decoding and resizing, so that two cores have as much else to do as 16 would: pictures a second over 16 times those of
one thread. `2 threads over 1` is measured with real decoding. The result decode_contention has stand-ins of other
numbers, also with 0.06 and 0.15 ms of bookkeeping in Python for each file: what it takes now (pipeline_overhead.py),
and what it may take at most.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from unittest import mock

from harness import write_result
from photographs import write_photographs
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clipsearch.encoders.builtin import BuiltinEncoder
from clipsearch.media.decode import decode_picture
from clipsearch.media.image_metadata import read_embedded
from indexer import worker_process
from indexer.isolation import IsolatedReader
from indexer.isolation_protocol import pack_facts
from indexer.picture_reader import DirectReader
from indexer.worker_process import Limits

SIZES = {"683 x 512": (683, 512, 60), "4000 x 3000": (4000, 3000, 12)}
LIMITS = Limits(60, 2 << 30)
MOST_PIXELS = 100_000_000
CORES = 16
OTHER_MS = (0.0, 0.06, 0.15)
Prepare = Callable[[bytes], object]

STAND_IN = """
import socket, sys, time
from indexer.isolation_protocol import ANSWER, READY, REQUEST, Request
from indexer.isolation_worker import read_file, receive
connection, seconds, facts = socket.socket(fileno=0), float(sys.argv[1]), sys.argv[2].encode()
connection.sendall(READY)
while head := receive(connection, REQUEST.size):
    request = Request(*REQUEST.unpack(head))
    receive(connection, request.transforms_length)
    time.sleep(seconds)
    connection.sendall(ANSWER.pack(request.number, 0, len(facts), 0, 0) + facts)
"""


class WholePictures:
    """An encoder that cannot be preprocessed for outside this process."""

    def __init__(self, encoder: BuiltinEncoder) -> None:
        self.picture_side, self.preprocess = encoder.picture_side, encoder.preprocess


def main() -> None:
    """Measure every way on both sizes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a third of the files and of the rounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sources", type=Path)
    arguments = parser.parse_args()
    part = 3 if arguments.quick else 1
    rounds = max(arguments.rounds // part, 1)
    encoder = BuiltinEncoder("small", threads=1)
    rows, files = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (width, height, count) in SIZES.items():
            paths = write_photographs(Path(scratch) / name, count // part, (width, height), arguments.sources)
            files[name] = [path.read_bytes() for path in paths]
            rows += measure(name, files[name], encoder, rounds)
    values = {"encoder": encoder.name, "rounds": rounds, "worker": worker_costs(encoder), "rows": rows}
    print(values["worker"])
    write_result("decode_scaling", values)
    size = next(iter(SIZES))
    write_result("decode_contention", {"picture": size, "rows": contention(files[size], encoder, rows, rounds)})


def measure(size: str, files: list[bytes], encoder: BuiltinEncoder, rounds: int) -> list[dict]:
    """Measure the ways on files of one size."""
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(2))
        isolated = stack.enter_context(IsolatedReader(LIMITS))
        isolated.start(2)
        direct, whole = DirectReader(), WholePictures(encoder)
        ways: dict[str, Prepare] = {
            "threads": lambda data: direct.prepare(data, encoder, max_pixels=MOST_PIXELS),
            "workers, whole picture": lambda data: isolated.prepare(data, whole, max_pixels=MOST_PIXELS),
            "workers": lambda data: isolated.prepare(data, encoder, max_pixels=MOST_PIXELS),
        }
        rows = [row_of(size, name, way, files, rounds, pool) for name, way in ways.items()]
    threads, _, workers = rows
    with sleeping_threads(encoder, (threads["cpu_ms"] - threads["serial_ms"]) / 1000) as way:
        threads["16_stand_ins"] = scaling_of(way, files, rounds, CORES)
    with sleeping_workers(files[0], encoder, (workers["cpu_ms"] - workers["parent_ms"]) / 1000) as way:
        workers["16_stand_ins"] = scaling_of(way, files, rounds, CORES)
    for row in rows:
        print(row, flush=True)
    return rows


def row_of(size: str, name: str, way: Prepare, files: list[bytes], rounds: int, pool: ThreadPoolExecutor) -> dict:
    """Measure one way; the first round is a warm-up."""
    cpu, parent, serial, scaling, alone = [], [], [], [], []
    for _ in range(rounds + 1):
        before, here, started = processor_seconds(), time.thread_time(), time.perf_counter()
        run(way, files)
        one = time.perf_counter() - started
        parent.append(time.thread_time() - here)
        cpu.append(parent[-1] + processor_seconds() - before)
        serial.append(serial_seconds(way, files))
        started = time.perf_counter()
        list(pool.map(way, files))
        scaling.append(one / (time.perf_counter() - started))
        alone.append(len(files) / one)
    per_file = {key: statistics.median(each[1:]) / len(files) for key, each in (("cpu", cpu), ("serial", serial))}
    share = per_file["serial"] / per_file["cpu"]
    return {
        "picture": size,
        "way": name,
        "cpu_ms": round(per_file["cpu"] * 1000, 2),
        "parent_ms": round(statistics.median(parent[1:]) / len(files) * 1000, 3),
        "serial_ms": round(per_file["serial"] * 1000, 3),
        "share": round(share, 4),
        "per_second_1_thread": round(statistics.median(alone[1:]), 1),
        "2_threads_over_1": round(statistics.median(scaling[1:]), 2),
        "16_cores_amdahl": round(1 / (1 + (CORES - 1) * share), 3),
        "16_cores_queue": round(queue(CORES, per_file["cpu"] - per_file["serial"], per_file["serial"]), 3),
        "16_stand_ins": None,
    }


def run(way: Prepare, files: list[bytes]) -> None:
    for data in files:
        way(data)


def processor_seconds() -> float:
    """Return what the processes below this one have computed so far; they need not have ended."""
    return sum(int((folder / "schedstat").read_text().split()[0]) / 1e9 for folder in children())


def children() -> Iterator[Path]:
    """Give the folder in /proc of each process that this one started."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                yield stat.parent


def serial_seconds(way: Prepare, files: list[bytes]) -> float:
    """Return the processor seconds of this thread with Python's lock held, over all files."""
    with released_calls() as released:
        started = time.thread_time()
        run(way, files)
        return time.thread_time() - started - released.seconds - released.calls * timing_seconds()


@cache
def timing_seconds() -> float:
    """Return the processor seconds that timing a call takes beside the call."""
    timer, count = Timer(), 20_000
    call = timer.wrap(int)
    started = time.thread_time()
    for _ in range(count):
        call()
    return (time.thread_time() - started - timer.seconds) / count


class Timer:
    """Sums up the processor seconds of this thread in calls; of nested ones the outermost counts."""

    def __init__(self) -> None:
        self.seconds, self.calls, self._is_inside = 0.0, 0, False

    def wrap(self, call: Callable) -> Callable:
        def timed(*args, **options):
            if self._is_inside:
                return call(*args, **options)
            self._is_inside, started = True, time.thread_time()
            self.calls += 1
            try:
                return call(*args, **options)
            finally:
                self.seconds += time.thread_time() - started
                self._is_inside = False

        return timed


class Wrapped:
    """An object some of whose methods are timed."""

    def __init__(self, target: object, timer: Timer, names: tuple[str, ...]) -> None:
        self._target = target
        vars(self).update({name: timer.wrap(getattr(target, name)) for name in names})

    def __getattr__(self, name: str) -> object:
        return getattr(self._target, name)


@contextmanager
def released_calls() -> Iterator[Timer]:
    """Time the calls that give Python's lock away."""
    timer, ask, get_decoder = Timer(), worker_process.Worker.ask, Image._getdecoder

    def asking(worker, *args):
        if not isinstance(worker._socket, Wrapped):
            worker._socket = Wrapped(worker._socket, timer, ("send", "recv_into"))
            stack.callback(setattr, worker, "_socket", worker._socket._target)
        return ask(worker, *args)

    patches = [(os, name, timer.wrap(getattr(os, name))) for name in ("pwrite", "pread", "ftruncate")]
    patches.append((Image, "_getdecoder", lambda *args: Wrapped(get_decoder(*args), timer, ("decode",))))
    patches.append((Image.Image, "resize", timer.wrap(Image.Image.resize)))
    patches.append((worker_process.Worker, "ask", asking))
    with ExitStack() as stack:
        for place, name, stand_in in patches:
            stack.enter_context(mock.patch.object(place, name, stand_in))
        yield timer


def queue(threads: int, apart: float, serial: float) -> float:
    """Predict the throughput of `n` threads, as a share of `n` times one thread, by mean value analysis.

    apart, serial: seconds of a file outside and under the lock.
    """
    waiting = rate = 0.0
    for number in range(1, threads + 1):
        stay = serial * (1 + waiting)
        rate = number / (apart + stay)
        waiting = rate * stay
    return rate * (apart + serial) / threads


@contextmanager
def sleeping_workers(file: bytes, encoder: BuiltinEncoder, seconds: float) -> Iterator[Prepare]:
    """Give a way whose workers sleep for so long for each file, and answer what is true of the file given."""
    _, info = decode_picture(file, min_side=encoder.picture_side, max_pixels=MOST_PIXELS)
    facts = pack_facts(info, read_embedded(file)).decode()
    code = f"import sys; sys.path[:] = {[place for place in sys.path if place]!r}\n{STAND_IN}"
    with IsolatedReader(LIMITS, [sys.executable, "-I", "-S", "-c", code, str(seconds), facts]) as reader:
        reader.start(CORES)
        reader.wait(CORES)
        yield lambda data: reader.prepare(data, encoder, max_pixels=MOST_PIXELS)


@contextmanager
def sleeping_threads(encoder: BuiltinEncoder, seconds: float) -> Iterator[Prepare]:
    """Give the way of threads, in which decoding and resizing in C sleep, half as long each."""
    small, get_decoder, direct = Image.new("RGB", (encoder.picture_side,) * 2), Image._getdecoder, DirectReader()

    class Sleeping:
        def __init__(self, decoder: object) -> None:
            self._decoder = decoder

        def __getattr__(self, name: str) -> object:
            return getattr(self._decoder, name)

        def decode(self, data: bytes) -> tuple[int, int]:
            time.sleep(seconds / 2)
            return -1, 0  # all is done, without an error

    def resize(picture: Image.Image, *args, **options) -> Image.Image:
        time.sleep(seconds / 2)
        return small

    with (
        mock.patch.object(Image, "_getdecoder", lambda *args: Sleeping(get_decoder(*args))),
        mock.patch.object(Image.Image, "resize", resize),
    ):
        yield lambda data: direct.prepare(data, encoder, max_pixels=MOST_PIXELS)


def contention(files: list[bytes], encoder: BuiltinEncoder, rows: list[dict], rounds: int) -> list[dict]:
    """Compare stand-ins of several numbers, with and without other work in Python for each file."""
    found, (threads, _, workers, *_) = [], rows
    for other in OTHER_MS:
        for cores in (4, 8, 12, 16):
            row = {"cores": cores, "other_ms_a_file": other}
            with sleeping_threads(encoder, (threads["cpu_ms"] - threads["serial_ms"]) / 1000) as way:
                row["threads"] = scaling_of(and_then(way, other), files, rounds, cores)
            with sleeping_workers(files[0], encoder, (workers["cpu_ms"] - workers["parent_ms"]) / 1000) as way:
                row["workers"] = scaling_of(and_then(way, other), files, rounds, cores)
            found.append(row)
            print(row, flush=True)
    return found


def and_then(way: Prepare, milliseconds: float) -> Prepare:
    """Return a way after which Python is busy for so long."""

    def both(data: bytes) -> None:
        way(data)
        until = time.thread_time() + milliseconds / 1000
        while time.thread_time() < until:
            pass

    return both


def scaling_of(way: Prepare, files: list[bytes], rounds: int, cores: int) -> float:
    """Measure the throughput with several threads, as a share of their number times that of one."""
    ratios, barrier = [], threading.Barrier(cores)
    many = files * max(1, 60 // len(files))
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(rounds + 1):
            started = time.perf_counter()
            run(way, many)
            alone = time.perf_counter() - started
            started = time.perf_counter()
            list(pool.map(lambda _: (barrier.wait(), run(way, many)), range(cores)))
            ratios.append(alone / (time.perf_counter() - started))
    return round(statistics.median(ratios[1:]), 3)


def worker_costs(encoder: BuiltinEncoder) -> dict:
    """Return what a worker of two takes: processor milliseconds to start, MiB of memory idle and after a file.

    private: what it shares with no other process; the memory that it shares with this one is in it.
    """
    with IsolatedReader(LIMITS) as reader, tempfile.TemporaryDirectory() as scratch:
        (path,) = write_photographs(Path(scratch), 1)
        reader.start(2)
        reader.wait(2)
        found = {"start_ms": round(processor_seconds() / 2 * 1000)} | memory_of_children("idle")
        for _ in range(3):
            reader.prepare(path.read_bytes(), encoder, max_pixels=MOST_PIXELS)
        return found | memory_of_children("after_12_megapixels")


def memory_of_children(state: str) -> dict:
    """Return the MiB of the largest process that this one started."""
    totals = []
    for folder in children():
        lines = [line.split() for line in (folder / "smaps_rollup").read_text().splitlines()[1:]]
        kib = {name.rstrip(":"): int(size) for name, size, *_ in lines}
        totals.append((kib["Rss"] >> 10, (kib["Private_Clean"] + kib["Private_Dirty"]) >> 10))
    resident, private = max(totals)
    return {f"{state}_resident_mib": resident, f"{state}_private_mib": private}


if __name__ == "__main__":
    main()
