"""Pictures with text on them."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

CHINESE = Path(__file__).with_name("droid_sans_fallback_subset.ttf")
"""The characters 北京火车站出口咖啡店营业中 of Droid Sans Fallback; Apache-2.0, Copyright 2006 Google Corporation."""


def sign(
    text: str,
    at: tuple[int, int] = (300, 60),
    *,
    angle: float = 0,
    background: str = "#5a78a0",
    size: tuple[int, int] = (640, 480),
) -> Image.Image:
    """Make a picture with text on a plain background."""
    picture = Image.new("RGB", size, background)
    font = ImageFont.load_default(44) if text.isascii() else ImageFont.truetype(CHINESE, 44)
    ImageDraw.Draw(picture).text(at, text, font=font, fill="white")
    return picture.rotate(angle, fillcolor=background)


def save_sign(path: Path, text: str, **options: object) -> Path:
    """Write such a picture of a small size as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sign(text, (40, 30), size=(320, 240), **options).save(path)  # type: ignore[arg-type]
    return path
