"""Searches awaited at the same time are answered together, each caller as if it were alone."""

import asyncio
import contextlib
import gc
import threading
import time
import weakref

import numpy as np
import pytest

import clipsearch
from clipsearch import Filter, InvalidInputError, LibraryError, PictureError, Text
from clipsearch.query import batching
from clipsearch.query.engine import SearchEngine
from clipsearch.query.options import SearchOptions
from clipsearch.store.library import Library
from tests.support.libraries import photo
from tests.support.sentences import SENTENCES, sentence_library

ASKED = SENTENCES[::9][:32]


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    engine = sentence_library(tmp_path_factory.mktemp("async"), encoder)
    return engine.library.folder


@pytest.fixture
def engine(folder, encoder):
    with SearchEngine(Library(folder), encoder=encoder) as opened:
        yield opened


def counting(engine):
    """Let an engine note how many queries each of its batches has."""
    sizes, answer = [], engine._search_batch

    def counted(options, **queries):
        sizes.append(sum(len(each) for each in queries.values()))
        return answer(options, **queries)

    engine._search_batch = counted
    return sizes


def gathered(*searches):
    async def run():
        return await asyncio.gather(*searches, return_exceptions=True)

    return asyncio.run(run())


def test_callers_at_the_same_time_share_batches_and_get_their_own_answers(engine):
    sizes = counting(engine)
    found = gathered(*(engine.asearch(words, k=7) for words in ASKED))
    assert sum(sizes) == len(ASKED) and len(sizes) <= 8
    assert found == [engine.search(words, k=7) for words in ASKED]


def test_who_searches_alone_waits_for_nobody_and_others_wait_for_those_before(engine, monkeypatch):
    monkeypatch.setattr(batching, "MAX_WAIT", 1000.0)
    monkeypatch.setattr(batching, "QUIET", 1000.0)
    sizes, answer, begun, go_on = [], engine._search_batch, threading.Event(), threading.Event()

    def held(options, **queries):
        sizes.append(len(queries["texts"]))
        begun.set()
        assert go_on.wait(60)
        return answer(options, **queries)

    engine._search_batch = held

    async def run():
        first = asyncio.create_task(engine.asearch(ASKED[0]))
        await asyncio.to_thread(begun.wait, 60)
        others = [asyncio.create_task(engine.asearch(words)) for words in ASKED[1:8]]
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.gather(first, *others)
        return await asyncio.gather(*(engine.asearch(words) for words in ASKED[:7]))

    found = asyncio.run(asyncio.wait_for(run(), 60))
    assert sizes == [1, 7, 7]
    assert found == [engine.search(words) for words in ASKED[:7]]


def test_queries_of_every_kind_and_other_options_side_by_side(engine, tmp_path):
    vectors = engine.encoder.encode_queries(ASKED)
    pictures = [photo(tmp_path / f"{i}.jpg", i) for i in range(3)]
    wanted = [
        *({"text": words, "filters": Filter(caption="dog")} for words in ASKED[:4]),
        *({"text": words, "k": 3, "offset": 2} for words in ASKED[:4]),
        *({"vector": vector, "kind": "text"} for vector in vectors[:4]),
        *({"image": picture} for picture in pictures),
        {"text": Text("a dog") - Text("snow")},
        {"vector": vectors[:5]},
    ]
    found = gathered(*(engine.asearch(**each) for each in wanted))
    assert found == [engine.search(**each) for each in wanted]


def test_a_batch_can_be_awaited(engine):
    found = asyncio.run(engine.asearch_batch(texts=ASKED, k=4))
    assert found == engine.search_batch(texts=ASKED, k=4)
    with pytest.raises(InvalidInputError, match="A batch takes a list"):
        asyncio.run(engine.asearch_batch(texts="a dog"))


def test_an_error_reaches_only_its_caller(engine, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    good = photo(tmp_path / "good.jpg", 1)
    short = np.ones(3)
    found = gathered(
        engine.asearch("a dog"),
        engine.asearch(" "),
        engine.asearch(image=good),
        engine.asearch(image=tmp_path / "bad.jpg"),
        engine.asearch(vector=np.ones(engine.encoder.dim)),
        engine.asearch(vector=short),
        engine.asearch("a dog", k=0),
        engine.asearch("a dog", kind="text"),
        engine.asearch(),
        engine.asearch("a dog", image=good),
    )
    assert [type(each) for each in found[:6]] == [
        *(clipsearch.Results, InvalidInputError, clipsearch.Results),
        *(PictureError, clipsearch.Results, InvalidInputError),
    ]
    assert all(isinstance(each, InvalidInputError) for each in found[6:])
    assert found[0] == engine.search("a dog") and found[2] == engine.search(image=good)


def test_options_that_cannot_be_compared_harm_no_other_caller(engine):
    odd = [engine.asearch(words, collapse=np.ones(2)) for words in ASKED[:3]]
    wrong = engine.asearch("a dog", filters={"price": 1})
    found = gathered(*odd, wrong, engine.asearch("a dog"))
    assert all(isinstance(each, ValueError) for each in found[:3]) and isinstance(found[3], InvalidInputError)
    assert found[4] == engine.search("a dog")


def test_a_thread_that_cannot_be_started_is_an_error_of_one_search(engine, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            engine._batcher.submit(SearchOptions(), "texts", "a dog")
    assert asyncio.run(asyncio.wait_for(engine.asearch("a dog"), 60)) == engine.search("a dog")


def test_a_caller_that_gives_up_disturbs_no_other(engine):
    async def run():
        tasks = [asyncio.create_task(engine.asearch(words)) for words in ASKED]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(run())
    assert all(isinstance(each, asyncio.CancelledError) for each in found[::2])
    assert found[1::2] == [engine.search(words) for words in ASKED[1::2]]
    with contextlib.suppress(TimeoutError):
        asyncio.run(asyncio.wait_for(engine.asearch("a dog"), 1e-6))
    assert asyncio.run(engine.asearch("a dog")) == engine.search("a dog")


def test_several_loops_in_several_threads_and_one_after_the_other(engine):
    expected, found = [engine.search(words) for words in ASKED[:8]], {}

    def loop(number):
        for _ in range(3):
            found[number] = gathered(*(engine.asearch(words) for words in ASKED[:8]))

    threads = [threading.Thread(target=loop, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[i] == expected for i in range(4))


def test_closing_fails_what_waits(engine):
    begun, go_on = threading.Event(), threading.Event()
    answer = engine._search_batch

    def slow(options, **queries):
        begun.set()
        go_on.wait()
        return answer(options, **queries)

    engine._search_batch = slow

    async def run():
        first = asyncio.create_task(engine.asearch("a dog"))
        await asyncio.to_thread(begun.wait)
        waiting = [asyncio.create_task(engine.asearch(words)) for words in ASKED[:3]]
        await asyncio.sleep(0)
        engine.close()
        go_on.set()
        return await asyncio.gather(first, *waiting, return_exceptions=True)

    found = asyncio.run(run())
    assert all(isinstance(each, LibraryError) and "closed" in str(each) for each in found)
    with pytest.raises(LibraryError, match="closed"):
        asyncio.run(engine.asearch("a dog"))


def test_the_thread_ends_when_there_is_nothing_to_do(folder, encoder, monkeypatch):
    monkeypatch.setattr(batching, "IDLE", 0.05)
    engine = SearchEngine(Library(folder), encoder=encoder)
    assert len(asyncio.run(engine.asearch("a dog"))) == 10
    thread = next(each for each in threading.enumerate() if each.name == "clipsearch-batches")
    thread.join(30)
    assert not thread.is_alive()
    assert len(asyncio.run(engine.asearch("a dog"))) == 10, "and another one begins"
    gone = weakref.ref(engine)
    del engine
    deadline = time.monotonic() + 30
    while gone() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert gone() is None
