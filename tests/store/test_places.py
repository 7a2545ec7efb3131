"""Places: boxes and clusters, against what a plain reading of the items says, and coordinates that are none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clipsearch
from clipsearch.cli.find import find as find_command
from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter, from_values, to_values
from clipsearch.present import item_payload, to_json
from clipsearch.types import Places
from tests.support.catalogs import raw_catalog

ODD = ["9e999", "-9e999", "'48.1'", "x'00'", "NULL", "91", "-1e300"]
COUNT = 12


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("places") / "lib"
    with clipsearch.open(folder, create=True, model="m", dim=4) as opened:
        opened.add({"id": f"r{i}", "vector": [1.0, i, 0, 0]} for i in range(COUNT))
        place(opened, [])
        yield opened


def place(engine, places):
    """Give the items coordinates, in order of id; numbers as they are, or SQL."""
    with raw_catalog(engine.library.folder) as db:
        db.execute("UPDATE items SET latitude = NULL, longitude = NULL, width = 1, height = 1")
        for number, (latitude, longitude) in enumerate(places, 1):
            for name, value in (("latitude", latitude), ("longitude", longitude)):
                sql, given = (value, ()) if isinstance(value, str) else ("?", (value,))  # SQLite rounds those in SQL
                db.execute(f"UPDATE items SET {name} = {sql} WHERE id = {number}", given)
        db.execute("UPDATE items SET digest = NULL")
        revision = int(db.execute("SELECT value FROM settings WHERE key = 'revision'").fetchone()[0])
        db.execute("UPDATE settings SET value = ?, digest = NULL WHERE key = 'revision'", (str(revision + 1),))


LATITUDES = st.one_of(st.floats(-90, 90), st.integers(-90, 90), st.sampled_from([-90.0, 90.0, 0.0]))
LONGITUDES = st.one_of(st.floats(-180, 180), st.integers(-180, 180), st.floats(178, 180), st.floats(-180, -178))
PLACES = st.lists(st.tuples(LATITUDES, LONGITUDES), max_size=COUNT)


def is_in(box, latitude, longitude):
    south, west, north, east = box
    across = west <= longitude <= east if west <= east else longitude >= west or longitude <= east
    return south <= latitude <= north and across


@settings(max_examples=60, deadline=None)
@given(places=PLACES, corners=st.tuples(LATITUDES, LONGITUDES, LATITUDES, LONGITUDES), cells=st.integers(1, 128))
def test_boxes_and_clusters_are_those_of_a_plain_reading(engine, places, corners, cells):
    place(engine, places)
    south, west, north, east = corners
    box = (min(south, north), west, max(south, north), east)
    wanted = Filter(box=box)
    inside = [(number, at) for number, at in enumerate(places, 1) if is_in(box, *at)]
    assert sorted(item.id for item in engine.items(from_values(to_values(wanted)))) == [number for number, _ in inside]
    check(engine.places(cells=cells), list(enumerate(places, 1)), cells, None)
    check(engine.places(wanted, cells=cells), inside, cells, box)


def check(found, expected, cells, box):
    assert found.total == len(expected) == sum(each.count for each in found.clusters)
    if not expected:
        assert found == Places(0)
        return
    assert all(is_in(found.bounds, *at) for _, at in expected)
    assert [each.count for each in found.clusters] == sorted((each.count for each in found.clusters), reverse=True)
    assert {each.id for each in found.clusters} <= {number for number, _ in expected}
    for each in found.clusters:
        assert abs(each.latitude) <= 90 and abs(each.longitude) <= 180
    south, west, north, east = box or found.bounds
    spread = max(north - south, (east - west) % 360 if west > east else east - west, 1e-5)
    size = max(spread / cells * 2, 1e-4)  # a cell is at most this wide: a power of two, and so up to twice a share
    own = {number: at for number, at in expected}
    for each in found.clusters:
        latitude, longitude = own[each.id]
        assert abs(each.latitude - latitude) <= size + 1e-9
        assert min(abs(each.longitude - longitude), 360 - abs(each.longitude - longitude)) <= size + 1e-9
    assert len(found.clusters) <= (cells + 1) ** 2 + 1


def test_pictures_on_both_sides_of_the_date_line_are_near_each_other(engine):
    place(engine, [(-17, 179.9), (-17.2, -179.9), (-17.1, 180), (-17.1, -180)])
    found = engine.places(cells=1)
    assert found.bounds == (-17.2, 179.9, -17, -179.9)
    assert sum(each.count for each in found.clusters) == 4 and len(found.clusters) <= 4
    assert all(abs(each.longitude) >= 179.8 for each in found.clusters)
    assert engine.count(Filter(box=found.bounds)) == 4
    place(engine, [(48.1, 11.5)] * 3)
    [one] = engine.places().clusters
    assert (one.count, one.id) == (3, 3) and math.isclose(one.latitude, 48.1) and math.isclose(one.longitude, 11.5)


@pytest.mark.sqlite
def test_coordinates_that_are_none_are_no_place_and_are_not_shown(engine):
    place(engine, [*((value, "1.5") for value in ODD), ("2.5", "9e999"), ("2.5", "'x'"), ("2.5", "181"), ("3", "4")])
    found = engine.places(cells=128)
    assert (found.total, found.bounds) == (2, (3.0, 1.5, 48.1, 4.0)), "a text that is a number becomes one"
    assert engine.count(Filter(box=(-90, -180, 90, 180))) == 2
    shown = [item_payload(item) for item in engine.items()]
    assert to_json(shown)
    assert (
        sum(each["latitude"] is not None for each in shown) == 2 == sum(each["longitude"] is not None for each in shown)
    )


@pytest.mark.parametrize(
    "box",
    [(), (1, 2, 3), "abcd", 3, (91, 0, 92, 0), (0, 181, 1, 0), (1, 0, 0, 0), (math.nan, 0, 1, 1), (0, 0, math.inf, 1)],
)
def test_what_is_no_box_is_refused(box):
    with pytest.raises(InvalidInputError, match=r"box|south|west|north|east"):
        Filter(box=box)


@pytest.mark.parametrize("cells", [0, -1, 129, 1.5, True, None])
def test_a_grid_has_bounds(engine, cells):
    with pytest.raises(InvalidInputError, match="number of cells"):
        engine.places(cells=cells)


def test_the_command_line_takes_a_box(engine, capsysbinary):
    place(engine, [(48.1, 11.5), (40.7, -74.0), (-17, 179.5)])

    def found(box, *more):
        command = ["--library", str(engine.library.folder), "--paths", *more, "--box", box]
        find_command.main(command, standalone_mode=False)
        return sorted(capsysbinary.readouterr().out.split())

    assert found("40,-10,60,20") == [b"record:r0"]
    assert found("-90,170,90,-60") == [b"record:r1", b"record:r2"]
    assert b"record:r0" not in found("40,-10,60,20", "--not")
    for wrong in ("1,2,3", "a,2,3,4", "2,0,1,0"):
        with pytest.raises(InvalidInputError, match="about --box"):
            found(wrong)
