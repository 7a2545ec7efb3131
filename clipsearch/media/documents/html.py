"""The words of a web page, by the parser of the standard library: no script, no style, nothing that it links to."""

from __future__ import annotations

from html.parser import HTMLParser

from clipsearch.errors import DocumentError
from clipsearch.media.documents.base import Flowing, LineWriter, clean_text
from clipsearch.media.text import decode_text
from clipsearch.words import normalize

_SILENT = frozenset("script style template noscript svg math head iframe object select".split())
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
_INLINE = frozenset(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark q rp rt ruby s samp small "
    "span strike strong sub sup time tt u var wbr".split()
)


class HtmlWords(HTMLParser):
    """Collects the words that a reader of the page would see: its title, texts, and what stands for pictures."""

    def __init__(self, writer: LineWriter) -> None:
        """Write to `writer`."""
        super().__init__(convert_charrefs=True)
        self._writer = writer
        self._silent: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """See where words are none, and where lines end."""
        if tag == "title" and self._silent in ([], ["head"]):
            self._in_title = True
        elif tag == "body":
            self._silent = []
        elif tag in _SILENT:
            self._silent.append(tag)
        if self._silent or tag in _INLINE:
            if tag == "img" and not self._silent:
                self._writer.write(f" {dict(attrs).get('alt') or ''} ")
            return
        if tag == "br":
            self._writer.end_line()
        elif tag in {"td", "th"}:
            self._writer.write(" ")
        else:
            self._writer.end_block()

    def handle_endtag(self, tag: str) -> None:
        """See where words begin again."""
        if tag == "title" and self._in_title:
            self._in_title = False
            self._writer.end_block()
        elif tag in self._silent:
            del self._silent[self._silent.index(tag) :]
        elif not self._silent and tag not in _INLINE and tag not in {"br", "td", "th"}:
            self._writer.end_block()

    def handle_data(self, data: str) -> None:
        """Take words."""
        if self._in_title or not self._silent:
            self._writer.write(data)


class HtmlReader(Flowing):
    """A web page that is open: one section."""

    pages = 1

    def __init__(self, data: bytes) -> None:
        """Read it. Raises TextError for what is no text, DocumentError for one without words."""
        self._text = html_words(decode_text(data))
        if not self._text:
            raise DocumentError("it contains no words")

    def text(self, page: int) -> str:
        """Return all its words."""
        return self._text


def html_words(source: str, limit: int | None = None) -> str:
    """Return the words of a page, in NFC, a block a paragraph. limit: characters that are taken at most."""
    writer = LineWriter() if limit is None else LineWriter(limit)
    parser = HtmlWords(writer)
    for start in range(0, len(source), 1 << 16):
        if writer.is_full:
            break
        parser.feed(source[start : start + (1 << 16)])
    else:
        parser.close()
    return normalize(clean_text(writer.text()))
