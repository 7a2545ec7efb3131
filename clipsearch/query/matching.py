"""The method of the engine that finds what a picture was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clipsearch.query.searching import EngineSearches
from clipsearch.query.validation import read_count, read_filter

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.crop import Written
    from clipsearch.filtering import Filter
    from clipsearch.matches import Matches
    from clipsearch.query.embedding import Picture
    from clipsearch.types import Hit


class EngineMatches(EngineSearches):
    """What an engine has to find the originals of pictures."""

    def match(
        self, image: Picture, *, k: int = 5, crop: Written | None = None, filters: Filter | None = None
    ) -> Matches:
        """Find the pictures that a picture was made from: by cropping, mirroring, editing, or as a screenshot.

        The 200 pictures whose vectors are nearest are compared with it point by point, nearest first, until one is
        certain. That takes up to 30 seconds.

        Args:
            image: A path, a URL (http or https), bytes, a Pillow image, or a uint8 array (height, width, 3).
            k: How many matches are returned at most: copies of one picture all match.
            crop: Only this part of the picture, as in `search`.
            filters: Which items may be found; None for all.

        Returns:
            The matches, those of most points first; none where no picture is its original.

        Raises:
            InvalidInputError: An argument cannot be used, or OpenCV (extra `match`) is not installed.
            PictureError: The picture cannot be read.
            LibraryNotFoundError: The library is empty.
            EncoderError: The encoder of the library is unavailable.

        Example:
            >>> for match in engine.match("screenshot.png"):
            ...     print(match.path, match.box, match.mirrored)
        """
        from clipsearch.query.originals import find_originals  # which few need

        count = read_count("k", k)
        read_filter(filters)
        return find_originals(self, image, count, crop, filters)

    def _picture_of(self, hit: Hit, side: int) -> Image:
        """Read the picture that a hit stands for, of `side` pixels at least on its shorter side, unless it has fewer.

        Raises MediaError, InvalidInputError, StoreCorruptError or WorkerUnavailableError for one that cannot be read.
        """
        from clipsearch.media.drawing import look
        from clipsearch.store.picture_files import open_picture_of

        settings = self._settings
        with open_picture_of(self.library, hit.item.id) as picture:
            if hit.position is not None and hit.position.time is not None and picture.descriptor is not None:
                from clipsearch.media.films.process import frame_at

                return frame_at(picture.descriptor, hit.position.time, side, settings)
            page = None if hit.position is None else hit.position.page
            return look(picture.read(settings.max_picture_bytes), side, settings.max_pixels, page)
