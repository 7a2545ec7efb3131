"""Decode one picture safely: a pixel cap, a reduced-size decode, the EXIF orientation, any mode and depth to RGB.

The content decides which decoder runs, not the name. The decoder class of Pillow is called directly, not through
`Image.open`: that allows for formats to be listed exactly, keeps MPO out (a JPEG of two frames opens as a JPEG), and
leaves the pixel check to us, so the process-wide `Image.MAX_IMAGE_PIXELS` is never touched. That value still holds
inside Pillow for GIF, TIFF and WebP: above twice it (179 million pixels) they are refused, whatever our cap.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from clipsearch.errors import PictureError
from clipsearch.exif import read_exif
from clipsearch.types import PictureInfo

PICTURE_SUFFIXES: frozenset[str] = frozenset(
    ".jpg .jpeg .jfif .png .webp .gif .bmp .tif .tiff .jp2 .pnm .pbm .pgm .ppm .avif .heic .heif".split()
)
MAX_PICTURE_BYTES = 1 << 30
"""The largest file that `read_picture` reads, in bytes."""

REDUCED_OVER_CAP = 4
"""How far a JPEG that is decoded at reduced size may exceed `max_pixels` at its full size, as a factor."""

_MAX_SCANS = 500
_HEAD = 256
_NOT_A_PICTURE = "not a picture that clipsearch reads"
_MAGIC = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("WEBP", re.compile(rb"RIFF....WEBPVP8[ LX]", re.DOTALL)),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("BMP", re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
    ("JPEG2000", re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
    ("PNM", re.compile(rb"P[1-6]\s+(#|\d+\s+\d+\s)")),
)
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"mif2", b"msf1"})
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG whose EXIF is left to us."""

    def _read_dpi_from_exif(self) -> None:
        """Skip it: it costs time and trips over damaged EXIF, and nobody asks for the dpi."""


_DECODERS: dict[str, Callable[[BytesIO], Image.Image]] = {
    "JPEG": _Jpeg,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "PNM": PpmImagePlugin.PpmImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}


def is_picture(head: bytes) -> bool:
    """Tell by its first bytes (32 are enough) whether a file is a picture of a format that is read here."""
    return _kind(head) is not None


def read_picture(path: str | os.PathLike[str], *, min_side: int, max_pixels: int) -> tuple[Image.Image, PictureInfo]:
    """Read a picture file; the rest is as in `decode_picture`.

    Raises PictureError, which names the path, for a path that is missing, a folder, not a regular file (a pipe is
    refused at once, never waited for), larger than MAX_PICTURE_BYTES, or no picture.
    """
    try:
        return decode_picture(_read_file(path), min_side=min_side, max_pixels=max_pixels)
    except PictureError as error:
        shown = os.fsencode(path).decode("utf-8", "replace")
        raise PictureError(f"{shown}: {error}") from error


def decode_picture(data: bytes, *, min_side: int, max_pixels: int) -> tuple[Image.Image, PictureInfo]:
    """Decode the first frame of a picture.

    data: the bytes of the whole file. min_side: pixels that the caller needs on the shorter side; a larger picture
    is reduced by a whole factor to no less than 2 * min_side, never enlarged; a JPEG is reduced while it is decoded.
    max_pixels: the largest decoded size. A JPEG that is decoded at a half, a quarter or an eighth may have up to
    REDUCED_OVER_CAP times that at full size, unless it is progressive, which takes the memory of the full size.
    Returns an upright RGB picture and what the file says of itself. Transparency stands over white.
    Raises PictureError with a short reason, whatever is wrong with the bytes. Safe to call from several threads.
    """
    if not data:
        raise PictureError("empty file")
    kind = _kind(data[:_HEAD])
    if kind is None:
        raise PictureError(_NOT_A_PICTURE)
    try:
        return _decode(kind, data, 2 * max(min_side, 1), max_pixels)
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(_reason(kind, error)) from error


def upright_rgb(picture: Image.Image) -> Image.Image:
    """Bring an opened Pillow picture into the form `decode_picture` returns.

    Raises PictureError if its file turns out to be damaged.
    """
    try:
        return _to_rgb(ImageOps.exif_transpose(picture), picture.format or "", 1)
    except Exception as error:
        raise PictureError(_reason(picture.format or "picture", error)) from error


def _read_file(path: str | os.PathLike[str]) -> bytes:
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        if os.path.isdir(path):
            raise PictureError("is a folder, not a picture file")
        with os.fdopen(os.open(path, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PictureError("not a regular file")
            if status.st_size > MAX_PICTURE_BYTES:
                raise PictureError(f"{status.st_size} bytes, over the limit of {MAX_PICTURE_BYTES} for a picture file")
            return file.read()
    except FileNotFoundError as error:
        raise PictureError("there is no such file") from error
    except (OSError, ValueError) as error:
        raise PictureError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _kind(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIF" if brands & _HEIF_BRANDS else None
    return next((kind for kind, magic in _MAGIC if magic.match(head)), None)


def _open(kind: str, data: bytes) -> Image.Image:
    if kind == "HEIF":
        from pillow_heif import HeifImageFile

        picture: Image.Image = HeifImageFile(BytesIO(data))  # type: ignore[no-untyped-call]
        return picture
    return _DECODERS[kind](BytesIO(data))


def _decode(kind: str, data: bytes, side: int, max_pixels: int) -> tuple[Image.Image, PictureInfo]:
    picture = _open(kind, data)
    width, height = picture.size
    scale = _jpeg_scale(picture, data, side) if kind == "JPEG" else 1
    _check_pixels(width, height, scale, max_pixels, "progressive" in picture.info)
    if scale > 1:
        picture.draft(None, (width // scale, height // scale))
    picture.load()
    if scale == 1:
        width, height = picture.size
        _check_pixels(width, height, 1, max_pixels, False)
    # Pillow turns a TIFF itself, libheif a HEIC, whose EXIF must not turn it again.
    facts = read_exif(data if kind == "TIFF" else _exif_block(picture))
    turn = None if kind in {"TIFF", "HEIF"} else _TURNS.get(facts.orientation)
    if turn is not None and facts.orientation >= 5:
        width, height = height, width
    rgb = _shrink(_to_rgb(picture, kind, side), side)
    rgb = rgb if turn is None else rgb.transpose(turn)
    return rgb, PictureInfo(width, height, facts.taken_at, facts.camera, facts.latitude, facts.longitude)


def _exif_block(picture: Image.Image) -> bytes:
    block = picture.info.get("exif")
    return block if isinstance(block, bytes) else b""


def _jpeg_scale(picture: Image.Image, data: bytes, side: int) -> int:
    """Return the DCT scale, 1, 2, 4 or 8, that leaves at least `side` pixels on the shorter side."""
    # A few kilobytes can hold thousands of scans, each of which costs a pass over all pixels.
    if "progressive" in picture.info and data.count(b"\xff\xda") > _MAX_SCANS:
        raise PictureError(f"a progressive JPEG of more than {_MAX_SCANS} scans")
    return next((scale for scale in (8, 4, 2) if min(picture.size) >= side * scale), 1)


def _check_pixels(width: int, height: int, scale: int, max_pixels: int, progressive: bool) -> None:
    decoded = -(-width // scale) * -(-height // scale)
    hard = max_pixels if progressive or scale == 1 else max_pixels * REDUCED_OVER_CAP
    if decoded > max_pixels or width * height > hard:
        limit = max_pixels if decoded > max_pixels else hard
        raise PictureError(f"{width} x {height} pixels, over the limit of {limit} (setting max_pixels)")


def _shrink(picture: Image.Image, side: int) -> Image.Image:
    factor = min(picture.size) // side
    return picture.reduce(factor) if factor > 1 else picture


def _to_rgb(picture: Image.Image, kind: str, side: int) -> Image.Image:
    """Convert any mode to RGB, as a viewer shows it; colour profiles count for CMYK and LAB only."""
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return Image.fromarray(_grey(picture, kind)).convert("RGB")
    if picture.has_transparency_data:
        return _over_white(picture)
    if mode in {"CMYK", "LAB"}:
        return _with_profile(_shrink(picture, side))
    return picture if type(picture) is Image.Image and mode == "RGB" else picture.convert("RGB")


def _over_white(picture: Image.Image) -> Image.Image:
    rgba = picture if picture.mode == "RGBA" else picture.convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema()[0] == 255:
        return rgba.convert("RGB")
    white = Image.new("RGB", rgba.size, "white")
    white.paste(rgba.convert("RGB"), mask=alpha)
    return white


def _with_profile(picture: Image.Image) -> Image.Image:
    """Convert LAB, or CMYK by its own profile; CMYK without a usable profile by the plain formula."""
    from PIL import ImageCms

    profile = picture.info.get("icc_profile") or b""
    if picture.mode == "CMYK" and not profile:
        return picture.convert("RGB")
    try:
        source: Any = ImageCms.createProfile("LAB") if picture.mode == "LAB" else BytesIO(profile)
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(picture, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        if picture.mode == "LAB":
            raise
        return picture.convert("RGB")
    assert converted is not None
    return converted


def _grey(picture: Image.Image, kind: str) -> NDArray[np.uint8]:
    """Scale deep grey to uint8 (height, width).

    16 bits: by the real depth (65535, or 4095 for 12 bits, is white). 32-bit whole numbers: PNM by 65535; others by
    255 or 65535 where all values fit, else from least to most. Floats: 0 to 1 where all values fit, else from least
    to most of the finite ones; NaN is black.
    """
    values = np.asarray(picture)
    if picture.mode.startswith("I;16"):
        bits, inverted = 16, False
        if isinstance(picture, TiffImagePlugin.TiffImageFile):
            bits = int(picture.tag_v2.get(258, (16,))[0])
            inverted = picture.tag_v2.get(262) == 0
        top = (1 << bits) - 1 if 8 < bits < 16 else 65535
        table = np.rint(np.minimum(np.arange(65536) / top, 1) * 255).astype(np.uint8)
        shown: NDArray[np.uint8] = (255 - table if inverted else table)[values]
        return shown
    finite = values[np.isfinite(values)]
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    tops = (1.0,) if picture.mode == "F" else (65535.0,) if kind == "PNM" else (255.0, 65535.0)
    top_or_none = next((top for top in tops if least >= 0 and most <= top), None)
    low, high = (0.0, top_or_none) if top_or_none is not None else (least, most)
    clean = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    span = (high - low) or 1.0
    return np.rint(np.clip((clean - low) / span, 0, 1) * 255).astype(np.uint8)


def _reason(kind: str, error: Exception) -> str:
    """Say in a few words why a picture could not be decoded."""
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, Image.DecompressionBombError):
        return f"{kind} of more pixels than Pillow allows"
    text = " ".join(str(error).split())[:120]
    cut = ("truncated", "end of file", "end-of-file", "unexpected end", "eof", "not enough data", "no more data")
    if isinstance(error, EOFError) or any(word in text.lower() for word in cut):
        return f"truncated {kind} file"
    return f"damaged {kind} file ({text or type(error).__name__})"
