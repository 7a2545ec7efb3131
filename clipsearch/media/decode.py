"""Decode one picture safely: a pixel cap, a reduced-size decode, the EXIF orientation, any mode and depth to RGB.

The content decides which decoder runs, not the name. The decoder class of Pillow is called directly, not through
`Image.open`: that allows for formats to be listed exactly, keeps MPO out (a JPEG of two frames opens as a JPEG), and
leaves the pixel check to us, so the process-wide `Image.MAX_IMAGE_PIXELS` is never touched. That value still holds
inside Pillow for GIF, TIFF and WebP: above twice it (179 million pixels) they are refused, whatever our cap.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO

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

from clipsearch.errors import MediaError, PictureError
from clipsearch.media.blocks import find_blocks
from clipsearch.media.exif import read_exif
from clipsearch.media.jpeg import LEAST_ROWS, check_scans, share_of_rows, with_end
from clipsearch.media.jpeg2000 import check_depth
from clipsearch.media.jpegxl import CODESTREAM, CONTAINER, JpegXl
from clipsearch.media.png import complete, essential
from clipsearch.media.psd import Psd
from clipsearch.media.raw import is_raw_head, is_raw_tiff, raw_facts, read_raw
from clipsearch.media.rgb import to_rgb
from clipsearch.media.svg import Svg, is_svg
from clipsearch.media.tiff import check_compression, choose_page, is_unsupported
from clipsearch.types import PictureInfo

MAX_PICTURE_BYTES = 1 << 30
"""The largest file that `read_picture` reads by default, in bytes."""

REDUCED_OVER_CAP = 4
"""How far a JPEG that is decoded at reduced size may exceed `max_pixels` at its full size, as a factor."""

OVERSIZE = 1.4
"""How many pixels of a reduced picture stay for each that is needed. At 2 the vectors of photographs come no nearer to
those of the full size, and at 1.4 one of 12 megapixels can be decoded at an eighth: benchmarks/README.md."""

HEAD = 1024
"""How many of the first bytes of a file tell its format."""

_WEIGHTS = {"AVIF": 1.5, "WEBP": 2.0, "JPEG2000": 3.0, "JXL": 3.0}
"""How often a pixel counts where the decoder holds more than the picture; from peaks of 9 to 25 bytes a pixel."""

_NO_END = "its end is missing, and with it at most a few of its rows"
_A_FOLDER = "is a folder, not a file"
_NOT_A_PICTURE = "not a picture that clipsearch can read"
_MAGIC = (
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("GIF", re.compile(rb"GIF8[79]a")),
    ("WEBP", re.compile(rb"RIFF....WEBPVP8[ LX]", re.DOTALL)),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("BMP", re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)),
    ("DIB", re.compile(rb"[\x28\x34\x38\x6c\x7c]\0\0\0.{8}\x01\0[\x01\x04\x08\x10\x18\x20]\0", re.DOTALL)),
    ("JPEG2000", re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
    ("PNM", re.compile(rb"P[1-6]\s+(#|\d+\s+\d+\s)")),
    ("PSD", re.compile(rb"8BPS\x00\x01")),
    ("JXL", re.compile(re.escape(CODESTREAM) + b"|" + re.escape(CONTAINER))),
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
    "DIB": BmpImagePlugin.DibImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    "PNM": PpmImagePlugin.PpmImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "PSD": Psd,
    "JXL": JpegXl,
    "SVG": Svg,
}
_UPRIGHT = frozenset({"TIFF", "HEIF", "PSD", "JXL", "SVG"})
"""Kinds whose pixels come upright: Pillow turns a TIFF itself, libheif a HEIC, libjxl a JPEG XL."""


def is_picture(head: bytes) -> bool:
    """Tell by its first bytes (64 are enough) whether a file is a picture of a format that no text can be."""
    return picture_kind(head) not in {None, "SVG"}


def read_regular(
    path: str | os.PathLike[str], limit: int, *, setting: str = "max_picture_bytes"
) -> tuple[bytes, os.stat_result]:
    """Read a whole regular file of at most `limit` bytes, never waiting for a pipe or a device.

    setting: what the limit is called, for the message. Returns the bytes and what fstat said before they were read.
    Raises OSError, ValueError for a path with a zero byte, MediaError if it is not a regular file or is too large.
    """
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
    except PermissionError:
        if os.path.isdir(path):  # which Windows does not open
            raise MediaError(_A_FOLDER) from None
        raise
    return read_open(descriptor, limit, setting=setting)


def read_open(descriptor: int, limit: int, *, setting: str = "max_picture_bytes") -> tuple[bytes, os.stat_result]:
    """Read a whole file that is open, and close it; the rest is as in `read_regular`."""
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise MediaError(_A_FOLDER)
        if not stat.S_ISREG(status.st_mode):
            raise MediaError("not a regular file")
        data = _read_to_end(descriptor, status.st_size, limit) if status.st_size <= limit else b""
    finally:
        os.close(descriptor)
    size = max(status.st_size, len(data))
    if size > limit:
        raise MediaError(f"{size} bytes, over the limit of {limit} (setting {setting})")
    return data, status


def _read_to_end(descriptor: int, size: int, limit: int) -> bytes:
    """Read an open file whose size was `size` bytes, or more if it grew, up to one byte beyond the limit."""
    # One byte more reveals a file that grew; a much larger buffer costs more to allocate than the reading.
    data = os.read(descriptor, size + 1)
    if len(data) == size:
        return data
    parts = [data]
    total = len(data)
    while total <= limit and (data := os.read(descriptor, min(limit + 1 - total, 1 << 20))):
        parts.append(data)
        total += len(data)
    return b"".join(parts)


def read_picture(
    path: str | os.PathLike[str], *, min_side: int, max_pixels: int, max_bytes: int = MAX_PICTURE_BYTES
) -> tuple[Image.Image, PictureInfo]:
    """Read a picture file; the rest is as in `decode_picture`.

    max_bytes: the largest file that is read. Raises PictureError, which names the path, for a path that is missing, a
    folder, not a regular file (a pipe is refused at once, never waited for), larger than max_bytes, or no picture.
    """
    try:
        return decode_picture(read_bytes(path, max_bytes), min_side=min_side, max_pixels=max_pixels)
    except PictureError as error:
        shown = os.fsencode(path).decode("utf-8", "replace")
        raise PictureError(f"{shown}: {error}") from error


def decode_picture(data: bytes, *, min_side: int, max_pixels: int) -> tuple[Image.Image, PictureInfo]:
    """Decode the first frame of a picture.

    data: the bytes of the whole file. min_side: pixels that the caller needs on the shorter side; a larger picture
    is reduced by a whole factor to no less than OVERSIZE * min_side, never enlarged; a JPEG is reduced while it is
    decoded.
    max_pixels: the largest decoded size, in pixels of 3 bytes. A pixel of b bytes in memory (RGBA, CMYK, float: 4)
    counts max(1, b / 3) times, and at least 1.5 times in an AVIF, 2 in a WebP, 3 in a JPEG 2000, so that a picture
    takes about 10 bytes of memory for each that is allowed. A JPEG that is decoded at a half, a quarter or an eighth
    may have up to REDUCED_OVER_CAP times that at full size, unless it is progressive, which takes the memory of the
    full size.
    Returns an upright RGB picture and what the file says of itself. Transparency stands over white.
    Raises PictureError with a short reason, whatever is wrong with the bytes. Safe to call from several threads.
    """
    if not data:
        raise PictureError("empty file")
    kind = _kind_of(data)
    try:
        if kind == "RAW":
            return _decode_raw(data, math.ceil(OVERSIZE * max(min_side, 1)), max_pixels)
        return _decode(kind, data, math.ceil(OVERSIZE * max(min_side, 1)), max_pixels)
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(_cut_off(kind, data) or _reason(kind, error)) from error


def check_pixels(data: bytes, *, min_side: int, max_pixels: int) -> None:
    """Check the size that the head of a picture says, as `decode_picture` does; nothing is decoded.

    Raises PictureError for a picture that is larger, or whose head cannot be read.
    """
    kind = _kind_of(data)
    try:
        if kind == "RAW":
            return  # nothing but its preview is decoded, or a quarter of its pixels; both are checked then
        picture = open_picture(kind, data)
        scale = _jpeg_scale(picture, data, math.ceil(OVERSIZE * max(min_side, 1))) if kind == "JPEG" else 1
        _check_pixels(picture, kind, scale, max_pixels)
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(_reason(kind, error)) from error


def is_guarded(data: bytes) -> bool:
    """Tell whether the package of an extra decodes a picture, which is best done in a process of its own."""
    kind = picture_kind(data[:HEAD])
    return kind in {"RAW", "JXL", "SVG"} or (kind == "TIFF" and is_raw_tiff(data))


def picture_kind(head: bytes) -> str | None:
    """Tell the format of a picture by its first HEAD bytes, as Pillow names it; None for any other.

    A RAW whose first bytes are those of a TIFF counts as one.
    """
    if is_raw_head(head):
        return "RAW"
    if head[4:8] == b"ftyp":
        size = min(int.from_bytes(head[:4], "big"), len(head))
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        return "HEIF" if brands & _HEIF_BRANDS else None
    return next((kind for kind, magic in _MAGIC if magic.match(head)), "SVG" if is_svg(head) else None)


def open_picture(kind: str, data: bytes) -> Image.Image:
    """Read the head of a picture of a kind that `picture_kind` returned, but a RAW; no pixel is decoded.

    data: the bytes of the whole file. Raises whatever Pillow raises for damaged ones.
    """
    if kind == "HEIF":
        from pillow_heif import HeifImageFile

        picture: Image.Image = HeifImageFile(BytesIO(data))  # type: ignore[no-untyped-call]
        return picture
    try:
        picture = _DECODERS[kind](BytesIO(data))
    except (SyntaxError, ValueError):
        if kind != "PNG":
            raise
        picture = _DECODERS[kind](BytesIO(essential(data)))
    if kind == "TIFF":
        choose_page(picture)
    elif kind == "JPEG2000":
        check_depth(data)
    return picture


def upright_rgb(picture: Image.Image) -> Image.Image:
    """Bring an opened Pillow picture into the form `decode_picture` returns.

    Raises PictureError if its file turns out to be damaged.
    """
    try:
        upright = ImageOps.exif_transpose(picture)
        return to_rgb(upright, picture.format or "", min(upright.size))
    except Exception as error:
        raise PictureError(_reason(picture.format or "picture", error)) from error


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """Read the file of a picture, of at most `limit` bytes. Raises PictureError for one that cannot be read."""
    try:
        return read_regular(path, limit)[0]
    except MediaError as error:
        raise PictureError(str(error)) from error
    except FileNotFoundError as error:
        raise PictureError("there is no such file") from error
    except (OSError, ValueError) as error:
        raise PictureError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def decode_frame(data: bytes, frame: int, side: int, max_pixels: int) -> Image.Image:
    """Decode a directory of a TIFF, counted from 0, as `decode_picture` does its first page. Raises PictureError."""
    try:
        picture = TiffImagePlugin.TiffImageFile(BytesIO(data))
        picture.seek(frame)
        _check_pixels(picture, "TIFF", 1, max_pixels)
        picture.load()
        return to_rgb(picture, "TIFF", side)
    except PictureError:
        raise
    except Exception as error:
        raise PictureError(_reason("TIFF", error)) from error


def _kind_of(data: bytes) -> str:
    kind = picture_kind(data[:HEAD])
    if kind is None:
        raise PictureError(_NOT_A_PICTURE)
    return "RAW" if kind == "TIFF" and is_raw_tiff(data) else kind


def _decode_raw(data: bytes, side: int, max_pixels: int) -> tuple[Image.Image, PictureInfo]:
    """Decode the preview of a RAW, or where it has none that can be read, its sensor."""

    def check(width: int, height: int) -> None:  # two bytes a pixel, and a quarter of the pixels once more
        if width * height > 2 * max_pixels:
            raise PictureError(f"{width} x {height} pixels, over the limit of {2 * max_pixels} (setting max_pixels)")

    contents = read_raw(data, side, check)
    if contents.preview:
        try:
            rgb, _ = _decode("JPEG", contents.preview, side, max_pixels)
        except Exception:
            contents = read_raw(data, side, check, preview=False)
    if contents.picture is not None:
        rgb = to_rgb(contents.picture, "RAW", side)
    return rgb, raw_facts(data, contents.preview).of_picture(contents.width, contents.height)


def _decode(kind: str, data: bytes, side: int, max_pixels: int) -> tuple[Image.Image, PictureInfo]:
    picture = open_picture(kind, data)
    width, height = picture.size
    scale = _jpeg_scale(picture, data, side) if kind == "JPEG" else 1
    _check_pixels(picture, kind, scale, max_pixels)
    share: float | None = 1.0
    if kind == "JPEG":
        picture, share = _load_jpeg(picture, data, scale)
    elif kind == "PNG":
        picture, share = _load_png(picture, data)
    else:
        with check_compression(picture):
            picture.load()
    if scale == 1:
        width, height = picture.size
        _check_pixels(picture, kind, 1, max_pixels)
    blocks = find_blocks(kind, data, picture)
    facts = blocks.facts()
    # Pillow puts how the boxes of an AVIF turn it into its EXIF; its XMP may say what they have done already.
    orientation = (read_exif(blocks.exif) if kind == "AVIF" else facts).orientation or 1
    turn = None if kind in _UPRIGHT else _TURNS.get(orientation)
    if turn is not None and orientation >= 5:
        width, height = height, width
    rgb = to_rgb(picture, kind, side)
    rgb = rgb if turn is None else rgb.transpose(turn)
    note = _NO_END if share is None else f"{1 - share:.1%} of its rows are missing" if share < 1 else ""
    return rgb, replace(facts.of_picture(width, height), note=note)


def _load_jpeg(picture: Image.Image, data: bytes, scale: int) -> tuple[Image.Image, float | None]:
    """Decode a JPEG; one without its end as far as it goes.

    Returns it with the share of its rows that are there, None for all of one that lacks its end. Raises PictureError if
    that is too little.
    """
    try:
        return _load_whole_jpeg(picture, data, scale), 1.0
    except OSError:
        ended = with_end(data)
        picture = _load_whole_jpeg(open_picture("JPEG", ended), ended, scale)
        share = share_of_rows(picture, scale)
        return picture, None if _checked(share, "JPEG") == 1 else share


def _load_png(picture: Image.Image, data: bytes) -> tuple[Image.Image, float | None]:
    """Decode a PNG; one that was cut off as far as it goes. Returns and raises as `_load_jpeg` does."""
    try:
        picture.load()
        return picture, 1.0
    except (OSError, SyntaxError, ValueError) as error:
        width, height = picture.size
        made = complete(data, 8 * width * height + height)
        if made is None or not made[1]:
            raise
        whole = open_picture("PNG", made[0])
        share = _checked(made[1], "PNG")
        is_cut = _is_cut(error)
        if share == 1 and not is_cut and isinstance(error, OSError):
            raise
        whole.load()
        return whole, None if share == 1 and is_cut else share


def _checked(share: float, kind: str) -> float:
    if share < LEAST_ROWS:
        raise PictureError(f"truncated {kind} file ({share:.0%} of its rows are there)") from None
    return share


def _load_whole_jpeg(picture: Image.Image, data: bytes, scale: int) -> Image.Image:
    if scale > 1:
        width, height = picture.size
        picture.draft(None, (width // scale, height // scale))
    # In one go, not in blocks of 64 KiB, for each of which this thread would have to wait for the others.
    picture.decodermaxblock = len(data)  # type: ignore[attr-defined]
    picture.load()
    return picture


def _jpeg_scale(picture: Image.Image, data: bytes, side: int) -> int:
    """Return the DCT scale, 1, 2, 4 or 8, that leaves at least `side` pixels on the shorter side."""
    if "progressive" in picture.info:
        check_scans(data)
    return next((scale for scale in (8, 4, 2) if min(picture.size) >= side * scale), 1)


def _check_pixels(picture: Image.Image, kind: str, scale: int, max_pixels: int) -> None:
    (width, height), weight = picture.size, _weight(picture, kind)
    full, decoded = weight * width * height, weight * -(-width // scale) * -(-height // scale)
    hard = max_pixels if scale == 1 or "progressive" in picture.info else max_pixels * REDUCED_OVER_CAP
    if decoded > max_pixels or full > hard:
        limit = max_pixels if decoded > max_pixels else hard
        shown = f"{width} x {height} pixels" + (f", each counted {weight:.3g} times" if weight > 1 else "")
        raise PictureError(f"{shown}, over the limit of {limit} (setting max_pixels)")


def _weight(picture: Image.Image, kind: str) -> float:
    """Return how often a pixel counts against the cap; the rule is in `decode_picture`."""
    depth = 2 if picture.mode.startswith("I;16") else 4 if picture.mode in {"I", "F"} else 1
    return max(1.0, depth * len(picture.getbands()) / 3, _WEIGHTS.get(kind, 1.0))


def _reason(kind: str, error: Exception) -> str:
    """Say in a few words why a picture could not be decoded."""
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, Image.DecompressionBombError):
        return f"{kind} with more pixels than Pillow allows"
    if kind == "TIFF" and is_unsupported(error):
        return "a TIFF of a kind that cannot be read; save it with 8 bits a sample"
    if kind in {"BMP", "DIB"} and str(error).startswith("Unsupported"):
        return f"a BMP of a kind that cannot be read ({str(error)[:80]}); save it as PNG"
    text = " ".join(str(error).split())[:120]
    if _is_cut(error):
        return f"truncated {kind} file"
    return f"damaged {kind} file ({text or type(error).__name__})"


def _cut_off(kind: str, data: bytes) -> str:
    """Say that a WebP is cut off, which its decoder does not tell from other damage; nothing of one that is not."""
    whole = int.from_bytes(data[4:8], "little") + 8
    if kind != "WEBP" or len(data) >= whole:
        return ""
    return f"truncated WEBP file ({len(data) / whole:.0%} of its bytes are there)"


def _is_cut(error: Exception) -> bool:
    """Tell by its words whether an error is about a file that ends too early."""
    cut = (
        "truncated",
        "requires a buffer of at least",
        "end of file",
        "end-of-file",
        "unexpected end",
        "eof",
        "not enough data",
        "no more data",
    )
    return isinstance(error, EOFError) or any(word in str(error).lower() for word in cut)
