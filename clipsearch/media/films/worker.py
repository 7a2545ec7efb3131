"""The process that reads one film; started by clipsearch/media/films/process.py.

Its stdin is the film, open for reading, and its stdout a pipe. Before it looks at the film it gives up opening other
files, writing files, and memory and time beyond its limits.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys

import av
from PIL import Image

from clipsearch.errors import PictureError
from clipsearch.media.child import PICTURE, limit_process, refuse, send
from clipsearch.media.films.base import END, FACTS, FRAME, FilmRequest
from clipsearch.media.films.decoding import Film
from clipsearch.media.films.selection import Selection

_IN = 0


def main() -> None:
    """Answer one request, which is the last argument."""
    request = FilmRequest.load(sys.argv[-1])
    av.logging.set_level(av.logging.PANIC)
    _load_all()
    with os.fdopen(_IN, "rb", buffering=1 << 18) as file:
        limit_process(request.memory, request.cpu_seconds)
        try:
            _answer(file, request)
        except MemoryError:
            refuse("took too much memory to decode (setting decode_memory)")
        except PictureError as error:
            refuse(str(error))
        except OSError as error:
            refuse(f"cannot be read ({error.strerror or error})")


def _load_all() -> None:
    """Load what PyAV, numpy and Pillow load when they need it: no file can be opened later."""
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    Selection(1.0, 2, None).takes(0.0, Image.radial_gradient("L").convert("RGB"))


def _answer(file: object, request: FilmRequest) -> None:
    film = Film(file, request)  # type: ignore[arg-type]
    frames = iter([film.frame_at(request.time)]) if request.time is not None else film.frames()
    is_first = True
    for frame in frames:
        if is_first:
            send(FACTS, json.dumps(film.facts(frame.picture)).encode())
            is_first = False
        picture = frame.picture
        send(PICTURE, FRAME.pack(frame.time, *picture.size) + picture.tobytes())
    send(END, film.note.encode("utf-8", "replace")[:500])
