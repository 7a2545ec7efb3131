"""A library with dates, places, cameras and captions, what serves it, and pages of it in a real browser."""

from contextlib import ExitStack

import pytest

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.api import SMALL
from tests.support.browser import MISSING, browsing, find_chromium, open_page
from tests.support.libraries import index
from tests.support.page_library import write_pictures
from tests.support.serving import TOKEN, serving


@pytest.fixture(scope="package")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "photos"
    write_pictures(folder)
    return folder


@pytest.fixture(scope="package")
def page_library(photographs, encoder):
    folder = photographs.parent / "library"
    index(folder, photographs, encoder=encoder)
    return folder


@pytest.fixture(scope="package")
def address(page_library, encoder):
    """Where the library is served, to who only reads."""
    with SearchEngine(Library(page_library), encoder=encoder) as engine, serving(engine) as served:
        yield served.url


@pytest.fixture
def pages():
    """The pages that are open. Who stops a server closes them first: a page that still loads would find it gone."""
    with ExitStack() as opened:
        yield opened


@pytest.fixture
def writable_address(tmp_path, encoder, pages):
    """Where a library of its own is served, to who has the token."""
    write_pictures(tmp_path / "photos", count=12)
    index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    options = {"token": TOKEN, "allow_write": True, "index_folders": (str(tmp_path / "photos"),)}
    with SearchEngine(Library(tmp_path / "library"), SMALL, encoder) as engine, serving(engine, **options) as served:
        yield served.url
        pages.close()


@pytest.fixture(scope="package")
def browser():
    """Of the package, not of the session: tests elsewhere run event loops of their own in this thread."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(MISSING)
    with browsing(chromium) as started:
        yield started


@pytest.fixture
def visit(browser, pages):
    """Opens pages. At the end nothing may have gone wrong in them, but for the statuses that were expected."""
    faults = []

    def go(address, expected=(), **options):
        page, found = open_page(browser, address, **options)
        pages.callback(page.context.close)
        found.expected |= set(expected)
        faults.append(found)
        return page

    yield go
    pages.close()
    assert [each.found for each in faults] == [[] for _ in faults]
