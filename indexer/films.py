"""A film to encoder input: the frames that stand for it, with their times."""

from __future__ import annotations

import hashlib
import os
from contextlib import closing
from dataclasses import dataclass, replace

from clipsearch.config import Settings
from clipsearch.encoders.base import Encoder, Pixels
from clipsearch.errors import PictureError
from clipsearch.media.films.base import FilmRequest
from clipsearch.media.films.process import FilmReader
from clipsearch.types import MediaInfo, PartPosition, PictureInfo

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class FilmParts:
    """What is encoded of a film."""

    picture: PictureInfo
    media: MediaInfo
    pixels: tuple[Pixels, ...]
    positions: tuple[PartPosition, ...]


def hash_film(descriptor: int) -> str:
    """Return the content hash of an open film, which is read block by block. Raises OSError."""
    found = hashlib.blake2b(digest_size=20, person=b"film")
    os.lseek(descriptor, 0, os.SEEK_SET)
    while block := os.read(descriptor, _BLOCK):
        found.update(block)
    return found.hexdigest()


def read_film(descriptor: int, encoder: Encoder, settings: Settings) -> FilmParts:
    """Read the frames of an open film, in a process of their own. Raises PictureError, WorkerUnavailableError."""
    request = FilmRequest(
        max(encoder.picture_side, 1),
        settings.max_pixels,
        seconds=settings.film_seconds,
        most=settings.film_frames,
        cpu_seconds=settings.film_decode_seconds,
        memory=settings.decode_memory,
    )
    with closing(FilmReader(descriptor, request)) as reader:
        frames = [(PartPosition(time=round(time, 3)), encoder.preprocess(picture)) for time, picture in reader]
    if reader.facts is None:
        raise PictureError("no frame of it can be decoded")
    return FilmParts(
        replace(reader.facts.picture, note=reader.note),
        reader.facts.media,
        tuple(pixels for _, pixels in frames),
        tuple(position for position, _ in frames),
    )
