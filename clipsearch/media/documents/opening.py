"""Which reader reads a document, by its content; the name decides only what a web page is."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from clipsearch.errors import DocumentError, PictureError, TextError
from clipsearch.media.documents.archive import Archive
from clipsearch.media.documents.base import Document
from clipsearch.media.extras import DOCUMENT_SUFFIXES, has_extra
from clipsearch.paths import suffix

if TYPE_CHECKING:
    from PIL.Image import Image

_PDF, _ZIP, _OLE = b"%PDF-", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"


def is_document(head: bytes, path: str) -> bool:
    """Tell whether a file is read as a document: a PDF by its head, anything else by its name.

    head: at least its first 1,024 bytes. No file is one where the extra is not installed.
    """
    return (is_pdf(head) or suffix(path) in DOCUMENT_SUFFIXES) and has_extra("documents")


def is_pdf(head: bytes) -> bool:
    """Tell whether a file is a PDF, which may begin with a little else."""
    return head.startswith(_PDF) or head.find(_PDF, 0, 1024) >= 0


def open_document(data: bytes) -> Document:
    """Open a document. Raises DocumentError with a short reason, whatever is wrong with the bytes."""
    if not data:
        raise DocumentError("empty file")
    try:
        return _open(data)
    except (DocumentError, PictureError):
        raise
    except TextError as error:
        raise DocumentError(str(error)) from error
    except MemoryError as error:
        raise DocumentError("not enough memory to read it") from error
    except Exception as error:
        raise DocumentError(
            f"damaged document ({' '.join(str(error).split())[:120] or type(error).__name__})"
        ) from error


def page_picture(data: bytes, page: int, side: int, max_pixels: int) -> Image:
    """Draw a page of a document, from 1, as `Document.render` does. Raises MediaError."""
    with closing(open_document(data)) as document:
        return document.render(min(max(page, 1), document.pages), side, max_pixels)


def _open(data: bytes) -> Document:
    from clipsearch.media.documents.docx import DocxReader
    from clipsearch.media.documents.epub import EpubReader
    from clipsearch.media.documents.html import HtmlReader
    from clipsearch.media.documents.pdf import PdfReader
    from clipsearch.media.documents.tiff import TiffReader, has_directories

    if has_directories(data):
        return TiffReader(data)
    if is_pdf(data[:1024]):
        return PdfReader(data)
    if data.startswith(_OLE):
        raise DocumentError("a document that is protected by a password, or of an old format; save it as .docx")
    if not data.startswith(_ZIP):
        return HtmlReader(data)
    archive = Archive(data)
    if archive.has("word/document.xml"):
        return DocxReader(archive)
    if archive.has("META-INF/container.xml"):
        return EpubReader(archive)
    raise DocumentError("an archive that is neither a Word document nor a book")
