"""Which page of a TIFF is the picture, and which kinds of TIFF Pillow cannot read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from clipsearch.errors import PictureError

MAX_PAGES = 16
"""How many pages are searched for the first full page."""

_SUBFILE_TYPE, _BITS, _SAMPLES, _PLANAR = 254, 258, 277, 284
_REDUCED, _PAGE, _MASK = 1, 2, 4


def choose_page(picture: Image.Image) -> None:
    """Go to the first page that is not a smaller version of another one, as NewSubfileType says (TIFF 6.0, page 36).

    Raises PictureError for planes of more than 8 bits, which Pillow would read as noise.
    """
    page = 0
    while _tag(picture, _SUBFILE_TYPE) & _REDUCED and page + 1 < MAX_PAGES:
        page += 1
        try:
            picture.seek(page)
        except EOFError:
            picture.seek(0)
            break
    if _tag(picture, _PLANAR) == 2 and _tag(picture, _SAMPLES) > 1 and _tag(picture, _BITS) > 8:
        raise PictureError("a TIFF whose colors lie in planes of more than 8 bits; save it with interleaved samples")


def full_pages(picture: Image.Image, most: int) -> list[int]:
    """Return the numbers of the directories of a TIFF that are pages, of at most so many directories.

    Smaller versions and masks are none, nor what is less than half as large as the first page without saying that it is
    one (NewSubfileType, TIFF 6.0, page 36).
    """
    pages: list[int] = []
    least = 0
    for number in range(most):
        try:
            picture.seek(number)
        except EOFError:
            break
        kind, (width, height) = _tag(picture, _SUBFILE_TYPE), picture.size
        if not kind & (_REDUCED | _MASK) and (kind & _PAGE or width * height >= least):
            pages.append(number)
            least = least or width * height // 4
    return pages


def is_unsupported(error: Exception) -> bool:
    """Tell whether Pillow's error is about a kind of TIFF that it does not know, such as RGB of floats."""
    is_compression = isinstance(error, KeyError) and isinstance(error.args[0], int)
    return is_compression or "unknown pixel mode" in str(error) or "unknown data organization" in str(error)


@contextmanager
def check_compression(picture: Image.Image) -> Iterator[None]:
    """Raise PictureError where a TIFF cannot be decoded by a libtiff that was built without what compressed it."""
    try:
        yield
    except OSError as error:
        if picture.format != "TIFF" or picture.info.get("compression") != "webp":
            raise
        raise PictureError("a TIFF compressed as WebP, which cannot be read; save it with LZW") from error


def _tag(picture: Image.Image, number: int) -> int:
    value = picture.tag_v2.get(number, 0)  # type: ignore[attr-defined]
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else 0
