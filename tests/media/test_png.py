"""PNGs that were cut off, and JPEG 2000 of more bits than Pillow reads rightly."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from clipsearch.errors import PictureError
from clipsearch.media.decode import decode_picture

RANDOM = np.random.default_rng(5)
PICTURE = Image.fromarray(RANDOM.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize((400, 300))
GREY_16 = Image.fromarray(np.asarray(PICTURE.convert("L")).astype(np.uint16) * 257)
KINDS = {"RGB": PICTURE, "RGBA": PICTURE.convert("RGBA"), "L": PICTURE.convert("L"), "1": PICTURE.convert("1"),
         "P": PICTURE.quantize(16), "I;16": GREY_16}  # fmt: skip


def png(picture, **options):
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def decode(data):
    return decode_picture(data, min_side=300, max_pixels=10**6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_which_nine_tenths_are_there_is_read_with_a_note(kind):
    whole = png(KINDS[kind])
    found, info = decode(whole[: len(whole) - len(whole) // 20])
    share = float(info.note.partition("%")[0]) / 100
    rows = round(300 * (1 - share))
    assert info.note.endswith("of its rows are missing") and 0 < share < 0.1
    assert np.array_equal(np.asarray(found)[: rows - 1], np.asarray(decode(whole)[0])[: rows - 1])


@pytest.mark.parametrize("cut", [4, 12, 14])
def test_a_picture_whose_end_alone_is_missing_is_read(cut):
    whole = png(PICTURE)
    assert np.array_equal(np.asarray(decode(whole[:-cut])[0]), np.asarray(PICTURE))
    assert decode(whole)[1].note == ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_which_a_half_is_there_is_refused_with_the_share(kind):
    whole = png(KINDS[kind])
    with pytest.raises(PictureError, match=r"truncated PNG file \([45]\d% of its rows are there\)"):
        decode(whole[: len(whole) // 2])


def test_a_small_file_of_many_pixels_takes_no_memory_to_complete():
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(10_000_000))[:5000]))
    chunks = b"".join(struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts)
    with pytest.raises(PictureError, match="over the limit of 1000000"):
        decode(b"\x89PNG\r\n\x1a\n" + chunks)


def test_a_webp_that_is_cut_off_is_called_so():
    file = io.BytesIO()
    PICTURE.save(file, "WEBP")
    with pytest.raises(PictureError, match=r"truncated WEBP file \(50% of its bytes are there\)"):
        decode(file.getvalue()[: len(file.getvalue()) // 2])


def test_a_jpeg_2000_is_read_rightly_or_refused():
    file = io.BytesIO()
    PICTURE.save(file, "JPEG2000")
    data = file.getvalue()
    assert np.array_equal(np.asarray(decode(data)[0]), np.asarray(PICTURE))
    deep = bytearray(data)
    deep[data.index(b"\xff\x4f\xff\x51") + 42] = 15
    with pytest.raises(PictureError, match="a JPEG 2000 with colors of 16 bits; save it with 8 bits a sample"):
        decode(bytes(deep))


@pytest.mark.parametrize("damage", ["profile", "checksum", "text", "frames"])
def test_a_picture_with_damaged_metadata_is_read(damage):
    whole = png(PICTURE)
    chunks = {
        "profile": chunk(b"iCCP", b"name\0\1" + zlib.compress(b"x")),
        "checksum": chunk(b"tEXt", b"Title\0beach")[:-1] + b"\0",
        "text": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000))),
        "frames": chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fcTL", bytes(26)),
    }
    found, info = decode(whole[:33] + chunks[damage] + whole[33:])
    assert np.array_equal(np.asarray(found), np.asarray(PICTURE)) and info.note == ""


def test_frames_in_the_wrong_order_behind_the_pixels_are_left_out():
    whole = png(PICTURE)
    start = whole.index(b"IEND") - 4
    frames = chunk(b"fdAT", struct.pack(">I", 9) + b"x")
    found, info = decode(
        whole[:33] + chunk(b"acTL", struct.pack(">II", 2, 0)) + whole[33:start] + frames + whole[start:]
    )
    assert np.array_equal(np.asarray(found), np.asarray(PICTURE)) and info.note == ""


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
