"""Metadata of any JSON comes back as it was, and what filters can find stays under its name."""

import json
import math
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch import InvalidInputError
from clipsearch.integrations.metadata import REST, pack, unpack

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text() | st.just(REST), VALUES, max_size=5))
def test_any_json_comes_back(metadata):
    packed = pack(metadata)
    assert unpack(packed) == metadata
    for name, value in packed.items():
        assert value is None or isinstance(value, str | int | float) or all(isinstance(each, str) for each in value)
        assert name and "\0" not in name and not (isinstance(value, float) and not math.isfinite(value))
        json.dumps({name: value}, ensure_ascii=False).encode()


def test_what_filters_can_find_keeps_its_name():
    plain = {"price": 3.5, "brand": "acme", "sold": False, "tags": ["a", "b"], "none": None, "empty": []}
    assert pack(plain) == plain
    packed = pack({**plain, "nested": {"a": 1}, 7: "seven"})
    assert {**plain, REST: packed[REST]} == packed and json.loads(packed[REST]) == {"nested": {"a": 1}, "7": "seven"}


@pytest.mark.parametrize("value", [date(2026, 1, 1), {1, 2}, b"bytes", {("a", "b"): 1}])
def test_what_json_cannot_hold_is_named(value):
    with pytest.raises(InvalidInputError, match=r"'when'.*JSON"):
        pack({"when": value, "other": {}})


@pytest.mark.parametrize("value", ["not JSON", "[1]", 5, None, ["a"], "[" * 100_000])
def test_a_value_of_another_origin_stays(value):
    assert unpack({REST: value, "a": 1}) == {REST: value, "a": 1}
