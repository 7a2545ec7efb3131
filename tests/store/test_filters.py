"""Filters in SQL against a plain reading of the items, over hostile names and random conditions."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import MAX_DEPTH, MAX_SIZE, Filter, from_values, to_values
from clipsearch.store.filters import KEPT_FILTERS, matching_rows
from clipsearch.store.library import Library
from clipsearch.store.records import Encoded, FileRecord, Scope
from clipsearch.types import Item, Modality, PictureInfo
from clipsearch.where import MAX_CONDITIONS
from tests.support.contents import add_root, hash_of, new_library, outcome, vectors_of

BYTES = os.fsdecode(b"caf\xe9")  # no UTF-8
FOLDERS = [
    "", "sub", "sub/deep", "sub!", "sub0", "sub-", "SUB", "100%", "100%25", "100%41", "a_b", "axb", "%", "it's", '"q"',
    "[1]", "*", "日本", "é", "e\u0301", BYTES, " ", "\\", ";--", "\U0010ffff", "new\nline",
]  # fmt: skip
CAMERAS = ["NIKON D70", "nikon d70", "it's 100%", "日本", 'a"b', ""]
TIMES = [datetime(2020, 1, 1) + timedelta(seconds=s) for s in (0, 0.000001, 0.5, 1, 86_400)]
TIMES += [datetime(1, 1, 1), datetime(999, 12, 31), datetime(9999, 12, 31, 23, 59, 59)]
SIZES = [1, 640, 641, 4000]
ROOTS = ["/photos", "/other"]


def picture(number: int) -> PictureInfo:
    """One of many combinations; some know neither time nor camera."""
    taken = None if number % 5 == 0 else TIMES[number % len(TIMES)]
    camera = None if number % 7 == 0 else CAMERAS[number % len(CAMERAS)]
    return PictureInfo(SIZES[number % 4], SIZES[number // 2 % 4], taken, camera)


def encoded(root: int, path: str, number: int) -> Encoded:
    content = f"p{number}"
    record = FileRecord(root, path, 1, 1)
    return Encoded(record, hash_of(content), Modality.IMAGE, vectors_of(content), picture(number))


def fill(library: Library) -> None:
    """Three pictures and a text in every folder of each root; a third of all is deleted, replaced or forgotten."""
    number = 0
    for name in ROOTS:
        root = add_root(library, name)
        with library.writer() as opened:
            for folder in FOLDERS:
                paths = [os.path.join(folder, f"{letter}%_.jpg") for letter in "abc"]
                batch = [encoded(root, path, number + i) for i, path in enumerate(paths)]
                text = FileRecord(root, os.path.join(folder, "t"), 1, 1)
                opened.commit([*batch, outcome(text, f"t{number}")])
                number += 3
        with library.writer() as opened:
            opened.commit([encoded(root, os.path.join(folder, "a%_.jpg"), number) for folder in FOLDERS[::4]])
            kept = [FileRecord(root, os.path.join(f, n), 1, 1) for f in FOLDERS for n in ("a%_.jpg", "c%_.jpg", "t")]
            gone = [FileRecord(root, os.path.join(f, "b%_.jpg"), 1, 1) for f in FOLDERS[::2]]
            opened.ledger.note([*kept, *gone], retry_failed=False)
            opened.ledger.find_missing([Scope(root)], [])
            opened.remove_missing()
            opened.forget(Scope(root, "it's"))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    made = new_library(tmp_path_factory.mktemp("filters") / "lib")
    fill(made)
    yield made
    made.close()


def allows(wanted: Filter, item: Item) -> bool:
    """What a filter means."""
    known = item.picture
    taken, camera = (known.taken_at, known.camera) if known else (None, None)
    below = [folder.rstrip("/") for folder in wanted.folders]
    return all(
        [
            wanted.ids is None or item.id in wanted.ids,
            not below or any(item.path == folder or item.path.startswith(folder + "/") for folder in below),
            wanted.taken_from is None or (taken is not None and taken >= wanted.taken_from),
            wanted.taken_until is None or (taken is not None and taken < wanted.taken_until),
            not wanted.cameras or any(name.lower() in (camera or "\0").lower() for name in wanted.cameras),
            wanted.min_width is None or (known is not None and known.width >= wanted.min_width),
            wanted.min_height is None or (known is not None and known.height >= wanted.min_height),
            all(allows(part, item) for part in wanted.all_of),
            not any(allows(part, item) for part in wanted.none_of),
        ]
    )


def expected(library: Library, modality: Modality, wanted: Filter) -> list[int]:
    with library.read() as snapshot:
        live = snapshot.live(modality)
        assert live is not None
        found = snapshot.matches(modality, list(range(len(live))))
    assert sorted(found) == np.flatnonzero(live).tolist()
    return sorted(row for row, match in found.items() if allows(wanted, match.item))


def matching(library: Library, modality: Modality, wanted: Filter) -> list[int]:
    with library.query() as connection:
        rows = matching_rows(connection, modality, wanted, library.base)
    assert rows.dtype == np.int64
    return rows.tolist()


def folders() -> st.SearchStrategy[str]:
    inside = st.sampled_from([*FOLDERS, "none", "sub/deep/a%_.jpg", "a%_.jpg"])
    return st.one_of(
        st.builds(lambda root, folder: f"{root}/{folder}".rstrip("/"), st.sampled_from(ROOTS), inside),
        st.sampled_from(["/", "/photos/", "/photos/sub//deep", "/photos/sub/../sub0"]),
    )


def filters() -> st.SearchStrategy[Filter]:
    def build(ids, folders, times, cameras, width, height):
        start, end = times
        if start is not None and end is not None and start >= end:
            start, end = end, (start if start > end else None)
        return Filter(ids, tuple(map(os.path.normpath, folders)), start, end, tuple(cameras), width, height)

    time = st.one_of(st.none(), st.sampled_from(TIMES), st.datetimes())
    size = st.one_of(st.none(), st.sampled_from([0, *SIZES, 4001]))
    return st.builds(
        build,
        st.one_of(st.none(), st.none(), st.frozensets(st.integers(-1, 260)), st.just(frozenset({1, 2**63, 2**70}))),
        st.one_of(st.just([]), st.lists(folders(), max_size=5)),
        st.one_of(st.just((None, None)), st.tuples(time, time)),
        st.one_of(st.just([]), st.lists(st.sampled_from([*CAMERAS[:-1], "%", "x", "D7"]), max_size=3)),
        size,
        size,
    )


@pytest.mark.slow
@given(wanted=filters(), modality=st.sampled_from(Modality))
@settings(max_examples=300)
def test_a_filter_allows_what_a_plain_reading_of_the_items_allows(library, wanted, modality):
    assert matching(library, modality, wanted) == expected(library, modality, wanted)


def test_each_condition_alone_keeps_some_and_drops_some(library):
    everything = matching(library, Modality.IMAGE, Filter())
    for wanted in [
        Filter(ids=frozenset(range(50))),
        Filter(folders=("/photos/sub",)),
        Filter(taken_from=TIMES[2]),
        Filter(taken_until=TIMES[2]),
        Filter(cameras=("it's 100%",)),
        Filter(cameras=("Nikon",)),
        Filter(min_width=641),
        Filter(min_height=641),
        ~Filter(cameras=("Nikon",)),
    ]:
        found = matching(library, Modality.IMAGE, wanted)
        assert 0 < len(found) < len(everything), wanted
        assert found == expected(library, Modality.IMAGE, wanted)


def test_no_filter_allows_every_live_row_and_no_other(library):
    for modality in Modality:
        with library.read() as snapshot:
            live = snapshot.live(modality)
            assert live is not None and 0 < np.count_nonzero(live) < len(live)
            assert snapshot.matching(modality, Filter()).tolist() == np.flatnonzero(live).tolist()


@pytest.mark.parametrize("folder", FOLDERS[1:])
def test_a_folder_is_its_own_name_and_no_pattern(library, folder):
    found = matching(library, Modality.IMAGE, Filter(folders=(f"/other/{folder}",)))
    with library.read() as snapshot:
        paths = {match.item.path for match in snapshot.matches(Modality.IMAGE, found).values()}
    assert bool(paths) == (folder != "it's")
    assert all(path.startswith(f"/other/{folder}/") for path in paths)


def test_nothing_matches_is_an_empty_array(library):
    for wanted in (Filter(ids=frozenset()), Filter(folders=("/photos/none",)), Filter(min_width=10**9)):
        assert matching(library, Modality.IMAGE, wanted) == []


@pytest.mark.slow
def test_a_hundred_thousand_ids_and_thousands_of_folders_fit_one_filter(library):
    everything = matching(library, Modality.IMAGE, Filter())
    for ids in (frozenset(range(100_000)), frozenset(np.arange(100_000))):
        assert matching(library, Modality.IMAGE, Filter(ids=ids)) == everything
    many = Filter(folders=(*(f"/photos/none{i}" for i in range(3000)), "/photos/sub"))
    assert matching(library, Modality.IMAGE, many) == expected(library, Modality.IMAGE, many) != []
    assert matching(library, Modality.IMAGE, replace(many, cameras=("x",) * 50_000)) == []


def test_a_folder_that_is_in_no_root_is_named(library):
    for folder in ("/elsewhere", "/photosphere", "/phot"):
        with pytest.raises(InvalidInputError, match=f"'{folder}' is not in any indexed folder"):
            matching(library, Modality.IMAGE, Filter(folders=("/photos", folder)))


@pytest.mark.parametrize("folder", ["a\0b", "/photos/\ud800"])
def test_a_folder_that_is_no_path_is_told(library, folder):
    with pytest.raises(InvalidInputError, match="is not a path"), library.read() as snapshot:
        snapshot.matching(Modality.IMAGE, Filter(folders=(folder,)))


def nested(depth: int) -> Filter:
    """A filter so deep, with conditions of its own at each level."""
    found = Filter(where={"a": {"ne": "x"}, "b": [1, None]}, keys=("k",), near=(1, 2, 3))
    for level in range(depth - 1):
        part = ("none_of", "none_of", "any_of", "all_of")[level % 4]
        found = Filter(where={"a": {"contains": "x"}}, **{part: (Filter(caption="word"), found)})
    return found


@pytest.mark.slow
def test_the_deepest_and_the_largest_filters_are_answered(two_folders):
    deepest = nested(MAX_DEPTH)
    assert deepest.depth == MAX_DEPTH and from_values(to_values(deepest)) == deepest
    matching(two_folders, Modality.IMAGE, deepest)
    wide = [Filter(min_width=i) for i in range(MAX_SIZE - 1)]
    for part in ("all_of", "any_of", "none_of"):
        matching(two_folders, Modality.IMAGE, Filter(**{part: wide}))
    for condition in ({"ne": 1}, {"exists": False}, {"in": ["a", None]}):
        where = {str(i): condition for i in range(MAX_CONDITIONS)}
        matching(two_folders, Modality.IMAGE, Filter(where=where))
    values: dict = {}
    for _ in range(5000):
        values = {"none_of": [values]}
    with pytest.raises(InvalidInputError, match="deep"):
        from_values(values)
    with pytest.raises(InvalidInputError, match="not as dict"):
        matching(two_folders, Modality.IMAGE, {"min_width": 1})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"folders": ("/photos", "")}, "empty"),
        ({"taken_from": TIMES[3], "taken_until": TIMES[3]}, "Swap"),
        ({"taken_from": TIMES[3], "taken_until": TIMES[2]}, "2020-01-01 00:00:01"),
        ({"taken_until": TIMES[0].replace(tzinfo=UTC)}, "zone"),
        ({"min_width": -1}, "min_width is -1"),
        ({"min_height": -5}, "min_height is -5"),
        ({"cameras": ("",)}, "empty"),
        ({"types": ("jpeg", "banana")}, "no type 'banana'"),
        ({"types": "jpeg"}, "types must be a list"),
        ({"orientation": "round"}, "no orientation 'round'"),
        ({"min_rating": 0}, "from 1 to 5 stars"),
        ({"min_rating": "4"}, "from 1 to 5 stars"),
        ({"color_labels": "Red"}, "must be a list"),
        ({"color_labels": [" "]}, "such as Red"),
        ({"near": (91, 0, 1)}, "latitude is 91"),
        ({"near": (0, -181, 1)}, "longitude is -181"),
        ({"near": (0, 0, 0)}, "radius is 0 km"),
        ({"near": (float("nan"), 0, 1)}, "latitude is nan"),
        ({"near": (1, 2)}, "a latitude, a longitude and kilometres"),
        ({"caption": "..."}, "no word"),
        ({"caption": 'a "b'}, "quote at column 3"),
        ({"caption": "\udcff"}, "must be text"),
        ({"tags": "cat"}, "tags must be a list"),
        ({"tags": (" ",)}, "A tag is one or more words, not ' '"),
        ({"tags": (3,)}, "not 3"),
        ({"none_of": ("x",)}, "combined from filters"),
        ({"ids": (float("nan"),)}, "whole number, not nan"),
        ({"folders": (5,)}, "is a str, not 5"),
        ({"types": ([],)}, r"no type \[\]"),
        ({"any_of": (Filter(),) * MAX_SIZE}, "400 filters, but not of 401"),
        ({"none_of": (nested(MAX_DEPTH),)}, "32 deep"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_when_it_is_made(wrong, message):
    with pytest.raises(InvalidInputError, match=message):
        Filter(**wrong)


# --- Real folders


@pytest.fixture
def two_folders(tmp_path):
    """A portable library of tmp_path, with one picture in each of two folders."""
    made = new_library(tmp_path / ".clipsearch")
    with made.writer() as opened:
        root = opened.add_root(made.base, str(tmp_path.resolve())).root_id
        opened.commit([encoded(root, "a/x.jpg", 1), encoded(root, "b/x.jpg", 2)])
    for name in "ab":
        (tmp_path / name).mkdir()
    yield made
    made.close()


def test_a_relative_folder_follows_the_current_folder(two_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert matching(two_folders, Modality.IMAGE, Filter(folders=(".",))) == [0, 1]
    assert matching(two_folders, Modality.IMAGE, Filter(folders=("b",))) == [1]
    with two_folders.read() as snapshot:
        for name, row in (("a", 0), ("b", 1)):
            monkeypatch.chdir(tmp_path / name)
            assert snapshot.matching(Modality.IMAGE, Filter(folders=(".",))).tolist() == [row]


def test_a_folder_is_found_through_a_link(two_folders, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "b")
    assert matching(two_folders, Modality.IMAGE, Filter(folders=(str(tmp_path / "link"),))) == [1]


def test_a_current_folder_that_is_gone_is_told(two_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "a")
    (tmp_path / "a").rmdir()
    with pytest.raises(InvalidInputError, match="current folder no longer exists"):
        matching(two_folders, Modality.IMAGE, Filter(folders=(".",)))
    assert matching(two_folders, Modality.IMAGE, Filter(folders=(str(tmp_path / "b"),))) == [1]


# --- What is kept


def count_statements(engine: Engine, run) -> int:
    seen: list[str] = []

    def note(connection, cursor, statement, *_):
        if "vectors" in statement:
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        run()
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return len(seen)


def test_the_last_filters_of_a_revision_are_kept_and_a_commit_drops_them(two_folders, tmp_path):
    wanted = [Filter(ids=frozenset({1, 2}), min_width=i) for i in range(KEPT_FILTERS + 1)]

    def ask(which: Filter) -> int:
        with two_folders.read() as snapshot:
            found: list[np.ndarray] = []
            asked = count_statements(
                two_folders._engine, lambda: found.append(snapshot.matching(Modality.IMAGE, which))
            )
        assert found[0].tolist() == matching(two_folders, Modality.IMAGE, which)
        assert not found[0].flags.writeable
        return asked

    assert [ask(each) for each in wanted[:-1]] == [1] * KEPT_FILTERS
    assert [ask(each) for each in wanted[:-1]] == [0] * KEPT_FILTERS
    assert ask(wanted[-1]) == 1
    assert ask(wanted[0]) == 1, "the one that was asked for longest ago is still kept"
    assert ask(wanted[-1]) == 0
    with two_folders.writer() as opened:
        opened.forget(Scope(1, "a"))
    assert ask(wanted[-1]) == 1
    assert ask(wanted[-1]) == 0


@pytest.mark.sqlite
def test_the_rows_are_read_from_an_index_not_from_the_texts_beside_them(library):
    plans: list[str] = []

    def explain(connection, cursor, statement, parameters, *_):
        if statement.startswith("SELECT vectors"):
            raw = connection.connection.driver_connection
            plans.append(" ".join(row[3] for row in raw.execute("EXPLAIN QUERY PLAN " + statement, parameters)))

    event.listen(library._engine, "before_cursor_execute", explain)
    for wanted in (Filter(), Filter(ids=frozenset({1})), Filter(folders=("/photos/sub",)), Filter(min_width=1)):
        matching(library, Modality.TEXT, wanted)
    event.remove(library._engine, "before_cursor_execute", explain)
    assert len(plans) == 4, "none of them looks at vectors"
    assert all("vectors USING COVERING INDEX ix_vectors_item_id" in plan for plan in plans), plans
    assert "items USING INTEGER PRIMARY KEY" in plans[1], "all items are read for one id"
