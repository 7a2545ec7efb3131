"""Pictures as a terminal takes them: the protocols of kitty and iTerm2, sixels, and half blocks of text."""

from __future__ import annotations

import re
from base64 import b64encode
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.text import Text

_CHUNK = 4096
_COLOURS = 256
_RUN = re.compile(r"(.)\1{3,}")


def to_kitty(picture: Image.Image, columns: int, rows: int) -> str:
    """Return what draws a picture over so many cells, the cursor staying where it is; the terminal is not to answer.

    Protocol: https://sw.kovidgoyal.net/kitty/graphics-protocol/
    """
    data = _png(picture)
    chunks = [data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK)]
    first = f"a=T,f=100,q=2,C=1,c={columns},r={rows},"
    parts = (
        f"\x1b_G{first if number == 0 else ''}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
        for number, chunk in enumerate(chunks)
    )
    return "".join(parts)


def to_iterm2(picture: Image.Image, columns: int, rows: int) -> str:
    """Return what draws a picture over so many cells. Protocol: https://iterm2.com/documentation-images.html."""
    return f"\x1b]1337;File=inline=1;width={columns};height={rows};preserveAspectRatio=0:{_png(picture)}\x07"


def to_sixel(picture: Image.Image) -> str:
    """Return what draws an RGB picture in its own size, in up to 256 colours. Format: DEC VT330/VT340, chapter 14."""
    reduced = picture.quantize(_COLOURS, Image.Quantize.FASTOCTREE)
    palette = np.asarray(reduced.getpalette() or [], np.int64).reshape(-1, 3)
    colours = "".join(f"#{n};2;{r};{g};{b}" for n, (r, g, b) in enumerate((palette * 100 + 127) // 255))
    pixels = np.asarray(reduced)
    bands = [_sixel_band(pixels[top : top + 6]) for top in range(0, len(pixels), 6)]
    return f'\x1bP0;1q"1;1;{picture.width};{picture.height}{colours}{"-".join(bands)}\x1b\\'


def to_blocks(picture: Image.Image) -> list[Text]:
    """Return an RGB picture as lines of text, each two pixels high: the upper one is the ink, the lower the paper."""
    from rich.color import Color
    from rich.style import Style
    from rich.text import Text

    pixels = np.asarray(picture).tolist()
    lines = []
    for top in range(0, len(pixels), 2):
        line = Text()
        below = pixels[top + 1] if top + 1 < len(pixels) else [None] * picture.width
        for (upper, lower), run in groupby(zip(pixels[top], below, strict=True)):
            paper = None if lower is None else Color.from_rgb(*lower)
            line.append("▀" * len(list(run)), Style(color=Color.from_rgb(*upper), bgcolor=paper))
        lines.append(line)
    return lines


def _png(picture: Image.Image) -> str:
    data = BytesIO()
    picture.save(data, "PNG")
    return b64encode(data.getvalue()).decode()


def _sixel_band(pixels: NDArray[np.uint8]) -> str:
    """Encode up to six rows of colour numbers, colour after colour over each other."""
    weights = (1 << np.arange(len(pixels)))[:, None]
    lines = []
    for colour in np.unique(pixels):
        sixels = (((pixels == colour) * weights).sum(0) + 63).astype(np.uint8).tobytes().decode().rstrip("?")
        lines.append(f"#{colour}" + _RUN.sub(lambda run: f"!{len(run[0])}{run[1]}", sixels))
    return "$".join(lines)
