"""Several libraries searched as one: what they answer equals what one library of all items does."""

import shutil

import pytest

import clipsearch
from clipsearch import Filter, LibraryError, Text
from tests.support.joined import READS, SEARCHES, SETTINGS, fill, keys, make, records, seen


@pytest.fixture(scope="module")
def libraries(tmp_path_factory, encoder):
    whole, parts = make(tmp_path_factory.mktemp("joint"), encoder)
    with whole, clipsearch.open(parts, settings=SETTINGS) as joint:
        joint._encoder = encoder
        yield whole, joint
    for part in parts:
        part.close()


@pytest.mark.parametrize("name", SEARCHES)
def test_several_libraries_find_what_one_does(libraries, name):
    whole, joint = libraries
    expected, found = (SEARCHES[name](each) for each in (whole, joint))
    assert seen(found) == seen(expected)


@pytest.mark.parametrize("name", READS)
def test_several_libraries_say_what_one_does(libraries, name):
    whole, joint = libraries
    assert READS[name](joint) == READS[name](whole)
