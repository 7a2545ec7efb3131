"""TIFFs as scanners and photo programs write them: thumbnails first, floats, planes."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from clipsearch.errors import PictureError
from clipsearch.media.decode import decode_picture

PIXELS = np.asarray(
    Image.fromarray(np.random.default_rng(4).integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((320, 240))
)


def tiff(*pages, **options):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for pixels, subfile in pages:
            writer.write(pixels, photometric="rgb", subfiletype=subfile, **options)
    return file.getvalue()


def decode(data):
    return decode_picture(data, min_side=240, max_pixels=10**7)


def test_the_picture_is_read_and_not_the_thumbnail_before_it():
    small = np.ascontiguousarray(PIXELS[::8, ::8])
    picture, info = decode(tiff((small, 1), (small, 1), (PIXELS, 0)))
    assert (info.width, info.height) == (320, 240)
    assert np.array_equal(np.asarray(picture), PIXELS)


def test_a_file_of_thumbnails_alone_shows_the_first():
    small = np.ascontiguousarray(PIXELS[::8, ::8])
    assert decode(tiff((small, 1), (PIXELS, 1)))[0].size == (40, 30)


def test_a_thousand_thumbnails_are_not_gone_through():
    dot = np.zeros((1, 1, 3), np.uint8)
    assert decode(tiff(*[(dot, 1)] * 1000, (PIXELS, 0)))[0].size == (1, 1)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("depth", [8, 16])
def test_planes_are_read_rightly_or_refused(depth, planar):
    pixels = PIXELS if depth == 8 else PIXELS.astype(np.uint16) * 257
    pixels = np.moveaxis(pixels, 2, 0) if planar == "separate" else pixels
    data = tiff((np.ascontiguousarray(pixels), 0), planarconfig=planar)
    if (depth, planar) == (16, "separate"):
        with pytest.raises(PictureError, match="planes of more than 8 bits"):
            decode(data)
    else:
        assert np.array_equal(np.asarray(decode(data)[0]), PIXELS)


def test_colors_as_floats_are_called_unsupported():
    with pytest.raises(PictureError, match="of a kind that cannot be read"):
        decode(tiff(((PIXELS / 255).astype(np.float32), 0)))


def test_whole_numbers_of_32_bits_have_no_sign():
    grey = PIXELS[:, :, 0].astype(np.uint32) * 0x01010101
    file = io.BytesIO()
    tifffile.imwrite(file, grey)
    found = np.asarray(decode(file.getvalue())[0])[:, :, 0].astype(float)
    low, high = PIXELS[:, :, 0].min(), PIXELS[:, :, 0].max()
    assert np.abs(found - (PIXELS[:, :, 0] - float(low)) / (high - low) * 255).max() <= 1


def test_grey_with_alpha_that_was_multiplied_is_shown_over_white():
    pixels = np.full((20, 30, 2), (64, 128), np.uint8)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="minisblack", extrasamples=["assocalpha"])
    assert decode(file.getvalue())[0].getpixel((5, 5)) == (191, 191, 191)


def test_a_compression_that_is_not_built_in_is_named():
    file = io.BytesIO()
    tifffile.imwrite(file, PIXELS, compression="webp", photometric="rgb")
    with pytest.raises(PictureError, match="compressed as WebP"):
        decode(file.getvalue())
