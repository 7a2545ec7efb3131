"""The full view of a film: its frames in a strip, the one that matched first, by keyboard too."""

import pytest
from PIL import Image

from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.films import scene, scenes, write_film
from tests.support.libraries import index
from tests.support.serving import serving

pytest.importorskip("av")
pytestmark = pytest.mark.slow


def test_the_frames_of_a_film_are_a_strip(visit, tmp_path, encoder):
    (tmp_path / "films").mkdir()
    write_film(tmp_path / "films" / "a.mp4", scenes([1, 2, 3], 3))
    for number in (7, 8):
        Image.fromarray(scene(number)).save(tmp_path / "films" / f"{number}.png")
    index(tmp_path / "lib", tmp_path / "films", encoder=encoder)
    with SearchEngine(Library(tmp_path / "lib"), encoder=encoder) as engine, serving(engine) as served:
        film = next(item for item in engine.find() if item.path.endswith("a.mp4"))
        page = visit(f"{served.url}/?view={film.id}")
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
        picture = next(item for item in engine.find() if item.path.endswith("7.png"))
        page = visit(f"{served.url}/?view={picture.id}")
        page.wait_for_selector(".viewer-picture")
        assert page.locator(".strip").is_hidden()
        page.wait_for_load_state("networkidle")  # the server ends here
