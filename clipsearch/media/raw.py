"""Camera RAW files, by rawpy (LibRaw; extra `raw`): the preview that the camera made, else the sensor at half size.

The preview is what the camera showed, and takes a hundredth of the time. LibRaw gives a preview without EXIF that of
the RAW, so its orientation comes with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image

from clipsearch.errors import PictureError
from clipsearch.media.exif import read_exif, tiff_numbers
from clipsearch.media.extras import require_extra
from clipsearch.media.facts import Facts

if TYPE_CHECKING:
    from collections.abc import Callable

_MAGIC = re.compile(
    rb"FUJIFILMCCD-RAW|FOVb|\0MRM|II(RO|RS|U\0)|MMOR|(II\*\0|MM\0\*).{4}CR|II\x1a\0..HEAPCCDR", re.DOTALL
)
"""Of Fujifilm, Sigma, Minolta, Olympus, Panasonic and Canon; those of most others are those of a TIFF."""

_VERSION, _PHOTOMETRIC, _SUB_DIRECTORIES = 50706, 262, 330
_SENSOR = frozenset({32803, 34892})
"""Photometric interpretations of the values of a sensor: CFA and LinearRaw (DNG 1.4, chapter 3)."""

_LEAST_SHARE = 4
"""A preview may have this many times fewer pixels a side than the RAW before the sensor is looked at instead."""


@dataclass(frozen=True, slots=True)
class RawContents:
    """What is looked at of a RAW. width, height: upright pixels of the whole sensor.

    preview: bytes of a JPEG, which says how it is turned; picture: without one, upright pixels.
    """

    width: int
    height: int
    preview: bytes = b""
    picture: Image.Image | None = None


def is_raw_head(head: bytes) -> bool:
    """Tell by its first 32 bytes whether a file is a RAW whose maker gave it a mark of its own."""
    return _MAGIC.match(head) is not None or head[4:12] == b"ftypcrx "


def is_raw_tiff(data: bytes) -> bool:
    """Tell whether what begins as a TIFF is a RAW: a DNG, or a file with the values of a sensor."""
    wanted = frozenset({_VERSION, _PHOTOMETRIC, _SUB_DIRECTORIES})
    main = tiff_numbers(data, wanted)
    if _VERSION in main or _SENSOR & {*main.get(_PHOTOMETRIC, ())}:
        return True
    below = (tiff_numbers(data, wanted, at) for at in main.get(_SUB_DIRECTORIES, ())[:8])
    return any(_SENSOR & {*each.get(_PHOTOMETRIC, ())} for each in below)


def read_raw(data: bytes, side: int, check: Callable[[int, int], None], *, preview: bool = True) -> RawContents:
    """Read a RAW, for `side` pixels of its shorter side.

    check: is given the width and height of the sensor, and may refuse them. preview: whether that of the camera counts.

    Raises PictureError, also where the extra is not installed.
    """
    require_extra("raw", "camera RAW files")
    import rawpy

    try:
        with rawpy.imread(BytesIO(data)) as raw:
            return _read(raw, side, check, _preview(raw) if preview else b"")
    except PictureError:
        raise
    except rawpy.LibRawFileUnsupportedError as error:
        raise PictureError("a RAW of a camera that LibRaw does not know") from error
    except (rawpy.LibRawTooBigError, rawpy.LibRawUnsufficientMemoryError) as error:
        raise PictureError("not enough memory to decode it") from MemoryError(error)
    except (rawpy.LibRawError, rawpy.NotSupportedError, ValueError, RuntimeError) as error:
        raise PictureError(f"damaged RAW file ({_words(error)})") from error


def as_tiff(data: bytes) -> bytes:
    """Return a RAW with the mark of a TIFF, where it differs from one in its mark alone."""
    return b"II*\0" + data[4:] if data[:2] == b"II" and data[2:4] != b"*\0" else data


def raw_facts(data: bytes, preview: bytes) -> Facts:
    """Read what a RAW says of itself: in its own directories, else in the EXIF of its preview, a JPEG."""
    facts = read_exif(as_tiff(data))
    if facts.taken_at or facts.camera or not preview:
        return facts
    at = preview.find(b"Exif\0\0", 0, 64)
    return read_exif(preview[at : at + 65536]) if at >= 0 else facts


def _read(raw: Any, side: int, check: Callable[[int, int], None], preview: bytes) -> RawContents:  # noqa: ANN401
    import rawpy

    sizes = raw.sizes
    check(sizes.raw_width, sizes.raw_height)
    width, height = (sizes.height, sizes.width) if sizes.flip in {5, 6} else (sizes.width, sizes.height)
    if preview and _is_enough(preview, side, min(width, height)):
        return RawContents(width, height, preview)
    pixels = raw.postprocess(half_size=True, use_camera_wb=True, output_bps=8, output_color=rawpy.ColorSpace.sRGB)
    return RawContents(width, height, picture=Image.fromarray(pixels))


def _preview(raw: Any) -> bytes:  # noqa: ANN401
    """Return the JPEG that is in a RAW; nothing where it has none, or one of another kind."""
    import rawpy

    try:
        found = raw.extract_thumb()
    except rawpy.LibRawError:
        return b""
    return bytes(found.data) if found.format is rawpy.ThumbFormat.JPEG else b""


def _is_enough(preview: bytes, side: int, shorter: int) -> bool:
    """Tell whether a preview has what is needed, or not much less than the RAW itself."""
    try:
        with Image.open(BytesIO(preview), formats=("JPEG",)) as opened:
            return min(opened.size) >= min(side, shorter // _LEAST_SHARE)
    except (OSError, ValueError, SyntaxError):
        return False


def _words(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return " ".join(text.split())[:120] or type(error).__name__
