"""The approximate index as a user meets it: through the installed command, on real pictures."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.cli import run_cli
from tests.support.libraries import photos

COUNT = 300


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, encoder):
    """A folder with photos/ and a library of them, with an IVF-PQ index."""
    folder = tmp_path_factory.mktemp("ivfpq")
    photos(folder / "photos", COUNT, size=(32, 24))
    (folder / ".clipsearch").mkdir()
    ran = run_cli("index", "photos", "--model", "builtin-small", "--threads", 1, "--json", cwd=folder)
    assert (ran.code, ran.json["added"]) == (0, COUNT), ran
    ran = run_cli("build", "--index", "ivfpq", cwd=folder)
    assert ran.code == 0, ran
    assert f"image: ivfpq, {COUNT} vectors\n" in ran.err
    assert "queries by words: recall" in ran.err and "generic queries" in ran.err
    return folder


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy that a test may change; paths in it are relative, so that it can be moved."""
    shutil.copytree(prepared, tmp_path / "copy")
    return tmp_path / "copy"


def status(folder: Path) -> Any:
    ran = run_cli("status", "--json", cwd=folder)
    assert ran.code == 0, ran
    return ran.json["modalities"]["image"]


def query(folder: Path, number: int, k: int) -> tuple[list[Any], str]:
    """The hits that one of the pictures gets, and what was said on stderr."""
    ran = run_cli("query", "--image", f"photos/p{number:03d}.jpg", "-k", k, "--json", cwd=folder)
    assert ran.code == 0, ran
    return ran.json["hits"], ran.err


def names(hits: list[Any]) -> list[str]:
    return [Path(hit["path"]).name for hit in hits]


def index_files(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / ".clipsearch" / "ann").rglob("*") if path.is_file())


@pytest.mark.slow
def test_status_names_the_index_and_what_it_holds(prepared):
    found = status(prepared)
    assert (found["index"]["kind"], found["index"]["watermark"]) == ("ivfpq", COUNT)
    assert (found["files"], found["vectors"]) == (COUNT, COUNT)
    assert index_files(prepared)


@pytest.mark.slow
def test_a_picture_is_its_own_first_answer(prepared):
    hits, said = query(prepared, 123, 10)
    assert "index" not in said
    assert len(hits) == 10
    assert names(hits)[0] == "p123.jpg"
    assert hits[0]["score"] >= 0.999
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_a_large_k_returns_every_picture_once(prepared):
    hits, _ = query(prepared, 5, 1000)
    assert sorted(names(hits)) == [f"p{number:03d}.jpg" for number in range(COUNT)]


@pytest.mark.slow
def test_deleted_pictures_are_never_returned_and_the_others_all_are(folder):
    gone = {f"p{number:03d}.jpg" for number in range(10, 200, 10)}
    for name in gone:
        (folder / "photos" / name).unlink()
    photos(folder / "photos", 5, first=COUNT, size=(32, 24))
    ran = run_cli("index", "--json", cwd=folder)
    assert (ran.code, ran.json["removed"], ran.json["added"]) == (0, len(gone), 5), ran
    found = status(folder)
    assert (found["index"]["kind"], found["index"]["watermark"]) == ("ivfpq", COUNT), "it was not due to be rebuilt"
    hits, _ = query(folder, 301, 20)
    assert len(hits) == 20
    assert names(hits)[0] == "p301.jpg", "what came after the index was built must be found too"
    assert not gone & set(names(hits))
    hits, _ = query(folder, 0, 1000)
    live = {f"p{number:03d}.jpg" for number in range(COUNT + 5)} - gone
    assert not gone & set(names(hits))
    assert len(names(hits)) == len(set(names(hits))), "a picture is returned twice"
    assert set(names(hits)) == live


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["a bit", "lost"])
def test_a_damaged_index_is_told_and_searched_around_and_the_next_run_mends_it(folder, damage):
    whole = index_files(folder)
    victim = max(whole, key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    if damage == "a bit":
        data[len(data) // 2] ^= 1
        victim.write_bytes(data)
    else:
        victim.unlink()
    hits, said = query(folder, 42, 5)
    assert "approximate index cannot be used" in said
    assert hits[0]["score"] >= 0.999
    assert names(hits)[0] == "p042.jpg"
    ran = run_cli("index", cwd=folder)
    assert ran.code == 0, ran
    assert "built again" in ran.err
    assert not set(index_files(folder)) & set(whole)
    found = status(folder)
    assert (found["index"]["kind"], found["index"]["watermark"]) == ("ivfpq", COUNT)
    hits, said = query(folder, 42, 5)
    assert "index" not in said
    assert names(hits)[0] == "p042.jpg"
