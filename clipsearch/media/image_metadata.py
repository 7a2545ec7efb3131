"""What a picture file says in words of itself: captions and keywords, from XMP, IPTC, EXIF and the texts of a PNG.

Left out, because they repeat the rest or say nothing: the hierarchical keywords of Lightroom and digiKam, whose leaves
stand in dc:subject too; UserComment of EXIF and comments of JPEG and PNG, where phones keep settings, generators
prompts and editors their names, while a program that lets a person write there writes to another place as well.

XMP is read with expat as events, not as a tree, so that nesting costs nothing; a document type is refused, and with it
every entity. Layouts: XMP part 1 (ISO 16684-1) section 7, IPTC-IIM 4.2 section 1.6, PNG 1.2 section 11.3.4.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from xml.parsers import expat

from PIL import PngImagePlugin

from clipsearch.media.decode import HEAD, open_picture, picture_kind
from clipsearch.media.exif import decode_words, read_words
from clipsearch.media.raw import as_tiff
from clipsearch.words import normalize

MAX_CAPTIONS, MAX_CAPTION = 16, 4000
"""How many captions of a picture are kept, and how many characters of each."""

MAX_KEYWORDS, MAX_KEYWORD = 100, 100
"""How many keywords of a picture are kept, and how many characters of each."""

_MAX_BLOCK = 1 << 22
_MAX_CHUNKS, _MAX_PNG_TEXTS = 100_000, 32
_PNG_TEXTS = re.compile(rb"(?:title|description|xml:com\.adobe\.xmp)\0", re.IGNORECASE)
_IPTC_RESOURCE = 0x0404
_IPTC_CHARSET, _IPTC_KEYWORD, _IPTC_CAPTIONS = (1, 90), (2, 25), ((2, 120), (2, 5), (2, 105))

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "
_DC = "http://purl.org/dc/elements/1.1/ "
_ROOT, _DESCRIPTION, _ITEM = _RDF + "RDF", _RDF + "Description", _RDF + "li"
_LANGUAGE = "http://www.w3.org/XML/1998/namespace lang"
_XMP_CAPTIONS = (_DC + "description", _DC + "title", "http://ns.adobe.com/photoshop/1.0/ Headline")
_XMP_KEYWORDS = _DC + "subject"

_MAX_TRIED = 1000
NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffd\ud800-\udfff]+")
"""Characters that no caption or keyword keeps."""

_DOUBLE_FROM = 20
"""From so many characters on a caption is a double of one that begins with it: fields of IPTC cut their text."""

# Collected from the lists that PhotoPrism, KPhotoAlbum and iNaturalist keep, and from reports of their users.
_JUNK = re.compile(
    r"""
      ( (olympus|konica|minolta|samsung|sony|nikon|canon|kodak|casio|pentax|ricoh|panasonic|lg|jenoptik|medion|moultrie)
        \s )* digital \s ((still|video|game)\s)? camera
    | sony\sdsc | minolta\sdsc | samsung\scamera\spictures | exif[_ ]jpeg[_ ]picture | hellomoto | iclarified | scanner
    | my\sbeautiful\spicture | dvc\s[\d.]+\shdmi | binary\scomment | charset=ascii | dcim([\\/]\S*)?
    | default | x-default | untitled | unknown | none | null
    | cof | dav | dig | edf | frem | mde(_soft)? | mon | nor | oznor(wo)? | ptr | qrf | rpt
    | [bfr]*(bt|hdr)\w* | sdr_\w+
    | (created|edited|processed|generated|exported|made)\s(with|by|in|using)\s(the\s)?
      (gimp|imlib|picasa|vsco|photoshop|paint\.net|imagemagick|snapseed|inkscape|lead\stechnologies).*
    | (img|dsc[fn]?|dcp|pict?|p|sam|gopr|dji|pxl|mvimg|vid|image|photo|picture|scan)[\W\d_]*(\.\w{3,4})?
    | <.*> | \{.*\} | imagej=.*
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_CODING_MAKES = ("huawei", "honor")
"""Makes whose phones write the mode of the camera into ImageDescription: one made-up word, of which there are many."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """The words of a picture file, the most trusted first, in NFC, on one line each, no two the same but for case."""

    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


@dataclass(slots=True)
class _Blocks:
    """The blocks of a file that hold words, as bytes, and the texts of a PNG."""

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    texts: tuple[str, ...] = ()


def read_embedded(data: bytes) -> Embedded:
    """Read what a picture file says in words of itself; no pixel is decoded.

    data: the whole file. What cameras and programs write by themselves is left out: their names, names of files,
    codes. Returns at most MAX_CAPTIONS captions and MAX_KEYWORDS keywords; none for what is damaged or no picture.
    Never raises and never warns. Safe to call from several threads.
    """
    try:
        blocks = _blocks(data)
    except Exception:
        # Pillow and libheif raise nearly anything for damaged heads; the decoder will say what is wrong.
        return Embedded()
    words = read_words(blocks.exif)
    xmp, iptc = _read_xmp(blocks.xmp or words.xmp), _read_iptc(blocks.iptc or words.iptc)
    keywords = _keywords([*xmp.keywords, *iptc.keywords, words.keywords])
    captions = [*xmp.captions, *iptc.captions, *words.captions, *blocks.texts]
    return Embedded(_captions(captions, keywords, words.camera), keywords)


def _blocks(data: bytes) -> _Blocks:
    kind = picture_kind(data[:HEAD])
    if kind == "TIFF":
        return _Blocks(exif=data)
    if kind == "RAW":
        return _Blocks(exif=as_tiff(data))
    if kind == "PNG":
        return _png_blocks(data)
    if kind == "SVG":
        return _Blocks(texts=(str(open_picture(kind, data).info["words"]),))
    if kind == "PSD":
        info = open_picture(kind, data).info
        return _Blocks(_bytes(info.get("exif")), _bytes(info.get("xmp")), _bytes(info.get("iptc")))
    if kind not in {"JPEG", "WEBP", "AVIF", "HEIF", "JXL"}:
        return _Blocks()
    # libheif reads the head of an AVIF as well, and does not warn of a damaged EXIF block, as Pillow does.
    info = open_picture("HEIF" if kind == "AVIF" else kind, data).info
    photoshop = info.get("photoshop")
    iptc = photoshop.get(_IPTC_RESOURCE) if isinstance(photoshop, dict) else b""
    return _Blocks(_bytes(info.get("exif")), _bytes(info.get("xmp")), _bytes(iptc))


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) and len(value) <= _MAX_BLOCK else b""


def _png_blocks(data: bytes) -> _Blocks:
    """Read chunks behind the pixels too, where Pillow would have to decode them first, but many programs write."""
    stream = PngImagePlugin.PngStream(BytesIO(data))
    for name, at, length in islice(_png_chunks(data), _MAX_PNG_TEXTS):
        stream.fp.seek(at)  # type: ignore[union-attr]
        with suppress(Exception):
            stream.call(name, at, length)
    info = {str(name).lower(): value for name, value in stream.im_info.items()}
    texts = (info.get("description"), info.get("title"))
    return _Blocks(
        _bytes(info.get("exif")), _bytes(info.get("xmp")), texts=tuple(t for t in texts if isinstance(t, str))
    )


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place and length of each chunk that may hold wanted words."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += 8
        is_text = name in {b"tEXt", b"zTXt", b"iTXt"} and _PNG_TEXTS.match(data, at)
        if length <= _MAX_BLOCK and (is_text or name == b"eXIf"):
            yield name, at, length
        at += length + 4
        if at >= len(data):
            return


@dataclass(slots=True)
class _Found:
    """Words of one block, in the order in which they count, as they stand there."""

    captions: list[str]
    keywords: list[str]


class _XmpReader:
    """Handlers of a parser, which collect the wanted properties of the picture itself, not of what it is made from."""

    def __init__(self) -> None:
        self.texts: dict[str, list[tuple[bool, str]]] = {name: [] for name in (*_XMP_CAPTIONS, _XMP_KEYWORDS)}
        self._path: list[str] = []
        self._property = ""
        self._language = ""
        self._written: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take simple properties, which may be attributes, and see whether a wanted one begins."""
        path = self._path
        if name == _DESCRIPTION and path[-1:] == [_ROOT]:
            for key in self.texts.keys() & attributes.keys():
                self.texts[key].append((False, attributes[key]))
        elif name in self.texts and path[-2:] == [_ROOT, _DESCRIPTION]:
            self._property, self._written = name, []
        elif self._property and name == _ITEM:
            self._language, self._written = attributes.get(_LANGUAGE, ""), []
        path.append(name)

    def characters(self, text: str) -> None:
        """Take text of a wanted property."""
        if self._property:
            self._written.append(text)

    def end(self, name: str) -> None:
        """Keep what was written in an item of a wanted property, or in it itself."""
        self._path.pop()
        if self._property and name in (_ITEM, self._property):
            self.texts[self._property].append((self._language.lower() != "x-default", "".join(self._written)))
            self._language, self._written = "", []
            if name == self._property:
                self._property = ""

    def refuse(self, *_: object) -> None:
        """Stop at a document type: XMP has none, and entities are declared in it."""
        raise ValueError("a document type")


def _read_xmp(packet: bytes) -> _Found:
    reader = _XmpReader()
    if packet:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
        parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.characters, reader.refuse
        # What was read before the damage stands: often only the padding behind the packet is broken.
        with suppress(Exception):
            parser.Parse(packet, True)
    captions = [sorted(reader.texts[name], key=lambda text: text[0]) for name in _XMP_CAPTIONS]
    return _Found([text for texts in captions for _, text in texts], [text for _, text in reader.texts[_XMP_KEYWORDS]])


def _read_iptc(block: bytes) -> _Found:
    found: dict[tuple[int, int], list[bytes]] = {}
    at = 0
    while block[at : at + 1] == b"\x1c" and at + 5 <= len(block):
        size = int.from_bytes(block[at + 3 : at + 5], "big")
        if size > 0x7FFF:  # an extended data set, which no text is
            break
        found.setdefault((block[at + 1], block[at + 2]), []).append(block[at + 5 : at + 5 + size])
        at += 5 + size
    is_utf8 = b"\x1b%G" in found.get(_IPTC_CHARSET, [])

    def read(name: tuple[int, int]) -> list[str]:
        values = found.get(name, [])
        return [value.decode("utf-8", "ignore") if is_utf8 else decode_words(value) for value in values]

    return _Found([text for name in _IPTC_CAPTIONS for text in read(name)], read(_IPTC_KEYWORD))


def _clean(text: str, most: int) -> str:
    """Return the text in NFC on one line, without control characters, cut to `most` characters."""
    text = normalize(text[: 2 * most])
    return " ".join(NO_TEXT.sub(" ", text).split())[:most].rstrip()


def _keywords(written: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, str] = {}
    words = (word for several in written for word in several.split(";"))
    for word in islice(words, _MAX_TRIED):
        clean = _clean(word, MAX_KEYWORD)
        if any(c.isalnum() for c in clean):
            found.setdefault(clean.casefold(), clean)
        if len(found) == MAX_KEYWORDS:
            break
    return tuple(found.values())


def _captions(written: Iterable[str], keywords: tuple[str, ...], camera: tuple[str, str]) -> tuple[str, ...]:
    found: list[str] = []
    listed = _parts(", ".join(keywords))
    for clean in (_clean(text, MAX_CAPTION) for text in islice(written, _MAX_TRIED)):
        folded = clean.casefold()
        if _is_junk(clean, camera) or _parts(clean) == listed or any(_is_double(folded, f.casefold()) for f in found):
            continue
        found = [*(f for f in found if not _is_double(f.casefold(), folded)), clean][:MAX_CAPTIONS]
    return tuple(found)


def _parts(text: str) -> set[str]:
    return {part.strip() for part in re.split("[,;]", text.casefold())}


def _is_double(text: str, other: str) -> bool:
    return text == other or (len(text) >= _DOUBLE_FROM and other.startswith(text))


def _is_junk(caption: str, camera: tuple[str, str]) -> bool:
    """Tell whether a camera or a program wrote this, not a person. camera: make and model."""
    make, model = (name.lower() for name in camera)
    if not any(c.isalpha() for c in caption) or _JUNK.fullmatch(caption):
        return True
    if make.startswith(_CODING_MAKES) and caption.isascii() and " " not in caption and not caption[0].isupper():
        return True
    return caption.lower() in {make, model, f"{make} {model}"}
