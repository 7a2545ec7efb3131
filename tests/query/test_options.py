"""The options of a search: one object, checked once, the same from Python, the command line and the daemon."""

import asyncio
import inspect
import json
from dataclasses import fields

import click
import numpy as np
import pytest

import clipsearch
from clipsearch import Filter, InvalidInputError, Modality, Record, SearchEngine
from clipsearch.cli.query import query
from clipsearch.cli.similar import similar
from clipsearch.query.options import SearchOptions

NAMES = {each.name for each in fields(SearchOptions)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"k": 0},
        {"k": 2.5},
        {"k": "10"},
        {"modality": "film"},
        {"fusion": "sum"},
        {"min_confidence": 1.1},
        {"min_confidence": -0.1},
        {"min_confidence": "0.9"},
        {"min_score": -1.1},
        {"min_score": True},
        {"min_score": float("nan")},
    ],
)
def test_a_wrong_value_is_an_error_that_names_it(wrong):
    with pytest.raises(InvalidInputError, match=str(*wrong.values())):
        SearchOptions(**wrong)


def test_modalities():
    assert SearchOptions().modalities == SearchOptions(modality="any").modalities == tuple(Modality)
    assert SearchOptions(modality="text").modalities == (Modality.TEXT,)


@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(),
        SearchOptions(k=3, modality="image", fusion="rank", collapse=True, hybrid=False, cut=True, exclude_self=True),
        SearchOptions(filters=Filter(types=("png",)) & ~Filter(ids=[1, 2]), min_confidence=0.5, min_score=-0.25),
    ],
)
def test_as_json_and_back(options):
    values = options.to_values()
    assert SearchOptions.from_values(json.loads(json.dumps(values))) == options
    assert not values or options != SearchOptions()


def test_python_has_every_option_with_the_same_default():
    search = inspect.signature(SearchEngine.search).parameters
    batch = inspect.signature(SearchEngine.search_batch).parameters
    of_one = {"fusion", "understand"}
    assert NAMES <= {*search} and NAMES - of_one <= {*batch}
    for name in NAMES:
        assert search[name].default == getattr(SearchOptions(), name), name
        assert name in of_one or batch[name].default == search[name].default, name


def test_the_command_line_has_every_option():
    own = {param.name for param in query.params if isinstance(param, click.Option)}
    assert NAMES - {"filters", "kind", "understand", "suggest"} <= own and {"plain", "suggesting"} <= own
    alike = {param.name for param in similar.params if isinstance(param, click.Option)}
    assert NAMES - {"filters", "kind", "fusion", "hybrid", "exclude_self", "understand", "suggest"} <= alike


@pytest.mark.parametrize("wrong", [np.ones(2), "price < 3", [], [Filter()], {}, {"where": {"price": 1}}, 0], ids=repr)
def test_what_is_no_filter_is_refused_by_every_method_and_deletes_nothing(tmp_path, wrong):
    with clipsearch.open(tmp_path / "lib", create=True, model="m", dim=2) as engine:
        engine.add([Record("a", vector=[1, 2])])
        calls = [
            lambda: engine.search(vector=[1, 2], filters=wrong),
            lambda: engine.search_batch(vectors=np.ones((1, 2)), filters=wrong),
            lambda: asyncio.run(engine.asearch(vector=[1, 2], filters=wrong)),
            lambda: engine.find(wrong),
            lambda: engine.count(wrong),
            lambda: list(engine.items(wrong)),
            lambda: engine.page(wrong),
            lambda: engine.delete(filters=wrong),
        ]
        for call in calls:
            with pytest.raises(InvalidInputError, match="filters must be a Filter, not"):
                call()
        assert engine.count() == 1
