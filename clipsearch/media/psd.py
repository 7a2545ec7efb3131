"""The composite of a Photoshop file, as Pillow reads it, and what its resources say.

Resources: Adobe Photoshop File Formats Specification, "Image Resource Section".
"""

from __future__ import annotations

from PIL import PsdImagePlugin

from clipsearch.errors import PictureError

_VERSION, EXIF, XMP, IPTC = 1057, 1058, 1060, 1028


class Psd(PsdImagePlugin.PsdImageFile):
    """A PSD of which the head was read; `info` has its blocks as Pillow calls them in other formats."""

    def _open(self) -> None:
        try:
            super()._open()
        except (KeyError, OSError) as error:
            raise PictureError(f"a PSD of a kind that cannot be read ({_said(error)}); save it with 8 bits") from error
        blocks = {number: data for number, _, data in self.resources}
        if blocks.get(_VERSION, b"\0\0\0\0\1")[4:5] == b"\0":
            raise PictureError("a PSD without a composite; save it with the option Maximize Compatibility")
        for name, number in (("exif", EXIF), ("xmp", XMP), ("iptc", IPTC)):
            if number in blocks:
                self.info[name] = blocks[number]


def _said(error: Exception) -> str:
    return f"mode and bits {error.args[0]}" if isinstance(error, KeyError) else str(error)[:80]
