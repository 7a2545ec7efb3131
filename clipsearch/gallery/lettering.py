r"""Text of any script on a picture, with the fonts that this system has.

Pillow brings one font, of basic Latin only. So each character is set in the first font that has a glyph for it: those
of the system, the widest ones first, then Pillow's. A character that no font has loses its accents if that helps
("e" for "é"), else it is written as \uXXXX.
"""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont

MAX_FONTS = 48
"""As many are opened; each one holds a file open."""

_PREFERRED = (
    r"(dejavusans|notosans|arial|segoeui|helvetica|liberationsans)$",
    r"notosanscjk|wqy|pingfang|hiragino|msyh|droidsansfallback|simsun|yugoth|malgun|applesdgothicneo|arialunicode",
    r"notosans|unifont",
)
_OTHER_STYLES = re.compile("bold|italic|oblique|mono|condensed|light|thin|black|medium|serif|emoji|math")
_NO_CHARACTER = "\uffff"


class Lettering:
    """Draws lines in one size of type. Not to be shared by threads."""

    def __init__(self, size: int) -> None:
        """Prepare; size: of the type, in pixels."""
        self._size = size
        self._font_of: dict[str, ImageFont.FreeTypeFont | None] = {}
        self._widths: dict[str, float] = {}
        self.escaped: set[str] = set()

    @property
    def line_height(self) -> int:
        """Pixels from one line to the next."""
        return round(self._size * 1.35)

    def draw(self, canvas: ImageDraw.ImageDraw, at: tuple[float, float], text: str, fill: str) -> None:
        """Draw a line; at: its left upper corner, in pixels."""
        (x, y), baseline = at, self._size
        for font, run in groupby(self._settable(text), self._font):
            shown = "".join(run)
            assert font is not None
            canvas.text((x, y + baseline), shown, font=font, fill=fill, anchor="ls")
            x += font.getlength(shown)

    def cut(self, text: str, width: float) -> str:
        """Shorten a line to a width in pixels, in the middle, so that the ending of a name stays."""
        text = self._settable(text)
        if self._width(text) <= width:
            return text
        left, right = list(text[: len(text) // 2]), list(text[len(text) // 2 :])
        while (left or right) and self._width("".join(left)) + self._width("…" + "".join(right)) > width:
            if len(left) >= len(right):
                left.pop()
            else:
                right.pop(0)
        return "".join(left) + "…" + "".join(right)

    def wrap(self, text: str, width: float, lines: int) -> list[str]:
        """Break a text into at most so many lines of a width in pixels, at spaces where there are some."""
        broken: list[str] = []
        rest = " ".join(self._settable(text).split())
        while rest and len(broken) < lines:
            end = self._fitting(rest, width)
            if end < len(rest) and (space := rest.rfind(" ", 0, end + 1)) > 0:
                end = space
            broken.append(rest[:end])
            rest = rest[end:].lstrip()
        if rest and broken:
            broken[-1] = broken[-1][:-1] + "…"
        return broken

    def _fitting(self, text: str, width: float) -> int:
        """Return how many characters fit, at least one."""
        used = 0.0
        for count, character in enumerate(text):
            used += self._advance(character)
            if used > width:
                return max(count, 1)
        return len(text)

    def _width(self, text: str) -> float:
        return sum(map(self._advance, text))

    def _advance(self, character: str) -> float:
        if character not in self._widths:
            font = self._font(character)
            self._widths[character] = font.getlength(character) if font else 0.0
        return self._widths[character]

    def _settable(self, text: str) -> str:
        """Replace what no font has."""
        return "".join(self._replacement(character) for character in text)

    def _replacement(self, character: str) -> str:
        if self._font(character):
            return character
        plain = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
        if all(map(self._font, plain)):
            return plain
        self.escaped.add(character)
        return character.encode("unicode_escape", "surrogatepass").decode()

    def _font(self, character: str) -> ImageFont.FreeTypeFont | None:
        if character not in self._font_of:
            having = (font for font in self._fonts if character.isspace() or _has_glyph(font, character))
            self._font_of[character] = next(having, None)
        return self._font_of[character]

    @cached_property
    def _fonts(self) -> list[ImageFont.FreeTypeFont]:
        fonts = [font for path in system_fonts()[:MAX_FONTS] if (font := _open(path, self._size)) is not None]
        own = ImageFont.load_default(self._size)
        assert isinstance(own, ImageFont.FreeTypeFont)
        return [*fonts, own]


@cache
def system_fonts() -> tuple[Path, ...]:
    """List the font files of this system, those that have the most characters first."""
    found = {path.name: path for folder in _font_folders() for path in _font_files(folder)}
    return tuple(sorted(found.values(), key=lambda path: (*_preference(path), path.name)))


def _font_folders() -> Iterator[Path]:
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", r"C:\Windows"), "Fonts")
        yield home / "AppData/Local/Microsoft/Windows/Fonts"
    elif sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    else:
        shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
        yield from (Path(folder, "fonts") for folder in shared.split(":"))
        yield Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share", "fonts")


def _font_files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names if name.lower().endswith((".ttf", ".ttc", ".otf")))


def _preference(path: Path) -> tuple[bool, int]:
    name = re.sub("[ _-]|regular$", "", path.stem.lower())
    place = next((i for i, pattern in enumerate(_PREFERRED) if re.match(pattern, name)), len(_PREFERRED))
    return bool(_OTHER_STYLES.search(name)), place


def _open(path: Path, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(path, size)
    except (OSError, ValueError):  # damaged, or a font of pictures that has no such size
        return None


def _has_glyph(font: ImageFont.FreeTypeFont, character: str) -> bool:
    """Tell whether a font has a character: then it looks unlike one that no font has."""
    try:
        drawn, none = font.getmask(character), font.getmask(_NO_CHARACTER)
    except (OSError, ValueError):
        return False
    return drawn.size != none.size or bytes(drawn) != bytes(none)
