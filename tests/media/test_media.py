from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.errors import MediaError, PictureError
from clipsearch.media.decode import (
    decode_picture,
    is_picture,
    read_picture,
    read_regular,
    upright_rgb,
)
from clipsearch.media.exif import read_exif
from clipsearch.types import PICTURE_SUFFIXES, PictureInfo
from tests.support import pictures as make
from tests.support.paths import ROOT

CAP = 10_000_000
KINDS = sorted(set(make.FORMATS.values()))
EXIF_KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"]
CUT_KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "GIF", "JPEG2000"]


def decode(data: bytes, side: int = 1000, cap: int = CAP) -> tuple[Image.Image, PictureInfo]:
    return decode_picture(data, min_side=side, max_pixels=cap)


def far(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


def colour(data: bytes) -> tuple[int, ...]:
    picture, _ = decode(data)
    assert picture.mode == "RGB"
    return picture.getpixel((0, 0))


def solid(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (16, 16), value)


# --- formats -------------------------------------------------------------------------------------------------------


def test_every_suffix_has_a_format_and_every_format_decodes():
    assert set(make.FORMATS) == PICTURE_SUFFIXES
    picture = make.noise_picture(1, (90, 60))
    for suffix, kind in make.FORMATS.items():
        data = make.encode(picture, kind)
        assert is_picture(data[:32]), suffix
        found, info = decode(data)
        assert (found.mode, found.size, (info.width, info.height)) == ("RGB", (90, 60), (90, 60)), suffix
        assert far(found, picture) <= (0 if kind in make.LOSSLESS else 20 if kind == "GIF" else 4), suffix


def test_pnm_of_every_number(tmp_path):
    for magic, body, want in [
        (b"P1", b"1 0\n0 1\n", 0),
        (b"P2", b"255 0 0 9\n", 255),
        (b"P4", b"\x80\x40", 0),
        (b"P5", b"\xff\0\0\0", 255),
    ]:
        head = b"%b\n# made by hand\n2 2\n" % magic + (b"" if magic in (b"P1", b"P4") else b"255\n")
        assert is_picture(head + body)
        assert colour(head + body) == (want,) * 3


@pytest.mark.parametrize(
    "text",
    [b"", b"P", b"BMW is a car maker in Munich, Germany", b"P1 is the first place", b"II. The second part of it",
     b"RIFF raff", b"GIF is a format", b"\0" * 32, b"\0\0\0\x18ftypisom\0\0\0\0isom", "照片".encode("utf-16")],
)  # fmt: skip
def test_what_is_no_picture(text):
    assert not is_picture(text)
    with pytest.raises(PictureError, match=r"empty file|not a picture"):
        decode(text)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "MPO", "AVIF"])
def test_the_first_frame_counts(kind):
    frames = [make.noise_picture(seed) for seed in range(4)]
    data = make.encode(frames[0], kind, save_all=True, append_images=frames[1:])
    found, _ = decode(data)
    assert far(found, frames[0]) < 20 < far(found, frames[1])


def test_an_mpo_opens_as_its_first_jpeg():
    picture = make.noise_picture(1)
    data = make.encode(picture, "MPO", save_all=True, append_images=[make.noise_picture(2)], quality=95)
    assert far(decode(data)[0], picture) < 3


# --- reduced size ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF"])
@pytest.mark.parametrize("size", [(800, 600), (601, 799), (333, 1200), (100, 90), (64, 3000)])
def test_reduced_to_no_less_than_1_4_times_the_side(kind, size):
    picture = make.noise_picture(3, size)
    found, info = decode(make.encode(picture, kind), side=32)
    assert (info.width, info.height) == size
    assert min(min(size), 45) <= min(found.size) <= min(min(size), 89)
    assert found.width / found.height == pytest.approx(size[0] / size[1], rel=0.05)
    assert far(found.resize((32, 32)), picture.resize((32, 32), Image.Resampling.BOX)) < 5


def test_a_large_jpeg_is_decoded_at_reduced_size_beyond_the_cap():
    data = make.encode(make.noise_picture(1, (2000, 1500)))
    found, info = decode(data, side=100, cap=1_000_000)
    assert (info.width, info.height, min(found.size)) == (2000, 1500, 188)
    with pytest.raises(PictureError, match=r"2000 x 1500 pixels, over the limit of 1000000 \(setting max_pixels\)"):
        decode(data, side=1000, cap=1_000_000)
    with pytest.raises(PictureError, match="over the limit of 2000000"):
        decode(data, side=100, cap=500_000)
    with pytest.raises(PictureError, match="over the limit of 1000000"):
        decode(make.encode(make.noise_picture(1, (2000, 1500)), progressive=True), side=100, cap=1_000_000)


# --- orientation -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXIF_KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_agree_with_the_upright_picture(kind, orientation):
    upright = make.noise_picture(7, (90, 64))
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "AVIF": {"quality": 95}}.get(kind, {})
    stored = make.stored_turned(upright, orientation)
    exif = make.exif_block(orientation, camera=("Canon", "EOS"))
    found, info = decode(make.encode(stored, kind, exif=exif.tobytes(), **options))
    assert (info.width, info.height, info.camera) == (90, 64, "Canon EOS")
    assert far(found, upright) <= (0 if kind in {"PNG", "TIFF", "WEBP"} else 5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_after_scaling(tmp_path, orientation):
    upright = make.write_exif_jpeg(tmp_path / "a.jpg", orientation, size=(803, 611))
    found, info = read_picture(tmp_path / "a.jpg", min_side=64, max_pixels=CAP)
    want, _ = decode(make.encode(upright, "JPEG", quality=95), side=64)
    assert (info.width, info.height) == (803, 611)
    assert far(found, want) < 3


@pytest.mark.parametrize("orientation", [0, 9, 99, 65535])
def test_wrong_orientations_are_ignored(orientation):
    picture = make.noise_picture(7)
    for kind in ("PNG", "TIFF"):
        assert far(decode(make.encode(picture, kind, exif=make.exif_block(orientation)))[0], picture) == 0


# --- EXIF ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXIF_KINDS)
def test_exif_facts(kind):
    taken = datetime(2023, 7, 14, 18, 30, 5)
    exif = make.exif_block(1, taken, ("NIKON CORPORATION", "NIKON D70"), (-33.8568, 151.2153))
    _, info = decode(make.encode(make.noise_picture(1), kind, exif=exif.tobytes()))
    assert (info.taken_at, info.camera) == (taken, "NIKON D70")
    assert (info.latitude, info.longitude) == (pytest.approx(-33.8568, abs=1e-6), pytest.approx(151.2153, abs=1e-6))


@pytest.mark.parametrize(
    ("make_", "model", "camera"),
    [("Canon", "Canon EOS 5D", "Canon EOS 5D"), ("samsung", "SM-G950F", "samsung SM-G950F"), ("Apple", "", "Apple"),
     ("", "X100", "X100"), (" \0", "  ", None), ("---", "", None), ("FUJIFILM  ", " X-T3\0junk", "FUJIFILM X-T3")],
)  # fmt: skip
def test_cameras(make_, model, camera):
    assert read_exif(make.exif_block(camera=(make_, model)).tobytes()).camera == camera


@pytest.mark.parametrize(
    ("written", "taken"),
    [("2020:02:29 23:59:59", datetime(2020, 2, 29, 23, 59, 59)), ("2020-02-29T10:00", datetime(2020, 2, 29, 10)),
     ("0000:00:00 00:00:00", None), ("    :  :     :  :  ", None), ("2021:02:29 10:00:00", None), ("yesterday", None),
     ("2020:13:01 00:00:00", None), ("2020:01:01 25:00:00", None)],
)  # fmt: skip
def test_times(written, taken):
    assert read_exif(make.exif_block(tags={0x0132: written}).tobytes()).taken_at == taken


def test_a_nonsense_time_gives_way_to_the_next():
    exif = make.exif_block(tags={0x0132: "2019:01:02 03:04:05"})
    exif.get_ifd(0x8769)[0x9003] = "0000:00:00 00:00:00"
    assert read_exif(exif.tobytes()).taken_at == datetime(2019, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("change", "place"),
    [({}, (48.5, 9.25)), ({1: "S", 3: "W"}, (-48.5, -9.25)), ({2: (91.0, 0.0, 0.0)}, None), ({1: "X"}, None),
     ({4: (181.0, 0.0, 0.0)}, None), ({2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}, None), ({3: ""}, (48.5, 9.25))],
)  # fmt: skip
def test_places(change, place):
    exif = make.exif_block(gps=(48.5, 9.25))
    exif.get_ifd(0x8825).update(change)
    assert read_exif(exif.tobytes()).place == place


def test_damaged_exif_never_stops_a_decode():
    exif = make.exif_block(6, datetime(2020, 1, 1), ("Canon", "EOS"), (10.0, 20.0)).tobytes()
    rng = np.random.default_rng(11)
    picture = make.noise_picture(1, (16, 16))
    plain = make.encode(picture, "PNG")
    seen = set()
    for turn in range(400):
        block = bytearray(exif)
        for at in rng.integers(6, len(exif), rng.integers(1, 6)):
            block[at] = rng.integers(256)
        if turn % 3 == 0:
            block = block[: rng.integers(len(block))]
        segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + bytes(block)
        jpeg = make.encode(picture)
        seen.add(decode(jpeg[:2] + segment + jpeg[2:])[1])
        chunk = b"eXIf" + bytes(block[6:])
        png = plain[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + plain[33:]
        decode(png)
    assert len(seen) > 20


def test_exif_reader_with_any_bytes():
    rng = np.random.default_rng(5)
    for size in range(0, 400):
        read_exif(b"Exif\0\0" + (b"MM\0*", b"II*\0")[size % 2] + rng.integers(0, 16, size, dtype=np.uint8).tobytes())


# --- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "value", "kind", "want"),
    [
        ("1", 1, "PNG", (255, 255, 255)), ("L", 77, "PNG", (77, 77, 77)), ("LA", (0, 128), "PNG", (127, 127, 127)),
        ("RGBA", (255, 0, 0, 0), "PNG", (255, 255, 255)), ("RGBA", (255, 0, 0, 128), "PNG", (255, 127, 127)),
        ("RGBA", (9, 8, 7, 255), "WEBP", (9, 8, 7)), ("CMYK", (255, 0, 0, 0), "TIFF", (0, 255, 255)),
        ("CMYK", (255, 0, 0, 0), "JPEG", (0, 255, 255)), ("CMYK", (0, 0, 0, 255), "JPEG", (0, 0, 0)),
        ("CMYK", (0, 0, 0, 0), "JPEG", (255, 255, 255)), ("I;16", 65535, "PNG", (255, 255, 255)),
        ("I;16", 32896, "PNG", (128, 128, 128)), ("I;16", 257, "TIFF", (1, 1, 1)), ("I", 65535, "TIFF", (255,) * 3),
        ("I", 200, "TIFF", (200, 200, 200)),
        ("F", 0.5, "TIFF", (128, 128, 128)), ("LAB", (255, 128, 128), "TIFF", None),
        ("YCbCr", (128, 128, 128), "TIFF", (128, 128, 128)), ("YCbCr", (76, 85, 255), "JPEG", (254, 0, 0)),
    ],
)  # fmt: skip
def test_modes_look_as_in_a_viewer(mode, value, kind, want):
    found = colour(
        make.encode(solid(mode, value), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    )
    assert want is None or np.abs(np.subtract(found, want)).max() <= 2, found


def test_palettes():
    picture = Image.new("P", (16, 16), 3)
    picture.putpalette([v for i in range(256) for v in (i, 255 - i, 40)])
    assert colour(make.encode(picture, "PNG")) == (3, 252, 40)
    assert colour(make.encode(picture, "GIF")) == (3, 252, 40)
    assert colour(make.encode(picture, "PNG", transparency=3)) == (255, 255, 255)
    assert colour(make.encode(picture, "PNG", transparency=2)) == (3, 252, 40)
    assert colour(make.encode(picture, "PNG", transparency=bytes([255, 255, 255, 128]))) == (129, 253, 147)
    assert colour(make.encode(picture, "GIF", transparency=3)) == (255, 255, 255)


def test_a_transparent_colour_of_rgb_and_grey():
    assert colour(make.encode(solid("RGB", (1, 2, 3)), "PNG", transparency=(1, 2, 3))) == (255, 255, 255)
    assert colour(make.encode(solid("L", 9), "PNG", transparency=9)) == (255, 255, 255)


def test_lab_keeps_its_lightness_and_hue():
    def lab(*value: int) -> tuple[int, ...]:
        return colour(make.encode(Image.frombytes("LAB", (4, 4), bytes(value) * 16), "TIFF"))

    assert max(lab(0, 0, 0)) <= 2
    assert min(lab(255, 0, 0)) >= 250
    red, green, blue = lab(128, 70, 60)
    assert red > 180 > green + 60 and red > blue + 100


def test_deep_colour_and_depths_between():
    values = np.full((4, 4, 3), (0xFFFF, 0x8000, 0x0100), np.uint16)
    assert colour(make.deep_rgb_png(values)) == (255, 128, 1)
    twelve = make.tiff_file((2, 2), bytes([0xFF, 0xFF, 0xFF]) * 2, {258: 12, 262: 1})
    assert colour(twelve) == (255, 255, 255)
    inverted = make.tiff_file((2, 2), bytes(8), {258: 16, 262: 0})
    assert colour(inverted) == (255, 255, 255)
    assert colour(b"P5\n2 2\n1023\n" + b"\x03\xff" * 4) == (255, 255, 255)
    assert colour(b"P5\n2 2\n65535\n" + b"\x40\x40" * 4) == (64, 64, 64)


def test_floats_with_no_number_in_them():
    values = np.array([[np.nan, np.inf, -np.inf, 0.5]], np.float32)
    assert np.asarray(decode(make.encode(Image.fromarray(values), "TIFF"))[0])[0, :, 0].tolist() == [0, 255, 0, 128]
    stretched = np.array([[-10, 0, 10, np.nan]], np.float32)
    assert np.asarray(decode(make.encode(Image.fromarray(stretched), "TIFF"))[0])[0, :, 0].tolist() == [0, 128, 255, 0]
    assert colour(make.encode(solid("F", np.nan), "TIFF")) == (0, 0, 0)
    assert colour(make.encode(solid("F", -7.0), "TIFF")) == (0, 0, 0)


def cmyk_profile(lab: tuple[int, int, int]) -> bytes:
    """Return a CMYK profile of one Lab colour (8-bit: a and b around 128) between white paper and all inks, black."""
    table = struct.pack(">4sIBBBB9i", b"mft1", 0, 4, 3, 2, 0, *[v << 16 for v in (1, 0, 0, 0, 1, 0, 0, 0, 1)])
    inks = bytes([255, 128, 128]) + bytes(lab) * 14 + bytes([0, 128, 128])
    table += bytes(range(256)) * 4 + inks + bytes(range(256)) * 3
    white = struct.pack(">4sIiii", b"XYZ ", 0, 63190, 65536, 54061)
    first = 128 + 4 + 24
    tags = struct.pack(">I4sII4sII", 2, b"A2B0", first, len(table), b"wtpt", first + len(table), len(white))
    size = first + len(table) + len(white)
    head = struct.pack(">I4sI4s4s4s12s4s", size, b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", bytes(12), b"acsp")
    return head + bytes(68 - len(head)) + struct.pack(">iii", 63190, 65536, 54061) + bytes(48) + tags + table + white


def test_the_profile_of_a_cmyk_picture_is_used_where_it_is_one():
    ink = solid("CMYK", (255, 0, 0, 0))
    reddish = cmyk_profile((128, 200, 190))
    red, green, blue = colour(make.encode(ink, "JPEG", icc_profile=reddish))
    assert red > 150 > green + 50 and red > blue + 50
    for useless in (b"no profile", reddish[:200], make_srgb()):
        assert colour(make.encode(ink, "JPEG", icc_profile=useless)) == (0, 255, 255)


def make_srgb() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_of(values: np.ndarray) -> np.ndarray:
    """Scale the whole picture at once, as the rule for deep grey says."""
    least, most = np.nanmin(values[np.isfinite(values)]), np.nanmax(values[np.isfinite(values)])
    clean = np.nan_to_num(values.astype(np.float64), nan=least, posinf=most, neginf=least)
    return np.rint((clean - least) / (most - least) * 255).astype(np.uint8)


@pytest.mark.parametrize("side", [1000, 37])
def test_strips_give_what_the_whole_picture_gives(side):
    size = (1999, 1301)
    rng = np.random.default_rng(8)
    ramp = np.linspace(-3000, 70_000, size[0] * size[1]).reshape(size[1], size[0])
    floats = ramp.astype(np.float32)
    floats[rng.random(floats.shape) < 0.01] = np.nan
    deep = rng.integers(0, 65536, ramp.shape, dtype=np.uint16)
    clear = make.noise_picture(1, size)
    clear.putalpha(Image.fromarray((ramp % 256).astype(np.uint8)))
    white = Image.new("RGB", size, "white")
    white.paste(clear.convert("RGB"), mask=clear.getchannel("A"))
    wanted = [
        (floats, grey_of(floats)),
        (ramp.astype(np.int32), grey_of(ramp.astype(np.int32))),
        (deep, np.rint(deep / 65535 * 255).astype(np.uint8)),
        (np.asarray(clear), np.asarray(white)),
        (np.asarray(white), np.asarray(white)),
    ]
    for values, want in wanted:
        whole = Image.fromarray(want).convert("RGB")
        whole = whole.reduce(1301 // math.ceil(1.4 * side)) if side < 1000 else whole
        found, _ = decode(make.encode(Image.fromarray(values), "TIFF"), side=side)
        assert (found.size, far(found, whole)) == (whole.size, 0)


def test_an_opened_picture_keeps_its_size():
    for mode in ("RGB", "CMYK", "LAB", "F", "RGBA"):
        found = upright_rgb(solid(mode, 0))
        assert (found.mode, found.size) == ("RGB", (16, 16))


# --- damage ----------------------------------------------------------------------------------------------------------


def ends_well(data: bytes, label: object) -> bool:
    """Decode; return whether there was a picture. Any error but PictureError fails the test."""
    try:
        picture, info = decode(data, side=16, cap=1_000_000)
    except PictureError as error:
        assert 5 < len(str(error)) < 200 and "\n" not in str(error), label
        return False
    assert picture.mode == "RGB" and info.width * info.height <= 4_000_000
    picture.tobytes()
    return True


@pytest.mark.parametrize("kind", CUT_KINDS)
def test_truncated_anywhere(kind):
    data = make.encode(make.noise_picture(2), kind)
    places = sorted({*range(1, 40), *np.linspace(40, len(data) - 1, 60).astype(int).tolist()})
    whole = [place for place in places if ends_well(data[:place], (kind, place))]
    assert not [place for place in whole if place < len(data) * 0.6]
    with pytest.raises(PictureError, match=r"truncated|damaged"):
        decode(data[: len(data) // 2])


@pytest.mark.parametrize("kind", [*KINDS, "MPO"])
def test_flipped_bytes(kind):
    data = make.encode(make.noise_picture(2, (48, 40)), kind)
    rng = np.random.default_rng(17)
    started = time.perf_counter()
    for turn in range(150):
        broken = bytearray(data)
        # Headers are where a flipped byte does the most harm.
        reach = min(len(data), 300) if turn % 2 else len(data)
        for at in rng.integers(0, reach, rng.integers(1, 8)):
            broken[at] = rng.integers(256)
        ends_well(bytes(broken), (kind, turn))
    assert time.perf_counter() - started < 20


def test_bombs_are_refused_before_they_are_decoded():
    started = time.perf_counter()
    with pytest.raises(PictureError, match=r"13000 x 13000 pixels, over the limit of 100000000 \(setting max_pixels\)"):
        decode(make.pixel_bomb(), cap=100_000_000)
    gif = b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;"
    webp = b"RIFF\x1e\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff" + bytes(8)
    for data in (gif, webp, make.png_file((2**31 - 1, 2**31 - 1), 8, 2, b""), b"P6\n99999 99999\n255\n" + bytes(99)):
        with pytest.raises(PictureError):
            decode(data, cap=100_000_000)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    ("mode", "kind", "counts", "options"),
    [
        ("1", "PNG", 1, {}), ("L", "PNG", 1, {}), ("P", "GIF", 1, {}), ("RGB", "PNG", 1, {}), ("I;16", "PNG", 1, {}),
        ("RGBA", "PNG", 4 / 3, {}), ("CMYK", "TIFF", 4 / 3, {}), ("F", "TIFF", 4 / 3, {}), ("I", "TIFF", 4 / 3, {}),
        ("RGB", "AVIF", 1.5, {}), ("RGB", "WEBP", 2, {}), ("RGBA", "WEBP", 2, {"exact": True}),
        ("RGB", "JPEG2000", 3, {}), ("CMYK", "JPEG", 4 / 3, {}), ("RGB", "HEIF", 1, {}),
    ],
)  # fmt: skip
def test_the_cap_counts_a_pixel_by_its_memory(mode, kind, counts, options):
    data = make.encode(Image.new(mode, (120, 90)), kind, **options)
    least = round(120 * 90 * counts)
    decode(data, cap=least)
    with pytest.raises(
        PictureError, match=r"120 x 90 pixels.*, over the limit of \d+ \(setting max_pixels\)"
    ) as caught:
        decode(data, cap=least - 1)
    assert ("each counted" in str(caught.value)) == (counts > 1)


def test_chunks_that_blow_up():
    blown = zlib.compress(bytes(80_000_000))
    for chunks in ([(b"zTXt", b"a\0\0" + blown)], [(b"iTXt", b"a\0\1\0\0\0" + blown)], [(b"iCCP", b"a\0\0" + blown)]):
        ends_well(make.png_file((8, 8), 8, 0, bytes(72), chunks), chunks[0][0])
    many = [(b"tEXt", b"a\0" + b"x" * 900_000)] * 90
    assert ends_well(make.png_file((8, 8), 8, 0, bytes(72), many), "many")


def test_a_jpeg_of_too_many_scans():
    data = make.encode(make.noise_picture(1), progressive=True)
    assert ends_well(data, "progressive")
    at = data.rindex(b"\xff\xda")
    with pytest.raises(PictureError, match="more than 500 scans"):
        decode(data[:-2] + data[at:-2] * 600 + b"\xff\xd9")


def test_a_large_tiff_makes_no_warning_and_filters_stay():
    before = list(warnings.filters)
    side = 9600
    data = make.tiff_file((side, side), b"", {258: 1, 262: 1})
    with pytest.raises(PictureError, match="TIFF file"):
        decode(data, cap=100_000_000)
    damaged = make.tiff_file((4, 4), bytes(16), {258: 8, 262: 1, 282: 5})
    spoiled = damaged.replace(struct.pack("<HHIHH", 282, 3, 1, 5, 0), struct.pack("<HHII", 282, 5, 1, 999_999))
    assert spoiled != damaged and ends_well(spoiled, "tag past the end")
    assert warnings.filters == before


def test_warnings_of_others_still_come_through():
    spoiled = make.encode(make.noise_picture(1), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert ends_well(spoiled, "exif")
    with pytest.warns(UserWarning, match="XMP data|EXIF"), Image.open(BytesIO(spoiled)) as picture:
        dict(picture.getexif())
    with pytest.raises(Image.DecompressionBombWarning):
        Image.open(BytesIO(make.pixel_bomb(10_000)))


def test_nothing_is_printed(tmp_path):
    names = make.odd_corpus(tmp_path)
    code = (
        "import sys, pathlib\nfrom clipsearch.errors import PictureError\n"
        "from clipsearch.media.decode import read_picture\n"
        "bad = []\nfor path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try: read_picture(path, min_side=64, max_pixels=200_000_000)\n"
        "    except PictureError as error: bad.append(ascii(path.name))\n"
        "print('|'.join(bad))"
    )
    command = [sys.executable, "-W", "always", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip().split("|") == sorted(ascii(name) for name, want in names.items() if want == "bad")


# --- files -----------------------------------------------------------------------------------------------------------


def test_read_picture_says_what_is_wrong(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("words")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "png.jpg").write_bytes(make.encode(make.noise_picture(1), "PNG"))
    wrong = {"missing.jpg": "no such file", "empty.jpg": "empty file", "text.jpg": "not a picture",
             "nul\0.jpg": "cannot", "folder.jpg": "is a folder", "empty.jpg/x.jpg": "cannot be read"}  # fmt: skip
    for name, reason in wrong.items():
        with pytest.raises(PictureError, match=reason) as caught:
            read_picture(tmp_path / name, min_side=64, max_pixels=CAP)
        assert name.partition("\0")[0] in str(caught.value)
    assert read_picture(str(tmp_path / "png.jpg"), min_side=64, max_pixels=CAP)[1] == PictureInfo(96, 64)


def test_no_more_is_read_than_the_limit(tmp_path):
    data = make.encode(make.noise_picture(1), "PNG")
    (tmp_path / "a.png").write_bytes(data)
    found, status = read_regular(tmp_path / "a.png", len(data))
    assert (found, status.st_size) == (data, len(data))
    with pytest.raises(MediaError, match=rf"{len(data)} bytes, over the limit of 99 \(setting max_text_bytes\)"):
        read_regular(tmp_path / "a.png", 99, setting="max_text_bytes")
    read_picture(tmp_path / "a.png", min_side=64, max_pixels=CAP, max_bytes=len(data))
    with pytest.raises(PictureError, match=rf"a\.png: {len(data)} bytes, over the limit of {len(data) - 1} "):
        read_picture(tmp_path / "a.png", min_side=64, max_pixels=CAP, max_bytes=len(data) - 1)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "gone.png", 99)


@pytest.mark.skipif(not os.path.isfile("/proc/version"), reason="no file whose size is not known before it is read")
def test_a_file_longer_than_it_says_is_read_whole():
    found, status = read_regular("/proc/version", 10_000)
    assert (found, status.st_size) == (Path("/proc/version").read_bytes(), 0)
    with pytest.raises(MediaError, match=r"6 bytes, over the limit of 5 \(setting max_picture_bytes\)"):
        read_regular("/proc/version", 5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_and_a_device_never_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", Path("/dev/zero")):
        with pytest.raises(PictureError, match="not a regular file"):
            read_picture(path, min_side=64, max_pixels=CAP)


def test_twenty_threads_decode_what_one_decodes(tmp_path):
    names = [name for name, want in make.odd_corpus(tmp_path).items() if name != "bomb.png" or want == "bad"]
    files = {name: (tmp_path / name).read_bytes() for name in names}

    def outcome(name: str) -> object:
        try:
            picture, info = decode(files[name], side=40)
        except PictureError as error:
            return str(error)
        return picture.size, zlib.crc32(picture.tobytes()), info

    alone = {name: outcome(name) for name in names}
    ready = threading.Barrier(20)

    def work(shift: int) -> bool:
        ready.wait(timeout=30)
        turned = names[shift:] + names[:shift]
        return all(outcome(name) == alone[name] for name in turned)

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(work, range(20)))
