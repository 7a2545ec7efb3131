"""The hash by which a library knows the content of a file."""

from __future__ import annotations

import hashlib

from clipsearch.media.extras import DOCUMENT_SUFFIXES
from clipsearch.paths import suffix
from clipsearch.types import TEXT_SUFFIXES


def hash_content(data: bytes, path: str) -> str:
    """Return the hexadecimal BLAKE2b-160 of a file's bytes and of the kind that its name announces.

    The same bytes named as a text, a document and a picture are three contents: what comes of them depends on the name.
    """
    kind = b"text" if is_named_text(path) else b"document" if suffix(path) in DOCUMENT_SUFFIXES else b"picture"
    return hashlib.blake2b(data, digest_size=20, person=kind).hexdigest()


def is_named_text(path: str) -> bool:
    """Tell whether the name of a file ends as that of a text."""
    return suffix(path) in TEXT_SUFFIXES
