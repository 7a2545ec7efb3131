"""Metadata beside pictures: found, changed and removed without the picture being encoded again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.libraries import Counting, Place, photo

XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"'
    ' exif:DateTimeOriginal="{}" exif:GPSLatitude="10,0N" exif:GPSLongitude="20,0E"><dc:subject><rdf:Bag>'
    "<rdf:li>{}</rdf:li></rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"
)


class Described(Place):
    """A place whose pictures have metadata beside them."""

    def work(self) -> dict[str, int]:
        """Index; return the counts that are not zero, with how many pictures were encoded."""
        found = self.run()
        found.pop("worked", None)
        return found | ({"pictures": self.encoder.pictures} if self.encoder.pictures else {})

    def only(self) -> tuple[str | None, float | None, list[str]]:
        """Return time, latitude and tags of the one item."""
        with SearchEngine(Library(self.library), encoder=self.encoder) as engine:
            [item] = engine.find(limit=2)
            assert item.picture is not None
            return item.picture.taken_at and item.picture.taken_at.isoformat(), item.picture.latitude, [*item.tags]


@pytest.fixture
def described(tmp_path: Path, encoder) -> Described:
    place = Described(tmp_path, Counting(encoder))
    photo(place.root / "a.jpg", 1)
    return place


def test_a_sidecar_that_comes_changes_and_goes_is_noticed_without_encoding(described):
    described.work()
    assert described.only() == (None, None, [])
    sidecar = described.root / "a.xmp"
    for day, tag in (("2018-01-30T20:30:48", "dog"), ("2019-01-30T20:30:48", "elephant")):
        sidecar.write_text(XMP.format(day, tag))
        found = described.work()
        assert "pictures" not in found and found["changed"] == 1
        assert described.only() == (day, 10.0, [tag])
    assert described.work() == {"unchanged": 1}
    sidecar.unlink()
    assert "pictures" not in described.work()
    assert described.only() == (None, None, [])


def test_takeout_beside_a_new_picture_counts_at_once(described):
    said = {"photoTakenTime": {"timestamp": "1517344248"}, "people": [{"name": "Ann Lee"}]}
    (described.root / "a.jpg.supplemental-metadata.json").write_text(json.dumps(said))
    described.work()
    assert described.only() == ("2018-01-30T20:30:48", None, ["Ann Lee"])


def test_what_the_rules_leave_out_or_is_a_link_or_too_large_is_not_read(described):
    elsewhere = described.root.parent / "secret"
    elsewhere.write_text(XMP.format("2018-01-30T20:30:48", "dog"))
    (described.root / "a.xmp").symlink_to(elsewhere)
    described.work()
    assert described.only() == (None, None, [])
    (described.root / "a.xmp").unlink()
    (described.root / "a.xmp").write_text(XMP.format("2018-01-30T20:30:48", "dog") + " " * (1 << 20))
    described.work()
    assert described.only() == (None, None, [])


@pytest.mark.sqlite
def test_words_with_a_sharp_s_are_found_in_upper_case_and_the_other_way_round(described):
    (described.root / "a.txt").write_text("In der Schloßstraße am Fluss")
    described.work()
    with SearchEngine(Library(described.library), encoder=described.encoder) as engine:
        for words in ("SCHLOSSSTRASSE", "schloßstrasse", '"AM FLUß"', "schloßstr*"):
            assert len(engine.find(Filter(caption=words))) == 1, words
        assert len(engine.find(Filter(caption="strasse"))) == 0
