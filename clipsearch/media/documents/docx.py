"""The words of a Word document (ECMA-376, part 1, chapter 17), read as events, so that depth and size cost nothing.

Tables, text boxes, footnotes, endnotes, headers and footers count; what was deleted with changes tracked does not.
Word notes where its pages ended when the document was saved last; there a section ends here.
"""

from __future__ import annotations

from xml.parsers import expat

from clipsearch.errors import DocumentError
from clipsearch.media.documents.archive import Archive
from clipsearch.media.documents.base import MAX_PAGES, MAX_TEXT, Flowing, LineWriter, clean_text
from clipsearch.words import normalize

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main "
_STRICT = "http://purl.oclc.org/ooxml/wordprocessingml/main "
_FALLBACK = "http://schemas.openxmlformats.org/markup-compatibility/2006 Fallback"
_MAIN = "word/document.xml"
_NOTES = ("word/footnotes.xml", "word/endnotes.xml")


class DocxReader(Flowing):
    """A Word document that is open; its sections are the pages that Word noted."""

    def __init__(self, archive: Archive) -> None:
        """Read it. Raises DocumentError for one that is damaged or without words."""
        reader = _WordReader()
        for name in (_MAIN, *(name for name in _NOTES if archive.has(name))):
            reader.read(archive.read(name))
        self._sections = reader.sections()
        if not any(self._sections):
            raise DocumentError("it contains no words")
        self.pages = len(self._sections)
        self.has_pages = self.pages > 1

    def text(self, page: int) -> str:
        """Return the words of a page."""
        return self._sections[page - 1]


class _WordReader:
    """Handlers of a parser."""

    def __init__(self) -> None:
        self._sections: list[str] = []
        self._left = MAX_TEXT
        self._writer = LineWriter(self._left)
        self._in_text = self._fallbacks = 0

    def read(self, data: bytes) -> None:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = _refuse
        try:
            parser.Parse(data, True)
        except expat.ExpatError as error:
            raise DocumentError(f"damaged document ({str(error)[:100]})") from error
        self._writer.end_block()

    def sections(self) -> list[str]:
        return [*self._sections, self._taken()]

    def _taken(self) -> str:
        text = normalize(clean_text(self._writer.text()))
        self._left -= len(text)
        self._writer = LineWriter(self._left)
        return text

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == _FALLBACK:
            self._fallbacks += 1
        local = _local(name)
        if local == "t":
            self._in_text += 1
        elif local in {"tab", "tc"}:
            self._writer.write(" ")
        elif local in {"br", "cr"} and attributes.get(_W + "type", "textWrapping") == "textWrapping":
            self._writer.end_line()
        elif local == "lastRenderedPageBreak" and len(self._sections) < MAX_PAGES:
            self._sections.append(self._taken())

    def _end(self, name: str) -> None:
        if name == _FALLBACK:
            self._fallbacks -= 1
        local = _local(name)
        if local == "t":
            self._in_text -= 1
        elif local == "p":
            self._writer.end_block()

    def _characters(self, text: str) -> None:
        if self._in_text and not self._fallbacks:
            self._writer.write(text)


def _local(name: str) -> str:
    """Return the name of an element of Word; "" for any other."""
    return name[len(_W) :] if name.startswith(_W) else name[len(_STRICT) :] if name.startswith(_STRICT) else ""


def _refuse(*_: object) -> None:
    raise DocumentError("a document with a document type, which no program for documents writes")
