"""Pictures of formats that Pillow does not know: their heads are read at once, their pixels when they are loaded."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageFile


class LazyPixels(ImageFile.StubHandler):
    """What loads the pixels of a `StubImageFile`, which keeps its `info`."""

    def __init__(self, make: Callable[[tuple[int, int]], Image.Image]) -> None:
        """Take what returns the picture, given its size."""
        self._make = make

    def open(self, im: ImageFile.StubImageFile) -> None:
        """Do nothing: the head was read."""

    def load(self, im: ImageFile.StubImageFile) -> Image.Image:
        """Return the picture."""
        info, loaded = im.info, self._make(im.size)
        loaded.info = info
        return loaded
