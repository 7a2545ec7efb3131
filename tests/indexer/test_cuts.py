"""Large tables cut into shards: the rows of the parts are those of the file, and no library has a row twice."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from clipsearch.encoders.base import Encoder
from clipsearch.types import Modality
from indexer import pipeline
from indexer.dataset import to_json
from indexer.embed_part import embed_part
from indexer.executors.local import LocalExecutor
from indexer.import_shards import import_shards
from indexer.report import IndexReport
from indexer.sources import cuts, table
from indexer.sources.registry import SourceOptions, open_source
from tests.support.datasets import all_rows, said, write_table
from tests.support.shards import SETTINGS, contents, plan_of

ROWS = 30


@pytest.fixture
def small_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut tables of some rows as those of millions are."""
    monkeypatch.setattr(cuts, "ROWS", 7)
    monkeypatch.setattr(table, "LEAST", 1)


def table_rows(count: int = ROWS) -> list[dict[str, object]]:
    """Rows without ids, so that each is called by its number; two have a line break inside, one is unusable."""
    rows: list[dict[str, object]] = [{"caption": f"caption {n}", "n": n} for n in range(count)]
    rows[3]["caption"] = 'two\nlines, "quoted"'
    rows[15]["caption"] = "more\n\nthan\ntwo\nlines"
    rows[20]["caption"] = ""
    return rows


def whole(path: Path) -> list[tuple[int, str, object]]:
    source = open_source(str(path))
    (shard,) = source.shards(lambda name: True)
    return said(source.read(shard))


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.parquet"])
def test_parts_have_the_rows_of_the_file_each_once(tmp_path: Path, small_cuts: None, name: str) -> None:
    path = write_table(tmp_path / name, table_rows())
    source = open_source(str(path))
    shards = list(source.shards())
    assert len(shards) > 3 and len({shard.name for shard in shards}) == len(shards)
    assert shards == list(open_source(str(path)).shards())
    expected = whole(path)
    assert len(expected) == ROWS
    assert said(all_rows(source)) == expected
    apart = [said(open_source(str(path)).read(shard)) for shard in reversed(shards)]
    assert [row for part in reversed(apart) for row in part] == expected
    strided = [said(source.read(shard)) for shard in shards[::2]]
    assert strided == list(reversed(apart))[::2]


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_part_goes_on_at_a_row(tmp_path: Path, small_cuts: None, name: str) -> None:
    path = write_table(tmp_path / name, table_rows())
    source = open_source(str(path))
    shard = list(source.shards())[1]
    found = said(source.read(shard))
    assert said(source.read(shard, found[2][0])) == found[2:]
    assert shard.stop is not None
    assert said(source.read(shard, shard.stop)) == []


def test_row_groups_stay_whole_unless_they_are_large() -> None:
    rows, size = cuts.ROWS, cuts.BYTES
    assert cuts.cut_groups([]) == [0]
    assert cuts.cut_groups([(10, 100)] * 3) == [0]
    assert cuts.cut_groups([(rows - 1, 1), (2, 1), (5, 1)]) == [0, rows - 1]
    assert cuts.cut_groups([(10, size - 1), (10, 2)]) == [0, 10]
    assert cuts.cut_groups([(2 * rows + 5, 1), (1, 1)]) == [0, rows, 2 * rows, 2 * rows + 5]


def test_lines_are_guessed_from_a_few_places() -> None:
    line = b"x" * 99 + b"\n"
    data = line * 200_000
    firsts = cuts.cut_lines(io.BytesIO(data), len(data))
    assert firsts == list(range(0, 200_000 - cuts.ROWS // 2, cuts.ROWS))
    long = b"y" * (1 << 20)
    assert cuts.cut_lines(io.BytesIO(long), len(long)) == [0]
    assert cuts.cut_lines(io.BytesIO(b""), 0) == [0]


def test_a_text_table_has_a_bounded_number_of_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "ROWS", 2)
    data = b"ab\n" * 100_000
    assert 200 < len(cuts.cut_lines(io.BytesIO(data), len(data))) <= cuts.MOST


def index(library: Path, path: Path, encoder: Encoder, executor: LocalExecutor | None = None) -> IndexReport:
    options = pipeline.IndexOptions(executor=executor)
    return pipeline.index(library, [str(path)], SETTINGS, options, encoder=encoder)


def items_of(library: Path) -> object:
    """What a library has, but for which shards its items came in."""
    found = contents(library)
    return {path: item[:-1] for path, item in found["items"].items()}


@pytest.mark.parametrize("executed", [False, True], ids=["in turn", "executor"])
def test_a_library_that_has_a_table_as_one_shard_keeps_it_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Encoder, executed: bool
) -> None:
    path = write_table(tmp_path / "t.jsonl", table_rows())
    library = tmp_path / "library"
    index(library, path, encoder)
    before = contents(library)
    assert list(before["shards"]) == [str(path)]
    monkeypatch.setattr(cuts, "ROWS", 7)
    monkeypatch.setattr(table, "LEAST", 1)
    executor = LocalExecutor(encoder) if executed else None
    report = index(library, path, encoder, executor)
    assert (report.added, report.changed, report.removed, report.encoded) == (0, 0, 0, 0)
    assert contents(library)["shards"] == before["shards"]
    write_table(path, table_rows(ROWS + 5))
    index(library, path, encoder, executor)
    fresh = tmp_path / "fresh"
    index(fresh, path, encoder)
    assert items_of(library) == items_of(fresh)


def test_a_table_that_was_read_half_as_one_shard_is_finished_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoder: Encoder
) -> None:
    path = write_table(tmp_path / "t.jsonl", table_rows())
    library, fresh = tmp_path / "library", tmp_path / "fresh"
    settings = replace(SETTINGS, batch_size=1)
    asked = iter(range(10_000))
    pipeline.index(library, [str(path)], settings, encoder=encoder, should_stop=lambda: next(asked) > 12)
    (before,) = contents(library)["shards"].values()
    assert 0 < before[0] < ROWS and not before[2]
    monkeypatch.setattr(cuts, "ROWS", 7)
    monkeypatch.setattr(table, "LEAST", 1)
    index(library, path, encoder)
    index(fresh, path, encoder)
    assert contents(library)["items"].keys() == contents(fresh)["items"].keys()
    assert contents(library)["shards"] == contents(fresh)["shards"]
    assert items_of(library) == items_of(fresh)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_parts_that_are_embedded_apart_make_the_library_of_a_local_run(
    tmp_path: Path, small_cuts: None, encoder: Encoder, name: str
) -> None:
    path = write_table(tmp_path / name, table_rows())
    local, merged, out = tmp_path / "local", tmp_path / "merged", tmp_path / "out"
    index(local, path, encoder)
    plan = plan_of(str(path), encoder, parts=3)
    for number in (3, 1, 2):
        report = embed_part(out, open_source(str(path)), plan, number, SETTINGS, encoder=encoder)
        assert report.shards and not report.unreadable
    done = import_shards(merged, out, SETTINGS)
    assert done.imported == len(plan.shards) > 3
    one, other = contents(local), contents(merged)
    assert one["items"] == other["items"]
    assert one["shards"] == other["shards"]
    assert to_json(SourceOptions()) == to_json(plan.options)
    again = index(merged, path, encoder)
    assert (again.unchanged, again.encoded) == (ROWS - 1, 0)
    assert {Modality(each[1]) for each in one["items"].values()} == {Modality.TEXT}
