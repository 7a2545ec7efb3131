"""A hit as a person looks at it: what is said of it, and its thumbnail."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, TypeVar

from PIL import Image

from clipsearch.config import Settings
from clipsearch.errors import MediaError, PictureError, WorkerUnavailableError
from clipsearch.media.decode import read_bytes
from clipsearch.media.drawing import look
from clipsearch.media.extras import FILM_SUFFIXES
from clipsearch.media.films.process import frame_at, open_film
from clipsearch.paths import printable, suffix
from clipsearch.types import PartPosition

MAX_TILES = 1000
"""As many hits are drawn at most."""

_MAX_THREADS = 4

_QUALITY = 85
"""Of a JPEG: no difference to the original is seen at the size of a thumbnail."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tile:
    """A hit to show.

    path: as the JSON form of an answer has it; of a record maybe a URL. passage: what matched of a text; None for a
    picture. score, confidence: as in `Hit`; None for a hit without one. position: of a part of a film or a document.
    explanation: in its JSON form, if there is one.
    """

    rank: int
    path: str
    score: float | None = None
    confidence: float | None = None
    passage: str | None = None
    position: PartPosition | None = None
    explanation: Mapping[str, Any] | None = field(default=None, hash=False)

    @property
    def is_file(self) -> bool:
        """Whether the path may be that of a file; a record has a URL or a name of its own."""
        return os.path.isabs(self.path)

    @property
    def name(self) -> str:
        """The name of the file, safe to show."""
        return printable(os.path.basename(self.path) or self.path)

    @property
    def figures(self) -> str:
        """Rank, score and confidence, as in the table of an answer."""
        score = "" if self.score is None else f"  {self.score:.3f}"
        sure = "" if self.confidence is None else f"  {self.confidence:.0%}"
        where = "" if self.position is None else f"  {self.position}"
        return f"{self.rank}{score}{sure}{where}"


def to_tiles(hits: Sequence[Mapping[str, Any]]) -> list[Tile]:
    """Make tiles of hits in their JSON form (`present.to_payload`)."""
    return [
        Tile(
            hit["rank"],
            hit["path"],
            hit.get("score"),
            hit.get("confidence"),
            _passage(hit),
            _position(hit),
            hit.get("explanation"),
        )
        for hit in hits
    ]


def _passage(hit: Mapping[str, Any]) -> str | None:
    """Return what matched of a text; a picture is shown as such, also where its caption matched."""
    passage: str | None = hit["part"]["text"] if hit["part"] and hit.get("item_modality") != "image" else None
    return passage


def _position(hit: Mapping[str, Any]) -> PartPosition | None:
    said = hit.get("position")
    return PartPosition(said.get("time"), said.get("page")) if said else None


def read_thumbnail(
    path: str, box: tuple[int, int], settings: Settings, position: PartPosition | None = None
) -> Image.Image:
    """Read a picture, upright and RGB, reduced to fit a box of (width, height) pixels, never enlarged.

    position: of a frame of a film or a page of a document; None for the first. Raises PictureError with a short reason
    that does not name the path.
    """
    if not os.path.isabs(path):
        raise PictureError("a record of a collection, not a file")
    side = max(min(box) // 2, 1)
    if suffix(path) in FILM_SUFFIXES:
        picture = _read_frame(path, position, min(box), settings)
    else:
        data = read_bytes(path, settings.max_picture_bytes)
        picture = look(data, side, settings.max_pixels, None if position is None else position.page)
    picture.thumbnail(box, Image.Resampling.LANCZOS)
    return picture


def _read_frame(path: str, position: PartPosition | None, side: int, settings: Settings) -> Image.Image:
    try:
        with open_film(path, settings.max_film_bytes) as (descriptor, _):
            return frame_at(descriptor, (position and position.time) or 0.0, side, settings)
    except PictureError:
        raise
    except FileNotFoundError as error:
        raise PictureError("there is no such file") from error
    except (OSError, ValueError, MediaError, WorkerUnavailableError) as error:
        raise PictureError(f"cannot be read ({getattr(error, 'strerror', None) or error})") from error


def encode_thumbnail(data: bytes, side: int, max_pixels: int, page: int | None = None) -> bytes:
    """Reduce the bytes of a picture file to a JPEG of at most `side` pixels on the longer side, never enlarged.

    It is upright and RGB, and has none of the metadata. page: of a document; None for the first. Raises PictureError,
    as `look` does.
    """
    return encode_jpeg(look(data, side, max_pixels, page), side)


def encode_frame(descriptor: int, time: float, side: int, settings: Settings) -> bytes:
    """Return the frame that an open film shows at a time in seconds, as `encode_thumbnail` does a picture."""
    return encode_jpeg(frame_at(descriptor, time, side, settings), side)


def encode_jpeg(picture: Image.Image, side: int) -> bytes:
    """Reduce a picture to a JPEG of at most `side` pixels on the longer side, never enlarged."""
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def map_tiles(make: Callable[[Tile], T], tiles: Sequence[Tile], settings: Settings) -> list[T]:
    """Apply a function to tiles in a few threads, since most of the time goes into decoding; the order is kept."""
    with ThreadPoolExecutor(min(settings.cores, _MAX_THREADS)) as pool:
        return list(pool.map(make, tiles))
