"""Read the fitted arrays that lie beside this file."""

from __future__ import annotations

import io
import zipfile
import zlib
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import EncoderUnavailableError

DAMAGED = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What numpy and zipfile raise for a damaged .npz file; the last where a flipped bit names an unknown compression."""

Arrays = dict[str, NDArray[Any]]


def read_fitted(name: str, *keys: str) -> tuple[Arrays, bytes]:
    """Return arrays of a file of this package, all of them if no key is named, and the bytes of the file.

    Raises EncoderUnavailableError where the file is missing or damaged.
    """
    try:
        data = resources.files(__package__).joinpath(name).read_bytes()
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {key: file[key] for key in keys or file.files}, data
    except DAMAGED as error:
        raise EncoderUnavailableError(
            f"The file {name} of the builtin encoder cannot be read: {error}. Install clipsearch again."
        ) from error
