"""Paths that another program lists: what is there is indexed, what is gone leaves, what is nowhere is counted."""

import os

import pytest

from clipsearch.config import Settings
from indexer import listed_paths
from indexer.listed_paths import index_listed
from indexer.pipeline import IndexOptions, KeptEncoder
from tests.support.libraries import index, photo, photos


@pytest.fixture
def listed(tmp_path, monkeypatch, encoder):
    """Index names that are relative to a folder."""
    monkeypatch.chdir(tmp_path)

    def run(*names, **options):
        how = IndexOptions(keep=KeptEncoder(encoder), **options)
        return index_listed(tmp_path / ".clipsearch", iter(names), Settings(), how)

    return run


def found(folder):
    return sorted(os.path.relpath(entry.path, folder) for entry in _entries(folder))


def _entries(folder):
    import clipsearch

    with clipsearch.open(folder / ".clipsearch") as engine:
        return list(engine.find())


@pytest.mark.slow
def test_files_are_indexed_and_others_are_passed_over(listed, tmp_path):
    photos(tmp_path / "a", 2, size=(32, 24))
    (tmp_path / "a" / "x.py").write_text("pass")
    (tmp_path / "a" / "table.csv").write_text("image,caption\n")
    (tmp_path / "a" / "._p000.jpg").write_bytes(b"")
    report = listed("a/p000.jpg", "a/x.py", "a/table.csv", "a/._p000.jpg", "a/p000.jpg")
    assert (report.named, report.absent, report.total.added) == (5, 0, 1) and not report.total.failed
    assert report.total.passed_over == {".py": 1, ".csv": 1, ".jpg": 1} and found(tmp_path) == ["a/p000.jpg"]


def test_what_is_nowhere_is_counted_and_what_is_gone_leaves(listed, tmp_path, encoder):
    photos(tmp_path / "a", 2, size=(32, 24))
    index(tmp_path / ".clipsearch", tmp_path / "a", encoder=encoder)
    os.remove(tmp_path / "a" / "p000.jpg")
    photo(tmp_path / "a" / "new.jpg", 9, (32, 24))
    report = listed("a/p000.jpg", "a/none.jpg", "none\0.jpg", "a/new.jpg")
    assert (report.absent, report.first_absent) == (2, ["a/none.jpg", "none\0.jpg"])
    assert (report.total.added, report.total.removed) == (1, 1) and found(tmp_path) == ["a/new.jpg", "a/p001.jpg"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([".", "./a", "./a/b", "./a/b/p000.jpg"], ["./a/b/p000.jpg"]),
        (["a/b/p000.jpg", "a/b"], ["a/b/p000.jpg"]),  # as find -depth lists it
        (["a", "c/p005.jpg", "c"], ["a", "c/p005.jpg"]),
        ([".", "c/p005.jpg"], ["c/p005.jpg"]),
        (["c"], ["c"]),
        ([], []),
    ],
)
def test_a_folder_counts_unless_its_files_stand_beside_it(tmp_path, monkeypatch, names, expected):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "a" / "b", 1, size=(32, 24))
    photos(tmp_path / "c", 1, first=5, size=(32, 24))
    assert list(listed_paths._without_listed_folders(iter(names))) == expected


@pytest.mark.slow
def test_a_folder_is_taken_whole_unless_its_files_are_listed_beside_it(listed, tmp_path):
    photos(tmp_path / "a" / "b", 2, size=(32, 24))
    photos(tmp_path / "c", 1, first=5, size=(32, 24))
    listed(".", "./a", "./a/b", "./a/b/p000.jpg")
    assert found(tmp_path) == ["a/b/p000.jpg"]
    listed("a/b/p000.jpg", "a/b")  # as find -depth lists it
    assert found(tmp_path) == ["a/b/p000.jpg"]
    listed("a", "c")
    assert found(tmp_path) == ["a/b/p000.jpg", "a/b/p001.jpg", "c/p005.jpg"]


@pytest.mark.slow
def test_a_file_that_says_something_of_a_picture_brings_it(listed, tmp_path, encoder):
    photos(tmp_path / "a", 2, size=(32, 24))
    index(tmp_path / ".clipsearch", tmp_path / "a", encoder=encoder)
    (tmp_path / "a" / "p001.txt").write_text("A red bicycle.\n")
    assert listed("a/p001.txt").total.changed == 1
    assert [item.caption for item in _entries(tmp_path) if item.caption] == ["A red bicycle."]


def test_no_names_and_none_that_are_there_make_no_library(listed, tmp_path):
    assert listed().named == 0 and listed("x", "y").absent == 2
    assert not (tmp_path / ".clipsearch").exists()


@pytest.mark.slow
def test_names_come_part_by_part_and_a_few_are_kept(listed, tmp_path, monkeypatch):
    monkeypatch.setattr(listed_paths, "AT_ONCE", 3)
    photos(tmp_path / "a", 7, size=(32, 24))
    names = [f"a/p{i:03}.jpg" for i in range(7)] + [f"none{i}" for i in range(50)]
    report = listed(*names)
    assert (report.named, report.absent, len(report.first_absent)) == (57, 50, listed_paths.SHOWN_ABSENT)
    assert report.total.added == len(found(tmp_path)) == 7
    (tmp_path / "a" / "bad.jpg").write_bytes(b"no")
    (tmp_path / "a" / "worse.jpg").write_bytes(b"no")
    monkeypatch.setattr(listed_paths, "MAX_FAILED", 1)
    report = listed("a/bad.jpg", "x", "y", "a/worse.jpg")
    assert len(report.total.failed) == 1 and report.total.count_failed() == 2
