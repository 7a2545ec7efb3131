"""The same calls of an engine and of a client of its server: equal answers, of equal types, and equal errors."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

import clipsearch
from clipsearch import AsyncClient, Filter, Indexed, Picture, Text
from clipsearch.query.options import SearchOptions
from tests.support.serving import TOKEN


def saved(e, f):
    """What is kept of searches, and what they find."""
    folder = Filter(folders=(str(f / "photos"),))
    made = [
        e.save_search("Waves / 夏", "waves", k=3, filters=~folder | Filter(types=("image",)), min_confidence=0.1),
        e.save_search("terms", Text("waves") - Indexed(2), fusion="rank", modality="image"),
        e.save_search("looks", image=str(f / "photos/sea/p002.jpg"), exclude_self=True, k=4),
        e.save_search("vector", vector=np.linspace(-1, 1, 257), kind="text", shown="a ramp", during="last year"),
    ]
    names = [each.name for each in made]
    answers = [e.search_saved(name, k=2) for name in (names[0].upper(), *names[1:])]
    assert len(answers[2]) == 2
    new = [e.search_saved(names[0], new=True), e.run_search(names[0]), e.run_search(names[0], new=True).results]
    told = [(each.name, each.query, dict(each.options)) for each in e.saved_searches()]
    assert e.saved_searches() == sorted(made, key=lambda each: each.name.casefold())
    for name in names:
        e.delete_search(name)
    return told, answers, new, e.saved_searches()


CALLS = {
    "words": lambda e, f: e.search("a red bicycle"),
    "a page": lambda e, f: e.search("a red bicycle", k=2, offset=3),
    "texts": lambda e, f: e.search("a red bicycle", modality="text"),
    "pictures": lambda e, f: e.search("a red bicycle", modality=clipsearch.Modality.IMAGE),
    "no words": lambda e, f: e.search("a red bicycle", hybrid=False, k=20),
    "cut": lambda e, f: e.search("a red bicycle", cut=True, min_confidence=0.2, min_score=-0.5),
    "all left out": lambda e, f: e.search("a red bicycle", min_score=0.999),
    "collapsed": lambda e, f: e.search("waves", collapse=True, k=20),
    "a term": lambda e, f: e.search(Text("bicycle")),
    "terms": lambda e, f: e.search(Text("waves") + 2 * Text("a red mug") - Text("fence")),
    "terms with a picture": lambda e, f: e.search(
        2 * Picture(str(f / "photos/sea/p002.jpg"))
        + Text("waves")
        - Picture(str(f / "photos/sea/p002.jpg"))
        + Indexed(3)
    ),
    "an or": lambda e, f: e.search(
        (Picture(str(f / "photos/sea/p002.jpg")) | Text("waves")) & ~Text("fence") & ~Filter(where={"sold": True})
    ),
    "an or with a filter": lambda e, f: e.search(
        Text("waves") | Filter(folders=(str(f / "photos/hills"),)) | (Text("a mug") & Filter(types=("text",))), k=20
    ),
    "a picture alone": lambda e, f: e.search(Picture(str(f / "photos/sea/p002.jpg")), k=3),
    "fusion": lambda e, f: e.search(Text("waves") + Text("a red mug"), fusion="rank"),
    "like an item": lambda e, f: e.search(Indexed(2) - Indexed(3), k=4),
    "a path": lambda e, f: e.search(image=f / "photos/sea/p002.jpg", k=3),
    "not itself": lambda e, f: e.search(image=str(f / "photos/sea/p002.jpg"), k=3, exclude_self=True),
    "itself filtered": lambda e, f: e.search(
        image=f / "photos/sea/p002.jpg", exclude_self=True, filters=Filter(types=("image",))
    ),
    "bytes": lambda e, f: e.search(image=(f / "photos/sea/p002.jpg").read_bytes(), k=3),
    "an open picture": lambda e, f: e.search(image=Image.open(f / "photos/sea/p002.jpg"), k=3),
    "pixels": lambda e, f: e.search(image=np.full((40, 50, 3), 200, np.uint8), k=3),
    "a part of a picture": lambda e, f: e.search(image=f / "photos/sea/p002.jpg", crop=(0.25, 0, 0.5, 1), k=3),
    "a part in pixels": lambda e, f: e.search(image=f / "photos/sea/p002.jpg", crop="8,8,40,30px", exclude_self=True),
    "matches": lambda e, f: e.match(f / "photos/sea/p002.jpg"),
    "a match of a part": lambda e, f: e.match(f / "photos/sea/p001.jpg", k=1, crop=(0, 0, 0.9, 1)),
    "no match": lambda e, f: e.match(np.full((40, 50, 3), 200, np.uint8), filters=Filter(types=("image",))),
    "a vector": lambda e, f: e.search(vector=np.linspace(-1, 1, 257), k=3),
    "a vector of a text": lambda e, f: e.search(vector=np.linspace(-1, 1, 257).tolist(), kind="text"),
    "vectors": lambda e, f: e.search(vector=np.linspace(-1, 1, 514).reshape(2, 257), k=2),
    "filters": lambda e, f: e.search("a", filters=Filter(folders=(str(f / "photos/hills"),)) | Filter(keys=("sku-1",))),
    "options": lambda e, f: e.search("a", k=3, filters=~Filter(where={"sold": True})),
    "batch of texts": lambda e, f: e.search_batch(texts=["a mug", "waves", "a mug"], k=2),
    "batch of pictures": lambda e, f: e.search_batch(images=[f / "photos/sea/p002.jpg", f / "photos/hills/p011.jpg"]),
    "batch of vectors": lambda e, f: e.search_batch(vectors=np.linspace(-1, 1, 771).reshape(3, 257), kind="image"),
    "an empty batch": lambda e, f: e.search_batch(texts=[]),
    "understood words": lambda e, f: (e.understand("waves in July 2024"), e.understand("waves")),
    "a search understood": lambda e, f: e.search("waves last month", understand=True, k=3),
    "a search without words": lambda e, f: e.search("photos from 2024-07", understand=True),
    "in a place": lambda e, f: e.find(Filter(places=("Spain",)) | Filter(types=("text",))),
    "find": lambda e, f: e.find(),
    "find some": lambda e, f: e.find(Filter(types=("image",)), limit=3, offset=1),
    "get": lambda e, f: e.get("sku-1"),
    "get several": lambda e, f: e.get(["sku-2", "none", str(f / "photos/note.txt"), "sku-2"]),
    "get none": lambda e, f: (e.get("none"), e.get([])),
    "count": lambda e, f: (e.count(), e.count(Filter(where={"price": {"lt": 20}})), e.count(Filter(ids=()))),
    "facets": lambda e, f: (e.facets(), e.facets(Filter(types=("text",)), limit=1)),
    "sorted": lambda e, f: e.search("a photo", k=5, offset=1, sort="name", min_confidence=0.0),
    "diverse": lambda e, f: e.search("a photo", k=5, diverse=True),
    "explained": lambda e, f: e.search("a photo of the sea", k=5, explain=True, filters=Filter(types=("image",))),
    "explained terms": lambda e, f: e.search(Text("a photo") - Text("a sea"), k=5, explain=True, diverse=True),
    "a sorted list": lambda e, f: e.find(sort="size", limit=3, offset=1),
    "places": lambda e, f: e.places(),
    "places in a box": lambda e, f: e.places(Filter(box=(-10, 170, 10, -170)), cells=3),
    "collections": lambda e, f: (e.collections(), e.find(Filter(collections=("Summer",)))),
    "suggestions": lambda e, f: (
        e.search("zqxwv bycicle", suggest=True, min_confidence=1.0, k=3),
        e.search("zqxwv bycicle", min_confidence=1.0, k=3),
    ),
    "saved searches": lambda e, f: saved(e, f),
    "page": lambda e, f: e.page(limit=4),
    "items": lambda e, f: list(e.items(Filter(types=("image",)), batch=2)),
    "stored vectors": lambda e, f: e.vectors(["sku-3", "sku-1", "sku-3"]).tolist(),
    "a stored vector": lambda e, f: e.vectors("sku-3", modality="text").tolist(),
    "no vectors": lambda e, f: e.vectors([]).shape,
    "embedded texts": lambda e, f: e.embed(texts=["a cat", "a dog " * 300]).tolist(),
    "embedded queries": lambda e, f: e.embed(texts=["a cat"], kind="query").tolist(),
    "embedded pictures": lambda e, f: e.embed(images=[f / "photos/sea/p002.jpg"]).tolist(),
    "embedded nothing": lambda e, f: e.embed(images=[]).shape,
    "thumbnail": lambda e, f: (e.thumbnail("sku-3"), e.thumbnail(str(f / "photos/sea/p001.jpg"), side=64)),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_client_answers_as_the_engine(engine, remote, folder, name):
    expected = CALLS[name](engine, folder)
    found = CALLS[name](remote, folder)
    assert found == expected
    assert type(found) is type(expected) and repr(found) == repr(expected)  # 1 is not 1.0, nor True


WRONG = {
    "no words": lambda e, f: e.search("  "),
    "no query": lambda e, f: e.search(),
    "two queries": lambda e, f: e.search("a", vector=[1.0]),
    "a number": lambda e, f: e.search(3),
    "k": lambda e, f: e.search("a", k=0),
    "an order": lambda e, f: e.search("a", sort="age"),
    "two orders": lambda e, f: e.search("a", sort="size", diverse=True),
    "an order of a list": lambda e, f: e.find(sort="relevance"),
    "modality": lambda e, f: e.search("a", modality="film"),
    "kind of a text": lambda e, f: e.search("a", kind="text"),
    "an unknown item": lambda e, f: e.search(Indexed(999_999)),
    "only against": lambda e, f: e.search(-Text("a")),
    "only filters": lambda e, f: e.search(clipsearch.parse('tag:"a" or tag:"b"')),
    "an or that is only against": lambda e, f: e.search(Text("a") | -Text("b")),
    "a fusion of an or": lambda e, f: e.search(Text("a") | Text("b"), fusion="rank"),
    "a missing picture": lambda e, f: e.search(image=f / "none.jpg"),
    "no picture": lambda e, f: e.search(image=b"no picture"),
    "a thing": lambda e, f: e.search(image=object()),
    "a part of a text": lambda e, f: e.search("a", crop=(0, 0, 1, 1)),
    "a part of terms": lambda e, f: e.search(Picture(str(f / "photos/sea/p002.jpg")), crop=(0, 0, 1, 1)),
    "no part": lambda e, f: e.search(image=f / "photos/sea/p002.jpg", crop=(0, 0, 2, 1)),
    "a part outside": lambda e, f: e.search(image=f / "photos/sea/p002.jpg", crop="0,0,900,10px"),
    "no matches": lambda e, f: e.match(f / "photos/sea/p002.jpg", k=0),
    "a match of nothing": lambda e, f: e.match(b"no picture"),
    "a short vector": lambda e, f: e.search(vector=[1.0, 2.0]),
    "no direction": lambda e, f: e.search(vector=np.zeros(257)),
    "not a number": lambda e, f: e.search(vector=np.full(257, np.nan)),
    "a batch of a text": lambda e, f: e.search_batch(texts="a"),
    "an unknown folder": lambda e, f: e.find(Filter(folders=("/nowhere",))),
    "a filter": lambda e, f: e.find({"types": ["image"]}),
    "a limit": lambda e, f: e.find(limit=0),
    "a cursor": lambda e, f: e.page(cursor="x"),
    "an unknown key": lambda e, f: e.vectors(["none"]),
    "no such vector": lambda e, f: e.vectors(["sku-1"], modality="image"),
    "an empty key": lambda e, f: e.get(""),
    "nothing to embed": lambda e, f: e.embed(),
    "an empty text": lambda e, f: e.embed(texts=["a", " "]),
    "a thumbnail of a text": lambda e, f: e.thumbnail("sku-1"),
    "a thumbnail of nothing": lambda e, f: e.thumbnail("none"),
    "a large thumbnail": lambda e, f: e.thumbnail("sku-3", side=5000),
    "an update of nothing": lambda e, f: e.update("none", metadata={"a": 1}),
    "a value": lambda e, f: e.update("sku-1", metadata={"a": object()}),
    "a deletion of nothing": lambda e, f: e.delete(),
    "an unknown collection": lambda e, f: e.collect("Winter", create=False),
    "a name of none": lambda e, f: e.rename_collection("Winter", "x"),
    "no collection": lambda e, f: e.delete_collection("Winter"),
    "a collection of nothing": lambda e, f: e.collect("Summer", add=["none"]),
    "an unknown search": lambda e, f: e.search_saved("Winter"),
    "no search": lambda e, f: e.delete_search("Winter"),
    "nothing to remember": lambda e, f: e.remember_search("Winter", "x"),
    "a search for nothing": lambda e, f: e.save_search("x", " "),
    "a saved picture among terms": lambda e, f: e.save_search("x", Text("a") + Picture(str(f / "photos/sea/p002.jpg"))),
    "a tag of nothing": lambda e, f: e.tag("none", add="x"),
    "a tag twice": lambda e, f: e.tag(1, add="x", remove="X"),
    "too many cells": lambda e, f: e.places(cells=500),
    "one record": lambda e, f: e.add({"id": "a"}),
    "keep": lambda e, f: e.add([], keep="all"),
    "an unknown folder to index": lambda e, f: e.index(f / "none"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_client_raises_what_the_engine_raises(engine, remote, folder, name):
    with pytest.raises(clipsearch.ClipSearchError) as expected:
        WRONG[name](engine, folder)
    kind = next(each for each in type(expected.value).__mro__ if each.__name__ in clipsearch.__all__)
    with pytest.raises(kind) as found:
        WRONG[name](remote, folder)
    assert str(found.value)


def test_a_query_that_cannot_be_read_says_where(client):
    # A client sends terms, so that this takes a server that reads another language than ours.
    from clipsearch.client.calls import Call

    def steps():
        yield Call("POST", "/v1/search", dict, {"query": '"a" + '})

    with pytest.raises(clipsearch.QuerySyntaxError) as error:
        client._connection.run(steps())
    assert error.value.position == 5


def test_a_query_brings_one_picture(client, folder):
    two = Picture(str(folder / "photos/sea/p002.jpg")) + Picture(str(folder / "photos/sea/p001.jpg"))
    with pytest.raises(clipsearch.InvalidInputError, match="2 pictures"):
        client.search(two)


def test_pages_go_on_by_their_cursors(engine, client):
    first, expected = client.page(limit=4), engine.page(limit=4)
    assert client.page(cursor=first.cursor, limit=400) == engine.page(cursor=expected.cursor, limit=400)
    assert client.answer("a mug", options=SearchOptions(k=2)) == engine.search("a mug", k=2)


def test_times_are_exact(engine, client):
    moment = datetime(2024, 6, 1, 12, 30, 15, 250_001)
    for wanted in (Filter(taken_from=moment), Filter(taken_until=moment)):
        assert client.find(wanted) == engine.find(wanted)


def test_threads_share_a_client(engine, client):
    words = [f"a picture of {n}" for n in range(64)]
    expected = [engine.search(each, k=4) for each in words]
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(lambda each: client.search(each, k=4), words)) == expected


def test_tasks_share_a_client(engine, served):
    words = [f"a picture of {n}" for n in range(64)]

    async def ask():
        async with AsyncClient(served.url, TOKEN) as opened:
            return await asyncio.gather(*(opened.asearch(each, k=4) for each in words))

    assert asyncio.run(ask()) == [engine.search(each, k=4) for each in words]


async def test_code_for_asyncio_works_with_either(engine, client):
    assert await client.asearch("waves", k=2) == await engine.asearch("waves", k=2)
    assert await client.asearch_batch(texts=["waves"], k=2) == await engine.asearch_batch(texts=["waves"], k=2)
