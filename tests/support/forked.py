"""A process that opens a library, searches, forks while one of its threads searches, and searches on both sides.

Run as `python -m tests.support.forked LIBRARY KIND`; prints what parent and children found, a line each.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
import threading
import traceback
import warnings
from typing import Any

import clipsearch
from clipsearch import Settings, Text

WORDS = ("a dog on a beach", "a happy child", "snow")


def search_all(engine: clipsearch.SearchEngine) -> list[Any]:
    """Search in every way: what was found, as text that two processes can compare."""
    item = engine.search(WORDS[0], k=1)[0].item.id
    found = [engine.search(words, k=5) for words in WORDS]
    found += engine.search_batch(texts=WORDS * 3, k=5)
    found += [engine.search(Text("a dog") - Text("snow")), engine.search(clipsearch.Indexed(item), modality="image")]
    found += [asyncio.run(engine.asearch(words, k=5)) for words in WORDS]
    found.append(asyncio.run(engine.asearch_batch(texts=WORDS))[0])
    return [[(hit.item.id, round(hit.score, 4)) for hit in answer] for answer in found]


def in_child(engine: clipsearch.SearchEngine, expected: list[Any], reader: int, writer: int) -> None:
    """Search in a fork; say how it went, and leave as a worker of a server does."""
    os.close(reader)
    try:
        said = "same" if search_all(engine) == expected else "different"
    except BaseException:
        said = traceback.format_exc()
    with os.fdopen(writer, "w") as pipe:
        pipe.write(said)
    engine.close()
    sys.exit(0)


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()  # before a fork has a copy of it


def fork(engine: clipsearch.SearchEngine, expected: list[Any]) -> tuple[int, int]:
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        in_child(engine, expected, reader, writer)
    os.close(writer)
    return child, reader


def in_pool(expected: list[Any]) -> str:
    """Search in a worker of a pool that was forked."""
    return "same" if search_all(ENGINE) == expected else "different"


def main() -> None:
    global ENGINE
    ENGINE = engine = clipsearch.open(sys.argv[1], settings=Settings(offline=True, threads=2, query_cache=False))
    expected = search_all(engine)
    stop = threading.Event()

    def keep_searching() -> None:
        while not stop.is_set():
            engine.search_batch(texts=WORDS * 3)
            asyncio.run(engine.asearch(WORDS[0]))

    threads = [threading.Thread(target=keep_searching) for _ in range(2)]
    for thread in threads:
        thread.start()
    children = [fork(engine, expected) for _ in range(4)]
    for child, reader in children:
        with os.fdopen(reader) as pipe:
            say("child:", pipe.read())
        say("left with", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    for thread in threads:
        thread.join()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        say("pool:", *pool.map(in_pool, [expected] * 2))
    say("parent:", "same" if search_all(engine) == expected else "different")
    engine.close()


ENGINE: clipsearch.SearchEngine

if __name__ == "__main__":
    main()
