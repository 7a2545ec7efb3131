"""Data sets that are made to do harm: memory and time are bounded, and what is wrong costs the row that it is in."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clipsearch.errors import InvalidInputError
from clipsearch.media.caption_lines import MAX_LINE
from indexer.sources import remote, webdataset
from indexer.sources.base import BadRow, BrokenShardError
from indexer.sources.registry import open_source
from tests.support.datasets import all_rows, picture, write_table, zip_of

MIB = 1 << 20


@contextmanager
def bounded(most: int) -> Iterator[None]:
    """Assert that at most so many bytes are held at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def reasons(address: str | Path) -> dict[int, str]:
    """Read all; return why rows cannot be used, "" of those that can, by number."""
    rows = all_rows(open_source(str(address)))
    return {row.number: row.content.reason if isinstance(row.content, BadRow) else "" for row in rows}


def test_a_line_without_end_costs_a_row(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "first"}\n{"text": "')
        file.truncate(file.tell() + 128 * MIB)
        file.seek(0, os.SEEK_END)
        file.write(b'"}\n{"text": "last"}\n')
    with bounded(16 * MIB):
        found = reasons(path)
    assert found.keys() == {0, 1, 2} and not found[0] and not found[2]
    assert found[1] == f"longer than {MAX_LINE:,} characters"


@pytest.mark.parametrize("deep", ["[" * 200_000, '{"a":' * 100_000, "[" * 1000 + "]" * 1000], ids=["[", "{", "[]"])
def test_json_that_is_deep_costs_a_row(tmp_path: Path, deep: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"text": "first"}}\n{deep}\n{{"text": "last"}}\n')
    found = reasons(path)
    assert not found[0] and found[1] and not found[2]


def test_a_csv_field_without_end_costs_what_it_swallows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("w") as file:
        file.write("text,n\nfirst,1\n")
        file.write(f'"{"x" * 200_000}",2\n')
        file.write("last,3\n")
    found = reasons(path)
    assert not found[0] and "field larger than field limit" in found[1] and not found[max(found)]


@pytest.mark.slow
def test_a_quote_that_is_never_closed_ends(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    with path.open("w") as file:
        file.write('text,n\nfirst,1\n"open,2\n')
        file.writelines(f"row {number},{number}\n" for number in range(40_000))
    source = open_source(str(path))
    (shard,) = source.shards()
    count, bad = 0, []
    with bounded(8 * MIB):
        for row in source.read(shard):
            count += 1
            bad += [row.content.reason] if isinstance(row.content, BadRow) else []
    assert count > 20_000 and len(bad) < 3 and "field larger than field limit" in bad[0]


def test_a_member_of_a_zip_file_that_swells_costs_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_PICTURE", 4 * MIB)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture(1))
        archive.writestr("bomb.png", bytes(64 * MIB))
        archive.writestr("c.png", picture(2))
    assert path.stat().st_size < MIB
    with bounded(24 * MIB):
        found = [row.content for row in all_rows(open_source(f"zip://*.png::{path}"))]
    assert [isinstance(each, BadRow) for each in found] == [False, True, False]
    assert isinstance(found[1], BadRow) and f"more than {4 * MIB:,} bytes" in found[1].reason


@pytest.mark.parametrize("name", ["../../up.png", "/etc/up.png", "..\\up.png", "a/../../up.png"])
def test_names_that_lead_out_of_an_archive_lead_nowhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    path = zip_of(folder / "slip.zip", [(name, picture(1)), ("good.png", picture(2))])
    before = sorted(tmp_path.rglob("*"))
    source, read = open_source(f"zip://::{path}"), 0
    for shard in source.shards():
        try:
            read += sum(not isinstance(row.content, BadRow) for row in source.read(shard))
        except InvalidInputError:  # a name that fsspec does not find again
            continue
    assert read
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("reference", ["../secret.png", "/etc/passwd", "a/../../secret.png"])
def test_a_table_in_an_archive_names_nothing_outside_of_its_folder(tmp_path: Path, reference: str) -> None:
    row = json.dumps({"path": reference, "caption": "x"})
    path = zip_of(tmp_path / "t.zip", [("secret.png", picture(1)), ("in/t.jsonl", row.encode())])
    assert reasons(f"zip://in/t.jsonl::{path}") == {
        0: f"its picture {reference!r} lies outside of the folder of the table"
    }


def test_sparse_members_hold_nothing_that_is_read(tmp_path: Path) -> None:
    """A GNU member of some bytes that stands for exabytes, and one in the format of pax."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        pax = tarfile.TarInfo("pax.txt")
        pax.size = 4
        sizes = dict.fromkeys(("GNU.sparse.size", "GNU.sparse.realsize"), str(1 << 60))
        pax.pax_headers = {"GNU.sparse.map": "0,4", **sizes}
        archive.addfile(pax, io.BytesIO(b"text"))
        good = tarfile.TarInfo("good.txt")
        good.size = 4
        archive.addfile(good, io.BytesIO(b"good"))
    gnu = bytearray(tarfile.TarInfo("gnu.txt").tobuf(tarfile.GNU_FORMAT))
    gnu[156:157] = tarfile.GNUTYPE_SPARSE
    gnu[386:410] = b"%011o\0%011o\0" % (0, 0)
    gnu[483:495] = b"\x80" + (1 << 60).to_bytes(11, "big")
    gnu[148:156] = b"        "
    gnu[148:156] = b"%06o\0 " % sum(gnu[:512])
    path = tmp_path / "sparse.tar"
    path.write_bytes(bytes(gnu) + buffer.getvalue())
    with bounded(8 * MIB):
        rows = all_rows(open_source(str(path)))
    assert [row.content.text for row in rows if not isinstance(row.content, BadRow)] == ["good"]


def test_a_tar_file_of_many_members_holds_few_of_them(tmp_path: Path) -> None:
    path = tmp_path / "many.tar"
    with path.open("wb") as file:
        for number in range(5_000):
            member = tarfile.TarInfo(f"{number:06}.txt")
            member.size = 4
            file.write(member.tobuf(tarfile.GNU_FORMAT) + b"text".ljust(512, b"\0"))
        file.write(bytes(1024))
    source = open_source(str(path))
    with bounded(MIB):
        (shard,) = source.shards()
        assert sum(1 for _ in source.read(shard)) == 5_000


def test_a_picture_in_a_tar_file_over_the_limit_costs_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "MAX_PICTURE", 1000)
    path = tmp_path / "big.tar"
    with tarfile.open(path, "w") as archive:
        for name, data in (("a.png", bytes(2000)), ("b.txt", b"text")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert "over the limit" in reasons(path)[0] and not reasons(path)[1]


@pytest.mark.parametrize("compression", ["snappy", "zstd"])
def test_a_parquet_value_that_swells_costs_a_row(tmp_path: Path, compression: str) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "bomb.parquet"
    rows = arrow.table({"text": ["first", "x" * (64 * MIB), "last"]})
    parquet.write_table(rows, path, compression=compression, use_dictionary=False, row_group_size=1)
    assert path.stat().st_size < 8 * MIB
    with bounded(16 * MIB):
        found = reasons(path)
    assert not found[0] and "more than 1,048,576 characters" in found[1] and not found[2]


def test_a_parquet_dictionary_that_stands_for_gigabytes_is_refused(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "dictionary.parquet"
    words = arrow.DictionaryArray.from_arrays(arrow.array([0] * 20_000, arrow.int32()), ["x" * MIB])
    parquet.write_table(arrow.table({"text": words}), path, compression="zstd")
    assert path.stat().st_size < 4 * MIB
    with bounded(64 * MIB), pytest.raises(BrokenShardError):
        reasons(path)


def test_columns_of_parquet_that_are_nested_are_left_out(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    kind = arrow.string()
    value: object = "deep"
    for _ in range(40):
        kind, value = arrow.list_(kind), [value]
    path = tmp_path / "nested.parquet"
    parquet.write_table(arrow.table({"text": ["one"], "deep": arrow.array([value], kind)}), path)
    (row,) = all_rows(open_source(str(path)))
    assert not isinstance(row.content, BadRow) and row.content.metadata is None


def test_a_table_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.jsonl")
    with pytest.raises(InvalidInputError, match="no file"):
        list(open_source(str(tmp_path / "t.jsonl")).shards())


def test_a_link_in_a_folder_of_pictures_leads_nowhere(tmp_path: Path) -> None:
    table_path = write_table(tmp_path / "data" / "t.jsonl", [{"path": "link.png", "caption": "x"}])
    (tmp_path / "secret.png").write_bytes(picture(1))
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    assert "lies outside" in reasons(table_path)[0]
