"""The views beside the photographs: months, places, two side by side, and who only reads."""

import json
import re
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.browser import until
from tests.support.libraries import index, photo
from tests.support.serving import serving

pytestmark = pytest.mark.slow


def filters_of(page):
    return json.loads(parse_qs(urlsplit(page.url).query).get("filters", ["{}"])[0])


def months(page):
    return page.locator("[data-month]").evaluate_all("all => all.map((each) => each.dataset.month).sort()")


def test_months_filter_one_by_one_and_as_a_range(visit, address):
    page = visit(f"{address}/?show=timeline")
    page.locator("[data-month]").first.wait_for()
    there = months(page)
    assert there[0] == "2023-01"
    page.locator(f"[data-month='{there[2]}']").click()
    until(page, "document.querySelectorAll('[aria-pressed=true]').length === 1")
    assert filters_of(page) == {"months": [there[2]]}
    page.locator(f"[data-month='{there[6]}']").click(modifiers=["Shift"])
    until(page, "document.querySelectorAll('[aria-pressed=true]').length === 5")
    assert filters_of(page) == {"months": there[2:7]}
    shown = page.get_by_role("button", name=re.compile(r"Show \d+ items"))
    count = int(re.search(r"\d+", shown.text_content())[0])
    shown.click()
    page.get_by_text(f"{count} items, newest first").first.wait_for()


def test_months_are_reached_by_arrows(visit, address):
    page = visit(f"{address}/?show=timeline")
    page.locator("[data-month][tabindex='0']").focus()
    first = page.evaluate("document.activeElement.dataset.month")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.dataset.month")
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.dataset.month")
    assert second > first and below[:4] < second[:4]
    page.keyboard.press("Enter")
    until(page, f"document.querySelector('[aria-pressed=true]')?.dataset.month === '{below}'")
    assert page.evaluate("document.activeElement.dataset.month") == below, "the focus is lost"


def clusters(page):
    """How many pictures each cluster has that is seen."""
    said = page.locator(".cluster-holder:not([hidden]) .cluster").evaluate_all("all => all.map((each) => each.title)")
    return sorted(int(re.match(r"\d+", each)[0]) for each in said)


def test_the_map_shows_every_place_and_opens_clusters(visit, address):
    page = visit(f"{address}/?show=map", reduced_motion="reduce")
    page.locator(".cluster").first.wait_for()
    whole = page.locator(".map-said")
    until(page, "/^\\d+ pictures/.test(document.querySelector('.map-said').textContent)")
    total = int(re.match(r"\d+", whole.text_content())[0])
    assert sum(clusters(page)) == total
    page.get_by_role("button", name=re.compile(r"^\d+ pictures near 4\d\.\d° N, 2\.\d° E")).click()
    until(page, f"!document.querySelector('.map-said').textContent.startsWith('{total} ')")
    page.get_by_role("button", name=re.compile(r"Show \d+ items")).click()
    page.locator(".tile").first.wait_for()
    south, west, north, east = filters_of(page)["box"]
    assert south < 48.86 < north and west < 2.35 < east and "show=map" not in page.url


def test_the_map_is_moved_by_keys_across_the_date_line(visit, address):
    page = visit(f"{address}/?show=map", reduced_motion="reduce")
    page.locator(".cluster").first.wait_for()
    page.locator(".map-area").focus()
    total = sum(clusters(page))
    asked = []
    page.on("request", lambda request: request.url.endswith("/places") and asked.append(request.post_data_json))
    for _ in range(6):
        page.keyboard.press("+")
    for _ in range(90):
        page.keyboard.press("ArrowRight")  # around the world
    page.wait_for_timeout(500)
    boxes = [each["filters"]["box"] for each in asked]
    assert boxes and all(-180 <= west <= 180 and -180 <= east <= 180 for _, west, _, east in boxes)
    page.get_by_role("button", name="Show all places").click()
    until(page, f"document.querySelector('.map-said').textContent.startsWith('{total} ')")


def test_two_pictures_are_zoomed_and_moved_together(visit, address):
    page = visit(f"{address}/?show=compare&ids=2,3")
    pair = page.locator(".pair")
    pair.wait_for()
    page.wait_for_load_state("networkidle")
    pair.focus()
    for key in ("+", "+", "+", "+", "ArrowLeft"):
        page.keyboard.press(key)
    styles = page.locator(".pair-picture").evaluate_all("all => all.map((each) => each.style.transform)")
    scales = {re.search(r"scale\((.*?)\)", each)[1] for each in styles}
    assert len(styles) == 2 and len(scales) == 1 and scales != {"1"}
    assert all("translate(0px" not in each for each in styles)
    names = page.locator(".facts-table thead th").all_text_contents()
    rows = page.locator(".facts-table tbody tr.differs th").all_text_contents()
    assert any(row.startswith("File") for row in rows)
    page.get_by_role("button", name="Swap sides").click()
    until(page, f"document.querySelector('.facts-table thead th').textContent === {json.dumps(names[1])}")


def test_who_only_reads_is_offered_nothing_that_changes(visit, address):
    page = visit(address)
    page.locator(".tile").first.press("x")
    page.get_by_role("button", name="Copy paths").wait_for()
    for name in ("Add tags", "Add to a collection"):
        assert page.get_by_role("button", name=name).count() == 0
    page.goto(f"{address}/?show=collections")
    page.get_by_text("This server only reads").wait_for()
    page.goto(f"{address}/?show=jobs")
    page.get_by_text("This server only reads").wait_for()


def test_the_selection_does_not_lie_over_two_side_by_side(visit, address):
    page = visit(address)
    page.locator(".tile").first.press("x")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("x")
    page.get_by_role("button", name="Compare").click()
    page.locator(".facts-table").wait_for()
    assert page.locator(".selection-bar").is_hidden()
    page.get_by_role("button", name="Back").click()
    page.get_by_text("2 selected").first.wait_for()
    assert page.locator(".selection-bar").is_visible()


CUT = """() => {
  const area = document.querySelector(".map-area").getBoundingClientRect();
  const seen = [...document.querySelectorAll(".cluster-holder:not([hidden]) :is(.cluster, .cluster-count)")];
  return seen.filter((each) => {
    const { left, right, top, bottom } = each.getBoundingClientRect();
    return left < area.left || right > area.right || top < area.top || bottom > area.bottom;
  }).map((each) => each.textContent);
}"""


def test_clusters_at_the_edge_of_a_narrow_map_are_seen_whole(visit, address):
    page = visit(f"{address}/?show=map", viewport={"width": 360, "height": 740}, reduced_motion="reduce")
    page.locator(".cluster").first.wait_for()
    page.wait_for_load_state("networkidle")
    page.locator(".map-area").focus()
    for key in ["-"] * 8 + ["ArrowRight"] * 12:  # the whole world, and around it
        page.keyboard.press(key)
        page.wait_for_timeout(50)  # a frame is drawn
        assert page.evaluate(CUT) == []


def test_a_library_without_places_says_so_instead_of_an_empty_map(visit, tmp_path, encoder):
    photo(tmp_path / "photos" / "a.jpg", 1)
    index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as engine, serving(engine) as served:
        page = visit(f"{served.url}/?show=map")
        page.get_by_role("heading", name="No picture has a place").wait_for()
        assert page.locator(".map-area").is_hidden() and page.locator(".map-buttons").is_hidden()
        page.wait_for_load_state("networkidle")  # the server ends here


def test_a_map_without_what_the_filters_leave_says_that_they_leave_nothing(visit, address):
    page = visit(f"{address}/?show=map&filters=" + quote(json.dumps({"caption": "neverwritten"})))
    page.get_by_text("No item passes all of these filters.").first.wait_for()
    assert not page.locator(".map-area").is_visible()
