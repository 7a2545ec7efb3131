"""What reads bytes of strangers, given any; benchmarks/reliability/fuzz.py runs the same targets and corpus."""

from __future__ import annotations

import struct
import tracemalloc
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.dates import parse_period
from clipsearch.errors import InvalidInputError
from clipsearch.media.captions import read_pairs
from clipsearch.media.exif import read_exif, read_words
from clipsearch.media.image_metadata import read_embedded
from clipsearch.media.text import decode_text
from clipsearch.query.parser import QuerySyntaxError, parse
from clipsearch.words import normalize, separate
from indexer.sources import captions as beside
from indexer.sources.captions import FolderCaptions
from tests.fuzz_targets import CORPUS, TARGETS

SEEDS = [(name, path) for name in TARGETS for path in sorted((CORPUS / name).iterdir())]

# Pieces of each language, from which inputs are put together that get further than noise.
WORDS = {
    "query": 'cat|dog house|+|-| + | - |2:|.5:|id:|id:42|text:|image:|"|\\|./a.jpg|https://x/a b.png|'
    "\n|\x00|٣:|é|1e9:|0:",
    "date": "2024|-|06|/|31| |T12:30|last|this|next|summer|week|ago|days|3|May|Mai|年|月|noon|9999|"
    "0000|:|.|yesterday|in|+|٣",
    "xmp": '<x:xmpmeta xmlns:x="a">|'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">|</rdf:RDF>|<rdf:li>|'
    '<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="x">|'
    "</rdf:Description>|<dc:subject>|</rdf:li>|</dc:subject>|<dc:description>|"
    "</dc:description>|<!DOCTYPE x [|<!ENTITY a 'b'>|]>|&a;|&#0;|&#55296;|a dog|<![CDATA[|]]>",
    "captions": '\x00|\x01|\x02|image|,|caption|\t|\n|\r|"|a.jpg|{|}|[|]|:|"image"|"caption"|"a"|null|'
    "NaN|1e999|\\ud800|../|/|\ufeff",
    "facts": '{|}|"width"|"height"|:|1|,|"taken_at"|null|"captions"|"keywords"|[|]|NaN|-1|1e400|'
    '"\\ud800"|true|"camera"|"x"',
    "text": "word |. |\n|\r\n|\x00|́|̖|----|é|猫|。|\u200d|🐕|\u2028|\ufeff|\x1b[2J|=",
    "iptc": "\x1c|\x01|\x02|\x05|\x19|Z|x|\x00|\x7f|\x1b%G|dog",
    "png_text": "\x00|\x01|\x02|\x03|Title|Description|XML:com.adobe.xmp|x\x9c|dog|MM\x00*|II*\x00",
    "exif": "Exif\x00\x00|II*\x00|MM\x00*|\x08\x00\x00\x00|\x00|\x01|\x02|\x03|\x04|\x05|\x07|"
    "\x12\x01|i\x87|%\x88|\x0f\x01|2024:02:30 10:00:00|N\x00",
}


def from_words(name: str) -> st.SearchStrategy[bytes]:
    encoding = "latin-1" if name in {"exif", "iptc", "png_text"} else "utf-8"
    pieces = [word.encode(encoding) for word in WORDS[name].split("|") if word]
    return st.lists(st.sampled_from(pieces) | st.binary(max_size=3), max_size=40).map(b"".join)


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """One of the corpus, cut, and with some bytes changed."""
    data = bytearray(draw(st.sampled_from([path.read_bytes() for seed, path in SEEDS if seed == name])))
    for _ in range(draw(st.integers(0, 4))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


@pytest.mark.parametrize(("name", "path"), SEEDS, ids=[f"{name}-{path.name}" for name, path in SEEDS])
def test_the_corpus_is_survived(name, path):
    TARGETS[name](path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_survived(name):
    inputs = damaged(name) | st.binary(max_size=200)
    if name in WORDS:
        inputs |= from_words(name)

    @settings(max_examples=30)
    @given(inputs)
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


# --- what is long or deep must not take long, nor much memory: a test that fails here runs for minutes ---------------

MARKS = "a" + "\u0301\u0316" * 500_000


def test_marks_are_normalized_in_linear_time(tmp_path):
    assert len(decode_text(MARKS.encode())) >= len(MARKS)
    assert len(separate(MARKS)) >= len(MARKS) and normalize("u\u0308e\u0301") == "\xfc\xe9"
    (tmp_path / "captions.csv").write_text(f"image,caption\n{MARKS[:100_000]},{MARKS[:100_000]}\n")
    found = FolderCaptions(lambda path: str(tmp_path / path), lambda path: True)
    assert not found.of("a.jpg", frozenset({"captions.csv"})).texts and not found.unreadable


@given(st.text("ab\u0301\u0316\u0308u한\u1100\u1161", max_size=30))
def test_text_of_any_language_is_normalized_as_unicode_says(text):
    import unicodedata

    assert normalize(text) == unicodedata.normalize("NFC", text)
    assert normalize(text, "NFKC") == unicodedata.normalize("NFKC", text)


def test_runs_of_marks_are_broken_and_none_is_lost():
    assert [len(run) for run in normalize("q" + "\u0316" * 61).split("\u034f")] == [31, 30, 1]


@pytest.mark.parametrize("text", ["a + " * 20_000 + "a", "9" * 50_000, '"' + "\\" * 50_000, "a" + " " * 50_000 + '"'])
def test_a_long_query_is_read_or_refused(text):
    try:
        assert parse(text).terms
    except QuerySyntaxError:
        pass


@pytest.mark.parametrize("text", ["jan " * 5000, "1 " * 5000, "x" * 50_000, "ä" * 20_000])
def test_a_long_date_is_refused_at_once_and_briefly(text):
    with pytest.raises(InvalidInputError, match="too long") as refused:
        parse_period(text, datetime(2024, 6, 1))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("depth", [10, 500, 900, 100_000])
def test_deep_json_is_refused_briefly(tmp_path, depth):
    (tmp_path / "a.jsonl").write_text('{"image":' + "[" * depth + "]" * depth + ',"caption":"x"}')
    with pytest.raises(InvalidInputError, match="line 1") as refused:
        list(read_pairs(tmp_path / "a.jsonl"))
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


@pytest.mark.parametrize("block", [b"II*\0\x08\0\0\0\xff\xff" + b"\x0f\1\2\0\xff\xff\xff\xff\x08\0\0\0" * 60_000])
def test_exif_of_huge_counts_takes_little_memory(block):
    tracemalloc.start()
    read_exif(block), read_words(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * len(block)


def test_xmp_of_many_items_takes_memory_in_proportion():
    packet = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    packet += b'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:subject>' + b"<rdf:li>A dog</rdf:li>" * 20_000
    tiff = b"II*\0\x08\0\0\0\x01\0\xbc\x02\x01\0" + struct.pack("<III", len(packet), 26, 0) + packet
    tracemalloc.start()
    assert read_embedded(tiff).keywords == ("A dog",)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * len(packet)


def test_a_table_that_is_too_large_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "MAX_TABLE", 20)
    (tmp_path / "captions.csv").write_text("image,caption\na.jpg,a dog\n")
    found = FolderCaptions(lambda path: str(tmp_path / path), lambda path: True)
    assert found.of("a.jpg", frozenset({"captions.csv"})).stamp is None
    assert found.unreadable == [
        ("captions.csv", "its captions cannot be read: 26 bytes, over the limit of 20. Split it over folders.")
    ]


def test_an_entity_of_xmp_is_never_replaced():
    packet = (
        b'<!DOCTYPE x [<!ENTITY a "A secret dog">]><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    )
    packet += b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>&a;</dc:title></rdf:Description>'
    packet += b"</rdf:RDF>"
    tiff = b"II*\0\x08\0\0\0\x01\0\xbc\x02\x01\0" + struct.pack("<III", len(packet), 26, 0) + packet
    assert not read_embedded(tiff).captions
    plain = packet.partition(b"]>")[2].replace(b"&a;", b"A plain dog")
    tiff = b"II*\0\x08\0\0\0\x01\0\xbc\x02\x01\0" + struct.pack("<III", len(plain), 26, 0) + plain
    assert read_embedded(tiff).captions == ("A plain dog",)
