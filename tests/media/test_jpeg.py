"""JPEGs as phones write them: without an end, with films and records behind them, cut off, with many scans."""

import io

import numpy as np
import pytest
from PIL import Image

from clipsearch.errors import PictureError
from clipsearch.media.decode import decode_picture

RANDOM = np.random.default_rng(3)
PIXELS = np.asarray(Image.fromarray(RANDOM.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize((800, 600)))
TRAILER = b"\0\0\x01\x0a\x0e\0\0\0Image_UTC_Data1550000000000SEFH" + bytes(40) + b"SEFT"
FILM = RANDOM.bytes(2_000_000)
SIDES = [64, 600]


def jpeg(**options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def decode(data, side):
    return decode_picture(data, min_side=side, max_pixels=10**7)[0]


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("behind", [b"", TRAILER, TRAILER + FILM], ids=["nothing", "records", "film"])
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["without-end", "with-end"])
def test_what_lies_behind_a_picture_changes_no_pixel(end, behind, progressive, side):
    whole = jpeg(progressive=progressive)
    found = decode(whole[:-2] + end + behind, side)
    assert np.array_equal(np.asarray(found), np.asarray(decode(whole, side)))


@pytest.mark.parametrize("side", SIDES)
def test_a_picture_that_lacks_its_last_bytes_is_read(side):
    whole = jpeg()
    found, expected = (np.asarray(decode(data, side)).astype(int) for data in (whole[:-20], whole))
    assert np.abs(found - expected)[: -32 * len(found) // 600].max() <= 1


@pytest.mark.parametrize("side", SIDES)
def test_a_picture_of_which_a_half_is_there_is_refused_with_the_share(side):
    whole = jpeg()
    with pytest.raises(PictureError, match=r"truncated JPEG file \(5\d% of its rows are there\)"):
        decode(whole[: len(whole) // 2], side)


def test_a_progressive_picture_is_whole_once_its_first_scan_is_there():
    whole = jpeg(progressive=True)
    assert decode(whole[: len(whole) // 2], 600).size == (800, 600)


def test_a_picture_with_thousands_of_scans_is_refused():
    whole = jpeg(progressive=True)
    scans = whole.rindex(b"\xff\xda")
    with pytest.raises(PictureError, match="more than 500 scans"):
        decode(whole[:-2] + whole[scans:-2] * 600 + b"\xff\xd9", 64)
