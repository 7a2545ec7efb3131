"""Chips of terms, filters with counts, selection: and all of it in the address."""

import json
import re
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.support.browser import until

pytestmark = pytest.mark.slow


def asked(page):
    """The parameters of the address."""
    return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


def await_query(page, query):
    until(page, f"new URLSearchParams(location.search).get('q') === {json.dumps(query)}")


def total(page):
    page.locator(".grid-holder:not(.is-waiting) .tile").first.wait_for()
    return int(re.search(r"\d+", page.locator(".count").text_content())[0])


def checkbox(page, name):
    return page.locator("#filters").get_by_role("checkbox", name=re.compile(f"^{name}"))


def test_a_chip_changes_sign_and_weight_by_keyboard_and_pointer(visit, address):
    page = visit(f"{address}/?q={quote('horse + 2:stripes - fence')}", expected=[422])
    chips = page.locator(".chips .chip")
    chips.nth(2).wait_for()
    chips.nth(0).get_by_role("button", name="Weight").focus()
    page.keyboard.press("ArrowUp")
    until(page, "document.activeElement.className === 'chip-weight'")
    await_query(page, '2:"horse" + 2:"stripes" - "fence"')
    page.keyboard.press("-")
    until(page, "document.activeElement.className === 'chip-sign'")
    await_query(page, '- 2:"horse" + 2:"stripes" - "fence"')
    chips.nth(2).get_by_role("button", name="More of fence").click()
    chips.nth(1).get_by_role("button", name="Remove stripes").click()
    await_query(page, '- 2:"horse" + "fence"')
    page.get_by_role("searchbox").press("Backspace")  # in an empty box it goes to the last chip
    page.keyboard.press("Delete")
    page.get_by_role("searchbox").fill("- night")
    page.keyboard.press("Enter")
    await_query(page, '- 2:"horse" - "night"')


def test_a_picture_that_is_chosen_is_a_chip_beside_others(visit, address, photographs):
    page = visit(address)
    page.locator(".tile").first.wait_for()
    page.locator("input[type=file]").set_input_files(photographs / "travel" / "p007.jpg")
    page.locator(".chip-picture").wait_for()
    page.get_by_text("best match first").first.wait_for()
    await_query(page, "image:upload")
    with page.expect_response("**/v1/search/image") as answered:
        page.get_by_role("searchbox").fill("- a bicycle")
        page.keyboard.press("Enter")
    assert answered.value.json()["query"].endswith('- "a bicycle"')
    page.go_back()
    await_query(page, "image:upload")
    page.locator(".chip-picture").wait_for()  # it is kept while the page is open
    page.reload()
    page.get_by_text("The picture you searched by is gone").wait_for()
    assert "upload" not in page.url
    page.go_forward()  # of what is left there, nothing says what to find
    page.get_by_text("newest first").first.wait_for()
    assert "q=" not in page.url


def test_a_query_of_which_nothing_is_wanted_says_so(visit, address):
    page = visit(f"{address}/?q=- fence", expected=[422])
    page.locator(".empty[role=alert]").wait_for()
    page.go_back()


def test_filters_count_combine_and_are_undone_by_the_history(visit, address):
    page = visit(address)
    everything = total(page)
    checkbox(page, "Apple iPhone 15").check()
    until(page, "document.querySelector('.filter-chip')")
    some = int(checkbox(page, "Apple iPhone 15").locator("xpath=../*[@class='facet-count']").text_content())
    page.get_by_text(f"{some} items", exact=False).first.wait_for()
    assert some < everything and json.loads(asked(page)["filters"]) == {"cameras": ["Apple iPhone 15"]}
    checkbox(page, "Canon").check()  # others of the same kind stay to choose from
    until(page, "document.querySelectorAll('.filter-chip').length === 2")
    page.get_by_role("button", name="Show the months of 2023").click()
    checkbox(page, "March").check()
    until(page, "document.querySelectorAll('.filter-chip').length === 3")
    page.get_by_role("button", name="Remove the filter Mar 2023").click()
    page.go_back()
    page.go_back()
    page.go_back()
    until(page, "document.querySelectorAll('.filter-chip').length === 1")
    page.get_by_text(f"{some} items", exact=False).first.wait_for()
    page.reload()
    until(page, "document.querySelectorAll('.filter-chip').length === 1")
    page.get_by_role("button", name="Remove the filter Apple").click()
    page.get_by_text(f"{everything} items", exact=False).first.wait_for()


def test_filters_are_a_sheet_on_a_phone(visit, address):
    page = visit(address, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page.locator(".tile").first.wait_for()
    assert not page.locator("#filters").is_visible()
    page.get_by_role("button", name="Filters").click()
    checkbox(page, "Pictures").check()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Remove the filter Pictures").wait_for()
    assert not page.locator("#filters").is_visible()


@pytest.mark.parametrize("width, height", [(360, 740), (1280, 800), (3840, 2160)])
def test_nothing_is_wider_than_the_screen(visit, address, width, height):
    page = visit(
        f"{address}/?q={quote('horse + 2:stripes - fence + id:1 - id:2')}", viewport={"width": width, "height": height}
    )
    page.locator(".tile").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    right = page.evaluate(
        "Math.max(...[...document.querySelectorAll('.tile')].map(e => e.getBoundingClientRect().right))"
    )
    assert right <= width


def test_selection_by_pointer_range_and_keys(visit, address):
    page = visit(address)
    tiles = page.locator(".tile")
    tiles.nth(1).hover()
    tiles.nth(1).locator(".tile-check").click()
    page.get_by_text("1 selected").first.wait_for()
    tiles.nth(4).click(modifiers=["Shift"])
    page.get_by_text("4 selected").first.wait_for()
    tiles.nth(2).click()  # while some are selected, a click selects too
    page.get_by_text("3 selected").first.wait_for()
    page.keyboard.press("Escape")
    until(page, "document.querySelector('.selection-bar').hidden")
    tiles.nth(0).focus()
    page.keyboard.press("x")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.get_by_text("3 selected").first.wait_for()
    page.keyboard.press("Control+a")
    page.get_by_text(f"{total(page)} selected").first.wait_for()
    assert tiles.nth(5).get_attribute("aria-selected") == "true"


def test_one_comes_back_to_where_one_was(visit, address):
    page = visit(address, viewport={"width": 800, "height": 500})
    page.locator(".tile").first.wait_for()
    page.mouse.move(400, 400)
    page.mouse.wheel(0, 900)
    until(page, "scrollY > 700")
    where = page.evaluate("scrollY")
    page.get_by_role("searchbox").fill("a bicycle")
    page.keyboard.press("Enter")
    page.get_by_text("best match first").first.wait_for()
    until(page, "scrollY === 0")
    page.go_back()
    until(page, f"Math.abs(scrollY - {where}) < 2")
