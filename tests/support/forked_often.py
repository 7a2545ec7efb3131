"""A process that forks while micro-batches are answered; each child searches by itself.

Run as `python -m tests.support.forked_often LIBRARY FORKS`; says how many children found what the parent did.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import warnings

import clipsearch
from clipsearch import Settings


def main() -> None:
    engine = clipsearch.open(sys.argv[1], settings=Settings(offline=True, threads=2, query_cache=False))
    expected = [hit.item.id for hit in engine.search("a dog", k=5)]
    stop = threading.Event()

    async def ask(turn: int) -> None:
        await asyncio.gather(*(engine.asearch(f"a dog {turn} {i}") for i in range(16)))

    def keep_asking() -> None:
        turn = 0
        while not stop.is_set():
            asyncio.run(ask(turn := turn + 1))

    threads = [threading.Thread(target=keep_asking) for _ in range(2)]
    for thread in threads:
        thread.start()
    warnings.simplefilter("ignore", DeprecationWarning)
    good = 0
    for number in range(int(sys.argv[2])):
        time.sleep(0.003 * (number % 17))  # so that a fork comes at any step of a search
        child = os.fork()
        if child == 0:
            found = asyncio.run(engine.asearch("a dog", k=5))
            os._exit([hit.item.id for hit in found] != expected)
        good += os.waitpid(child, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()
    sys.stdout.write(f"{good}\n")


if __name__ == "__main__":
    main()
