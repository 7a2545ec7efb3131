"""The composite of a Photoshop file, and what its resources say.

Pillow reads its head; where the pixels lie it knows only for files of 8 bits without further channels. Layout: Adobe
Photoshop File Formats Specification, "Image Resource Section", "Layer Info" and "Image Data Section".
"""

from __future__ import annotations

from io import BytesIO

from PIL import ImageFile, PsdImagePlugin

from clipsearch.errors import PictureError

_VERSION, EXIF, XMP, IPTC = 1057, 1058, 1060, 1028
_HEAD, _CHANNELS, _DEPTH, _MODE = 26, slice(12, 14), slice(22, 24), slice(24, 26)
_GREY, _RGB = 1, 3
_LAYOUTS = {"1": ["1;I"], "L": ["L"], "P": ["P"], "RGB": [*"RGB"], "RGBA": [*"RGBA"], "LAB": [*"LAB"]} | {
    "CMYK": ["C;I", "M;I", "Y;I", "K;I"]
}
"""How Pillow calls the planes of each mode; a bit of a bitmap is black."""


class Psd(PsdImagePlugin.PsdImageFile):
    """A PSD of which the head was read; `info` has its blocks as Pillow calls them in other formats."""

    def _open(self) -> None:
        assert isinstance(self.fp, BytesIO)
        head = self.fp.read(_HEAD)
        channels, depth, mode = (int.from_bytes(head[part], "big") for part in (_CHANNELS, _DEPTH, _MODE))
        is_deep = depth == 16 and mode in {_GREY, _RGB}
        if is_deep:  # which Pillow does not know, though its decoders do
            self.fp.getbuffer()[_DEPTH] = b"\0\x08"
        self.fp.seek(0)
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
        self._find_planes(channels, 2 if is_deep else 1)

    def _find_planes(self, channels: int, sample: int) -> None:
        """Say where each plane lies. channels: how many planes there are. sample: bytes of one."""
        if not self.tile:
            raise PictureError("a PSD of a kind that cannot be read (its compression); save it again")
        codec, at = self.tile[0].codec_name, self.tile[0].offset
        is_packed, (width, height) = codec == "packbits", self.size
        if is_packed:
            assert self.fp is not None
            self.fp.seek(at - 2 * height * len(self.tile))  # the lengths of all rows stand before them
            lengths = memoryview(ImageFile._safe_read(self.fp, 2 * height * channels)).cast("B")
            at = self.fp.tell()
        if self.mode == "RGBA" and not self._is_transparent():
            self._mode = "RGB"
        line = (width + 7) // 8 if self.mode == "1" else width * sample
        self.tile = []
        for number, name in enumerate(_LAYOUTS[self.mode]):
            self.tile.append(ImageFile._Tile(codec, (0, 0, width, height), at, name + (";16B" if sample == 2 else "")))
            if is_packed:
                rows = lengths[2 * height * number : 2 * height * (number + 1)]
                at += 256 * sum(rows[::2]) + sum(rows[1::2])
            else:
                at += line * height

    def _is_transparent(self) -> bool:
        """Tell whether a fourth channel says what is transparent: the number of layers is negative then."""
        if self._layers_position is None or self.fp is None:
            return True
        self.fp.seek(self._layers_position)
        return self.fp.read(1) >= b"\x80"


def _said(error: Exception) -> str:
    return f"mode and bits {error.args[0]}" if isinstance(error, KeyError) else str(error)[:80]
