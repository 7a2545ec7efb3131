"""What every source of records keeps to, whatever its form and wherever it lies."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from clipsearch.errors import InvalidInputError
from indexer.sources.base import BadRow, BrokenShardError
from indexer.sources.registry import SourceOptions, canonical, is_source, open_source
from tests.support.datasets import all_rows, picture, said, samples, tar_of, write_table, zip_of
from tests.support.s3 import new_bucket, serving_s3

ROWS = 9


def table(folder, suffix):
    for number in range(ROWS):
        (folder / f"p{number}.png").write_bytes(picture(number))
    rows = [{"path": f"p{n}.png", "caption": f"caption {n}", "number": n} for n in range(ROWS)]
    return str(write_table(folder / f"table{suffix}", rows))


def with_bytes(folder):
    rows = [
        {"image": {"bytes": picture(n), "path": None}, "caption": [f"caption {n}", "other"], "number": n}
        for n in range(ROWS)
    ]
    return str(write_table(folder / "table.parquet", rows))


def tars(folder):
    (folder / "000.tar").write_bytes(tar_of(samples(5)))
    (folder / "001.tar").write_bytes(tar_of(samples(4, 5)))
    return str(folder / "{000..001}.tar")


def in_memory(folder):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.rm("/contract", recursive=True) if files.exists("/contract") else None
    for number in range(ROWS):
        files.pipe(f"/contract/p{number}.png", picture(number))
        files.pipe(f"/contract/p{number}.txt", f"caption {number}".encode())
    return "memory://contract"


def table_in_memory(folder, suffix=".csv"):
    in_memory(folder)
    import fsspec

    path = table(folder, suffix)
    fsspec.filesystem("memory").put(path, f"/contract/table{suffix}")
    return f"memory://contract/table{suffix}"


def in_zip(folder):
    pytest.importorskip("fsspec")
    path = zip_of(folder / "pictures.zip", [(f"in/p{n}.png", picture(n)) for n in range(ROWS)])
    return f"zip://in/*.png::{path}"


def in_tar(folder):
    pytest.importorskip("fsspec")
    (folder / "pictures.tar").write_bytes(tar_of([(f"in/p{n}.png", picture(n)) for n in range(ROWS)]))
    return f"tar://in::{folder}/pictures.tar"


def by_address(folder):
    pytest.importorskip("fsspec")
    table(folder, ".csv")
    (folder / "table.csv").unlink()
    return f"file://{folder}"


SOURCES = {
    "csv": lambda folder: table(folder, ".csv"),
    "tsv": lambda folder: table(folder, ".tsv"),
    "jsonl": lambda folder: table(folder, ".jsonl"),
    "parquet": lambda folder: table(folder, ".parquet"),
    "parquet with bytes": with_bytes,
    "webdataset": tars,
    "folder in memory": in_memory,
    "table in memory": table_in_memory,
    "parquet in memory": lambda folder: table_in_memory(folder, ".parquet"),
    "zip": in_zip,
    "tar": in_tar,
    "file address": by_address,
    "table by file address": lambda folder: f"file://{table(folder, '.jsonl')}",
}


def folder_in_s3(folder, name, files):
    for number in range(ROWS):
        files.pipe(f"{name}/in/p{number}.png", picture(number))
    return f"s3://{name}/in"


def table_in_s3(suffix):
    def put(folder, name, files):
        folder_in_s3(folder, name, files)
        files.pipe(f"{name}/in/table{suffix}", Path(table(folder, suffix)).read_bytes())
        return f"s3://{name}/in/table{suffix}"

    return put


def tars_in_s3(folder, name, files):
    files.pipe(f"{name}/000.tar", tar_of(samples(5)))
    files.pipe(f"{name}/001.tar", tar_of(samples(4, 5)))
    return f"s3://{name}/{{000..001}}.tar"


IN_S3 = {
    "s3": folder_in_s3,
    "csv in s3": table_in_s3(".csv"),
    "jsonl in s3": table_in_s3(".jsonl"),
    "parquet in s3": table_in_s3(".parquet"),
    "webdataset in s3": tars_in_s3,
}
OF_S3 = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),  # of the S3 client
]


@pytest.fixture(scope="module")
def s3():
    with serving_s3() as server:
        yield server


@pytest.fixture(params=[*SOURCES, *(pytest.param(name, marks=OF_S3) for name in IN_S3)])
def address(request, tmp_path, monkeypatch):
    if "parquet" in request.param:
        pytest.importorskip("pyarrow")
    if request.param in IN_S3:
        return IN_S3[request.param](tmp_path, *new_bucket(request.getfixturevalue("s3"), monkeypatch))
    return SOURCES[request.param](tmp_path)


def test_it_gives_each_picture_once_by_an_id_of_its_own(address):
    assert is_source(address)
    rows = all_rows(open_source(address))
    assert not [row for row in rows if isinstance(row.content, BadRow)]
    assert len({row.content.id for row in rows}) == len(rows) == ROWS
    pictures = [row.content.image for row in rows]
    found = [each if isinstance(each, bytes) else Path(each).read_bytes() for each in pictures]
    assert sorted(found) == sorted(map(picture, range(ROWS)))


def test_shards_and_rows_come_in_the_same_order_each_time(address):
    first, again = open_source(address), open_source(address)
    assert [*first.shards()] == [*again.shards()] == [*first.shards()]
    assert said(all_rows(first)) == said(all_rows(again))
    assert len({shard.name for shard in first.shards()}) == len([*first.shards()])


def test_reading_from_a_row_on_gives_what_follows(address):
    source = open_source(address)
    for shard in source.shards():
        rows = said(source.read(shard))
        assert [row[0] for row in rows] == list(range(len(rows)))
        for start in range(len(rows) + 2):
            assert said(source.read(shard, start)) == rows[start:]


def test_threads_read_on_their_own(address):
    source = open_source(address)
    found = []
    threads = [threading.Thread(target=lambda: found.append(said(all_rows(source)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [said(all_rows(source))] * 3


def test_it_is_opened_by_its_address_from_anywhere(address, tmp_path, monkeypatch):
    whole = canonical(address)
    expected = said(all_rows(open_source(address)))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = open_source(whole)
    assert again.address == whole and said(all_rows(again)) == expected


@pytest.mark.parametrize(
    "address",
    ["nothing.csv", "nothing.parquet", "{0..3}.tar", "memory://nothing", "zip://*.png::nothing.zip", "file:///nothing"],
)
def test_what_is_missing_is_an_error(address, tmp_path, monkeypatch):
    pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInputError):
        list(open_source(address).shards())


def test_a_folder_is_a_data_set_by_its_address(tmp_path):
    (tmp_path / "p.png").write_bytes(picture(1))
    with pytest.raises(InvalidInputError, match="Name this folder as file://") as caught:
        open_source(str(tmp_path))
    [row] = all_rows(open_source(str(caught.value).rpartition(" ")[2]))
    assert row.content.id == (tmp_path / "p.png").as_uri()


def test_a_fingerprint_changes_with_the_file(tmp_path):
    path = table(tmp_path, ".csv")
    (before,) = open_source(path).shards()
    with open(path, "a") as file:
        file.write("p0.png,one more,1\n")
    (after,) = open_source(path).shards()
    assert before.name == after.name and before.fingerprint != after.fingerprint


@pytest.mark.parametrize(
    "address",
    ["http://host/a.csv", "https://host/a.csv", "zip://*.png::https://host/a.zip", "ftp://host/a.csv", "github://a:b@/c",
     "simplecache::s3://bucket/a", "reference://a", "sftp://host/a", "data:text/plain,a"],
)  # fmt: skip
def test_other_protocols_are_refused(address):
    with pytest.raises(InvalidInputError, match="not allowed"):
        open_source(address)


BAD = {
    "csv": (".csv", "caption,path\none,\nbroken\n,\ntwo,\n", 2),
    "jsonl": (".jsonl", '{"caption": "one"}\nnot json\n[]\n{"caption": "two"}\n', 2),
    "long line": (".jsonl", '{"caption": "one"}\n{"caption": "' + "a" * (1 << 21) + '"}\n{"caption": "two"}\n', 1),
    "long line of csv": (".csv", "caption,path\none,\n" + "a" * (1 << 21) + ",\ntwo,\n", 1),
    "open quote": (".csv", 'caption,path\none,\ntwo,\n"' + "a\n" * 100_000, 1),
    "not utf-8": (".csv", b"caption,path\none,\ntwo,\n\xff\xfe,../../\xff\n", 1),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_row_costs_a_row(what, tmp_path):
    suffix, content, bad = BAD[what]
    path = tmp_path / f"table{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = all_rows(open_source(str(path)))
    assert [row.content.text for row in rows if not isinstance(row.content, BadRow)] == ["one", "two"]
    failed = len([row for row in rows if isinstance(row.content, BadRow)])
    assert failed >= bad if what == "open quote" else failed == bad


@pytest.mark.parametrize(
    "name, content",
    [
        ("t.csv", "image\tcaption\r\n,one\r\n\ttwo ü\r\n".replace(",", "\t").encode("utf-16")),
        ("t.csv", "caption;image\none;\ntwo ü;\n".encode("utf-16-be")),
        ("t.csv", "sep=;\ncaption;image\none;\ntwo ü;\n".encode("utf-8-sig")),
        ("t.csv", "caption|image\rone|\rtwo ü|\r".encode()),
        ("t.jsonl", '{"text": "one"}\r\n{"text": "two ü"}\r\n'.encode("utf-16")),
    ],
)
def test_tables_are_read_as_spreadsheets_save_them(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    assert [row.content.text for row in all_rows(open_source(str(tmp_path / name)))] == ["one", "two ü"]


def test_a_row_in_another_encoding_is_not_taken_for_text(tmp_path):
    (tmp_path / "t.csv").write_bytes("caption,image\none,\nGröße,\n".encode("latin-1"))
    first, second = (row.content for row in all_rows(open_source(str(tmp_path / "t.csv"))))
    assert first.text == "one" and "iconv -f WINDOWS-1252" in second.reason
    (tmp_path / "t.csv").write_bytes("caption,größe\none,1\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match="iconv -f WINDOWS-1252"):
        all_rows(open_source(str(tmp_path / "t.csv")))


def test_pictures_outside_of_the_folder_of_a_table_are_refused(tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(1))
    (tmp_path / "tables").mkdir()
    os.symlink(tmp_path / "secret.png", tmp_path / "tables" / "link.png")
    paths = ["../secret.png", str(tmp_path / "secret.png"), "link.png"]
    path = write_table(tmp_path / "tables" / "a.csv", [{"path": path, "caption": "c"} for path in paths])
    assert [type(row.content) for row in all_rows(open_source(str(path)))] == [BadRow] * 3
    allowed = open_source(str(path), SourceOptions(pictures=str(tmp_path)))
    assert [isinstance(row.content, BadRow) for row in all_rows(allowed)] == [True, False, False]


def test_columns_may_have_any_names(tmp_path):
    rows = [{"photo": "a.png", "alt": "a boat", "sku": "A-7", "text": "kept"}]
    path = str(write_table(tmp_path / "a.csv", rows))
    options = SourceOptions(columns=(("image", "photo"), ("caption", "alt"), ("id", "sku")))
    (row,) = all_rows(open_source(path, options))
    assert (row.content.id, row.content.caption, row.content.metadata) == ("A-7", "a boat", {"text": "kept"})
    with pytest.raises(InvalidInputError, match="--columns"):
        all_rows(open_source(str(write_table(tmp_path / "b.csv", [{"a": 1, "b": 2}]))))
    with pytest.raises(InvalidInputError, match="roles"):
        open_source(path, SourceOptions(columns=(("picture", "photo"),)))


def test_a_tar_file_that_is_cut_off_keeps_what_is_whole(tmp_path):
    whole = tar_of(samples(6))
    path = tmp_path / "cut.tar"
    path.write_bytes(whole[: len(whole) // 2])
    source = open_source(str(path))
    (shard,) = source.shards()
    rows = []
    with pytest.raises(BrokenShardError, match="damaged or cut off"):
        for row in source.read(shard):
            rows.append(row)
    assert 1 <= len(rows) < 6 and all(row.content.image for row in rows)


def test_a_hostile_tar_file_is_bounded(tmp_path):
    import io
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../x"), (tarfile.CHRTYPE, "")):
            member = tarfile.TarInfo(f"link{kind!r}.png")
            member.type, member.linkname = kind, target
            archive.addfile(member)
        names = ["../../up.txt", "/etc/abs.txt", *(f"many.{n}.txt" for n in range(3000))]
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"text"))
        huge = tarfile.TarInfo("huge.txt")
        huge.size = 2 << 20
        archive.addfile(huge, io.BytesIO(b"a" * huge.size))
        last = tarfile.TarInfo("last.txt")
        last.size = 4
        archive.addfile(last, io.BytesIO(b"last"))
    path = tmp_path / "hostile.tar"
    path.write_bytes(buffer.getvalue())
    found = {row[1]: row[2] for row in said(all_rows(open_source(str(path))))}
    assert "more than 64 members" in found["hostile.tar/many"]
    assert "over the limit" in found["hostile.tar/huge"]
    assert found["hostile.tar/last"][1] == "last"
    assert not [name for name in found if "link" in name] and len(found) == 5


def test_headers_of_a_tar_file_without_end_are_refused(tmp_path):
    import tarfile

    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 8 << 20
    path = tmp_path / "long.tar"
    path.write_bytes(name.tobuf(tarfile.GNU_FORMAT) + b"a" * name.size)
    source = open_source(str(path))
    (shard,) = source.shards()
    with pytest.raises(BrokenShardError, match="headers are too long"):
        list(source.read(shard))


def test_braces_are_bounded():
    with pytest.raises(InvalidInputError, match="over the limit"):
        list(open_source("{0..9999999999999999999999}.tar").shards())


def test_a_damaged_parquet_file_is_a_broken_shard(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")
    source = open_source(str(path))
    (shard,) = source.shards()
    with pytest.raises(BrokenShardError):
        list(source.read(shard))
