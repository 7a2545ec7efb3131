"""Generators of pictures and of odd files, for the tests of decoding and of indexing.

All are made here from seeds; the same arguments give the same bytes. Pictures are smooth, so that lossy formats
keep them to a few grey levels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

Gps = tuple[float, float]

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jp2": "JPEG2000",
    ".pnm": "PPM",
    ".pbm": "PPM",
    ".pgm": "PPM",
    ".ppm": "PPM",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".psd": "PSD",
    **dict.fromkeys((".jpe", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo"), "JPEG"),
    **dict.fromkeys((".j2k", ".jpf", ".jpx"), "JPEG2000"),
    **dict.fromkeys((".hif", ".heics", ".heifs"), "HEIF"),
    ".apng": "PNG",
    ".dib": "BMP",
    ".avifs": "AVIF",
}
"""The format behind each suffix, as `encode` names it."""

LOSSLESS = {"PNG", "PSD", "BMP", "TIFF", "JPEG2000", "PPM"}

# What undoes each EXIF orientation: applied to the upright picture it gives the stored one.
_UNDO = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def noise_picture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Return an RGB picture of smooth random colours; size is width, height in pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def enlarge(picture: Image.Image, side: int, seed: int = 0) -> Image.Image:
    """Return the RGB picture with `side` pixels on its shorter side, and grain of two scales as a camera adds it."""
    rng = np.random.default_rng(seed)
    factor = side / min(picture.size)
    size = (round(picture.width * factor), round(picture.height * factor))
    coarse = rng.normal(0, 5, (size[1] // 3 + 1, size[0] // 3 + 1)).astype(np.float32)
    blotches = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    grain = blotches + rng.standard_normal((size[1], size[0]), np.float32) * 3
    grown = np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32) + grain[:, :, None]
    return Image.fromarray(np.clip(grown, 0, 255).astype(np.uint8))


def encode(picture: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Return the bytes of a picture file; kind is a format of Pillow or HEIF."""
    buffer = BytesIO()
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.from_pillow(picture).save(buffer, **options)
    elif kind == "PSD":
        from tests.support.documents import make_psd

        return make_psd(picture)
    else:
        # Copies, because Pillow keeps the settings of one format on the picture and trips over them in the next.
        if "append_images" in options:
            options["append_images"] = [frame.copy() for frame in options["append_images"]]
        picture.copy().save(buffer, kind, **options)
    return buffer.getvalue()


def exif_block(
    orientation: int | None = None,
    taken_at: datetime | None = None,
    camera: tuple[str, str] | None = None,
    gps: Gps | None = None,
    tags: Mapping[int, object] | None = None,
) -> Image.Exif:
    """Return EXIF data. camera: make and model. gps: latitude and longitude in degrees. tags: more tags of IFD0."""
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    if camera is not None:
        exif[0x010F], exif[0x0110] = camera
    if taken_at is not None:
        exif.get_ifd(0x8769)[0x9003] = taken_at.strftime("%Y:%m:%d %H:%M:%S")
    if gps is not None:
        place = exif.get_ifd(0x8825)
        place[1], place[2] = "S" if gps[0] < 0 else "N", _dms(gps[0])
        place[3], place[4] = "W" if gps[1] < 0 else "E", _dms(gps[1])
    for tag, value in (tags or {}).items():
        exif[tag] = value
    return exif


def _dms(degrees: float) -> tuple[TiffImagePlugin.IFDRational, ...]:
    seconds = Fraction(abs(degrees)).limit_denominator(10**6) * 3600
    parts = (int(seconds // 3600), int(seconds % 3600 // 60), round(seconds % 60 * 1000))
    return tuple(TiffImagePlugin.IFDRational(part, bottom) for part, bottom in zip(parts, (1, 1, 1000), strict=True))


def stored_turned(upright: Image.Image, orientation: int) -> Image.Image:
    """Return the pixels that a camera stores which writes this EXIF orientation (1 to 8) for the upright picture."""
    return upright.transpose(_UNDO[orientation]) if orientation in _UNDO else upright


def write_exif_jpeg(
    path: Path,
    orientation: int = 1,
    taken_at: datetime | None = None,
    camera: tuple[str, str] | None = None,
    gps: Gps | None = None,
    *,
    seed: int = 0,
    size: tuple[int, int] = (96, 64),
) -> Image.Image:
    """Write a JPEG whose EXIF says all this; return the upright picture that a viewer shows. size: when upright."""
    upright = noise_picture(seed, size)
    exif = exif_block(orientation, taken_at, camera, gps)
    path.write_bytes(encode(stored_turned(upright, orientation), "JPEG", quality=95, exif=exif))
    return upright


def png_file(
    size: tuple[int, int], depth: int, colour: int, rows: bytes, chunks: Sequence[tuple[bytes, bytes]] = ()
) -> bytes:
    """Return a PNG put together by hand. rows: with their filter bytes, not compressed. chunks: stand before IDAT."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in body
    )


def deep_rgb_png(values: np.ndarray) -> bytes:
    """Return a PNG of 16 bits a channel; values: uint16 (height, width, 3)."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png_file((width, height), 16, 2, rows)


def tiff_file(size: tuple[int, int], pixels: bytes, tags: Mapping[int, int]) -> bytes:
    """Return an uncompressed little-endian TIFF of one strip, put together by hand; tags: more tags, as SHORT."""
    values = {256: size[0], 257: size[1], 259: 1, 277: 1, 278: size[1], **tags}
    entries = {tag: struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in values.items()}
    start = 8 + 2 + 12 * (len(entries) + 2) + 4
    entries[273] = struct.pack("<HHII", 273, 4, 1, start)
    entries[279] = struct.pack("<HHII", 279, 4, 1, len(pixels))
    directory = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory + pixels


def pixel_bomb(side: int = 13_000) -> bytes:
    """Return a small PNG of side x side black pixels."""
    return png_file((side, side), 1, 0, bytes((side + 7) // 8 + 1) * side)


def odd_corpus(folder: Path) -> dict[str, str]:
    """Fill a folder with good and bad files that have names of pictures.

    Returns for each name `ok` (decodes with the default settings) or `bad` (must be reported with a reason).
    `bomb.png` is `ok` only where the pixel cap is above 169 million, so it is `bad` for a cap of 100 million.
    """
    folder.mkdir(parents=True, exist_ok=True)
    picture = noise_picture(1)
    jpeg, png = encode(picture), encode(picture, "PNG")
    good = {f"plain{suffix}": encode(picture, kind) for suffix, kind in FORMATS.items()}
    good |= _odd_but_good(picture, jpeg, png)
    bad = {
        "empty.jpg": b"",
        "zeros.png": bytes(5000),
        "text.jpg": b"These are words, not a picture.\n" * 20,
        "page.gif": b"<html><body>GIF</body></html>",
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.png": png[: len(png) // 2],
        "head.webp": good["plain.webp"][:20],
        "cut.heic": good["plain.heic"][: len(good["plain.heic"]) // 2],
        "film.avif": b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + bytes(100),
        "vector.png": b'<html xmlns="http://www.w3.org/1999/xhtml"/>',
        "huge.png": png_file((60_000, 60_000), 8, 2, b""),
        "huge.bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 50_000, 50_000, 1, 24, *[0] * 6),
    }
    for name, data in {**good, **bad}.items():
        (folder / name).write_bytes(data)
    return dict.fromkeys(good, "ok") | dict.fromkeys(bad, "bad")


def _odd_but_good(picture: Image.Image, jpeg: bytes, png: bytes) -> dict[str, bytes]:
    frames = [noise_picture(seed) for seed in (2, 3)]
    many = {"save_all": True, "append_images": frames}
    broken_exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff\x90\0\0\0" * 3
    return {
        "png-inside.jpg": png,
        "jpeg-inside.png": jpeg,
        "no-suffix": jpeg,
        "名前 ü.jpg": jpeg,
        "two-frames.jpg": encode(picture, "MPO", **many),
        "animated.gif": encode(picture, "GIF", **many),
        "animated.png": encode(picture, "PNG", **many),
        "animated.webp": encode(picture, "WEBP", **many),
        "pages.tiff": encode(picture, "TIFF", **many),
        "cmyk.jpg": encode(picture.convert("CMYK")),
        "cmyk.tif": encode(picture.convert("CMYK"), "TIFF"),
        "grey.jpg": encode(picture.convert("L")),
        "grey16.png": encode(Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257), "PNG"),
        "float.tiff": encode(picture.convert("F"), "TIFF"),
        "palette.png": encode(picture.quantize(16), "PNG", transparency=0),
        "alpha.png": encode(picture.convert("RGBA"), "PNG"),
        "bits.png": encode(picture.convert("1"), "PNG"),
        "progressive.jpg": encode(picture, progressive=True),
        "broken-exif.jpg": encode(picture, exif=broken_exif),
        "wrong-orientation.jpg": encode(picture, exif=exif_block(99)),
        "tail.jpg": jpeg + b"more bytes after the end",
        "one-pixel.png": encode(noise_picture(4, (1, 1)), "PNG"),
        "thin.png": encode(noise_picture(5, (3000, 1)), "PNG"),
        "bomb.png": pixel_bomb(),
        "textbomb.png": png_file((8, 8), 8, 0, bytes(72), [(b"zTXt", b"a\0\0" + zlib.compress(bytes(50_000_000)))]),
    }


def photograph(name: str) -> Path:
    """The file of a photograph that scikit-image ships."""
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "data" / name
