"""Load on a server: so many clients, each of which asks again as soon as it has its answer.

By `wrk` where it is installed, else by this file as a program of its own, which takes more of the processor.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

_WRK = """
local paths, at = {}, 0
function init(args) for line in io.lines(args[1]) do paths[#paths + 1] = line end end
function request() at = at % #paths + 1; return wrk.format("GET", paths[at]) end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("SEEN %d %d %d %d %d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), e.status + e.connect + e.read + e.write + e.timeout))
end
"""


class Seen(NamedTuple):
    """What clients saw: answers a second, and milliseconds of an answer."""

    qps: float
    p50_ms: float
    p99_ms: float


def name() -> str:
    """Say what makes the load."""
    return "wrk" if shutil.which("wrk") else "benchmarks/load.py"


def load(url: str, paths: Sequence[str], clients: int, seconds: float) -> Seen:
    """Ask for paths in turn. Raises RuntimeError where an answer is an error."""
    with tempfile.TemporaryDirectory() as folder:
        asked, script = Path(folder) / "paths", Path(folder) / "wrk.lua"
        asked.write_text("\n".join(paths) + "\n")
        script.write_text(_WRK)
        command = [sys.executable, __file__, url, str(asked), str(clients), str(seconds)]
        if shutil.which("wrk"):
            # wrk counts whole seconds
            options = ["-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", "--timeout", "60s", "-s", str(script)]
            command = ["wrk", *options, url, "--", str(asked)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120)
    line = next((line for line in done.stdout.splitlines() if line.startswith("SEEN ")), None)
    if done.returncode or line is None:
        raise RuntimeError(f"{command} failed: {done.stdout} {done.stderr}")
    count, duration, middle, worst, errors = map(float, line.split()[1:])
    if errors:
        raise RuntimeError(f"{errors:g} of {count:g} answers of {url} were errors")
    return summary(count, duration / 1e6, middle / 1e3, worst / 1e3)


def summary(count: float, seconds: float, middle_ms: float, worst_ms: float) -> Seen:
    """Round what was seen."""
    return Seen(round(count / seconds, 1), round(middle_ms, 2), round(worst_ms, 2))


async def _ask(url: str, paths: Sequence[str], clients: int, seconds: float) -> tuple[list[float], int, float]:
    """Return the seconds of each answer, the number of errors, and the seconds of all."""
    given, host = cycle(paths), urlsplit(url)
    times: list[float] = []
    errors = 0
    started = time.perf_counter()

    async def client() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection(host.hostname, host.port)
        while time.perf_counter() - started < seconds:
            begun = time.perf_counter()
            writer.write(f"GET {next(given)} HTTP/1.1\r\nHost: {host.netloc}\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
            await reader.readexactly(int(fields[b"content-length"]))
            times.append(time.perf_counter() - begun)
            errors += not head.startswith(b"HTTP/1.1 2")
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return times, errors, time.perf_counter() - started


def main() -> None:
    """Load a server: URL, a file of paths, clients, seconds."""
    url, file, clients, seconds = sys.argv[1:]
    paths = Path(file).read_text().splitlines()
    times, errors, took = asyncio.run(_ask(url, paths, int(clients), float(seconds)))
    times.sort()
    middle, worst = (times[min(len(times) - 1, int(len(times) * share))] for share in (0.5, 0.99))
    print("SEEN", len(times), took * 1e6, middle * 1e6, worst * 1e6, errors)


if __name__ == "__main__":
    main()
