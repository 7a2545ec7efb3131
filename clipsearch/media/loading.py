"""What decoders load when they are first used, loaded before: a process that was limited can open no file."""

from __future__ import annotations

import codecs
from collections.abc import Collection
from contextlib import suppress
from encodings.aliases import aliases

from clipsearch.media.extras import EXTRAS, has_extra

ALL = frozenset(extra.name for extra in EXTRAS) - {"video"}
_CODECS = ("ascii", "cp1252", "latin-1", "utf-8", "utf-16-be", "utf-16-le")


def load_codecs() -> None:
    """Load the encodings of texts, which are modules."""
    for name in _CODECS:
        codecs.lookup(name)


def load_extras(names: Collection[str] = ALL) -> None:
    """Load the packages of extras that are installed, and what they load when they are first used."""
    if "raw" in names and has_extra("raw"):
        import multiprocessing  # noqa: F401 - which rawpy imports later

        import rawpy  # noqa: F401
    if "jxl" in names and has_extra("jxl"):
        import imagecodecs

        with suppress(Exception):
            imagecodecs.jpegxl_decode(b"")
    if "svg" in names and has_extra("svg"):
        import xml.sax.saxutils  # noqa: F401

        import resvg_py  # noqa: F401
    if "documents" in names:
        from clipsearch.media.documents import docx, epub, html, pdf, tiff  # noqa: F401

        if has_extra("documents"):
            _load_documents()


def _load_documents() -> None:
    import pypdfium2  # noqa: F401
    from charset_normalizer import from_bytes

    for name in {*aliases.values()}:  # of web pages, and of the names in archives
        with suppress(LookupError):
            codecs.lookup(name)
    from_bytes(b"\xe4\xf6 \xfc")
