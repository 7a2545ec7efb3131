"""The grid with 100,000 items: what is in the document stays little, wherever one is in it."""

import numpy as np
import pytest

import clipsearch
from clipsearch.config import Settings
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.browser import until
from tests.support.serving import serving

pytestmark = pytest.mark.slow

COUNT = 100_000
MOST_ELEMENTS = 3000

SEEN = """[...document.querySelectorAll(".tile")].some((tile) => {
  const box = tile.getBoundingClientRect();
  return box.top >= 0 && box.bottom <= innerHeight && tile.textContent;
})"""


@pytest.fixture(scope="module")
def large_address(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("large") / "library"
    settings = Settings(threads=1, offline=True)
    vectors = np.random.default_rng(0).standard_normal((COUNT, encoder.dim), dtype=np.float32)
    with clipsearch.open(folder, create=True, model="builtin-small", settings=settings) as made:
        made.add({"id": f"r{n}", "text": f"Record {n}", "vector": vectors[n]} for n in range(COUNT))
    with SearchEngine(Library(folder), settings, encoder) as engine, serving(engine) as served:
        yield served.url


def elements(page):
    return page.evaluate("document.querySelectorAll('*').length")


@pytest.mark.parametrize("path, parts", [("/", (0.01, 0.02, 0.5, 0.999, 0.25)), ("/?q=record", (0.01, 0.02, 0.05))])
def test_the_document_stays_small_however_far_one_scrolls(visit, large_address, path, parts):
    """The order of a ranked answer takes the server seconds far down, which is not what this is about."""
    page = visit(large_address + path)
    page.get_by_text("100,000 items").first.wait_for()
    page.locator(".tile").first.wait_for()
    height = page.evaluate("document.documentElement.scrollHeight")
    assert height > 1_000_000
    for part in parts:
        page.evaluate("top => scrollTo(0, top)", height * part)
        until(page, SEEN)
        assert elements(page) < MOST_ELEMENTS


def test_the_last_of_all_items_is_reached_by_a_key(visit, large_address):
    page = visit(large_address)
    page.locator(".tile").first.focus()
    page.keyboard.press("Control+End")
    until(page, f"document.activeElement.dataset.position === '{COUNT - 1}'")
    assert elements(page) < MOST_ELEMENTS


@pytest.mark.parametrize("path", ["/", "/?q=record"])
def test_all_are_selected_up_to_a_limit(visit, large_address, path):
    page = visit(large_address + path)
    page.locator(".tile").first.wait_for()
    page.keyboard.press("Control+a")
    page.locator(".toast", has_text="Only the first 10,000").wait_for()
    assert page.locator(".selection-count").text_content() == "10,000 selected"
    assert elements(page) < MOST_ELEMENTS


def test_selecting_all_ends_when_the_selection_is_cleared(visit, large_address):
    page = visit(large_address)
    page.locator(".tile").first.wait_for()
    held = []
    page.route(
        "**/v1/find",
        lambda route: held.append(route) if route.request.post_data_json["offset"] == 2000 else route.continue_(),
    )
    page.keyboard.press("Control+a")
    page.get_by_text("2,000 selected").first.wait_for()
    while not held:
        page.wait_for_timeout(20)
    page.keyboard.press("Escape")
    until(page, "document.querySelector('.selection-bar').hidden")
    with page.expect_response("**/v1/find"):
        held[0].continue_()
    page.wait_for_timeout(200)
    assert page.locator(".selection-bar").is_hidden() and len(held) == 1
