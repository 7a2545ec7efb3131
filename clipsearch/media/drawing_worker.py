"""The process that draws one picture or page; started by clipsearch/media/drawing.py.

Its stdin has the bytes of the file and its stdout is a pipe. Before it decodes them it gives up opening other files,
writing files, and memory and time beyond its limits.
"""

from __future__ import annotations

import sys

import pillow_heif  # noqa: F401 - loaded while files can be opened
from PIL import ImageCms  # noqa: F401

from clipsearch.errors import MediaError
from clipsearch.media.child import PICTURE, limit_process, refuse, send
from clipsearch.media.decode import HEAD, decode_picture, picture_kind
from clipsearch.media.documents.opening import page_picture
from clipsearch.media.drawing import SIZE, DrawRequest
from clipsearch.media.loading import load_codecs, load_extras

_EXTRAS = {"RAW": "raw", "TIFF": "raw", "JXL": "jxl", "SVG": "svg"}


def main() -> None:
    """Answer one request, which is the last argument."""
    request = DrawRequest.load(sys.argv[-1])
    data = sys.stdin.buffer.read()
    load_codecs()
    load_extras({"documents" if request.page is not None else _EXTRAS.get(picture_kind(data[:HEAD]) or "", "")})
    limit_process(request.memory, request.seconds)
    try:
        if request.page is not None:
            picture = page_picture(data, request.page, request.side, request.max_pixels)
        else:
            picture = decode_picture(data, min_side=request.side, max_pixels=request.max_pixels)[0]
        send(PICTURE, SIZE.pack(*picture.size) + picture.tobytes())
    except MemoryError:
        refuse("not enough memory to draw it")
    except MediaError as error:
        refuse(str(error))
