"""Data sets on an S3 server, a real one on this machine: moto's server mode."""

from __future__ import annotations

import pytest

from clipsearch.errors import InvalidInputError
from indexer.sources.registry import open_source
from tests.support.datasets import all_rows, picture, samples, tar_of, write_table
from tests.support.s3 import new_bucket, serving_s3

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),  # of the S3 client
]


@pytest.fixture(scope="module")
def server():
    with serving_s3() as address:
        yield address


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """A bucket with a folder of pictures, tables and tar files; its file system."""
    name, files = new_bucket(server, monkeypatch)
    for number in range(3):
        files.pipe(f"{name}/pictures/p{number}.png", picture(number))
    files.pipe(f"{name}/pictures/p1.txt", b"a caption")
    for number in range(2):
        files.pipe(f"{name}/shards/{number}.tar", tar_of(samples(3, 3 * number)))
    rows = [{"path": f"pictures/p{n}.png", "caption": f"caption {n}"} for n in range(3)]
    for ending in ("csv", "parquet"):
        files.pipe(f"{name}/table.{ending}", write_table(tmp_path / f"table.{ending}", rows).read_bytes())
    return name, files


def test_folders_tables_and_tar_files_are_read(bucket):
    name, _ = bucket
    rows = all_rows(open_source(f"s3://{name}/pictures"))
    assert [row.content.id for row in rows] == [f"s3://{name}/pictures/p{n}.png" for n in range(3)]
    assert [row.content.image for row in rows] == [picture(n) for n in range(3)]
    assert rows[1].content.caption == "a caption"
    for ending in ("csv", "parquet"):
        rows = all_rows(open_source(f"s3://{name}/table.{ending}"))
        assert [row.content.image for row in rows] == [picture(n) for n in range(3)]
    rows = all_rows(open_source(f"s3://{name}/shards/{{0..1}}.tar"))
    assert [row.content.image for row in rows] == [picture(n) for n in range(6)]
    assert len(all_rows(open_source(f"s3://{name}/shards/*.tar"))) == 6


def test_a_fingerprint_changes_with_the_object(bucket):
    name, files = bucket
    before = {shard.name: shard.fingerprint for shard in open_source(f"s3://{name}/pictures").shards()}
    files.pipe(f"{name}/pictures/p0.png", picture(9))
    after = {shard.name: shard.fingerprint for shard in open_source(f"s3://{name}/pictures").shards()}
    assert [before[key] == after[key] for key in before] == [False, True, True]


def test_what_is_not_there_is_an_error(bucket):
    name, _ = bucket
    for address in (f"s3://{name}/nothing", f"s3://{name}/nothing.csv", "s3://no-such-bucket-at-all/a.tar"):
        with pytest.raises(InvalidInputError):
            list(open_source(address).shards())
