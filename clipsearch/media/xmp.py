"""What an XMP packet says of its picture: words, names of people, times, place, camera and orientation.

A packet is hostile: it is read with expat as events, not as a tree, up to MAX_DEPTH elements deep; a document type is
refused, and with it every entity. Layouts: XMP part 1 (ISO 16684-1) section 7, part 2 (exif, tiff, xmp, photoshop);
face regions: MWG guidelines 2.0 section 5.9, and those of Microsoft (MP).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from xml.parsers import expat

from clipsearch.media.facts import (
    NOTHING,
    Facts,
    first,
    name_camera,
    read_label,
    read_orientation,
    read_percents,
    read_place,
    read_rating,
)
from clipsearch.media.moments import read_moment

MAX_PACKET = 1 << 22
"""Bytes: a packet of more is not read."""

MAX_DEPTH = 64

_MAX_TEXTS = 4096
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns# "
_DC = "http://purl.org/dc/elements/1.1/ "
_EXIF, _TIFF = "http://ns.adobe.com/exif/1.0/ ", "http://ns.adobe.com/tiff/1.0/ "
_XMP, _PHOTOSHOP = "http://ns.adobe.com/xap/1.0/ ", "http://ns.adobe.com/photoshop/1.0/ "
_MWG, _MP = "http://www.metadataworkinggroup.com/schemas/regions/ ", "http://ns.microsoft.com/photo/1.2/ "
_ROOT, _DESCRIPTION, _ITEM = _RDF + "RDF", _RDF + "Description", _RDF + "li"
_LANGUAGE = "http://www.w3.org/XML/1998/namespace lang"

_CAPTIONS = (_DC + "description", _DC + "title", _PHOTOSHOP + "Headline")
_KEYWORDS = _DC + "subject"
_PEOPLE = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/ PersonInImage"
_ORIGINAL = (_EXIF + "DateTimeOriginal", _PHOTOSHOP + "DateCreated")
_DIGITIZED = (_EXIF + "DateTimeDigitized", _XMP + "CreateDate")
_CHANGED = (_TIFF + "DateTime", _XMP + "ModifyDate")
_LATITUDE, _LONGITUDE = _EXIF + "GPSLatitude", _EXIF + "GPSLongitude"
_MAKE, _MODEL, _ORIENTATION = _TIFF + "Make", _TIFF + "Model", _TIFF + "Orientation"
_RATING, _LABEL = _XMP + "Rating", _XMP + "Label"
_PERCENTS = ("http://ns.microsoft.com/photo/1.0/ Rating", "http://ns.microsoft.com/photo/1.0 Rating")
"""In both ways in which programs write the name of the schema."""
_WANTED = frozenset(
    {*_CAPTIONS, _KEYWORDS, _PEOPLE, *_ORIGINAL, *_DIGITIZED, *_CHANGED}
    | {_LATITUDE, _LONGITUDE, _MAKE, _MODEL, _ORIENTATION, _RATING, _LABEL, *_PERCENTS}
)
_REGIONS = frozenset({_MWG + "Regions", _MP + "RegionInfo"})
_REGION_NAMES = frozenset({_MWG + "Name", "http://ns.microsoft.com/photo/1.2/t/Region# PersonDisplayName"})
_REGION_TYPE = _MWG + "Type"
_FACES = ("", "face", "pet")

_NUMBER = re.compile(r"[+-]?\d{1,9}(\.\d{0,9})?", re.ASCII)
_ANGLE = re.compile(
    r"\s*(?P<sign>[+-]?)(?P<degrees>\d{1,3}(?:\.\d+)?)(?:,(?P<minutes>\d{1,2}(?:\.\d+)?)(?:,(?P<seconds>\d{1,2}(?:\.\d+)?))?)?"
    r"\s*(?P<side>[NSEW]?)\s*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class XmpPacket:
    """What a packet says, each list in the order in which it counts, as it stands there. is_whole: without damage."""

    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    facts: Facts = NOTHING
    is_whole: bool = True


@lru_cache(maxsize=8)  # the decoder asks for the facts of a packet, and the reader of words for its words
def read_xmp(packet: bytes) -> XmpPacket:
    """Read a packet of at most MAX_PACKET bytes; never raises. What was read before damage stands."""
    reader = _Reader()
    if packet and len(packet) <= MAX_PACKET:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
        parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = reader.characters, reader.refuse
        # Often only the padding behind the packet is broken.
        with suppress(Exception):
            parser.Parse(packet, True)
    return reader.packet()


class _Reader:
    """Handlers of a parser, which collect the wanted properties of the picture itself, not of what it is made from."""

    def __init__(self) -> None:
        self._texts: dict[str, list[tuple[bool, str]]] = {}
        self._people: list[str] = []
        self._path: list[str] = []
        self._has_ended = False
        self._property = ""
        self._language = ""
        self._written: list[str] = []
        self._in_regions = False
        self._region = ["", ""]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Take simple properties, which may be attributes, and see whether a wanted one begins."""
        path = self._path
        if len(path) >= MAX_DEPTH:
            raise ValueError("a packet that is too deep")
        if self._in_regions:
            self._start_in_regions(name, attributes)
        elif name == _DESCRIPTION and path[-1:] == [_ROOT]:
            for key in _WANTED & attributes.keys():
                self._keep(key, False, attributes[key])
        elif path[-2:] == [_ROOT, _DESCRIPTION]:
            self._in_regions = name in _REGIONS
            if name in _WANTED:
                self._property, self._written = name, []
        elif self._property and name == _ITEM:
            self._language, self._written = attributes.get(_LANGUAGE, ""), []
        path.append(name)

    def characters(self, text: str) -> None:
        """Take text of a wanted property."""
        if self._property or self._in_regions:
            self._written.append(text)

    def end(self, name: str) -> None:
        """Keep what was written in an item of a wanted property, or in it itself."""
        self._path.pop()
        self._has_ended = not self._path
        if self._in_regions:
            self._end_in_regions(name)
        elif self._property and name in (_ITEM, self._property):
            self._keep(self._property, self._language.lower() != "x-default", "".join(self._written))
            self._language, self._written = "", []
            if name == self._property:
                self._property = ""

    def refuse(self, *_: object) -> None:
        """Stop at a document type: XMP has none, and entities are declared in it."""
        raise ValueError("a document type")

    def packet(self) -> XmpPacket:
        """Return what was collected."""
        captions = [sorted(self._texts.get(name, []), key=lambda text: text[0]) for name in _CAPTIONS]
        people = [*self._all(_PEOPLE), *self._people]
        said = tuple(text for texts in captions for _, text in texts)
        return XmpPacket(said, self._all(_KEYWORDS), tuple(people), self._facts(), self._has_ended)

    def _keep(self, name: str, is_other: bool, text: str) -> None:
        texts = self._texts.setdefault(name, [])
        if len(texts) < _MAX_TEXTS:
            texts.append((is_other, text))

    def _all(self, name: str) -> tuple[str, ...]:
        return tuple(text for _, text in self._texts.get(name, []))

    def _start_in_regions(self, name: str, attributes: dict[str, str]) -> None:
        self._written = []
        if name == _ITEM:
            self._region = ["", ""]
        for key, value in attributes.items():
            self._note_region(key, value)

    def _end_in_regions(self, name: str) -> None:
        self._note_region(name, "".join(self._written))
        self._written = []
        if name == _ITEM:
            named, kind = self._region
            if kind.strip().lower() in _FACES and len(self._people) < _MAX_TEXTS:
                self._people.append(named)
            self._region = ["", ""]
        self._in_regions = name not in _REGIONS

    def _note_region(self, name: str, value: str) -> None:
        if name in _REGION_NAMES:
            self._region[0] = value
        elif name == _REGION_TYPE:
            self._region[1] = value

    def _facts(self) -> Facts:
        def one(name: str) -> str:
            return next((text.strip() for text in self._all(name) if text.strip()), "")

        orientation = one(_ORIENTATION)
        return Facts(
            read_orientation(int(orientation)) if re.fullmatch("[1-8]", orientation) else None,
            first(read_moment(one(name)) for name in _ORIGINAL),
            first(read_moment(one(name)) for name in _DIGITIZED),
            first(read_moment(one(name)) for name in _CHANGED),
            name_camera(_line(one(_MAKE)), _line(one(_MODEL))),
            read_place(_degrees(one(_LATITUDE), "NS"), _degrees(one(_LONGITUDE), "EW")),
            first((_number(one(_RATING), read_rating), *(_number(one(name), read_percents) for name in _PERCENTS))),
            read_label(one(_LABEL)),
        )


def _line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _number(text: str, read: Callable[[float], int | None]) -> int | None:
    return read(float(text)) if _NUMBER.fullmatch(text) else None


def _degrees(text: str, sides: str) -> float | None:
    """Read `18,32.7255S`, `18,32,44S` or `-18.5454`; without a side or a sign it is north, or east."""
    match = _ANGLE.fullmatch(text)
    if match is None or match["side"].upper() not in ("", *sides):
        return None
    angle = float(match["degrees"]) + float(match["minutes"] or 0) / 60 + float(match["seconds"] or 0) / 3600
    return -angle if match["sign"] == "-" or match["side"].upper() == sides[1] else angle
