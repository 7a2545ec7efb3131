"""The full view of a film: its frames in a strip, the one that matched first, by keyboard too."""

import pytest
from PIL import Image

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.browser import until
from tests.support.films import scene, scenes, write_film
from tests.support.libraries import index
from tests.support.serving import serving

pytest.importorskip("av")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def films(tmp_path_factory, encoder):
    """A library of a film and two pictures."""
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "a.mp4", scenes([1, 2, 3], 3))
    for number in (7, 8):
        Image.fromarray(scene(number)).save(folder / f"{number}.png")
    index(folder.parent / "films-library", folder, encoder=encoder)
    with SearchEngine(Library(folder.parent / "films-library"), encoder=encoder) as engine:
        yield engine


def named(engine, name):
    return next(item for item in engine.find() if item.path.endswith(name))


def test_frames_are_asked_for_one_by_one_and_again_where_the_server_is_busy(visit, films):
    """The server decodes two frames at a time: one is for the full view."""
    with serving(films) as served:
        page = visit(served.url, expected=[429])
        page.locator(".tile").first.wait_for()
        asked, under_way, most = [], set(), []

        def answer(route):
            asked.append(route.request.url)
            is_second = "part=1&" in route.request.url and sum("part=1&" in url for url in asked) == 1
            route.fulfill(status=429) if is_second else route.continue_()

        def begin(request):
            if "size=128" in request.url:
                under_way.add(request)
                most.append(len(under_way))

        page.route("**/thumbnail?*size=128", answer)
        page.on("request", begin)
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda request: under_way.discard(request))
        page.goto(f"{served.url}/?view={named(films, 'a.mp4').id}")
        images = "[...document.querySelectorAll('.strip-part img')]"
        until(page, f"{images}.length === 3 && {images}.every((image) => image.naturalWidth)")
        assert max(most) == 1 and sum("part=1&" in url for url in asked) > 1
        page.wait_for_load_state("networkidle")  # the server ends here


def test_a_tile_is_asked_for_again_where_the_server_is_busy(visit, films):
    with serving(films) as served:
        page = visit(served.url, expected=[429])
        page.wait_for_load_state("networkidle")
        asked = []

        def answer(route):
            asked.append(route)
            route.fulfill(status=429) if len(asked) < 3 else route.continue_()

        page.route(f"**/items/{named(films, 'a.mp4').id}/thumbnail?*", answer)
        page.goto(f"{served.url}/?sort=name")
        until(page, "document.querySelectorAll('.tile-picture.is-loaded').length === 3")
        assert len(asked) >= 3
        page.wait_for_load_state("networkidle")  # the server ends here


def test_the_frames_of_a_film_are_a_strip(visit, films):
    engine = films
    with serving(engine) as served:
        # the tile, the full view and the strip ask for three frames, and the server decodes two
        page = visit(f"{served.url}/?view={named(engine, 'a.mp4').id}", expected=[429])
        page.wait_for_selector(".strip-part")
        parts = page.locator(".strip-part")
        assert parts.all_text_contents() == ["0:00", "0:03", "0:06"]
        assert page.locator('.strip-part[aria-pressed="true"]').text_content() == "0:00"
        page.wait_for_function("() => document.querySelector('.viewer-picture').src.includes('part=0')")
        parts.first.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("End")
        page.wait_for_function("() => document.querySelector('.viewer-picture').src.includes('/image?')")
        assert "part=2" in page.locator(".viewer-picture").get_attribute("src")
        assert page.locator('.strip-part[aria-pressed="true"]').text_content() == "0:06"
        assert page.evaluate("document.activeElement.dataset.part") == "2"
        page = visit(f"{served.url}/?view={named(engine, '7.png').id}")
        page.wait_for_selector(".viewer-picture")
        assert page.locator(".strip").is_hidden()
        page.wait_for_load_state("networkidle")  # the server ends here
