"""Searches over HTTP: answers a second and their times, in batches and not, beside calls in a process.

    python benchmarks/serve.py [--pictures 20000] [--seconds 2] [--rounds 4] [--keep FOLDER]

`clipsearch serve` runs as it is, in batches. Two others run the same with another way to answer a search: one at a
time (batches of one), and each in one of four threads, as a server without batches does. The last is a process that
calls `engine.search`. All run over one library of the builtin encoder, by turns; wrk makes the load where it is
installed. A new text is asked once; `asked before` are 32 texts whose vectors are in the cache of queries.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote_plus

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import load
from harness import median_ratio, write_result
from served_library import FILES, make_library, phrases

CLIENTS = (1, 8, 64)
WAYS = ("in batches", "one at a time", "in threads")
CALLS = "in process"
REPEATED = 32
TEXTS_A_SECOND = 800
"""New texts that are set aside for each second of a run; after these a run asks them again."""
REST = 0.5
"""Seconds between two runs: a server still answers what the clients of the run before have asked and left."""


class Texts:
    """New texts, each of which is given out once, and those that are asked again and again."""

    def __init__(self) -> None:
        self._rest = iter(phrases())
        self.repeated = self.new(REPEATED)

    def new(self, count: int) -> list[str]:
        return list(itertools.islice(self._rest, count))


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=2, help="of each run")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--keep", type=Path, help="a folder for the library, which is used again if it is there")
    parser.add_argument("--be", nargs=2, metavar=("WAY", "LIBRARY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.be:
        way, library = options.be
        return call(library) if way == CALLS else serve(way, library)
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        own = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ |= {"CLIPSEARCH_CACHE": str(own / "cache"), "XDG_STATE_HOME": str(own), "HF_HUB_OFFLINE": "1"}
        if not (folder / "library").exists():
            make_library(folder, options.pictures)
        seen = measure(str(folder / "library"), options.seconds, options.rounds)
    rows = [summarise(seen, *key) for key in seen]
    for row in rows:
        print(row)
    shared = {"pictures": options.pictures, "seconds": options.seconds, "rounds": options.rounds}
    write_result("serve", {**shared, "client": load.name(), "rows": rows})


def measure(library: str, seconds: float, rounds: int) -> dict[tuple[str, str, int], list[load.Seen]]:
    """Return what was seen in each round, by what was asked, the way it was answered, and the number of clients."""
    texts, seen = Texts(), {}
    thumbnails = [f"/v1/items/{number}/thumbnail?size=200" for number in range(1, FILES + 1)]
    with ExitStack() as stack:
        urls = {way: stack.enter_context(served(way, library)) for way in WAYS}
        caller = stack.enter_context(started(CALLS, library))
        for url in urls.values():
            load.load(url, [path(text) for text in texts.repeated], 1, 1)  # loads the encoder, fills the cache
        timed_calls(caller, texts.repeated, 1)
        for number in range(rounds):
            print(f"round {number + 1}", flush=True)
            for asked in ("new text", "asked before"):
                count = int(TEXTS_A_SECOND * seconds)
                for clients, way in itertools.product(CLIENTS, WAYS):
                    words = texts.new(count) if asked == "new text" else texts.repeated
                    time.sleep(REST)
                    found = load.load(urls[way], [path(text) for text in words], clients, seconds)
                    seen.setdefault((asked, way, clients), []).append(found)
                words = texts.new(count) if asked == "new text" else texts.repeated
                time.sleep(REST)
                seen.setdefault((asked, CALLS, 1), []).append(timed_calls(caller, words, seconds))
            for clients in CLIENTS:
                found = load.load(urls[WAYS[0]], thumbnails, clients, seconds)
                seen.setdefault(("thumbnail", WAYS[0], clients), []).append(found)
    return seen


def summarise(seen: dict[tuple[str, str, int], list[load.Seen]], asked: str, way: str, clients: int) -> dict:
    """Return the medians over the rounds, and how they compare with other ways in the same round."""
    found = seen[asked, way, clients]
    row = {"asked": asked, "answered": way, "clients": clients}
    row |= {name: round(statistics.median(getattr(each, name) for each in found), 2) for name in load.Seen._fields}
    alone, calls = seen.get((asked, WAYS[1], clients)), seen.get((asked, CALLS, 1))
    row["times_one_at_a_time"] = row["ms_more_than_calls"] = None
    if alone and way != CALLS:
        row["times_one_at_a_time"] = round(median_ratio([s.qps for s in found], [s.qps for s in alone]), 2)
    if calls and clients == 1 and way != CALLS:
        more = [one.p50_ms - other.p50_ms for one, other in zip(found, calls, strict=True)]
        row["ms_more_than_calls"] = round(statistics.median(more), 2)
    return row


def path(text: str) -> str:
    """Return the path of a search."""
    return f"/v1/search?q={quote_plus(text)}"


@contextmanager
def started(way: str, library: str) -> Iterator[subprocess.Popen]:
    """Run one of the processes that are measured."""
    command = [sys.executable, __file__, "--be", way, library]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def served(way: str, library: str) -> Iterator[str]:
    """Run a server; yields its address."""
    with started(way, library) as process:
        line = process.stdout.readline()
        if not line.startswith("http"):
            raise RuntimeError(f"The server that answers {way} did not start: {line}")
        yield line.strip()


def serve(way: str, library: str) -> None:
    """Be a server: what `clipsearch serve` does, with another way to answer searches where one is wanted."""
    from clipsearch.cli.serve import load_numpy

    load_numpy()
    import clipsearch
    from clipsearch.query import batching
    from clipsearch.server import ServerSettings, connections, create_app
    from clipsearch.server.service import Service

    if way == "one at a time":
        batching.MAX_BATCH = 1
    elif way == "in threads":

        async def search(service: Service, query: object = None, **options: object) -> object:
            return await service.run(service.engine.search, query, **options)

        Service.search = search
    with clipsearch.open(library) as engine:
        connections.serve(create_app(engine, ServerSettings(port=0)), lambda url: print(url, flush=True))


def call(library: str) -> None:
    """Be the process that calls the engine: for each line of texts and seconds, answer with what was seen."""
    import clipsearch

    with clipsearch.open(library) as engine:
        for line in sys.stdin:
            words, seconds = json.loads(line)
            times: list[float] = []
            started_at = time.perf_counter()
            for text in itertools.cycle(words):
                begun = time.perf_counter()
                engine.search(text)
                times.append(time.perf_counter() - begun)
                if time.perf_counter() - started_at > seconds:
                    break
            took = time.perf_counter() - started_at
            times.sort()
            middle, worst = times[len(times) // 2], times[int(len(times) * 0.99)]
            print(json.dumps(load.summary(len(times), took, 1e3 * middle, 1e3 * worst)), flush=True)


def timed_calls(process: subprocess.Popen, words: Sequence[str], seconds: float) -> load.Seen:
    """Let the process that calls the engine do so for some seconds."""
    process.stdin.write(json.dumps([words, seconds]) + "\n")
    process.stdin.flush()
    return load.Seen(*json.loads(process.stdout.readline()))


if __name__ == "__main__":
    main()
