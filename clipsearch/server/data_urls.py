"""Pictures as `data:` URLs, by which a JSON request brings their bytes: RFC 2397."""

from __future__ import annotations

import base64
import binascii
import re

from clipsearch.errors import InvalidInputError

_START = re.compile(r"data:(image/[\w.+-]+)?(;[\w=.+-]+)*;base64,", re.IGNORECASE | re.ASCII)
_EXAMPLE = "data:image/jpeg;base64,..."


def is_data_url(text: str) -> bool:
    """Tell whether a text means to be a `data:` URL."""
    return text[:5].lower() == "data:"


def read_data_url(url: str) -> bytes:
    """Return the bytes of a picture file that a URL holds; what they are is for whoever decodes them.

    Raises InvalidInputError for anything else.
    """
    start = _START.match(url[:200])
    if start is None:
        raise InvalidInputError(f"A picture in JSON is a data: URL in base64, such as {_EXAMPLE}, not {url[:40]!r}.")
    try:
        return base64.b64decode(url[start.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInputError(f"The picture after {start[0]!r} is not base64: {error}.") from error
