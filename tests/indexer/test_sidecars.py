"""Metadata beside pictures: found, changed and removed without the picture being encoded again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.store.library import Library
from tests.support.libraries import Counting, Place, index, photo

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


def test_a_damaged_sidecar_is_named_and_read_up_to_the_damage(described, caplog):
    whole = XMP.format("2018-01-30T20:30:48", "dog")
    (described.root / "a.xmp").write_text(whole[: whole.index("<rdf:li>")])
    described.work()
    assert described.only() == ("2018-01-30T20:30:48", 10.0, [])
    [said] = [record.getMessage() for record in caplog.records if "a.xmp" in record.getMessage()]
    assert said.endswith("a.xmp is damaged: what it says of a picture before the damage is used.")
    caplog.clear()
    (described.root / "a.xmp").write_text(whole + "\0" * 100)  # as some programs pad it
    described.work()
    assert described.only() == ("2018-01-30T20:30:48", 10.0, ["dog"]) and "a.xmp" not in caplog.text


def test_takeout_beside_a_new_picture_counts_at_once(described):
    said = {"photoTakenTime": {"timestamp": "1517344248"}, "people": [{"name": "Ann Lee"}]}
    (described.root / "a.jpg.supplemental-metadata.json").write_text(json.dumps(said))
    (described.root / "metadata.json").write_text("{}")  # of the album
    assert index(described.library, described.root, encoder=described.encoder).passed_over == {".json": 1}
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


RATED = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="{}" xmp:Label="{}"/>'
    "</rdf:RDF></x:xmpmeta>"
)


def test_a_rating_and_a_label_become_metadata_and_what_a_caller_or_a_table_says_stays(described):
    photo(described.root / "b.jpg", 2)
    (described.root / "a.xmp").write_text(RATED.format(4, "Red"))
    (described.root / "b.xmp").write_text(RATED.format(0, " "))
    described.work()

    def said() -> dict[str, dict[str, object]]:
        with SearchEngine(Library(described.library), encoder=described.encoder) as engine:
            return {Path(item.path).name: dict(item.metadata) for item in engine.find()}

    assert said() == {"a.jpg": {"rating": 4, "label": "Red"}, "b.jpg": {}}
    with SearchEngine(Library(described.library), encoder=described.encoder) as engine:
        engine.update([str(described.root / "a.jpg")], metadata={"price": 3, "label": "mine"})
    (described.root / "a.xmp").write_text(RATED.format(-1, "Red"))
    (described.root / "b.xmp").write_text(RATED.format(5, "blau"))
    described.work()
    assert said() == {"a.jpg": {"rating": -1, "label": "mine", "price": 3}, "b.jpg": {"rating": 5, "label": "blau"}}
    (described.root / "a.xmp").unlink()
    (described.root / "captions.csv").write_text("image,caption,rating\nb.jpg,a dog,2\n")
    described.work()
    assert said() == {"a.jpg": {"price": 3}, "b.jpg": {"rating": 2, "label": "blau"}}


def test_the_stars_and_color_labels_of_pictures_are_filters(described):
    for i, (stars, color) in enumerate([(1, "Red"), (3, "red"), (4, "Grün"), (5, ""), (-1, "RED")]):
        photo(described.root / f"{i}.jpg", i + 2)
        (described.root / f"{i}.xmp").write_text(RATED.format(stars, color))
    described.work()
    with SearchEngine(Library(described.library), encoder=described.encoder) as engine:

        def names(wanted: Filter) -> set[str]:
            return {Path(item.path).stem for item in engine.find(wanted)}

        assert names(Filter(min_rating=1)) == {"0", "1", "2", "3"}
        assert names(Filter(min_rating=4)) == {"2", "3"}
        assert names(~Filter(min_rating=4)) == {"0", "1", "4", "a"}
        assert names(Filter(color_labels=["red"])) == {"0", "1", "4"}
        assert names(Filter(color_labels=["GRÜN", "blue"])) == {"2"}
        assert [Path(hit.path).stem for hit in engine.search("a photo", filters=Filter(min_rating=5))] == ["3"]
