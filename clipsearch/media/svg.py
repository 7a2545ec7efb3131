"""SVG, by resvg (extra `svg`): shapes without network, scripts or other files, and its words.

The document is written again from what expat reads, so that nothing reaches the renderer but elements and attributes:
no document type, no entity, no script, no link but to itself, no picture in it but small ones of known formats. Text
is not drawn, since that would need the fonts of the machine; its words are read as those of a caption are.
"""

from __future__ import annotations

import base64
import binascii
import re
from functools import partial
from io import BytesIO
from xml.parsers import expat

from PIL import Image, ImageFile

from clipsearch.errors import PictureError
from clipsearch.media.extras import require_extra
from clipsearch.media.lazy import LazyPixels

MAX_BYTES = 32 << 20
MAX_DEPTH, MAX_ELEMENTS = 200, 200_000
_MAX_SIDE, _USUAL = 16_384, 1024
_MAX_WORDS = 4000
_HEAD = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:svg[\s>]|\?xml\b|!DOCTYPE\s+svg\b|!--)", re.IGNORECASE)
_TAG = re.compile(rb"<(?:\w+:)?svg[\s>]")
_DROPPED = frozenset({"script", "foreignObject", "iframe", "audio", "video", "handler", "listener", "filter"})
_WORDS = frozenset({"title", "desc", "text"})
_DATA = re.compile(r"data:image/(?:png|jpe?g|gif|webp);base64,", re.IGNORECASE)
_LENGTH = re.compile(r"\s*([0-9.]+(?:e[+-]?\d+)?)\s*(px|pt|pc|mm|cm|in)?\s*$", re.IGNORECASE)
_UNITS = {"px": 1.0, "pt": 4 / 3, "pc": 16.0, "mm": 96 / 25.4, "cm": 96 / 2.54, "in": 96.0}


def is_svg(data: bytes) -> bool:
    """Tell whether a file is an SVG by its first 256 bytes, or by its first 4,096 where more are given."""
    return _HEAD.match(data) is not None and _TAG.search(data, 0, 4096) is not None


class Svg(ImageFile.StubImageFile):
    """An SVG that was read; `load` draws it. `info` has its words under `words`."""

    format = "SVG"

    def _open(self) -> None:
        assert self.fp is not None
        data = self.fp.read()
        if len(data) > MAX_BYTES:
            raise PictureError(f"an SVG of {len(data)} bytes, over the limit of {MAX_BYTES}")
        clean = _Cleaner(data)
        self._size = clean.size
        self._mode = "RGBA"
        self._handler = LazyPixels(partial(_draw, clean.written()))
        self.info["words"] = clean.words()


def _draw(text: str, size: tuple[int, int]) -> Image.Image:
    require_extra("svg", "SVG files")
    import resvg_py

    try:
        drawn = resvg_py.svg_to_bytes(svg_string=text, skip_system_fonts=True, dpi=96, width=size[0],
                                       height=size[1])  # fmt: skip
        loaded = Image.open(BytesIO(bytes(drawn)), formats=("PNG",))
        loaded.load()
    except (ValueError, OSError, SyntaxError) as error:
        raise PictureError(f"damaged SVG file ({' '.join(str(error).split())[:120]})") from error
    return loaded


class _Cleaner:
    """Reads an SVG once, and writes again what may be drawn."""

    def __init__(self, data: bytes) -> None:
        self.size = (_USUAL, _USUAL)
        self._parts: list[str] = []
        self._said: list[str] = []
        self._path: list[str] = []
        self._dropped = 0
        self._elements = 0
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.ExternalEntityRefHandler = lambda *_: 1  # passed over, never opened
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise PictureError(f"damaged SVG file ({str(error)[:120]})") from error

    def written(self) -> str:
        """Return what is drawn."""
        return "".join(self._parts)

    def words(self) -> str:
        """Return its titles, descriptions and texts, a line."""
        return " ".join(" ".join(self._said).split())[:_MAX_WORDS]

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        self._elements += 1
        if not self._path:
            if local != "svg":
                raise PictureError("not a picture that clipsearch can read")
            self.size = _read_size(attributes)
        if len(self._path) >= MAX_DEPTH or self._elements > MAX_ELEMENTS:
            raise PictureError(f"an SVG of more than {MAX_DEPTH} levels or {MAX_ELEMENTS} elements")
        self._path.append(local)
        if local in _DROPPED or self._dropped:
            self._dropped += 1
            return
        from xml.sax.saxutils import quoteattr  # which loads urllib.request, as every run would

        kept = {key: value for key, value in attributes.items() if _may_stay(key, value)}
        self._parts.append(f"<{name}{''.join(f' {key}={quoteattr(value)}' for key, value in kept.items())}>")

    def _end(self, name: str) -> None:
        self._path.pop()
        if self._dropped:
            self._dropped -= 1
            return
        self._parts.append(f"</{name}>")

    def _characters(self, text: str) -> None:
        if self._dropped:
            return
        from xml.sax.saxutils import escape

        self._parts.append(escape(text))
        if _WORDS.intersection(self._path):
            self._said.append(text)


def _may_stay(key: str, value: str) -> bool:
    """Tell whether an attribute may reach the renderer: no handler of events, no link but to itself or a picture."""
    local = key.rpartition(":")[2].lower()
    if local.startswith("on"):
        return False
    if local not in {"href", "src"}:
        return True
    return value.lstrip().startswith("#") or _is_small_picture(value)


def _is_small_picture(value: str) -> bool:
    from clipsearch.media.decode import check_pixels

    head = _DATA.match(value)
    if head is None:
        return False
    try:
        check_pixels(base64.b64decode(value[head.end() :], validate=False), min_side=1, max_pixels=_MAX_SIDE * 1024)
    except (PictureError, binascii.Error, ValueError):
        return False
    return True


def _read_size(attributes: dict[str, str]) -> tuple[int, int]:
    """Return pixels: as width and height say, else as the view box does, which also gives a missing one its shape."""
    try:
        box = [float(part) for part in re.split(r"[\s,]+", attributes.get("viewBox", "").strip())]
    except ValueError:
        box = []
    sides = [_pixels(attributes.get(name, "")) for name in ("width", "height")]
    across, down = box[2:4] if len(box) == 4 and box[2] > 0 and box[3] > 0 else (sides[0] or 1.0, sides[1] or 1.0)
    shape = across / down
    if sides[0] and sides[1]:
        width, height = sides
    elif sides[0]:
        width, height = sides[0], sides[0] / shape
    elif sides[1]:
        width, height = sides[1] * shape, sides[1]
    else:
        width, height = (across, down) if box else (_USUAL, _USUAL)
    # Drawings have no pixels of their own: a small one is drawn larger, a large one smaller.
    scale = _USUAL / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _pixels(value: str) -> float:
    found = _LENGTH.match(value)
    return float(found[1]) * _UNITS[(found[2] or "px").lower()] if found and float(found[1]) > 0 else 0.0
