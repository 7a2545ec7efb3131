"""The blocks of metadata in a picture file, as bytes, wherever its format keeps them; no pixel is decoded.

Layouts: PNG 1.2 section 11.3.4, the eXIf chunk, and the raw profiles of ImageMagick, which hold a block as digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from itertools import islice

from PIL import Image, PngImagePlugin

from clipsearch.media.exif import read_exif, read_words
from clipsearch.media.facts import Facts, first, merge
from clipsearch.media.iptc import read_iptc
from clipsearch.media.moments import read_moment
from clipsearch.media.xmp import read_xmp

MAX_BLOCK = 1 << 22
"""Bytes: a block of more is not read."""

_MAX_CHUNKS, _MAX_PNG_TEXTS = 100_000, 32
_PNG_TEXTS = re.compile(
    rb"(?:title|description|creation time|xml:com\.adobe\.xmp|raw profile type (?:exif|app1|iptc|xmp))\0", re.IGNORECASE
)
_RAW_PROFILE = re.compile(r"\s*+[^\n]*\n\s*+(\d+)\s+([0-9a-fA-F\s]*)")
_XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_MARKS = {"GIF": b"\x21\xff\x0bXMP DataXMP", "JPEG2000": bytes.fromhex("be7acfcb97a942e89c71999491e3afac")}
"""What stands before a packet: XMP specification, part 3, sections 1.1.2 and 1.1.4."""

_PACKET = re.compile(rb"<(?:\?xpacket|x:xmpmeta|rdf:RDF).*?</rdf:RDF>(?:\s*</x:xmpmeta>)?", re.DOTALL)
_IPTC_RESOURCE = 0x0404
_RESOURCE = re.compile(rb"8BIM\x04\x04(.)", re.DOTALL)


@dataclass(slots=True)
class Blocks:
    """The blocks of a file. texts: captions of a PNG, words of an SVG. created: the time that a PNG says in a text."""

    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    texts: tuple[str, ...] = ()
    created: str = ""

    def facts(self) -> Facts:
        """Return what the blocks say besides words."""
        words = read_words(self.exif) if not (self.xmp and self.iptc) else None
        xmp, iptc = self.xmp or (words.xmp if words else b""), self.iptc or (words.iptc if words else b"")
        found = [read_exif(self.exif), read_xmp(xmp).facts if xmp else Facts(), read_iptc(iptc).facts]
        merged = merge([*found, Facts(digitized=_created(self.created))])
        # Programs in which a person gives stars write XMP; cameras write an EXIF rating of 0 by themselves.
        return replace(merged, rating=first((found[1].rating, found[0].rating)))


def find_blocks(kind: str, data: bytes, picture: Image.Image) -> Blocks:
    """Find the blocks of a file. kind: its format. data: the whole file. picture: opened from it."""
    if kind == "TIFF":
        return Blocks(exif=data)
    if kind == "PNG":
        return png_blocks(data)
    info = picture.info
    photoshop = info.get("photoshop")
    iptc = photoshop.get(_IPTC_RESOURCE) if isinstance(photoshop, dict) else info.get("iptc")
    texts = (str(info["words"]),) if kind == "SVG" else ()
    xmp = _bytes(info.get("xmp")) or _framed_xmp(kind, data)
    return Blocks(_bytes(info.get("exif")), xmp, _bytes(iptc), texts)


def _framed_xmp(kind: str, data: bytes) -> bytes:
    """Return the packet in an application extension of GIF, or a UUID box of JPEG 2000, which Pillow passes over."""
    mark = _XMP_MARKS.get(kind)
    at = data.find(mark) if mark else -1
    packet = _PACKET.search(data, at, at + MAX_BLOCK) if at >= 0 else None
    return packet[0] if packet else b""


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) and len(value) <= MAX_BLOCK else b""


def png_blocks(data: bytes) -> Blocks:
    """Read chunks behind the pixels too, where Pillow would have to decode them first, but many programs write."""
    stream = PngImagePlugin.PngStream(BytesIO(data))
    for name, at, length in islice(_png_chunks(data), _MAX_PNG_TEXTS):
        stream.fp.seek(at)  # type: ignore[union-attr]
        with suppress(Exception):
            stream.call(name, at, length)
    info = {str(name).lower(): value for name, value in stream.im_info.items()}
    texts = tuple(text for text in (info.get("description"), info.get("title")) if isinstance(text, str))
    created = info.get("creation time")
    app1 = _raw_profile(info, "app1")
    exif = _bytes(info.get("exif")) or _raw_profile(info, "exif") or (app1 if app1.startswith(b"Exif") else b"")
    xmp = _bytes(info.get("xmp")) or _raw_profile(info, "xmp") or (app1 if app1.startswith(_XMP_HEADER) else b"")
    iptc = _iptc_of(_raw_profile(info, "iptc"))
    return Blocks(exif, xmp.removeprefix(_XMP_HEADER), iptc, texts, created if isinstance(created, str) else "")


def _raw_profile(info: Mapping[str, object], name: str) -> bytes:
    """Return the bytes of a raw profile: its name, its length in bytes, and their hexadecimal digits."""
    text = info.get(f"raw profile type {name}")
    match = _RAW_PROFILE.match(text) if isinstance(text, str) and len(text) <= 3 * MAX_BLOCK else None
    if match is None:
        return b""
    digits = "".join(match[2].split())
    length = min(int(match[1][:9]), MAX_BLOCK)
    return bytes.fromhex(digits[: len(digits) // 2 * 2])[:length]


def _iptc_of(profile: bytes) -> bytes:
    """Return the data sets of a profile, which stand in a resource of Photoshop, or alone."""
    match = _RESOURCE.search(profile[:256])
    if match is None:
        return profile
    name = 1 + match[1][0]
    at = match.end() - 1 + name + name % 2
    return profile[at + 4 : at + 4 + int.from_bytes(profile[at : at + 4], "big")]


def _created(text: str) -> datetime | None:
    """Read the time of a PNG, which should be written as in mail (RFC 1123), but often is not."""
    moment = read_moment(text)
    if moment is None and text:
        with suppress(ValueError):
            moment = parsedate_to_datetime(text).replace(tzinfo=None)
    return moment


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place and length of each chunk that may hold wanted words."""
    at = 8
    for _ in range(_MAX_CHUNKS):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += 8
        is_text = name in {b"tEXt", b"zTXt", b"iTXt"} and _PNG_TEXTS.match(data, at)
        if length <= MAX_BLOCK and (is_text or name == b"eXIf"):
            yield name, at, length
        at += length + 4
        if at >= len(data):
            return
