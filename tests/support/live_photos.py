"""Pictures and films of Apple Live Photos."""

from __future__ import annotations

import struct
from pathlib import Path

from PIL import Image

from tests.support.films import scene, scenes, write_film

KEY = "com.apple.quicktime.content.identifier"


def maker_note(identifier: str) -> bytes:
    """The maker note of Apple with a content identifier, and a number before it."""
    text = identifier.encode() + b"\0"
    entries = struct.pack(">HHII", 0x0001, 9, 1, 14) + struct.pack(">HHII", 0x0011, 2, len(text), 14 + 2 + 24 + 4)
    return b"Apple iOS\0\0\x01MM" + struct.pack(">H", 2) + entries + bytes(4) + text


def still(path: Path, number: int = 1, identifier: str = "") -> Path:
    """Write the picture of a Live Photo, by the ending of its name."""
    exif = Image.Exif()
    exif[0x010F] = "Apple"
    if identifier:
        exif.get_ifd(0x8769)[0x927C] = maker_note(identifier)
    picture = Image.fromarray(scene(number))
    if path.suffix.lower() in {".heic", ".heif"}:
        from pillow_heif import from_pillow

        from_pillow(picture).save(path, exif=exif.tobytes())
    else:
        picture.save(path, exif=exif)
    return path


def film(path: Path, number: int = 2, identifier: str = "", seconds: float = 2) -> Path:
    """Write the film of a Live Photo, or any other."""
    lower = path.with_suffix(path.suffix.lower())  # by which PyAV knows the format
    write_film(lower, scenes([number], seconds), metadata={KEY: identifier} if identifier else {})
    return lower.rename(path)
