"""Documents and drawings are decoded by a worker process within limits, never by the server itself."""

import time
from dataclasses import replace

import pytest
from PIL import Image

from clipsearch.config import Settings
from clipsearch.errors import PictureError
from clipsearch.server import drawing
from tests.support.documents import make_pdf

SETTINGS = Settings(offline=True, decode_seconds=2)
GOOD = b'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><rect width="90" height="60" fill="red"/></svg>'


def masks(depth: int) -> bytes:
    """A drawing of a few bytes a level, each of which is drawn many times."""
    levels = "".join(f'<g id="a{i}">' + f'<use xlink:href="#a{i - 1}"/>' * 10 + "</g>" for i in range(1, depth))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="90" height="60">'
        f'<defs><g id="a0"><rect width="9" height="9"/></g>{levels}</defs><use xlink:href="#a{depth - 1}"/></svg>'
    ).encode()


@pytest.mark.slow
def test_what_is_drawn_apart_is_drawn_as_it_is():
    assert drawing.is_drawn_apart(GOOD) and not drawing.is_drawn_apart(b"\xff\xd8\xff\xe0")
    assert drawing.draw_apart(GOOD, 32, SETTINGS).getpixel((5, 5)) == (255, 0, 0)
    pdf = make_pdf(["first", "second"])
    page = drawing.draw_apart(pdf, 64, SETTINGS, 2)
    assert isinstance(page, Image.Image) and min(page.size) >= 64
    with pytest.raises(PictureError):
        drawing.draw_apart(pdf, 64, SETTINGS, 3)


@pytest.mark.slow
@pytest.mark.parametrize("data", [masks(7), b"%PDF-1.7\nnothing", GOOD[:70]], ids=["levels", "pdf", "cut"])
def test_what_breaks_a_limit_or_cannot_be_read_is_refused_in_time(data):
    started = time.monotonic()
    with pytest.raises(PictureError):
        drawing.draw_apart(data, 64, SETTINGS)
    assert time.monotonic() - started < 60  # it ends at all: alone, the first takes hours


@pytest.mark.slow
def test_only_a_few_are_drawn_at_once(monkeypatch):
    monkeypatch.setattr(drawing, "_PATIENCE", 0.1)
    with drawing.place(), drawing.place(), pytest.raises(PictureError, match="ask again"):
        drawing.draw_apart(GOOD, 32, replace(SETTINGS))
    assert min(drawing.draw_apart(GOOD, 32, SETTINGS).size) >= 32
