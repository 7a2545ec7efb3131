"""Which films are those of Live Photos, and so count with their pictures.

By the content identifier where film and picture have one: if it is the same they belong together, if not they do not.
Otherwise a film of at most MAX_SECONDS belongs to a picture of its name in its folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from clipsearch.config import Settings
from clipsearch.errors import MediaError
from clipsearch.media.decode import HEAD, is_picture, read_regular
from clipsearch.media.films.live import MAX_SECONDS, read_live_film
from clipsearch.media.films.process import open_film
from clipsearch.store.records import FileRecord
from indexer.picture_reader import PictureReader


def find_still(descriptor: int, folder: str, stills: Sequence[str], reader: PictureReader, most: int) -> str | None:
    """Return the name of the picture that an open film belongs to; None for a film of its own.

    folder: of the film. stills: names of pictures in it. most: bytes of a picture that is read. Raises OSError.
    """
    film = read_live_film(descriptor)
    likely = None
    for still in stills:
        try:
            data = read_regular(os.path.join(folder, still), most)[0]
            identifier = reader.words(data).identifier if is_picture(data[:HEAD]) else None
        except (OSError, MediaError):
            continue
        if identifier is None:
            continue
        if film.identifier and identifier:
            if film.identifier == identifier:
                return still
        elif film.seconds is not None and film.seconds <= MAX_SECONDS:
            likely = likely or still
    return likely


def is_live(record: FileRecord, path: str, reader: PictureReader, settings: Settings) -> bool:
    """Tell whether a film at a path belongs to a picture; False if the film cannot be read."""
    folder, most = os.path.dirname(path), settings.max_picture_bytes
    try:
        with open_film(path, settings.max_film_bytes) as (descriptor, _):
            return find_still(descriptor, folder, record.beside.stills, reader, most) is not None
    except (OSError, MediaError):
        return False
