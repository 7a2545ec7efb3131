"""Items of an engine: by key, by filter and page by page; deleted, and changed in what is said of them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import clipsearch
from clipsearch import Filter, InvalidInputError, Record, SearchEngine
from clipsearch.store import metadata_index
from clipsearch.store.library import Library
from tests.support.libraries import index, photos
from tests.support.pictures import noise_picture


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    """Four pictures, a text, and five records in a library beside them."""
    made = tmp_path_factory.mktemp("items")
    photos(made / "photos", 4)
    (made / "photos" / "notes.txt").write_text("the tide tables of the harbour")
    index(made / "lib", made / "photos", encoder=encoder)
    records = [
        Record(f"sku-{n}", image=noise_picture(100 + n), metadata={"price": 10 * n, "tags": ["all", f"t{n}"]})
        for n in range(4)
    ]
    records.append(Record("text-1", text="a lighthouse above the cliffs", caption="old caption", metadata={"x": 1}))
    with SearchEngine(Library(made / "lib"), encoder=encoder) as opened:
        assert not opened.add(records).failed
    return made


@pytest.fixture
def engine(tmp_path, home, encoder):
    shutil.copytree(home / "lib", tmp_path / "lib")
    with SearchEngine(Library(tmp_path / "lib"), encoder=encoder) as opened:
        yield opened


def keys(items: object) -> list[str]:
    return [item.key for item in items]


def test_items_are_found_by_key(engine, home):
    path = str(home / "photos" / "p001.jpg")
    found = engine.get(["sku-2", "nope", path, "text-1"])
    assert [item and item.key for item in found] == ["sku-2", None, path, "text-1"]
    assert found[0].metadata == {"price": 20, "tags": ["all", "t2"]} and found[0].path == "record:sku-2"
    assert found[2].path == path and found[2].metadata == {} and found[2].text is None
    assert found[3].text == "a lighthouse above the cliffs" and found[3].caption == "old caption"
    assert engine.get("nope") is None and engine.get([]) == []
    for wrong in ("", ["a", 1], 5):
        with pytest.raises(InvalidInputError, match="named by its key"):
            engine.get(wrong)


def test_hits_carry_key_text_and_metadata(engine):
    [hit] = engine.search("lighthouse", k=1, modality="text")
    assert (hit.item.key, hit.item.metadata, hit.item.text) == ("text-1", {"x": 1}, "a lighthouse above the cliffs")
    assert keys(engine.find(Filter(keys=("text-1",)))) == ["text-1"]


def test_a_filter_on_metadata_still_fills_k(engine):
    found = engine.search("noise", k=3, filters=Filter(where={"price": {"lt": 30}}))
    assert sorted(hit.item.key for hit in found) == ["sku-0", "sku-1", "sku-2"]
    assert [h.rank for h in found] == [1, 2, 3]


def test_filters_by_key_and_metadata_combine(engine, home):
    path = str(home / "photos" / "p000.jpg")
    by_key = Filter(keys=("sku-1", path, "nope"))
    assert engine.count(by_key) == 2 and engine.count() == 10
    assert keys(engine.items(by_key & Filter(where={"price": 10}))) == ["sku-1"]
    assert keys(engine.items(by_key | Filter(where={"tags": "t3"}))) == [path, "sku-1", "sku-3"]
    assert engine.count(~Filter(where={"price": {"exists": True}})) == 6


def test_pages_neither_repeat_nor_leave_out_what_was_there_all_along(engine):
    before = keys(engine.items())
    first = engine.page(limit=3)
    assert keys(first) == before[:3]
    engine.delete(before[1])
    engine.delete(before[4])
    engine.add([Record("new", text="something new")])
    second = engine.page(cursor=first.cursor, limit=3)
    assert keys(second) == [before[3], before[5], before[6]]
    third = engine.page(cursor=second.cursor, limit=100)
    assert keys(third) == [*before[7:], "new"] and third.cursor is None
    assert keys(engine.page(Filter(where={"price": {"ge": 0}}), limit=2)) == ["sku-0", "sku-1"]
    for cursor in ("", "x", "YWZ0ZXI6", "💥", 5, second.cursor + "x"):
        with pytest.raises(InvalidInputError, match="is not a cursor"):
            engine.page(cursor=cursor)
    with pytest.raises(InvalidInputError, match="limit must be a whole number"):
        engine.page(limit=0)


def test_iteration_passes_over_what_is_deleted_meanwhile(engine):
    items = engine.items(batch=2)
    first = next(items)
    engine.delete(["sku-3", first.key])
    rest = keys(items)
    assert len(rest) == 8 and "sku-3" not in rest


def test_delete_erases_records_and_hides_files(engine, home):
    path = str(home / "photos" / "p002.jpg")
    engine.update(path, metadata={"kept": "yes"})
    assert engine.delete(["sku-0", path, "nope"]) == 2
    assert engine.delete(["sku-0", path]) == 0
    assert engine.get([path, "sku-0"]) == [None, None]
    assert engine.delete(filters=Filter(where={"price": {"gt": 15}})) == 2
    engine.index()
    assert engine.get(path).metadata == {"kept": "yes"}, "a file that is still there comes back as it was"
    assert engine.delete(filters=Filter()) == 7 and engine.count() == 0
    for arguments in ({}, {"ids": ["a"], "filters": Filter()}):
        with pytest.raises(InvalidInputError, match="ids or filters"):
            engine.delete(**arguments)


def test_update_merges_metadata_by_name(engine):
    assert engine.update(["sku-1", "sku-2"], metadata={"sold": True, "price": 5.5}, remove="tags") == 2
    assert engine.get("sku-1").metadata == engine.get("sku-2").metadata == {"price": 5.5, "sold": True}
    assert engine.update("sku-1", remove=["sold", "price", "nope"]) == 1 and engine.get("sku-1").metadata == {}
    with pytest.raises(InvalidInputError, match="There is no item 'nope'"):
        engine.update(["sku-2", "nope"], metadata={"price": 1})
    with pytest.raises(InvalidInputError, match="a value of metadata"):
        engine.update("sku-2", metadata={"price": 1, "bad": {}})
    assert engine.get("sku-2").metadata["price"] == 5.5


def test_update_encodes_a_new_caption_and_nothing_else(engine, home):
    path = str(home / "photos" / "p003.jpg")
    before = engine.vectors([path, "sku-1"])
    engine.update([path, "sku-1", "text-1"], caption="a submarine in the fog")
    np.testing.assert_array_equal(engine.vectors([path, "sku-1"]), before)
    found = engine.search("a submarine in the fog", k=3, modality="text")
    assert {hit.item.key for hit in found} == {path, "sku-1", "text-1"} and found[0].score > 0.95
    assert engine.get("text-1").caption == "a submarine in the fog"
    assert engine.search("lighthouse above the cliffs", k=1, modality="text")[0].passage.text.startswith("a lighthouse")
    assert keys(engine.find(Filter(caption="submarine"))) and not engine.find(Filter(caption="old"))
    engine.update([path, "sku-1", "text-1"], caption="")
    assert not engine.find(Filter(caption="submarine")) and engine.get(path).caption is None
    assert engine.search("a submarine in the fog", k=9, modality="text")[0].score < 0.95
    assert len(engine.find(Filter(caption="lighthouse"))) == 1
    with pytest.raises(InvalidInputError, match="is a text, which has no caption"):
        engine.update(str(home / "photos" / "notes.txt"), caption="x")


def test_a_record_as_it_was_is_unchanged_and_an_updated_one_is_replaced(engine):
    same = Record("text-1", text="a lighthouse above the cliffs", caption="old caption", metadata={"x": 1})
    assert engine.add([same]).unchanged == 1
    engine.update("text-1", metadata={"x": 2})
    assert engine.add([same]).replaced == 1 and engine.get("text-1").metadata == {"x": 1}


def test_vectors_are_unit_rows_in_order(engine, home):
    path = str(home / "photos" / "notes.txt")
    rows = engine.vectors(["sku-1", path, "sku-1"])
    assert rows.dtype == np.float32 and rows.shape[0] == 3
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(rows[0], rows[2])
    [hit] = engine.search(vector=rows[0], k=1, modality="image")
    assert hit.item.key == "sku-1" and hit.score > 0.999
    assert engine.vectors([]).shape == (0, rows.shape[1])
    for wanted, modality, message in (("nope", None, "There is no item"), ("sku-1", "text", "has no vector"),
                                      (path, "image", "has no vector"), ("sku-1", "sound", "no modality")):  # fmt: skip
        with pytest.raises(InvalidInputError, match=message):
            engine.vectors(wanted, modality=modality)


def test_an_index_is_declared_when_a_library_is_opened_and_follows_every_change(home, tmp_path):
    shutil.copytree(home / "lib", tmp_path / "lib")
    with clipsearch.open(tmp_path / "lib", index_metadata=("price", "tags")) as engine:
        cheap = Filter(where={"price": {"lt": 15}, "tags": "all"})
        assert keys(engine.items(cheap)) == ["sku-0", "sku-1"]
        engine.update("sku-3", metadata={"price": 1.5})
        engine.delete("sku-0")
        assert keys(engine.items(cheap)) == ["sku-1", "sku-3"]
        with engine.library.query() as connection:
            assert [*metadata_index.declared(connection)] == ["price", "tags"]
            assert not metadata_index.differs(connection)
        with pytest.raises(InvalidInputError, match="name of metadata"):
            engine.index_metadata([""])


def test_a_record_and_a_file_of_one_key_are_deleted_one_by_one(engine, home):
    path = str(home / "photos" / "p001.jpg")
    file = engine.get(path)
    assert engine.add([Record(path, text="a record with the name of a file", metadata={"x": 2})]).added == 1
    record = engine.get(path)
    assert record.id != file.id and record.metadata == {"x": 2}
    assert engine.update(path, metadata={"x": 3}) == 1 and engine.get(path).metadata == {"x": 3}
    assert engine.delete(path) == 1
    assert engine.get(path) == file, "the file is still there"
    assert engine.add([Record(path, text="a record with the name of a file")]).added == 1
    assert engine.delete(filters=Filter(ids=(file.id,))) == 1
    assert engine.get(path).text == "a record with the name of a file", "the record is still there"
    assert engine.delete([path, path]) == 1 and engine.get(path) is None and engine.delete(path) == 0
