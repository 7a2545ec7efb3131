"""What the page changes in the library: tags, collections, and index runs."""

import re
import zipfile

import pytest

from tests.support.browser import until
from tests.support.libraries import photo
from tests.support.serving import TOKEN

pytestmark = pytest.mark.slow


@pytest.fixture
def page(visit, writable_address):
    opened = visit(writable_address, expected=[401, 403, 409, 422])
    opened.get_by_label("Token").fill(TOKEN)
    opened.keyboard.press("Enter")
    opened.locator(".tile").first.wait_for()
    opened.locator(".facet").first.wait_for()  # what waited for the token is there, so that nothing is drawn again
    opened.wait_for_load_state("networkidle")
    return opened


def select(page, count):
    """Select the first items, by keyboard; return their ids."""
    page.locator(".tile").first.focus()
    for n in range(count):
        page.keyboard.press("x")
        if n + 1 < count:
            page.keyboard.press("ArrowRight")
    page.get_by_text(f"{count} selected").first.wait_for()
    tiles = page.locator(".tile[aria-selected=true]")
    return [int(each) for each in tiles.evaluate_all("all => all.map((tile) => tile.dataset.id)")]


def test_selected_items_are_tagged_and_untagged(page):
    select(page, 3)
    page.get_by_role("button", name="Add tags").click()
    page.get_by_label("Tags, with commas between").fill("beach，summer 2024、海边")
    page.keyboard.press("Enter")
    page.get_by_text("3 items tagged").first.wait_for()
    for tag in ("summer 2024", "海边"):
        page.locator("#filters").get_by_label(tag).wait_for()
    page.locator("#filters").get_by_role("checkbox", name="beach").check()
    page.get_by_text("3 items, newest first").first.wait_for()
    select(page, 1)
    page.get_by_role("button", name="Remove tags").click()
    page.get_by_label("Tags, with commas between").fill("beach")
    page.keyboard.press("Enter")
    page.get_by_text("2 items, newest first").first.wait_for()


def test_collections_are_made_opened_renamed_and_deleted(page):
    ids = select(page, 2)
    page.get_by_role("button", name="Add to a collection").click()
    page.get_by_label("New collection").fill("Summer / 2024?")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Open", exact=True).click()
    page.get_by_text("2 items, newest first").first.wait_for()
    shown = page.locator(".tile").evaluate_all("all => all.map((tile) => Number(tile.dataset.id))")
    assert sorted(shown) == sorted(ids)
    select(page, 1)
    page.get_by_role("button", name="Remove from Summer / 2024?").click()
    page.get_by_text("1 item, newest first").first.wait_for()

    page.get_by_role("link", name="Collections").click()
    page.get_by_role("button", name="Rename Summer / 2024?").click()
    page.get_by_label("Name", exact=True).fill("<b>Holidays</b>")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Rename <b>Holidays</b>").wait_for()
    page.get_by_role("button", name="New collection").click()
    page.get_by_label("Name", exact=True).fill("Empty")
    page.get_by_role("button", name="Create").click()
    page.get_by_role("button", name="Delete Empty").click()
    page.get_by_role("button", name="Delete", exact=True).click()
    until(page, "document.querySelectorAll('.collection').length === 1")
    assert page.locator(".collection-name").text_content() == "<b>Holidays</b>"


def test_a_collection_that_is_there_is_chosen_from_a_list(page):
    for name in ("First", "<b>Second</b>"):
        page.evaluate("name => fetch(`/v1/collections/${encodeURIComponent(name)}`, { method: 'PUT' })", name)
    for count in (2, 1):
        select(page, count)
        page.get_by_role("button", name="Add to a collection").click()
        page.get_by_role("dialog").get_by_role("button", name="<b>Second</b> ").click()
        page.get_by_text("added to <b>Second</b>").first.wait_for()
        page.get_by_role("dialog").wait_for(state="hidden")
    counts = page.evaluate("fetch('/v1/collections').then((found) => found.json())")
    assert {each["name"]: each["count"] for each in counts} == {"First": 0, "<b>Second</b>": 2}


def test_what_the_server_refuses_is_said_in_the_dialog(page, writable_address):
    for name in ("First", "Second"):
        page.evaluate("name => fetch(`/v1/collections/${name}`, { method: 'PUT' })", name)
    page.get_by_role("link", name="Collections").click()
    page.get_by_role("button", name="Rename First").click()
    page.get_by_label("Name", exact=True).fill("Second")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").get_by_role("alert").filter(has_text=re.compile("Second")).wait_for()


def test_selected_files_are_downloaded_as_one_archive(page, tmp_path):
    select(page, 2)
    with page.expect_download() as begun:
        page.get_by_role("button", name="Download").click()
    begun.value.save_as(tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive:
        assert len(archive.namelist()) == 2 and archive.testzip() is None


def test_paths_are_copied(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    select(page, 2)
    page.get_by_role("button", name="Copy paths").click()
    page.get_by_text("2 paths copied").first.wait_for()
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert len(lines) == 2 and all(line.endswith((".jpg", ".txt")) for line in lines)


def test_an_index_run_is_started_and_followed_to_its_end(page, tmp_path):
    for n in range(5):
        photo(tmp_path / "photos" / f"new{n}.jpg", 500 + n)
    page.get_by_role("button", name=re.compile("Menu")).click()
    page.get_by_role("button", name="Indexing").click()
    page.get_by_role("button", name="Start indexing").click()
    page.locator(".job").get_by_text("5 added").wait_for()
    page.get_by_label("Folder on the server").fill("/etc")
    page.get_by_role("button", name="Start indexing").click()
    page.get_by_role("alert").filter(has_text=re.compile("/etc|folder", re.IGNORECASE)).first.wait_for()
