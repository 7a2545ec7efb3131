"""What reads bytes of strangers, each as a function of bytes that asserts what must hold; for hypothesis and atheris.

A target raises nothing but AssertionError, and that only for a fault: errors of the project are how it says no.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Callable
from datetime import datetime
from functools import cache
from pathlib import Path

from clipsearch.dates import parse_period
from clipsearch.errors import InvalidInputError, PictureError, TextError
from clipsearch.media.captions import read_pairs
from clipsearch.media.decode import decode_picture
from clipsearch.media.exif import MAX_CAMERA, read_exif, read_words
from clipsearch.media.image_metadata import (
    MAX_CAPTION,
    MAX_CAPTIONS,
    MAX_KEYWORD,
    MAX_KEYWORDS,
    NO_TEXT,
    Embedded,
    read_embedded,
)
from clipsearch.media.text import decode_text, split_passages
from clipsearch.query.parser import QuerySyntaxError, parse, parse_arguments
from indexer.isolation_protocol import BadAnswerError, read_facts
from indexer.sources.captions import TABLES, FolderCaptions
from tests.support.pictures import png_file

CORPUS = Path(__file__).parent / "corpus"
NOW = datetime(2024, 6, 15, 12)
MAX_PIXELS = 1 << 18


def query(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for read, written in ((parse, text), (parse_arguments, text.split("\n"))):
        try:
            found = read(written)
        except QuerySyntaxError:
            continue
        assert parse(str(found)) == found


def exif(data: bytes) -> None:
    facts = read_exif(data)
    assert 1 <= facts.orientation <= 8
    assert facts.taken_at is None or (facts.taken_at.year >= 1800 and facts.taken_at.tzinfo is None)
    assert facts.camera is None or (facts.camera.isprintable() and len(facts.camera) <= MAX_CAMERA)
    assert (facts.latitude is None) == (facts.longitude is None)
    if facts.latitude is not None and facts.longitude is not None:
        assert abs(facts.latitude) <= 90 and abs(facts.longitude) <= 180
    words = read_words(data)
    assert all(isinstance(text, str) for text in (*words.camera, *words.captions, words.keywords))


def _check_words(found: Embedded) -> None:
    assert len(found.captions) <= MAX_CAPTIONS and len(found.keywords) <= MAX_KEYWORDS
    assert all(0 < len(text) <= MAX_CAPTION and not NO_TEXT.search(text) for text in found.captions)
    assert all(0 < len(text) <= MAX_KEYWORD and not NO_TEXT.search(text) for text in found.keywords)
    for text in (*found.captions, *found.keywords):
        text.encode()


def _tiff(tag: int, value: bytes) -> bytes:
    return b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", tag, 1, len(value), 26) + bytes(4) + value


def xmp(data: bytes) -> None:
    _check_words(read_embedded(_tiff(0x02BC, data + bytes(5))))


def iptc(data: bytes) -> None:
    _check_words(read_embedded(_tiff(0x83BB, data + bytes(5))))


def png_text(data: bytes) -> None:
    """A PNG whose chunk of text is fuzzed; the first byte says of which kind."""
    kind = (b"tEXt", b"zTXt", b"iTXt", b"eXIf")[(data[:1] or b"\0")[0] % 4]
    _check_words(read_embedded(png_file((1, 1), 8, 0, b"\0\0", [(kind, data[1:])])))


def picture(data: bytes) -> None:
    """A whole file."""
    _check_words(read_embedded(data))
    try:
        found, info = decode_picture(data, min_side=64, max_pixels=MAX_PIXELS)
    except PictureError as error:
        assert 0 < len(str(error)) < 500
        return
    assert found.mode == "RGB" and 0 < found.width * found.height <= MAX_PIXELS
    assert 0 < info.width * info.height <= 4 * MAX_PIXELS


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="clipsearch-fuzz-"))


def captions(data: bytes) -> None:
    """A table; the first byte says of which kind."""
    kind = (data[:1] or b"\0")[0]
    path = _scratch() / ("any.tsv" if kind % 3 == 2 else TABLES[kind % 3])
    path.write_bytes(data[1:])
    try:
        for pair in read_pairs(path):
            assert pair.image and pair.caption and pair.line >= 1
    except InvalidInputError as error:
        assert path.name in str(error) and len(str(error)) < 2000
    try:
        for pair in read_pairs(path, lambda line, reason: None):
            assert pair.image and pair.line >= 1
    except InvalidInputError as error:
        assert path.name in str(error)
    beside = FolderCaptions(lambda below: os.path.join(path.parent, below), lambda below: True)
    source = beside.of("a.jpg", frozenset({path.name}))
    assert all(text for text in source.texts)
    path.unlink()


def text(data: bytes) -> None:
    try:
        found = decode_text(data)
    except TextError:
        return
    assert "\r" not in found and "\0" not in found and not found.isspace()
    passages = split_passages(found, count=lambda words: len(words.encode("utf-8", "replace")) + 2, limit=64)
    assert all(p.text.strip() and 1 <= p.line <= p.end_line <= found.count("\n") + 1 for p in passages)


def date(data: bytes) -> None:
    try:
        period = parse_period(data.decode("utf-8", "replace"), NOW)
    except InvalidInputError as error:
        assert len(str(error)) < 500
        return
    assert period.start < period.end and period.start.tzinfo is None and period.end.tzinfo is None


def facts(data: bytes) -> None:
    try:
        info, words = read_facts(data, MAX_PIXELS)
    except BadAnswerError:
        return
    assert all(len(each) <= MAX_CAPTION and not NO_TEXT.search(each) for each in words.captions)
    assert info is None or (info.width > 0 and info.height > 0 and info.width * info.height <= 4 * MAX_PIXELS)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each for each in (query, exif, xmp, iptc, png_text, picture, captions, text, date, facts)
}
