"""The full view: neighbours, zoom, what a browser cannot show, tags."""

import pytest
from PIL import Image

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.browser import until
from tests.support.libraries import index
from tests.support.serving import TOKEN, serving

pytestmark = pytest.mark.slow

SCALE = "new DOMMatrix(getComputedStyle(document.querySelector('.viewer-picture')).transform).a"
SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200"><circle cx="150" cy="100" r="60"/></svg>"""
VIEWER = "dialog.viewer[open]"


def open_tile(page, number=0):
    page.locator(".tile").nth(number).click()
    page.locator(VIEWER).wait_for()
    return page.locator(VIEWER)


def test_a_click_opens_and_back_closes_with_the_focus_where_it_was(visit, address):
    page = visit(address)
    viewer = open_tile(page, 4)
    clicked = page.url.split("view=")[1]
    viewer.get_by_text("5 of").wait_for()
    page.go_back()
    viewer.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.dataset.id") == clicked
    page.go_forward()
    viewer.wait_for()
    page.reload()  # the address holds the view
    viewer.get_by_text("5 of").wait_for()
    viewer.get_by_role("button", name="Close").click()
    viewer.wait_for(state="hidden")
    assert "view=" not in page.url


def test_neighbours_by_button_key_and_swipe_replace_each_other_in_the_history(visit, address):
    page = visit(address, has_touch=True)
    viewer = open_tile(page)
    viewer.get_by_role("button", name="Next").click()
    viewer.get_by_text("2 of").wait_for()
    page.keyboard.press("ArrowRight")
    viewer.get_by_text("3 of").wait_for()
    page.evaluate(
        """() => {
      const stage = document.querySelector(".stage");
      const send = (type, clientX) => stage.dispatchEvent(
        new PointerEvent(type, { pointerId: 1, pointerType: "touch", clientX, clientY: 300, bubbles: true }));
      stage.setPointerCapture = () => {};
      send("pointerdown", 500); send("pointermove", 350); send("pointerup", 350);
    }"""
    )
    viewer.get_by_text("4 of").wait_for()
    page.go_back()
    viewer.wait_for(state="hidden")


def test_zoom_by_key_wheel_and_double_click(visit, address):
    page = visit(address)
    viewer = open_tile(page, 3)
    page.keyboard.press("+")
    assert page.evaluate(SCALE) == pytest.approx(1.5)
    page.keyboard.press("0")
    assert page.evaluate(SCALE) == 1
    viewer.locator(".stage").dblclick()
    assert page.evaluate(SCALE) == pytest.approx(2.5)
    before = page.url
    page.keyboard.press("ArrowRight")  # moves the picture now, not to the next one
    assert page.url == before
    page.mouse.wheel(0, 5000)
    until(page, f"{SCALE} === 1")


def test_the_full_view_explains_a_hit_of_a_search_but_no_item_of_a_list(visit, address):
    page = visit(address)
    viewer = open_tile(page)
    viewer.get_by_text("1 of").wait_for()
    assert viewer.get_by_text("Why it is here").count() == 0
    page = visit(f"{address}/?q=bicycle")
    viewer = open_tile(page)
    viewer.get_by_text("Why it is here").click()
    viewer.get_by_text("Above the next:").wait_for()
    assert viewer.locator("details mark").first.inner_text().lower() == "bicycle"
    assert "place 3" in viewer.locator("details").inner_text()


def test_more_like_this_from_the_full_view(visit, address):
    page = visit(address)
    open_tile(page, 2)
    item = page.url.split("view=")[1]
    page.keyboard.press("m")
    page.locator(VIEWER).wait_for(state="hidden")
    page.wait_for_url(f"**/?q=id%3A{item}")
    page.locator(".chips .chip").wait_for()
    page.go_back()
    page.locator(VIEWER).wait_for()


@pytest.mark.parametrize("name", ["scan.tiff", "logo.svg"])
def test_a_picture_that_browsers_do_not_show_is_shown_as_its_thumbnail(visit, tmp_path, encoder, name):
    """Nothing is asked for in vain: `visit` misses a status of 404."""
    (tmp_path / "photos").mkdir()
    if name == "logo.svg":
        pytest.importorskip("resvg_py")
        (tmp_path / "photos" / name).write_text(SVG)
    else:
        Image.new("RGB", (300, 200), (200, 40, 40)).save(tmp_path / "photos" / name)
    Image.new("RGB", (300, 200), (40, 200, 40)).save(tmp_path / "photos" / "other.png")
    index(tmp_path / "library", tmp_path / "photos", encoder=encoder)
    with SearchEngine(Library(tmp_path / "library"), encoder=encoder) as engine, serving(engine) as served:
        (odd,) = [item.id for item in engine.find() if item.key.endswith(name)]
        page = visit(f"{served.url}/?view={odd}")
        until(page, "document.querySelector('.viewer-picture')?.src.includes('size=2048')")
        until(page, "document.querySelector('.viewer-picture').naturalWidth > 0")
        whole = page.locator(".viewer-bar a").get_attribute("href")
        assert page.evaluate("address => fetch(address).then((answer) => answer.status)", whole) == 200
        page.keyboard.press("ArrowRight" if engine.find()[0].id == odd else "ArrowLeft")
        until(page, "document.querySelector('.viewer-title').textContent === 'other.png'")
        page.wait_for_load_state("networkidle")


def test_tags_are_edited_where_the_server_lets_one_write(visit, writable_address):
    page = visit(writable_address, expected=[401])
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.locator(".tile").first.wait_for()
    until(page, "!document.querySelector('dialog[open]')")
    open_tile(page)
    field = page.get_by_label("Add a tag")
    field.fill("holiday")
    field.press("Enter")
    page.locator("#filters").get_by_text("holiday").wait_for(state="attached")
    page.reload()
    page.get_by_role("button", name="Remove the tag holiday").click()
    until(page, "!document.querySelector('#filters [data-key=\"tags holiday\"]')")
    page.reload()
    page.get_by_label("Add a tag").wait_for()
    assert page.locator(".tag").count() == 0


def test_tags_are_shown_but_not_edited_by_who_may_only_read(visit, address):
    page = visit(address)
    viewer = open_tile(page)
    viewer.get_by_text("File", exact=True).wait_for()
    assert page.get_by_label("Add a tag").count() == 0


def test_a_text_shows_its_words_in_the_grid_and_whole(visit, address):
    page = visit(address)
    tile = page.locator(".tile-text", has_text="A note about a red bicycle").first
    tile.locator(".tile-open").click()
    until(page, "document.querySelector('.viewer-text')?.textContent.split('A note about').length === 31")


def test_messages_are_seen_before_the_full_view(visit, address):
    page = visit(address)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_tile(page).get_by_role("button", name="Copy the path").click()
    message = page.locator(".toast")
    message.wait_for()
    is_on_top = """shown => {
      const { x, y, width, height } = shown.getBoundingClientRect();
      return shown.contains(document.elementFromPoint(x + width / 2, y + height / 2));
    }"""
    assert message.evaluate(is_on_top)
    page.keyboard.press("Escape")
    page.locator(VIEWER).wait_for(state="hidden")
    page.locator(".tile").first.wait_for()


@pytest.mark.parametrize("width, is_worded", [(360, True), (1000, False), (1280, True)])
def test_more_and_less_like_this_have_words_where_there_is_room(visit, address, width, is_worded):
    page = visit(address, viewport={"width": width, "height": 740})
    viewer = open_tile(page)
    for name in ("More like this", "Less like this"):
        button = viewer.get_by_role("button", name=name)
        assert button.get_by_text(name).is_visible() == is_worded
        assert button.get_attribute("title") == name


def test_the_signs_of_more_and_less_like_this_are_large(visit, address):
    """Of the path of the icon the sign is the last part; at 4 pixels the two look alike."""
    page = visit(address)
    page.locator(".tile").first.hover()
    drawn = (
        page.locator(".tile")
        .first.locator(".tile-actions path")
        .evaluate_all(
            """paths => paths.map((path) => {
      const sign = document.createElementNS(path.namespaceURI, "path");
      sign.setAttribute("d", path.getAttribute("d").match(/M[^M]*$/)[0]);
      path.after(sign);
      const { width } = sign.getBoundingClientRect();
      sign.remove();
      return width;
    })"""
        )
    )
    assert len(drawn) == 2 and min(drawn) >= 7.5
