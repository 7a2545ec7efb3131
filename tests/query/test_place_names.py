"""The places of pictures: named by the gazetteer when they are indexed, once each, and found by any name."""

from __future__ import annotations

import pytest
from PIL import Image

from clipsearch import Filter, SearchEngine
from clipsearch.query.terms import Filtered, Text
from clipsearch.store.library import Library
from clipsearch.store.place_names import PROGRESS_KEY, PlaceAlias, PlaceNames
from clipsearch.store.snapshot import Snapshot
from indexer import gazetteer, place_names
from tests.support.libraries import Counting, counts, index, names
from tests.support.pictures import noise_picture

pytestmark = pytest.mark.skipif(gazetteer.installed_version() is None, reason="needs the extra places")

POINTS = {
    "montmartre.jpg": (48.8867, 2.3431, ("France", "Île-de-France", "Paris")),
    "gothic.jpg": (41.3825, 2.1769, ("Spain", "Catalonia", "Barcelona")),
    "cathedral.jpg": (50.9413, 6.9583, ("Germany", "North Rhine-Westphalia", "Köln")),
    "fiji.jpg": (-16.78, -179.98, ("Fiji", None, None)),
    "atlantic.jpg": (0.0, -30.0, None),
}


def photograph(path, latitude, longitude, seed=0):
    exif = Image.Exif()
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "S" if latitude < 0 else "N", (abs(latitude), 0.0, 0.0)
    gps[3], gps[4] = "W" if longitude < 0 else "E", (abs(longitude), 0.0, 0.0)
    noise_picture(seed, (64, 48)).save(path, exif=exif)


@pytest.fixture
def home(tmp_path, encoder):
    (tmp_path / "photos").mkdir()
    for seed, (name, (latitude, longitude, _)) in enumerate(POINTS.items()):
        photograph(tmp_path / "photos" / name, latitude, longitude, seed)
    return tmp_path


def places_of(home, encoder):
    with SearchEngine(Library(home / "lib"), encoder=encoder) as engine:
        return {item.path.rpartition("/")[2]: dict(item.metadata) for item in engine.find()}


@pytest.mark.slow
def test_pictures_get_their_places_once_and_are_found_by_any_name(home, encoder, monkeypatch):
    index(home / "lib", home / "photos", encoder=encoder)
    found = places_of(home, encoder)
    for name, (_, _, place) in POINTS.items():
        if place is None:
            assert found[name] == {}, name
        elif place[1] is not None:
            assert found[name] == dict(zip(("country", "region", "city"), place, strict=True)), name
    assert found["fiji.jpg"]["country"] == "Fiji"  # beyond the date line
    with SearchEngine(Library(home / "lib"), encoder=encoder) as engine:
        for place, name in {
            "Spanien": "gothic.jpg", "西班牙": "gothic.jpg", "catalonia": "gothic.jpg", "Barcelone": "gothic.jpg",
            "巴塞罗那": "gothic.jpg", "巴塞羅那": "gothic.jpg",
            "巴黎": "montmartre.jpg", "Cologne": "cathedral.jpg", "koln": "cathedral.jpg", "科隆": "cathedral.jpg",
        }.items():  # fmt: skip
            assert [item.path.rpartition("/")[2] for item in engine.find(Filter(places=(place,)))] == [name], place
        assert names(engine.search("a wall in Barcelona", understand=True)) == ["gothic.jpg"]
    monkeypatch.setattr(gazetteer, "load", lambda: pytest.fail("a run without changes reads the gazetteer"))
    monkeypatch.setattr(place_names, "unplaced", lambda *given: pytest.fail("a run without changes looks at items"))
    assert counts(index(home / "lib", encoder=encoder)) == {"unchanged": len(POINTS)}


@pytest.mark.slow
def test_what_was_indexed_without_the_extra_gets_places_at_the_next_run(home, encoder, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(gazetteer, "installed_version", lambda: None)
        index(home / "lib", home / "photos", encoder=encoder)
    assert not any(places_of(home, encoder).values())
    counting = Counting(encoder)
    assert counts(index(home / "lib", encoder=counting)) == {"unchanged": len(POINTS)} and not counting.work
    assert places_of(home, encoder)["gothic.jpg"]["city"] == "Barcelona"


@pytest.mark.slow
def test_a_search_by_place_says_that_the_library_knows_none(home, encoder, monkeypatch):
    """And looks for places only where nothing was found."""
    said = (
        "No item of the library has a place, but 5 items have coordinates. To name where they are: "
        "pip install 'clipsearch[places]', then clipsearch index"
    )
    spain = Filter(places=("Spain",))
    with monkeypatch.context() as without:
        without.setattr(gazetteer, "installed_version", lambda: None)
        index(home / "lib", home / "photos", encoder=encoder)
    with SearchEngine(Library(home / "lib"), encoder=encoder) as engine:
        for wanted in (spain, spain & Filter(types=("image",)), spain | Filter(tags=("x",))):
            found = (
                engine.search("a wall", filters=wanted),
                engine.find(wanted),
                engine.search(image=noise_picture(0), filters=wanted),
            )
            assert [each.warnings for each in found] == [(said,)] * 3
        grouped = engine.search(Text("a wall") & Filtered(spain))
        assert not grouped and grouped.warnings == (said,)
        assert said in engine.search("July 2023", filters=spain, understand=True).warnings
        for other in (~spain, Filter(tags=("x",)), Filter(types=("text",))):
            assert not engine.find(other).warnings and not engine.search("a wall", filters=other).warnings
        monkeypatch.setattr(Snapshot, "count_items", lambda *given: pytest.fail("places are looked up"))
        assert engine.search("a wall", filters=~spain) and engine.find(~spain)
        assert not engine.search("a wall", filters=Filter(tags=("x",))).warnings
    monkeypatch.undo()
    index(home / "lib", encoder=encoder)
    with SearchEngine(Library(home / "lib"), encoder=encoder) as engine:
        assert engine.find(spain).total == 1 and not engine.find(Filter(places=("Italy",))).warnings
    noise_picture(9, (64, 48)).save(home / "plain.png")
    index(home / "other", home / "plain.png", encoder=encoder)
    with SearchEngine(Library(home / "other"), encoder=encoder) as engine:
        assert "none has coordinates" in engine.find(spain).warnings[0]


@pytest.mark.slow
def test_a_picture_that_moves_gets_another_place_and_own_values_stay(home, encoder):
    index(home / "lib", home / "photos", encoder=encoder)
    with SearchEngine(Library(home / "lib"), encoder=encoder) as engine:
        engine.update([str(home / "photos" / "cathedral.jpg")], metadata={"city": "my town", "note": "x"})
    photograph(home / "photos" / "gothic.jpg", 48.8867, 2.3431, 1)
    photograph(home / "photos" / "cathedral.jpg", 41.3825, 2.1769, 2)
    index(home / "lib", encoder=encoder)
    found = places_of(home, encoder)
    assert found["gothic.jpg"]["city"] == "Paris"
    assert found["cathedral.jpg"]["city"] == "my town" and found["cathedral.jpg"]["country"] == "Germany"


def test_a_gazetteer_that_cannot_be_read_costs_no_run(home, encoder, monkeypatch, caplog):
    def broken():
        raise OSError("no data")

    with monkeypatch.context() as without:
        without.setattr(gazetteer, "load", broken)
        assert counts(index(home / "lib", home / "photos", encoder=encoder))["added"] == len(POINTS)
        assert "Places get no names" in caplog.text
    with Library(home / "lib").query() as connection:
        assert place_names.catalog.get_setting(connection, PROGRESS_KEY) is None  # the next run tries again


def test_names_are_kept_up_to_a_bound_and_a_wrong_list_is_refused(monkeypatch):
    from clipsearch.errors import StoreCorruptError
    from clipsearch.store import place_names as stored

    monkeypatch.setattr(stored, "MAX_NAMES", 3)
    many = [PlaceAlias(f"Alias {n}", "city", "Köln", False) for n in range(9)]
    known = PlaceNames().add([*many, PlaceAlias("Köln", "city", "Köln", True)])
    assert len(known) <= 4 and known.find("KÖLN") and PlaceNames.load(known.dump()).find("köln") == known.find("köln")
    for wrong in ("", "[]", '{"places": 5}', '{"places": [], "names": {"a": [[7, 1]]}}', "[" * 5000):
        with pytest.raises(StoreCorruptError, match="wrong list of places"):
            PlaceNames.load(wrong)


def test_a_list_of_names_beyond_any_gazetteer_is_not_used(tmp_path, monkeypatch):
    from clipsearch.store import place_names as stored

    known = PlaceNames().add([PlaceAlias(f"Alias {n}", "city", "Köln", True) for n in range(4)])
    library = Library.create(tmp_path / "lib")
    with library.writer() as writer:
        writer.set_setting(stored.NAMES_KEY, known.dump())
    for bound, small in (("_MOST_BYTES", 20), ("_MOST_READ", 3)):
        with library.query() as connection, monkeypatch.context() as bounded:
            assert len(stored.get_names(connection)) == 4
            bounded.setattr(stored, bound, small)
            assert len(stored.get_names(connection)) == 0
    library.close()
