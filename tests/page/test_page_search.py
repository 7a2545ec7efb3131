"""Searching in the page: by keyboard alone, with a picture that is dropped, with queries that cannot be read."""

import base64
import re

import pytest

from tests.support.browser import until
from tests.support.page_library import HOSTILE, HOSTILE_NAME
from tests.support.serving import TOKEN

pytestmark = pytest.mark.slow

DROP = """([name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragover", "drop"]) {
    const event = new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
    document.querySelector("main").dispatchEvent(event);
  }
}"""


def drop(page, name, media_type, data):
    page.evaluate(DROP, [name, media_type, base64.b64encode(data).decode()])


def shown(page):
    """The ids of the items in the grid, in order."""
    page.locator(".tile").first.wait_for()
    return page.locator(".tile").evaluate_all("tiles => tiles.map((tile) => Number(tile.dataset.id))")


def focused(page):
    return page.evaluate("document.activeElement.dataset.id ?? document.activeElement.id")


def test_from_search_to_the_full_view_and_back_by_keyboard_alone(visit, address):
    page = visit(address)
    page.locator(".tile").first.wait_for()
    keys = page.keyboard
    keys.press("/")
    assert focused(page) == "search"
    keys.type("a red bicycle by the sea")
    keys.press("Enter")
    page.wait_for_url("**/?q=a+red+bicycle+by+the+sea")
    page.get_by_text("best match first").first.wait_for()
    page.locator(".grid-holder:not(.is-waiting) .tile").first.wait_for()
    found = shown(page)

    keys.press("ArrowDown")
    assert focused(page) == str(found[0])
    keys.press("ArrowRight")
    assert focused(page) == str(found[1])
    keys.press("m")  # more like this
    page.wait_for_url(lambda url: f"id%3A{found[1]}" in url)
    page.locator(".chips .chip").nth(1).wait_for()
    until(page, "document.activeElement.matches('.grid-holder:not(.is-waiting) .tile')")

    opened = focused(page)
    keys.press("Enter")
    dialog = page.locator("dialog.viewer[open]")
    dialog.wait_for()
    assert f"view={opened}" in page.url
    dialog.get_by_text("File", exact=True).wait_for()
    keys.press("ArrowRight")
    page.wait_for_url(lambda url: f"view={opened}" not in url)
    neighbour = re.search(r"view=(\d+)", page.url)[1]
    keys.press("Escape")
    dialog.wait_for(state="hidden")
    assert "view=" not in page.url and focused(page) == neighbour

    page.go_back()  # the browser does this for Alt and the left arrow, but not without a window
    page.wait_for_url("**/?q=a+red+bicycle+by+the+sea")
    until(page, "!document.querySelector('.chips .chip')")
    page.locator(".grid-holder:not(.is-waiting) .tile").first.wait_for()
    assert shown(page)[:5] == found[:5] and page.locator("#search").input_value() == "a red bicycle by the sea"


def test_a_query_that_cannot_be_read_is_marked_where_it_ends(visit, address):
    page = visit(address, expected=[422])
    search = page.get_by_role("searchbox")
    search.fill('cat + "dog')
    page.get_by_text("Press Enter to search").wait_for()
    search.press("Enter")
    fault = page.locator("#search-fault")
    until(page, "document.getElementById('search-fault').textContent")
    assert page.locator(".search-hint").text_content() == ""
    assert search.get_attribute("aria-invalid") == "true" and search.input_value() == 'cat + "dog'
    assert page.locator(".mirror mark").text_content() == '"'
    search.fill('cat + "dog"')
    search.press("Enter")
    page.locator(".chips .chip").nth(1).wait_for()
    assert fault.text_content() == ""


def test_a_picture_that_is_dropped_finds_itself(visit, address, photographs):
    page = visit(address)
    page.locator(".tile").first.wait_for()
    drop(page, "p007.jpg", "image/jpeg", (photographs / "travel" / "p007.jpg").read_bytes())
    page.locator(".chip-picture").wait_for()
    page.locator(".grid-holder:not(.is-waiting) .tile").first.wait_for()
    page.get_by_text("best match first").first.wait_for()
    first = page.locator(".tile").first
    first.press("Enter")
    page.get_by_role("heading", name="p007.jpg").wait_for()


def test_what_is_dropped_and_is_no_picture_is_refused_in_words(visit, address):
    page = visit(address, expected=[422])
    page.locator(".tile").first.wait_for()
    drop(page, "odd.jpg", "image/jpeg", b"no picture at all")
    page.get_by_role("alert").filter(has_text=re.compile("read|picture", re.IGNORECASE)).first.wait_for()


def test_names_and_captions_are_shown_as_text(visit, address):
    page = visit(f"{address}/?q=onerror")
    page.locator(".tile").first.wait_for()
    page.get_by_role("gridcell").filter(has=page.locator('img[alt*="onerror"]')).first.wait_for()
    page.locator('.tile:has(img[alt*="onerror"])').first.press("Enter")
    viewer = page.locator("dialog.viewer[open]")
    viewer.get_by_role("heading", name=HOSTILE_NAME).wait_for()
    assert viewer.get_by_text(HOSTILE, exact=True).first.is_visible()
    assert page.locator('img[src="x"], script:not([src])').count() == 0 and "1" != page.title()
    page.goto(f"{address}/?q={HOSTILE}&filters={HOSTILE}&show={HOSTILE}&view={HOSTILE}")
    page.locator(".tile").first.wait_for()
    assert page.locator('img[src="x"]').count() == 0 and "1" != page.title()


def test_the_token_is_asked_for_and_not_kept_by_the_page(visit, writable_address):
    page = visit(writable_address, expected=[401])
    field = page.get_by_label("Token")
    field.fill("wrong-" + TOKEN)
    field.press("Enter")
    page.get_by_role("dialog").get_by_role("alert").filter(has_text="not the token").wait_for()
    field.fill(TOKEN)
    field.press("Enter")
    page.locator(".tile").first.wait_for()
    kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
    assert TOKEN not in kept
    page.reload()
    page.locator(".tile").first.wait_for()
    assert page.get_by_label("Token").count() == 0


@pytest.mark.parametrize(
    "locale, said", [("zh-CN", "搜索"), ("zh-TW", "搜索"), ("en-GB", "Search"), ("fr-FR", "Search")]
)
def test_the_page_speaks_the_language_of_the_browser(visit, address, locale, said):
    page = visit(address, locale=locale)
    page.get_by_role("searchbox", name=said).wait_for()
    assert page.evaluate("document.documentElement.lang") == ("zh-CN" if locale.startswith("zh") else "en")


def test_the_token_is_asked_for_once_however_late_the_refusals_come(visit, writable_address):
    """What was asked before the token came may be refused after the person has signed in."""
    page = visit(writable_address + "/page/icon.svg", expected=[401])
    held = []

    def hold(route):
        if held:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    page.route("**/v1/facets", hold)
    page.goto(writable_address)
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.locator(".tile").first.wait_for()
    [(route, refusal)] = held
    assert refusal.status == 401
    route.fulfill(response=refusal)
    page.locator(".facet").first.wait_for()
    assert page.get_by_label("Token").count() == 0


def test_what_was_understood_is_said_and_can_be_switched_off(visit, address):
    page = visit(f"{address}/?q=a+bicycle,+last+month")
    note = page.get_by_text("Understood: a bicycle, taken in")
    note.wait_for()
    page.get_by_role("button", name="Search for the words as they stand").click()
    page.wait_for_url(lambda url: "plain=1" in url)
    note.wait_for(state="detached")
    page.locator(".tile").first.wait_for()
    page.get_by_role("button", name="Remove the filter", exact=False).first.click()
    page.get_by_text("Understood: a bicycle, taken in").wait_for()
