"""Pictures and pages that are drawn in a process of their own: good ones, hostile ones, and what becomes of it."""

import sys
import time
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from clipsearch.config import Settings
from clipsearch.errors import PictureError
from clipsearch.gallery.tiles import read_thumbnail
from clipsearch.media import child, drawing, extras
from clipsearch.media.child import HEAD, PICTURE, REFUSAL
from clipsearch.media.drawing import SIZE, is_drawn_apart, look, look_at_file
from clipsearch.query.embedding import open_image
from clipsearch.types import PartPosition
from tests.support.documents import make_pdf, make_scan
from tests.support.hostile_drawings import SVG_OF_MASKS, SVG_OF_NOISE, pdf_of_forms
from tests.support.pictures import noise_picture
from tests.support.raws import make_dng

MOST = 10**8
SEEN = Image.new("RGB", (120, 80), (200, 30, 60))
SVG = b"<svg xmlns='http://www.w3.org/2000/svg' width='20' height='10'><rect width='20' height='10' fill='red'/></svg>"


def scan_of_two():
    data = BytesIO()
    SEEN.save(data, "TIFF", save_all=True, append_images=[Image.new("RGB", (120, 80), "navy")])
    return data.getvalue()


def make_jxl():
    imagecodecs = pytest.importorskip("imagecodecs")
    return bytes(imagecodecs.jpegxl_encode(np.asarray(SEEN), lossless=True))


def test_a_drawing_in_millimetres_is_drawn():
    pytest.importorskip("resvg_py")
    data = SVG.replace(b"'20'", b"'210mm'").replace(b"'10'", b"'105mm'")
    assert look(data, 32, MOST, None).getpixel((9, 3)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("make", "page", "colour"),
    [
        (lambda: SVG, None, (255, 0, 0)),
        (lambda: make_dng(SEEN, preview=SEEN), None, (200, 30, 60)),
        (make_jxl, None, (200, 30, 60)),
        (lambda: make_scan(SEEN, Image.new("RGB", (120, 80), "navy")), 2, (0, 0, 128)),
        (lambda: make_scan(SEEN), None, (200, 30, 60)),
        (scan_of_two, 2, (0, 0, 128)),
    ],
    ids=["svg", "raw", "jxl", "pdf", "first-page", "tiff"],
)
def test_each_kind_is_drawn_and_not_here(make, page, colour, monkeypatch):
    data = make()
    assert is_drawn_apart(data, page)
    monkeypatch.setattr(drawing, "decode_picture", None)
    picture = look(data, 32, MOST, page)
    middle = picture.getpixel((picture.width // 2, picture.height // 2))
    assert picture.mode == "RGB" and max(abs(a - b) for a, b in zip(middle, colour, strict=True)) < 12


def test_any_other_picture_is_decoded_here(monkeypatch):
    monkeypatch.setattr(drawing, "start_child", None)
    data = BytesIO()
    noise_picture(1).save(data, "JPEG")
    assert not is_drawn_apart(data.getvalue(), 1) and look(data.getvalue(), 32, MOST).mode == "RGB"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "page"), [(SVG_OF_MASKS, None), (pdf_of_forms(), 1), (pdf_of_forms(8), 1)], ids=["svg", "pdf", "deep-pdf"]
)
def test_what_never_ends_is_refused_in_time(data, page, monkeypatch):
    monkeypatch.setattr(drawing, "SECONDS", 3)
    with pytest.raises(PictureError, match="could not be drawn within"):
        look(data, 64, MOST, page)


def test_what_takes_too_much_memory_is_refused(monkeypatch):
    monkeypatch.setattr(drawing, "MEMORY", 4 << 20)
    with pytest.raises(PictureError, match=r"memory|within its limits|damaged"):
        look(make_scan(noise_picture(1, (2000, 2000))), 2000, MOST, 1)


def test_filters_of_an_svg_are_not_drawn():
    picture = look(SVG_OF_NOISE, 64, MOST)
    assert picture.getpixel((20, 20)) in {(255, 0, 0), (255, 255, 255)}


def test_reasons_come_from_the_process():
    with pytest.raises(PictureError, match="damaged SVG file"):
        look(SVG[:-5], 64, MOST)
    with pytest.raises(PictureError, match="protected by a password"):
        look(make_pdf(["a"], encrypt=True), 64, MOST, 1)
    with pytest.raises(PictureError, match="max_pixels"):
        look(SVG, 64, 1000)


@pytest.mark.slow
def test_every_way_to_look_at_a_file_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "SECONDS", 2)
    path = tmp_path / "a.svg"
    path.write_bytes(SVG_OF_MASKS)
    (tmp_path / "a.pdf").write_bytes(pdf_of_forms())
    for see in (
        lambda: read_thumbnail(str(path), (64, 64), Settings()),
        lambda: read_thumbnail(str(tmp_path / "a.pdf"), (64, 64), Settings(), PartPosition(page=1)),
        lambda: open_image(SVG_OF_MASKS, 64, Settings()),
        lambda: open_image(path, 64, Settings()),
        lambda: look_at_file(path, 64, MOST, 1 << 20),
    ):
        with pytest.raises(PictureError, match="could not be drawn within 2 seconds"):
            see()


def test_without_the_extra_the_reason_names_it(monkeypatch):
    monkeypatch.setattr(extras, "has_extra", lambda name: False)
    with pytest.raises(PictureError, match=r"pip install 'clipsearch\[documents\]'"):
        look(make_pdf(["a"]), 64, MOST, 1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (HEAD.pack(PICTURE, 4 << 20), "broke the protocol"),
        (HEAD.pack(PICTURE, SIZE.size + 3) + SIZE.pack(2, 2) + b"abc", "broke the protocol"),
        (HEAD.pack(b"?", 3) + b"abc", "broke the protocol"),
        (HEAD.pack(REFUSAL, 1 << 30), "broke the protocol"),
        (HEAD.pack(REFUSAL, 0), "no reason"),
        (HEAD.pack(REFUSAL, 4) + b"a\n\xffb", "a \ufffdb"),
        (HEAD.pack(PICTURE, SIZE.size + 12) + SIZE.pack(2, 2), r"ended \(exit code 0\)"),
        (b"", r"ended \(exit code 0\)"),
    ],
)
def test_a_process_that_was_taken_over_is_not_believed(answer, reason, monkeypatch):
    monkeypatch.setattr(child, "_BOOT", f"import os; os.write(1, bytes.fromhex('{answer.hex()}'))")
    with pytest.raises(PictureError, match=reason):
        look(SVG, 64, 1 << 20)


def test_without_a_process_the_picture_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(PictureError, match="No process that decodes can be started"):
        look(SVG, 64, MOST)


def test_a_process_that_does_not_read_its_file_is_ended(monkeypatch):
    monkeypatch.setattr(drawing, "SECONDS", 1)
    monkeypatch.setattr(child, "_BOOT", "import time; time.sleep(600)")
    began = time.monotonic()
    with pytest.raises(PictureError, match="within 1 seconds"):
        look(SVG + b" " * (4 << 20), 64, MOST)
    assert time.monotonic() - began < 300  # it was not waited for
