"""A library of small photographs and a text, and an engine for it."""

import pytest

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.libraries import index, photos


@pytest.fixture(scope="package")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "photos"
    photos(folder / "sea", 5)
    photos(folder / "hills", 3, first=10)
    (folder / "note.txt").write_text("A note about a red bicycle.\n")
    return folder


@pytest.fixture(scope="package")
def library(pictures, encoder):
    folder = pictures.parent / "library"
    index(folder, pictures, encoder=encoder)
    return folder


@pytest.fixture
def engine(library, encoder):
    with SearchEngine(Library(library), encoder=encoder, may_be_empty=True) as opened:
        yield opened
