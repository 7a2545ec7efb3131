"""What an engine gives and takes travels to another process and back, and is equal there."""

import copy
import multiprocessing
import pickle
from dataclasses import replace
from datetime import datetime

import pytest

import clipsearch
from clipsearch import AddReport, Filter, Indexed, Passage, Picture, PictureInfo, Settings, Text, TextLine
from clipsearch.query.options import SearchOptions
from tests.support.sentences import sentence_library


@pytest.fixture(scope="module")
def engine(encoder, tmp_path_factory):
    return sentence_library(tmp_path_factory.mktemp("trips"), encoder)


@pytest.fixture(scope="module")
def things(engine):
    answer = engine.search("a dog on a beach", k=5, collapse=True, cut=True)
    line = TextLine("STOP", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), 0.9)
    picture = PictureInfo(4, 3, datetime(2024, 5, 1), "Canon", 1.5, -2.5)
    item = replace(answer[0].item, picture=picture, metadata={"tags": ["a", "b"], "price": 3.5, "sold": None}, text="t")
    whole = replace(answer[0], item=item, recognised=(line,), passage=Passage("words", 1, 2))
    where = Filter(
        where={"price": {"lt": 20}, "brand": ["a", "b"]},
        ids=frozenset({1, 2}),
        near=(1, 2, 3),
        caption='"a dog"',
        taken_from=datetime(2024, 1, 1),
    )
    return {
        "answer": answer,
        "answer of all fields": replace(answer, hits=(whole,), warnings=("a warning",), offset=3),
        "hit": whole,
        "item": item,
        "listing": engine.find(where & ~Filter(types=("text",)), limit=3),
        "filter": where & ~Filter(cameras=("canon",)),
        "query": 2 * Text("a dog") - Picture("cat.jpg") + Indexed(3),
        "terms": (Text("a"), Picture("b.jpg"), Indexed(1)),
        "options": SearchOptions(k=3, offset=2, filters=where, kind="text"),
        "settings": Settings(offline=True),
        "page": engine.page(limit=3),
        "report": AddReport(1, 2, 3, (("sku-9", "no text"),), 0.5),
    }


NAMES = "answer,answer of all fields,hit,item,listing,filter,query,terms,options,settings,page,report".split(",")


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_is_equal(things, name):
    thing = things[name]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(thing, protocol))
        assert again == thing and type(again) is type(thing)
    assert copy.copy(thing) == copy.deepcopy(thing) == thing


def returned(thing):
    """Give back what came, with how it reads there."""
    return thing, repr(thing)


def test_another_process_gets_and_gives_them(things):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for name, (back, seen) in zip(things, pool.map(returned, things.values()), strict=True):
            assert back == things[name], name
            if "frozenset" not in seen:  # which has no order
                assert seen == repr(things[name])


@pytest.mark.parametrize("name", [name for name in clipsearch.__all__ if name.endswith("Error")])
def test_errors_keep_what_they_say(name):
    error = getattr(clipsearch, name)("it failed")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error) == "it failed"


@pytest.mark.parametrize("taken", [pickle.dumps, copy.copy, copy.deepcopy])
def test_an_engine_says_how_to_have_another(engine, taken):
    with pytest.raises(TypeError, match="A SearchEngine cannot be pickled or copied") as caught:
        taken(engine)
    assert f"clipsearch.open({str(engine.library.folder)!r})" in str(caught.value)
