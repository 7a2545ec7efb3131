"""The words of an electronic book (EPUB 3.3), chapter by chapter in the order of its spine."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote
from xml.parsers import expat

from clipsearch.errors import DocumentError, TextError
from clipsearch.media.documents.archive import Archive
from clipsearch.media.documents.base import MAX_PAGES, MAX_TEXT, Flowing
from clipsearch.media.documents.html import html_words
from clipsearch.media.text import decode_text

_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_PAGES = frozenset({"application/xhtml+xml", "text/html"})
Element = tuple[str, dict[str, str]]


class EpubReader(Flowing):
    """A book that is open; its sections are its chapters."""

    def __init__(self, archive: Archive) -> None:
        """Read its table of contents. Raises DocumentError for one that is damaged, encrypted or without chapters."""
        self._archive = archive
        self._left = MAX_TEXT
        self._chapters = _chapters(archive)[:MAX_PAGES]
        locked = _encrypted(archive)
        if locked.intersection(self._chapters):
            raise DocumentError("a book that is encrypted")
        if not self._chapters:
            raise DocumentError("a book without chapters")
        self.pages = len(self._chapters)

    def text(self, page: int) -> str:
        """Return the words of a chapter. Raises DocumentError where it cannot be unpacked."""
        name = self._chapters[page - 1]
        if not self._archive.has(name):
            return ""
        try:
            words = html_words(decode_text(self._archive.read(name)), self._left)
        except TextError:
            return ""
        self._left = max(0, self._left - len(words))
        return words


def _chapters(archive: Archive) -> list[str]:
    """Return the names of the files that the spine lists, in its order, each once."""
    packages = [
        attributes.get("full-path", "") for name, attributes in _read(archive, _CONTAINER) if name == "rootfile"
    ]
    if not packages:
        raise DocumentError("damaged document: its container names no package")
    elements = _read(archive, packages[0])
    files = {
        attributes.get("id", ""): attributes.get("href", "")
        for name, attributes in elements
        if name == "item" and attributes.get("media-type", "") in _PAGES
    }
    order = [files.get(attributes.get("idref", "")) for name, attributes in elements if name == "itemref"]
    base = posixpath.dirname(packages[0])
    return list(dict.fromkeys(_inside(base, href) for href in order if href))


def _inside(base: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(base, unquote(href.partition("#")[0])))


def _encrypted(archive: Archive) -> frozenset[str]:
    """Return the names of files that are encrypted; fonts often are, whose key stands in the book."""
    if not archive.has(_ENCRYPTION):
        return frozenset()
    found = (attributes.get("URI", "") for name, attributes in _read(archive, _ENCRYPTION) if name == "CipherReference")
    return frozenset(posixpath.normpath(unquote(uri)) for uri in found)


def _read(archive: Archive, name: str) -> list[Element]:
    """Return the elements of an XML file, without the prefixes of their names."""
    elements: list[Element] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda tag, attributes: elements.append((tag.rpartition(":")[2], attributes))
    try:
        parser.Parse(archive.read(name), True)
    except expat.ExpatError as error:
        raise DocumentError(f"damaged document ({name[:100]}: {str(error)[:100]})") from error
    return elements
