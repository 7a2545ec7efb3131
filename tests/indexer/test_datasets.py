"""Data sets in a library: what is indexed, what a second run costs, what goes and what stays."""

from __future__ import annotations

import json
from contextlib import closing

import pytest

from clipsearch.config import Settings
from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.store.forget import forget
from clipsearch.store.library import Library
from clipsearch.store.records import RootKind
from clipsearch.store.summary import summarise
from indexer.data_sets import OptionsChange
from tests.support.cli import run_cli
from tests.support.damage import sql
from tests.support.datasets import picture, samples, tar_of, write_table
from tests.support.libraries import index, photos
from tests.support.web import serving

pytestmark = pytest.mark.slow


@pytest.fixture
def library(tmp_path):
    return tmp_path / "library"


def items(library, encoder):
    with SearchEngine(Library(library), encoder=encoder) as engine:
        return {item.key: item for item in engine.find(Filter())}


def texts(folder, count, name="texts.jsonl"):
    rows = [{"id": f"t{n}", "text": f"a text about {n}", "number": n} for n in range(count)]
    return str(write_table(folder / name, rows))


def test_a_table_of_texts_is_found_and_filtered(tmp_path, library, encoder):
    report = index(library, texts(tmp_path, 20), encoder=encoder)
    assert (report.added, report.encoded, report.failed) == (20, 20, [])
    with SearchEngine(Library(library), encoder=encoder) as engine:
        hits = engine.search("a text about 7", k=3, filters=Filter(where={"number": {"lt": 10}}))
        assert hits[0].item.key == "t7"
        assert len(engine.search("a text", k=50, filters=Filter(where={"number": {"ge": 15}}))) == 5
        assert engine.get("t3").key == "t3"


def counts(report):
    names = ("added", "changed", "removed", "unchanged", "encoded", "failed_rows")
    return {name: value for name in names if (value := getattr(report, name))}


def test_rows_that_change_are_encoded_and_rows_that_go_are_removed(tmp_path, library, encoder):
    table = texts(tmp_path, 20)
    assert counts(index(library, table, encoder=encoder)) == {"added": 20, "encoded": 20}
    assert counts(index(library, table, encoder=encoder)) == {"unchanged": 20}
    rows = [{"id": f"t{n}", "text": f"a text about {n if n else 'nothing'}", "number": n} for n in range(15)]
    write_table(tmp_path / "texts.jsonl", rows)
    assert counts(index(library, encoder=encoder)) == {"changed": 1, "encoded": 1, "unchanged": 14, "removed": 5}
    assert set(items(library, encoder)) == {f"t{n}" for n in range(15)}
    assert run_cli("verify", "--library", library).code == 0


def test_shards_that_go_are_removed_but_not_when_all_are_gone(tmp_path, library, encoder):
    for number in range(3):
        (tmp_path / f"{number:03}.tar").write_bytes(tar_of(samples(2, 2 * number)))
    pattern = tmp_path / "{000..002}.tar"
    assert index(library, pattern, encoder=encoder).added == 6
    (tmp_path / "001.tar").unlink()
    assert counts(index(library, encoder=encoder)) == {"removed": 2, "unchanged": 4}
    for number in (0, 2):
        (tmp_path / f"{number:03}.tar").rename(tmp_path / f"away-{number}")
    report = index(library, encoder=encoder)
    assert report.offline == [str(pattern)] and not report.removed and len(items(library, encoder)) == 4
    for number in (0, 2):
        (tmp_path / f"away-{number}").rename(tmp_path / f"{number:03}.tar")
    assert counts(index(library, encoder=encoder)) == {"unchanged": 4}


def test_a_broken_shard_removes_nothing_and_is_read_again_when_it_changes(tmp_path, library, encoder):
    whole = tar_of(samples(6))
    path = tmp_path / "a.tar"
    path.write_bytes(whole)
    assert index(library, path, encoder=encoder).added == 6
    path.write_bytes(whole[: len(whole) // 2])
    report = index(library, path, encoder=encoder)
    assert not report.removed and "cut off" in report.failed[0][1] and len(items(library, encoder)) == 6
    assert index(library, path, encoder=encoder).failed == []
    assert index(library, path, encoder=encoder, retry_failed=True).failed
    path.write_bytes(whole)
    assert counts(index(library, path, encoder=encoder)) == {"unchanged": 6}


def test_it_stops_between_rows_and_goes_on_there(tmp_path, library, encoder):
    table = texts(tmp_path, 300)
    asked = iter(range(10_000))
    report = index(library, table, encoder=encoder, should_stop=lambda: next(asked) > 150)
    assert report.interrupted and 0 < report.added < 300
    rest = index(library, table, encoder=encoder)
    assert rest.added == 300 - report.added and not rest.unchanged
    assert len(items(library, encoder)) == 300


def test_bad_rows_are_counted_and_tried_again_on_request(tmp_path, library, encoder):
    path = tmp_path / "a.csv"
    path.write_text("path,caption\nmissing.png,a boat\n,a text\n,\n")
    report = index(library, path, encoder=encoder)
    assert counts(report) == {"added": 1, "encoded": 1, "failed_rows": 2}
    assert [name for name, _ in report.failed] == ["a.csv:2", "a.csv:0"]
    assert counts(index(library, path, encoder=encoder)) == {"unchanged": 1}
    (tmp_path / "missing.png").write_bytes(picture(1))
    found = index(library, path, encoder=encoder, retry_failed=True)
    assert counts(found) == {"added": 1, "encoded": 1, "unchanged": 1, "failed_rows": 1}


def test_pictures_with_urls_are_fetched_only_on_request(tmp_path, library, encoder):
    with serving() as web:
        rows = [
            {"url": web.url("/picture.jpg"), "caption": "a picture"},
            {"url": web.url("/missing.jpg"), "caption": "gone"},
            {"url": web.url("/picture.png"), "caption": ""},
        ]
        table = write_table(tmp_path / "urls.csv", rows)
        report = index(library, table, encoder=encoder)
        assert (report.added, report.unfetched, report.failed_rows) == (2, 3, 1) and not web.asked
        assert {item.path: str(item.modality) for item in items(library, encoder).values()} == {
            web.url("/picture.jpg"): "text",
            web.url("/missing.jpg"): "text",
        }
        settings = Settings(threads=1, offline=True, allow_private_urls=True)
        fetching = {"source": OptionsChange(fetch_urls=True), "settings": settings}
        report = index(library, table, encoder=encoder, **fetching)
        assert (report.changed, report.added, report.failed_rows, report.unfetched) == (1, 1, 1, 0)
        assert {str(item.modality) for item in items(library, encoder).values()} == {"image", "text"}
        asked = len(web.asked)
        assert index(library, encoder=encoder, settings=settings).encoded == 0 and len(web.asked) == asked
    report = index(tmp_path / "other", table, encoder=encoder, source=OptionsChange(fetch_urls=True))
    assert report.failed_rows == 3 and "public" in report.failed[0][1]


def test_several_captions_have_vectors_of_their_own(tmp_path, library, encoder):
    rows = [{"image": {"bytes": picture(1), "path": None}, "caption": ["a red boat", "a house on a hill"]}]
    index(library, write_table(tmp_path / "a.parquet", rows), encoder=encoder)
    with SearchEngine(Library(library), encoder=encoder) as engine:
        hits = engine.search("a house on a hill", k=1, modality="text")
        assert hits[0].passage.text == "a house on a hill"
        assert hits[0].item.caption == "a red boat\na house on a hill"


def test_a_folder_and_a_data_set_go_into_one_library(tmp_path, library, encoder):
    photos(tmp_path / "photos", 2)
    write_table(tmp_path / "photos" / "captions.csv", [{"path": "p000.jpg", "caption": "a harbour"}])
    table = texts(tmp_path, 3)
    report = index(library, tmp_path / "photos", table, encoder=encoder)
    assert (report.added, report.failed) == (5, [])
    assert counts(index(library, encoder=encoder)) == {"unchanged": 5}
    found = items(library, encoder)
    assert found[str(tmp_path / "photos" / "p000.jpg")].caption == "a harbour"


def test_status_counts_it_and_forget_removes_it(tmp_path, library, encoder):
    table, other = texts(tmp_path, 5), texts(tmp_path, 4, "b.csv")
    photos(tmp_path / "photos", 2)
    index(library, table, tmp_path / "photos", encoder=encoder)
    with closing(Library(library)) as opened:
        summary = summarise(opened)
        (root,) = [root for root in summary.roots if root.kind is RootKind.SOURCE]
        assert root.path == table and summary.sources[root.id].items == 5 and summary.sources[root.id].done == 1
        assert forget(opened, [table]) == 5
        assert not summarise(opened).sources
    assert b"whole shard" not in run_cli("status", "--library", library).out
    index(library, other, encoder=encoder)
    assert b"4 files of 1 whole shard" in run_cli("status", "--library", library).out
    assert len(items(library, encoder)) == 6


def test_damaged_state_is_found_and_mended(tmp_path, library, encoder):
    table = texts(tmp_path, 5)
    index(library, table, encoder=encoder)
    sql(library, "DROP TRIGGER shards_changed", "UPDATE shards SET rows = 2")
    sql(library, "DROP TRIGGER shard_items_changed", "UPDATE shard_items SET version = 0 WHERE item_id = 1")
    assert run_cli("verify", "--library", library).code != 0
    assert run_cli("repair", "--library", library).code == 0
    assert run_cli("verify", "--library", library).code == 0
    assert counts(index(library, encoder=encoder)) == {"unchanged": 5}


def test_the_command_takes_data_sets(tmp_path):
    rows = [{"photo": f"p{n}.png", "alt": f"picture {n}", "sku": n} for n in range(3)]
    (tmp_path / "images").mkdir()
    for number in range(3):
        (tmp_path / "images" / f"p{number}.png").write_bytes(picture(number))
    table = write_table(tmp_path / "a.tsv", rows)
    columns = ("--columns", "image=photo,caption=alt,id=sku", "--pictures", tmp_path / "images")
    done = run_cli("index", "--json", "--model", "builtin", "--library", tmp_path / "library", table, *columns)
    assert done.code == 0 and json.loads(done.out)["added"] == 3
    again = run_cli("index", "--json", "--library", tmp_path / "library")
    assert json.loads(again.out)["unchanged"] == 3
    refused = run_cli("index", "--library", tmp_path / "library", "https://example.com/a.csv")
    assert refused.code != 0 and "not allowed" in refused.err
    assert run_cli("index", "--library", tmp_path / "library", table, "--columns", "picture=a").code != 0
