"""What a picture file says in words of itself: captions and keywords, from XMP, IPTC, EXIF and the texts of a PNG.

Left out, because they repeat the rest or say nothing: the hierarchical keywords of Lightroom and digiKam, whose leaves
stand in dc:subject too; UserComment of EXIF and comments of JPEG and PNG, where phones keep settings, generators
prompts and editors their names, while a program that lets a person write there writes to another place as well.

Names of people, of face regions and of PersonInImage, count as keywords.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from clipsearch.media.blocks import Blocks, find_blocks, png_blocks
from clipsearch.media.decode import HEAD, open_picture, picture_kind
from clipsearch.media.exif import read_content_identifier, read_words
from clipsearch.media.iptc import read_iptc
from clipsearch.media.raw import as_tiff
from clipsearch.media.xmp import read_xmp
from clipsearch.words import normalize

MAX_CAPTIONS, MAX_CAPTION = 16, 4000
"""How many captions of a picture are kept, and how many characters of each."""

MAX_KEYWORDS, MAX_KEYWORD = 100, 100
"""How many keywords of a picture are kept, and how many characters of each."""

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
    """The words of a picture file, the most trusted first, in NFC, on one line each, no two the same but for case.

    taken_at, place, rating, label: as the facts of a picture have them, for files that are not decoded again.
    identifier: of the Live Photo that it is the picture of.
    """

    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    taken_at: datetime | None = None
    place: tuple[float, float] | None = None
    identifier: str = ""
    rating: int | None = None
    label: str | None = None


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
    xmp, iptc = read_xmp(blocks.xmp or words.xmp), read_iptc(blocks.iptc or words.iptc)
    keywords = gather_keywords([*xmp.keywords, *iptc.keywords, words.keywords, *xmp.people])
    captions = [*xmp.captions, *iptc.captions, *words.captions, *blocks.texts]
    facts = blocks.facts()
    found = gather_captions(captions, keywords, words.camera)
    identifier = read_content_identifier(blocks.exif)
    return Embedded(found, keywords, facts.taken_at, facts.place, identifier, facts.rating, facts.label)


def _blocks(data: bytes) -> Blocks:
    kind = picture_kind(data[:HEAD])
    if kind == "PNG":
        return png_blocks(data)  # without opening it, which fails for one text that is too large
    if kind == "RAW":
        return Blocks(exif=as_tiff(data))
    if kind is None or kind == "TIFF":
        return Blocks(exif=data if kind else b"")
    # libheif reads the head of an AVIF as well, and does not warn of a damaged EXIF block, as Pillow does.
    return find_blocks(kind, data, open_picture("HEIF" if kind == "AVIF" else kind, data))


def _clean(text: str, most: int) -> str:
    """Return the text in NFC on one line, without control characters, cut to `most` characters."""
    text = normalize(text[: 2 * most])
    return " ".join(NO_TEXT.sub(" ", text).split())[:most].rstrip()


def gather_keywords(written: Iterable[str]) -> tuple[str, ...]:
    """Return the keywords of texts that may hold several each, clean, each once."""
    found: dict[str, str] = {}
    words = (word for several in written for word in several.split(";"))
    for word in islice(words, _MAX_TRIED):
        clean = _clean(word, MAX_KEYWORD)
        if any(c.isalnum() for c in clean):
            found.setdefault(clean.casefold(), clean)
        if len(found) == MAX_KEYWORDS:
            break
    return tuple(found.values())


def gather_captions(
    written: Iterable[str], keywords: tuple[str, ...], camera: tuple[str, str] = ("", "")
) -> tuple[str, ...]:
    """Return the captions among texts, clean, each once. camera: its make and model, which are no caption."""
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
