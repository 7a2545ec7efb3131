"""What encoders do to a picture before it is encoded, with Pillow and numpy only, so that any process can do it.

`PictureTransform` gives the bytes that open_clip's `image_transform(is_train=False)` gives before it scales them: the
same sizes, the same rounding, the same order of steps (resize, crop or pad, then RGB). `Squash` is that of the builtin
encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import EncoderUnavailableError

if TYPE_CHECKING:
    from PIL.Image import Image

_SQUASH: Final = "squash"
_OPEN_CLIP: Final = "open_clip"

# A picture of 1 x 9999 pixels would grow to hundreds of megabytes before the crop throws nearly all of it away.
_MAX_RESIZED_PIXELS = 32_000_000


@dataclass(frozen=True, slots=True)
class PictureTransform:
    """How a picture becomes the input of an image tower.

    height, width: pixels of the input. resize_mode: `shortest` (crop), `longest` (pad) or `squash`.
    interpolation: `bicubic` or `bilinear`. fill_color: 0..255, for padding. mean, std: per channel, for
    values in 0..1; applied inside the image graph.
    """

    height: int
    width: int
    resize_mode: str
    interpolation: str
    fill_color: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def side(self) -> int:
        """The longer side of the input, in pixels."""
        return max(self.height, self.width)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> PictureTransform:
        """Rebuild what `as_dict` returned."""
        whole: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()
        }
        return cls(**whole)

    @classmethod
    def from_open_clip(cls, config: Mapping[str, Any]) -> PictureTransform:
        """Read an open_clip `preprocess_cfg`.

        Raises EncoderUnavailableError for a mode that has no counterpart here.
        """
        size = config["size"]
        height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
        # open_clip takes every other interpolation, such as "random", as bicubic when it does not train.
        interpolation = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
        if config["resize_mode"] not in ("shortest", "longest", "squash"):
            raise EncoderUnavailableError(
                f"The model resizes pictures in a way that clipsearch does not support: {config['resize_mode']!r}. "
                "Choose another model."
            )
        return cls(
            height=int(height),
            width=int(width),
            resize_mode=str(config["resize_mode"]),
            interpolation=interpolation,
            fill_color=int(config.get("fill_color") or 0),
            mean=_triple(config["mean"]),
            std=_triple(config["std"]),
        )

    def apply(self, picture: Image) -> NDArray[np.uint8]:
        """Return the uint8 (height, width, 3) array for one upright picture of any mode."""
        width, height = self._resized_size(picture)
        if self.resize_mode == "squash":
            placed = self._resize(picture, width, height)
        elif width * height > _MAX_RESIZED_PIXELS and self.resize_mode == "shortest":
            placed = self._resize_middle(picture, width, height)
        else:
            placed = self._crop_or_pad(self._resize(picture, width, height))
        return np.asarray(placed.convert("RGB"), dtype=np.uint8)

    def scale(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (n, 3, height, width), normalised, for uint8 (n, height, width, 3)."""
        values = pixels.astype(np.float32) / np.float32(255)
        scaled = (values - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    def _resized_size(self, picture: Image) -> tuple[int, int]:
        width, height = picture.size
        if self.resize_mode == "squash":
            return self.width, self.height
        if self.resize_mode == "shortest" and self.height == self.width:
            # torchvision cuts the longer side off to whole pixels; open_clip's own resize rounds instead.
            short, long = min(width, height), max(width, height)
            other = int(self.height * long / short)
            return (self.height, other) if width <= height else (other, self.height)
        ratios = (height / self.height, width / self.width)
        ratio = max(ratios) if self.resize_mode == "longest" else min(ratios)
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    def _resample(self) -> int:
        from PIL.Image import Resampling

        # open_clip forgets to pass the interpolation on for `shortest` with an oblong input.
        oblong = self.resize_mode == "shortest" and self.height != self.width
        bilinear = self.interpolation == "bilinear" and not oblong
        return Resampling.BILINEAR if bilinear else Resampling.BICUBIC

    def _resize(self, picture: Image, width: int, height: int) -> Image:
        if picture.size == (width, height):
            return picture
        return picture.resize((width, height), self._resample())

    def _resize_middle(self, picture: Image, width: int, height: int) -> Image:
        left, top = round((width - self.width) / 2.0), round((height - self.height) / 2.0)
        across, down = picture.width / width, picture.height / height
        box = (left * across, top * down, (left + self.width) * across, (top + self.height) * down)
        return picture.resize((self.width, self.height), self._resample(), box=box)

    def _crop_or_pad(self, picture: Image) -> Image:
        from PIL import ImageOps

        across, down = max(0, self.width - picture.width), max(0, self.height - picture.height)
        if across or down:
            border = (across // 2, down // 2, (across + 1) // 2, (down + 1) // 2)
            picture = ImageOps.expand(picture, border, self._fill(picture))
        left, top = round((picture.width - self.width) / 2.0), round((picture.height - self.height) / 2.0)
        return picture.crop((left, top, left + self.width, top + self.height))

    def _fill(self, picture: Image) -> int | tuple[int, ...]:
        bands = len(picture.getbands())
        return self.fill_color if bands == 1 else (self.fill_color,) * bands


@dataclass(frozen=True, slots=True)
class Squash:
    """Resizes a picture to a square without cropping it.

    side: pixels of the input. reducing_gap: as in Pillow's `resize`, which first shrinks by a whole factor, to no less
    than this multiple of `side`.
    """

    side: int
    reducing_gap: float

    @property
    def height(self) -> int:
        """Pixels of the input, down."""
        return self.side

    @property
    def width(self) -> int:
        """Pixels of the input, across."""
        return self.side

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON can hold them."""
        return asdict(self)

    def apply(self, picture: Image) -> NDArray[np.uint8]:
        """Return the uint8 (side, side, 3) array for one upright picture of any mode."""
        from PIL.Image import Resampling

        picture = picture if picture.mode == "RGB" else picture.convert("RGB")
        size = (self.side, self.side)
        return np.asarray(picture.resize(size, Resampling.BICUBIC, reducing_gap=self.reducing_gap))


Transforms = tuple[PictureTransform | Squash, ...]
"""How one picture becomes the inputs of an encoder, one for each."""


@lru_cache(maxsize=8)
def pack_transforms(transforms: Transforms) -> bytes:
    """Write transforms as JSON."""
    kinds = [(_SQUASH if isinstance(each, Squash) else _OPEN_CLIP, each.as_dict()) for each in transforms]
    return json.dumps(kinds).encode()


@lru_cache(maxsize=8)
def read_transforms(data: bytes) -> Transforms:
    """Rebuild what `pack_transforms` wrote."""
    return tuple(
        Squash(**fields) if kind == _SQUASH else PictureTransform.from_dict(fields) for kind, fields in json.loads(data)
    )


def _triple(values: float | list[float] | tuple[float, ...]) -> tuple[float, float, float]:
    listed = [float(values)] * 3 if isinstance(values, int | float) else [float(value) for value in values]
    return listed[0], listed[1], listed[2]
