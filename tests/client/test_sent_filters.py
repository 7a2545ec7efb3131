"""Filters that are sent build the same filters on the server."""

import json
import os

from hypothesis import given
from hypothesis import strategies as st

from clipsearch import Filter
from clipsearch.client.filters import to_form
from clipsearch.filtering import absolute
from clipsearch.server.forms import Filters

words = st.text("abc déß中\"'%", min_size=1, max_size=6).filter(lambda text: any(c.isalnum() for c in text))
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
scalars = scalars | names
ordered = st.integers(-5, 5) | st.floats(-5, 5) | names
conditions = st.one_of(
    scalars,
    st.lists(scalars, max_size=3),
    st.fixed_dictionaries({}, optional={"lt": ordered, "ge": ordered, "ne": scalars, "exists": st.booleans()}).filter(
        bool
    ),
    st.fixed_dictionaries({"nin": st.lists(scalars, max_size=3), "contains": names}),
)
times = st.datetimes()
simple = st.fixed_dictionaries(
    {},
    optional={
        "ids": st.frozensets(st.integers(1, 2**63 - 1), min_size=1, max_size=3),
        "folders": st.lists(st.sampled_from(["/a", "/b c", "d"]), min_size=1, max_size=2),
        "taken_from": times,
        "cameras": st.lists(words, min_size=1, max_size=2),
        "min_width": st.integers(0, 10**9),
        "min_height": st.integers(0, 10**9),
        "types": st.lists(st.sampled_from(["image", "text", "png"]), min_size=1, max_size=2),
        "orientation": st.sampled_from(["landscape", "portrait", "square"]),
        "min_rating": st.integers(1, 5),
        "color_labels": st.lists(words.filter(str.strip), min_size=1, max_size=2),
        "near": st.tuples(st.floats(-90, 90), st.floats(-180, 180), st.floats(0.001, 1e5)),
        "box": st.tuples(st.floats(-90, 0), st.floats(-180, 180), st.floats(0, 90), st.floats(-180, 180)),
        "collections": st.lists(words, min_size=1, max_size=2),
        "caption": st.sampled_from(["a b", '"a phrase"', "begin*"]),
        "tags": st.lists(words, min_size=1, max_size=2),
        "keys": st.lists(names, min_size=1, max_size=2),
        "where": st.dictionaries(names, conditions, min_size=1, max_size=3),
    },
).map(lambda given: Filter(**given)) | times.map(lambda moment: Filter(taken_until=moment))


def combined(part):
    both, either = st.builds(Filter.__and__, part, part), st.builds(Filter.__or__, part, part)
    return both | either | part.map(Filter.__invert__)


filters = st.recursive(simple, combined, max_leaves=6)


@given(filters)
def test_a_filter_comes_as_it_was_sent(wanted):
    sent = json.loads(json.dumps(to_form(wanted), allow_nan=False))
    built = Filters.model_validate(sent).build()
    assert built == absolute(wanted)


def test_folders_are_those_that_they_would_be_here():
    assert to_form(Filter(folders=("d",))) == {"folders": [os.path.join(os.getcwd(), "d")]}
    assert to_form(None) is None


def test_no_ids_allow_nothing():
    assert Filters.model_validate(to_form(Filter(ids=()))).build() == Filter(none_of=(Filter(),))
