"""Pictures that extras read: camera RAW, JPEG XL, SVG; and the composites of Photoshop."""

import base64
from datetime import datetime
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from clipsearch.errors import PictureError
from clipsearch.media import extras
from clipsearch.media.decode import decode_picture, picture_kind
from clipsearch.media.image_metadata import read_embedded
from clipsearch.media.jpegxl import read_size
from clipsearch.media.svg import MAX_DEPTH
from tests.support.documents import make_psd
from tests.support.pictures import noise_picture
from tests.support.raws import make_dng

ASK = {"min_side": 64, "max_pixels": 10**7}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 20 10">{}</svg>'


@pytest.fixture(scope="module")
def seen():
    return noise_picture(3, (240, 160))


def likeness(picture, other):
    """Return the correlation of two pictures, whatever their sizes and brightness."""
    small = [np.asarray(each.convert("L").resize((24, 16)), float).ravel() for each in (picture, other)]
    return float(np.corrcoef(*small)[0, 1])


@pytest.mark.parametrize("preview", [None, (120, 80), (9, 6)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_raw_is_upright_with_its_metadata_by_preview_or_sensor(seen, preview, orientation):
    data = make_dng(seen, preview=preview and seen.resize(preview), orientation=orientation, gps=(-33.5, 151.25))
    picture, info = decode_picture(data, **ASK)
    upright = seen.rotate(-90, expand=True) if orientation == 6 else seen
    assert likeness(picture.resize(upright.size), upright) > 0.9
    assert (info.width, info.height) == upright.size
    assert (info.taken_at, info.camera) == (datetime(2024, 6, 1, 10, 11, 12), "Acme One")
    assert (info.latitude, info.longitude) == (-33.5, 151.25)


def test_a_preview_is_taken_before_the_sensor(seen):
    plain = Image.new("RGB", (120, 80), "red")
    assert decode_picture(make_dng(seen, preview=plain), **ASK)[0].getpixel((60, 40))[0] > 200
    tiny = decode_picture(make_dng(seen, preview=plain.resize((9, 6))), **ASK)[0]
    assert likeness(tiny, seen) > 0.9


def test_a_damaged_raw_has_a_reason(seen):
    data = make_dng(seen)
    for cut in (200, len(data) // 2):
        with pytest.raises(PictureError):
            decode_picture(data[-cut:], **ASK)
    with pytest.raises(PictureError, match="over the limit"):
        decode_picture(data, min_side=64, max_pixels=1000)
    with pytest.raises(PictureError, match="RAW"):
        decode_picture(b"FUJIFILMCCD-RAW " + bytes(5000), **ASK)


def test_a_jpeg_xl_is_read_at_any_depth(seen):
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = np.asarray(seen)
    for values in (pixels, pixels[:, :, 0], pixels.astype(np.uint16) * 257, (pixels / 255).astype(np.float32)):
        data = bytes(imagecodecs.jpegxl_encode(values, lossless=True))
        picture, info = decode_picture(data, **ASK)
        assert picture_kind(data[:64]) == "JXL" and (info.width, info.height) == seen.size
        assert likeness(picture, seen if values.ndim == 3 else Image.fromarray(pixels[:, :, 0])) > 0.9
    with pytest.raises(PictureError, match="truncated"):
        decode_picture(data[: len(data) // 2], **ASK)
    with pytest.raises(PictureError, match="over the limit"):
        decode_picture(data, min_side=64, max_pixels=1000)


def test_the_size_of_a_jpeg_xl_is_known_before_it_is_decoded():
    imagecodecs = pytest.importorskip("imagecodecs")
    for width, height in ((8, 8), (256, 256), (320, 240), (1, 700), (9000, 3), (257, 100)):
        data = bytes(imagecodecs.jpegxl_encode(np.zeros((height, width, 3), np.uint8), lossless=True))
        assert read_size(data) == (width, height)


def test_a_jpeg_xl_says_when_it_was_taken(seen):
    imagecodecs = pytest.importorskip("imagecodecs")
    exif = Image.Exif()
    exif[306] = "2020:01:02 03:04:05"
    block = b"\0\0\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    stream = bytes(imagecodecs.jpegxl_encode(np.asarray(seen), lossless=True))
    boxes = b"".join(
        (8 + len(each)).to_bytes(4, "big") + kind + each
        for kind, each in ((b"ftyp", b"jxl \0\0\0\0jxl "), (b"Exif", block), (b"jxlc", stream))
    )
    data = b"\0\0\0\x0cJXL \r\n\x87\n" + boxes
    assert decode_picture(data, **ASK)[1].taken_at == datetime(2020, 1, 2, 3, 4, 5)


def test_a_psd_is_seen_by_its_composite(seen):
    exif = Image.Exif()
    exif[306] = "2020:01:02 03:04:05"
    data = make_psd(seen, exif=exif.tobytes().removeprefix(b"Exif\0\0"))
    picture, info = decode_picture(data, **ASK)
    assert likeness(picture, seen) > 0.99 and info.taken_at == datetime(2020, 1, 2, 3, 4, 5)
    with pytest.raises(PictureError, match="Maximize Compatibility"):
        decode_picture(make_psd(seen, has_composite=False), **ASK)
    with pytest.raises(PictureError, match="8 bits"):
        decode_picture(make_psd(seen, depth=32), **ASK)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK"])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("more", [0, 2])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_psd_is_seen_at_any_depth_and_with_further_channels(seen, mode, is_packed, more, depth):
    picture = seen.convert(mode)
    data = make_psd(picture, is_packed=is_packed, more=more, depth=depth)
    if depth == 16 and mode == "CMYK":
        with pytest.raises(PictureError, match="8 bits"):
            decode_picture(data, **ASK)
        return
    found = decode_picture(data, min_side=160, max_pixels=10**7)[0]
    assert np.abs(np.asarray(found, int) - np.asarray(picture.convert("RGB"), int)).max() <= 1


def test_the_fourth_channel_of_a_psd_is_transparency_only_where_its_layers_say_so(seen):
    picture = seen.copy()
    picture.putalpha(0)
    for layers, is_white in ((-1, True), (1, False), (0, True)):
        found = decode_picture(make_psd(picture, layers=layers), **ASK)[0]
        assert (found.getextrema() == ((255, 255),) * 3) == is_white


def svg(content):
    return SVG.format(content).encode()


def test_an_svg_is_drawn_and_its_words_are_read():
    data = svg('<title>Red box</title><rect width="10" height="10" fill="red"/><text>hello</text>')
    picture, info = decode_picture(data, **ASK)
    assert (info.width, info.height) == (1024, 512)
    assert picture.getpixel((5, 5)) == (255, 0, 0) and picture.getpixel((picture.width - 5, 5)) == (255, 255, 255)
    assert read_embedded(data).captions == ("Red box hello",)


def test_an_svg_reads_no_other_file(tmp_path):
    Image.new("RGB", (10, 10), "red").save(tmp_path / "secret.png")
    (tmp_path / "secret.txt").write_text("secret")
    for link in (tmp_path / "secret.png", (tmp_path / "secret.png").as_uri()):
        image = f'<image xlink:href="{link}" width="20" height="10"/><image href="{link}" width="20" height="10"/>'
        assert decode_picture(svg(image), **ASK)[0].getextrema() == ((255, 255),) * 3
    entity = f'<!DOCTYPE svg [<!ENTITY x SYSTEM "{(tmp_path / "secret.txt").as_uri()}">]>'.encode()
    assert read_embedded(entity + svg("<title>&x;</title>")).captions == ()
    inside = BytesIO()
    Image.new("RGB", (10, 10), "red").save(inside, "PNG")
    own = f'<image href="data:image/png;base64,{base64.b64encode(inside.getvalue()).decode()}" width="20" height="10"/>'
    drawn = decode_picture(svg(own), **ASK)[0]
    assert drawn.getpixel((drawn.width // 2, drawn.height // 2)) == (255, 0, 0)


@pytest.mark.parametrize(
    "data",
    [
        svg("<g>" * MAX_DEPTH + "</g>" * MAX_DEPTH),
        svg("<g>"),
        svg('<defs><g id="a0"><path d="M0 0h9v9z"/></g>'
            + "".join(f'<g id="a{i + 1}">{f"""<use xlink:href="#a{i}"/>""" * 10}</g>' for i in range(9))
            + '</defs><use xlink:href="#a9"/>'),
        b"<?xml version='1.0'?><!-- <svg > --><html/>",
        b'<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa">' + b"".join(
            b'<!ENTITY a%d "%s">' % (i, b"&a%s;" % (str(i - 1).encode() if i else b"") * 10) for i in range(9)
        ) + b"]>" + svg("<title>&a8;</title>"),
    ],
    ids=["deep", "cut", "uses", "html", "entities"],
)  # fmt: skip
def test_a_hostile_svg_is_refused(data):
    with pytest.raises(PictureError):
        decode_picture(data, **ASK)


@pytest.mark.parametrize("extra", ["raw", "jxl", "svg"])
def test_without_an_extra_the_reason_names_it(seen, extra, monkeypatch):
    monkeypatch.setattr(extras, "has_extra", lambda name: False)
    data = {"raw": make_dng(seen), "jxl": b"\xff\x0a" + bytes(64), "svg": svg("")}[extra]
    with pytest.raises(PictureError, match=rf"pip install 'clipsearch\[{extra}\]'"):
        decode_picture(data, **ASK)
