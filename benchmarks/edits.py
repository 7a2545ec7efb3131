"""How people change a picture before it comes back to them: crops, mirror images, filters, overlays, screenshots."""

import io

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps


def jpeg(picture, quality=85):
    """Save a picture as a JPEG and read it again, as whatever is passed on was."""
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


def crop(picture, rng, share):
    """Cut out a part that has a share of the area, of the same shape, anywhere."""
    width, height = (round(side * share**0.5) for side in picture.size)
    left = int(rng.integers(0, picture.width - width + 1))
    top = int(rng.integers(0, picture.height - height + 1))
    return picture.crop((left, top, left + width, top + height))


def sepia(picture):
    grey = np.asarray(picture.convert("L"), np.float32)
    toned = np.stack([grey * 1.07 + 15, grey * 0.89 + 8, grey * 0.69], axis=-1)
    return Image.fromarray(toned.clip(0, 255).astype(np.uint8))


def strong(picture):
    """Twice the contrast and the colour, which burns out lights and shadows."""
    return ImageEnhance.Color(ImageEnhance.Contrast(picture).enhance(2.0)).enhance(2.0)


def overlay(picture):
    """A dark banner over a quarter of the picture, with two lines of large text."""
    picture = picture.copy()
    width, height = picture.size
    top = int(height * 0.62)
    drawing = ImageDraw.Draw(picture, "RGBA")
    drawing.rectangle((0, top, width, top + height // 4), fill=(0, 0, 0, 170))
    font = ImageFont.load_default(height * 0.1)
    drawing.text((width * 0.04, top + 1), "WHEN IT IS MONDAY", fill="white", font=font)
    drawing.text((width * 0.04, top + height * 0.12), "AND YOU WAKE UP", fill="yellow", font=font)
    return picture


def border(picture):
    """A white frame, wider below, as of an instant picture, with a line of text."""
    edge = max(picture.size) // 8
    framed = ImageOps.expand(picture, (edge, edge, edge, 3 * edge), "white")
    font = ImageFont.load_default(edge * 0.9)
    ImageDraw.Draw(framed).text((edge, picture.height + 1.6 * edge), "summer 2019", fill="black", font=font)
    return framed


def screenshot(picture, rng):
    """The screen of a telephone, 540 x 1170, that shows the picture in the width of the screen below two bars."""
    screen = Image.new("RGB", (540, 1170), (250, 250, 252))
    drawing = ImageDraw.Draw(screen)
    font = ImageFont.load_default(24)
    drawing.rectangle((0, 0, 540, 130), fill=(20, 20, 24))
    drawing.text((20, 14), "9:41            5G  78 %", fill="white", font=font)
    drawing.text((20, 74), "<  Photos      Edit", fill="white", font=font)
    shown = picture.resize((540, round(picture.height * 540 / picture.width)), Image.Resampling.BICUBIC)
    shown = shown.crop((0, 0, 540, min(shown.height, 700)))
    top = int(rng.integers(140, 1170 - shown.height - 190))
    screen.paste(shown, (0, top))
    for line in range(3):
        drawing.text((20, top + shown.height + 20 + 44 * line), "nice one! where was that?", fill="black", font=font)
    return screen


EDITS = {
    "whole, 60 % of the size": lambda p, r: p.resize((p.width * 3 // 5, p.height * 3 // 5), Image.Resampling.BICUBIC),
    "crop of 60 %": lambda p, r: crop(p, r, 0.6),
    "crop of 30 %": lambda p, r: crop(p, r, 0.3),
    "crop of 15 %": lambda p, r: crop(p, r, 0.15),
    "mirrored": lambda p, r: ImageOps.mirror(p),
    "crop of 30 %, mirrored": lambda p, r: ImageOps.mirror(crop(p, r, 0.3)),
    "grey": lambda p, r: p.convert("L").convert("RGB"),
    "sepia": lambda p, r: sepia(p),
    "strong contrast and colour": lambda p, r: strong(p),
    "overlay with text": lambda p, r: overlay(p),
    "white border with text": lambda p, r: border(p),
    "screenshot": screenshot,
}


def edited(picture, way, seed):
    """Return an RGB picture, changed in one of EDITS and saved as a JPEG."""
    return jpeg(EDITS[way](picture, np.random.default_rng(seed)))
