"""A contact sheet: the hits of an answer on one picture, with rank, score, confidence and name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO

from PIL import Image, ImageDraw

from clipsearch.config import Settings
from clipsearch.errors import PictureError
from clipsearch.gallery.lettering import Lettering
from clipsearch.gallery.tiles import Tile, map_tiles, read_thumbnail

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""The formats of a sheet, by the ending of its name."""

_PAPER, _INK, _FAINT, _CARD, _GREY = "#f4f4f2", "#1c1c1c", "#5c5c5c", "#ffffff", "#c9c9c9"
_MARGIN, _GAP, _PAD = 20, 14, 10
_MANY = 100


@dataclass(frozen=True, slots=True)
class Sheet:
    """A drawn sheet. escaped: the characters that no font of this system has."""

    picture: Image.Image
    escaped: frozenset[str]

    def encode(self, kind: str) -> bytes:
        """Return the bytes of a file; kind: PNG or JPEG."""
        data = BytesIO()
        self.picture.save(data, kind, **({"quality": 88} if kind == "JPEG" else {}))
        return data.getvalue()


@dataclass(frozen=True, slots=True)
class _Grid:
    """Where tiles stand, in pixels."""

    side: int
    columns: int
    top: int
    caption: int

    def place(self, index: int) -> tuple[int, int]:
        row, column = divmod(index, self.columns)
        return _MARGIN + column * (self.side + _GAP), self.top + row * (self.side + self.caption + _GAP)

    def size(self, count: int) -> tuple[int, int]:
        rows = -(-count // self.columns)
        width = 2 * _MARGIN + self.columns * (self.side + _GAP) - _GAP
        return width, self.top + rows * (self.side + self.caption + _GAP) + _MARGIN - _GAP


def draw_sheet(query: str, tiles: Sequence[Tile], settings: Settings) -> Sheet:
    """Draw tiles, best first, in rows.

    A picture that cannot be read is a grey tile with the reason, a text a white one with the passage. Up to 100
    tiles are 256 pixels wide, more are 128.
    """
    side = 256 if len(tiles) <= _MANY else 128
    title, letters = Lettering(20), Lettering(14 if side > 128 else 11)
    columns = max(min(math.ceil(math.sqrt(len(tiles) * 1.3)), len(tiles)), 2)
    grid = _Grid(side, columns, _MARGIN + title.line_height + _GAP, 2 * letters.line_height + 4)
    sheet = Image.new("RGB", grid.size(len(tiles)), _PAPER)
    canvas = ImageDraw.Draw(sheet)
    heading = query if tiles else f"{query}: no match"
    title.draw(canvas, (_MARGIN, _MARGIN - 4), title.cut(heading, sheet.width - 2 * _MARGIN), _INK)
    pictures = map_tiles(partial(_picture, side=side, settings=settings), tiles, settings)
    for index, (tile, picture) in enumerate(zip(tiles, pictures, strict=True)):
        x, y = grid.place(index)
        if isinstance(picture, Image.Image):
            sheet.paste(picture, (x + (side - picture.width) // 2, y + (side - picture.height) // 2))
        else:
            _draw_card(canvas, letters, (x, y, side), picture, _CARD if tile.passage is not None else _GREY)
        below = y + side + 4
        letters.draw(canvas, (x, below), letters.cut(tile.figures, side), _FAINT)
        letters.draw(canvas, (x, below + letters.line_height), letters.cut(tile.name, side), _INK)
    return Sheet(sheet, frozenset(title.escaped | letters.escaped))


def _picture(tile: Tile, side: int, settings: Settings) -> Image.Image | str:
    """Return the thumbnail, or the words that stand in its place."""
    if tile.passage is not None:
        return tile.passage
    try:
        return read_thumbnail(tile.path, (side, side), settings, tile.position)
    except PictureError as error:
        return str(error)


def _draw_card(
    canvas: ImageDraw.ImageDraw, letters: Lettering, square: tuple[int, int, int], text: str, colour: str
) -> None:
    x, y, side = square
    canvas.rectangle((x, y, x + side - 1, y + side - 1), fill=colour)
    lines = letters.wrap(text, side - 2 * _PAD, (side - 2 * _PAD) // letters.line_height)
    for number, line in enumerate(lines):
        letters.draw(canvas, (x + _PAD, y + _PAD + number * letters.line_height), line, _INK)
