"""A closed engine says so, whatever it is asked."""

import asyncio
import gc
import os
from contextlib import suppress

import numpy as np
import pytest

import clipsearch
from clipsearch import ClipSearchError, LibraryError
from tests.support.sentences import sentence_library


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    return sentence_library(tmp_path_factory.mktemp("closed"), encoder).library.folder


def open_files(folder):
    """How many files of a folder this process has open."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # of the listing itself
            found += os.readlink(f"/proc/self/fd/{name}").startswith(str(folder))
    return found


CALLS = {
    "search": lambda engine: engine.search("a dog"),
    "vector": lambda engine: engine.search(vector=np.ones(3)),
    "composed": lambda engine: engine.search(clipsearch.Text("a") + clipsearch.Text("b")),
    "batch": lambda engine: engine.search_batch(texts=["a dog"]),
    "asearch": lambda engine: asyncio.run(engine.asearch("a dog")),
    "asearch_batch": lambda engine: asyncio.run(engine.asearch_batch(texts=["a dog"])),
    "find": lambda engine: engine.find(),
    "get": lambda engine: engine.get("a"),
    "count": lambda engine: engine.count(),
    "vectors": lambda engine: engine.vectors(["a"]),
    "items": lambda engine: list(engine.items()),
    "page": lambda engine: engine.page(),
    "add": lambda engine: engine.add([{"id": "a", "text": "a dog"}]),
    "update": lambda engine: engine.update("a", caption="a dog"),
    "delete": lambda engine: engine.delete("a"),
    "index": lambda engine: engine.index(["."]),
    "build": lambda engine: engine.build(),
    "encoder": lambda engine: engine.encoder,
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_says_that_the_engine_is_closed(folder, call):
    with clipsearch.open(folder) as engine:
        pass
    with pytest.raises(LibraryError, match=f"{folder} is closed|was closed") as caught:
        CALLS[call](engine)
    assert isinstance(caught.value, ClipSearchError) and "clipsearch.open" in str(caught.value)


def test_closing_twice_is_no_error_and_another_engine_goes_on(folder):
    one, other = clipsearch.open(folder), clipsearch.open(folder)
    one.close()
    one.close()
    assert other.find(limit=1).total


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are listed by Linux")
def test_an_engine_that_nobody_closes_holds_no_files_open(folder):
    gc.collect()
    before = open_files(folder)
    gc.disable()
    try:
        for _ in range(3):
            engine = clipsearch.open(folder)
            assert engine.search("a dog", k=1) and open_files(folder) > before
            del engine
            assert open_files(folder) == before
    finally:
        gc.enable()
