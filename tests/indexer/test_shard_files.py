"""Finished shards on disk: whole or not there, and nothing of a stranger's folder is believed."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clipsearch.errors import InvalidInputError
from clipsearch.types import EncoderPin
from indexer import shard_files
from indexer.embed_part import embed_part
from indexer.embed_shard import embed_shard
from indexer.embedded import unpack
from indexer.shard_files import FILES, DamagedShardError, FinishedShard, find_finished, folder_of, write_shard
from indexer.shard_plan import PLAN, read_plan, write_plan
from indexer.sources.registry import open_source
from tests.support.paths import ROOT
from tests.support.shards import SETTINGS, plan_of, table, tables, tasks_of


@pytest.fixture(scope="module")
def made(tmp_path_factory, encoder):
    """A folder with one finished shard."""
    folder = tmp_path_factory.mktemp("made")
    address = str(table(folder / "t.jsonl", 30))
    plan = plan_of(address, encoder)
    embed_part(folder / "out", open_source(address), plan, 1, SETTINGS, encoder=encoder)
    return folder / "out"


@pytest.fixture
def shard(made, tmp_path):
    """A copy of it, and the name of the shard's folder."""
    shutil.copytree(made, tmp_path / "out")
    (name,) = [each.name for each in (tmp_path / "out").iterdir() if each.is_dir()]
    return tmp_path / "out", name


def read(directory: Path, name: str):
    with FinishedShard(directory, name) as found:
        found.check()
        return [unpack(batch) for batch in found.batches()]


def test_what_is_read_is_what_was_embedded(shard, encoder):
    directory, name = shard
    plan = read_plan(directory)
    assert plan is not None
    task = plan.task(plan.shards[0], SETTINGS)
    with FinishedShard(directory, name) as found:
        assert found.manifest.is_of(task)
        assert (found.manifest.records, found.manifest.failed) == (28, 2)
        batches = list(found.batches())
        assert list(found.batches(start=30)) == []
    expected = list(embed_shard(task, lambda: encoder))
    assert [each.checksum for each in batches] == [each.checksum for each in expected]
    assert len(read(directory, name)[0].records) == 28


def test_a_finished_shard_costs_nothing(shard, tmp_path):
    directory, name = shard
    plan = read_plan(directory)
    before = (directory / name).stat().st_mtime_ns
    report = embed_part(directory, open_source(plan.source), plan, 1, SETTINGS)  # without an encoder
    assert (report.shards, report.finished, report.embedded) == (1, 1, 0)
    assert (directory / name).stat().st_mtime_ns == before


def test_workers_share_the_shards_of_a_source(tmp_path, encoder):
    address = tables(tmp_path / "data", 5, 4, pictures=0, bad=0)
    plan = plan_of(address, encoder, parts=3)
    for number, count in ((3, 1), (1, 2), (2, 2), (1, 2)):
        report = embed_part(tmp_path / "out", open_source(address), plan, number, SETTINGS, encoder=encoder)
        assert report.shards == count
    assert all(find_finished(tmp_path / "out", plan.task(each, SETTINGS)) for each in plan.shards)


def test_a_shard_that_changed_takes_the_place_of_the_former(tmp_path, encoder):
    path = table(tmp_path / "t.jsonl", 5)
    for rows in (5, 8):
        table(path, rows)
        plan = plan_of(str(path), encoder)
        embed_part(tmp_path / "out", open_source(str(path)), plan, 1, SETTINGS, encoder=encoder)
        name = folder_of(plan.source, plan.shards[0])
        assert sorted(each.name for each in (tmp_path / "out").iterdir()) == sorted([name, PLAN])
        with FinishedShard(tmp_path / "out", name) as found:
            assert found.manifest.records == rows - 2


def test_a_shard_that_cannot_be_read_to_its_end_is_not_finished(tmp_path, encoder):
    address = tables(tmp_path / "data", 2, 5)
    plan = plan_of(address, encoder)
    source = open_source(address)
    (tmp_path / "data" / "t00.jsonl").unlink()
    report = embed_part(tmp_path / "out", source, plan, 1, SETTINGS, encoder=encoder)
    assert [Path(name).name for name, _ in report.unreadable] == ["t00.jsonl"]
    assert len(list((tmp_path / "out").iterdir())) == 2  # the plan, and the other shard


def test_a_folder_takes_only_one_source_and_one_encoder(shard, tmp_path, encoder):
    directory, _ = shard
    other = str(table(tmp_path / "other.jsonl", 5))
    with pytest.raises(InvalidInputError, match="another source, encoder or option"):
        embed_part(directory, open_source(other), plan_of(other, encoder), 1, SETTINGS)


def test_what_stops_the_writing_leaves_no_shard(tmp_path, encoder):
    (task,) = tasks_of(str(table(tmp_path / "t.jsonl", 5)), encoder)

    def failing():
        yield from embed_shard(task, lambda: encoder)
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        write_shard(tmp_path, task, failing())
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == []


KILLED = """
import os, signal, sys
from indexer.embed_shard import EmbedTask, embed_shard
from indexer import shard_files
task, at = EmbedTask.from_json(sys.argv[2]), int(sys.argv[3])
calls = 0
def count(path, real=shard_files.fsync_path):
    global calls
    calls += 1
    if calls == at:
        os.kill(os.getpid(), signal.SIGKILL)
    real(path)
shard_files.fsync_path = count
from pathlib import Path
shard_files.write_shard(Path(sys.argv[1]), task, embed_shard(task))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("at", [1, len(FILES) + 2, len(FILES) + 3])
def test_a_worker_that_is_killed_leaves_a_whole_shard_or_none(tmp_path, encoder, at):
    (task,) = tasks_of(str(table(tmp_path / "t.jsonl", 5, pictures=0)), encoder)
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", KILLED, str(out), task.to_json(), str(at)]
    done = subprocess.run(command, cwd=ROOT, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    found = find_finished(out, task)
    assert (found is not None) is (at > len(FILES) + 2)  # the last is after the renaming
    write_shard(out, task, embed_shard(task, lambda: encoder))
    assert [each.name for each in out.iterdir()] == [folder_of(task.address, task.shard)]


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_damage_of_any_file_is_seen(shard, name):
    directory, folder = shard
    path = directory / folder / name
    data = path.read_bytes()
    middle = len(data) // 2
    for bad in (data[:middle], data + b"x", data[:middle] + b"\0" + data[middle + 1 :]):
        assert bad != data
        path.write_bytes(bad)
        with pytest.raises(DamagedShardError):
            read(directory, folder)
    path.unlink()
    with pytest.raises(DamagedShardError):
        read(directory, folder)
    plan = read_plan(directory)
    assert find_finished(directory, plan.task(plan.shards[0], SETTINGS)) is None


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_links_and_pipes_are_not_followed(shard, name, tmp_path):
    directory, folder = shard
    path = directory / folder / name
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedShardError):
        read(directory, folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DamagedShardError):
        read(directory, folder)


def test_a_link_in_place_of_a_shard_is_not_followed(shard, tmp_path):
    directory, folder = shard
    (directory / folder).rename(tmp_path / "elsewhere")
    (directory / folder).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedShardError):
        read(directory, folder)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": None},
        {"more": 1},
        {"source": 7},
        {"encoder": {"name": "x", "fingerprint": "y", "dim": 10**9}},
        {"encoder": {"name": "x", "fingerprint": "y", "dim": -1}},
        {"encoder": {"name": "x", "fingerprint": "y", "dim": 8}},
        {"encoder": {"name": "x\x1b[31m", "fingerprint": "y", "dim": 512}},
        {"encoder": {"name": "x", "fingerprint": "y\u202e", "dim": 512}},
        {"shard": {"name": "x", "fingerprint": "y", "first": "0", "stop": None}},
        {"files": {}},
        {"files": {"../../x": [1, "y"]}},
        {"records": -1},
        {"batches": []},
        {"batches": [7]},
        {"batches": None},
    ],
)
def test_a_manifest_that_nobody_writes_is_refused(shard, change):
    directory, folder = shard
    path = directory / folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DamagedShardError):
        read(directory, folder)


@pytest.mark.parametrize("name", ["first", "stop", "lines", "bytes", "image", "text", "checksum"])
@pytest.mark.parametrize("value", [-1, 2**60, 10**9, 1, "1", None, 1.5])
def test_a_batch_that_is_described_wrongly_is_refused(shard, name, value):
    directory, folder = shard
    path = directory / folder / "manifest.json"
    said = json.loads(path.read_text())
    said["batches"][0][name] = value
    path.write_text(json.dumps(said))
    with pytest.raises(DamagedShardError):
        read(directory, folder)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"format": 1}', b'{"format": 1, "shards": 7}']
)
def test_a_plan_that_nobody_writes_is_refused(shard, text):
    directory, folder = shard
    (directory / PLAN).write_bytes(text)
    with pytest.raises(InvalidInputError, match="not a plan"):
        read_plan(directory)
    (directory / folder / "manifest.json").write_bytes(text)
    with pytest.raises(DamagedShardError):
        read(directory, folder)


@pytest.mark.parametrize("file", ["plan", "manifest"])
@pytest.mark.parametrize("part", ["name", "fingerprint"])
@pytest.mark.parametrize("text", ["x\x1b[31m", "\u202ex", "x\ny", "\ud800", "x" * 70_000])
def test_an_encoder_whose_name_cannot_be_shown_is_refused(shard, file, part, text):
    directory, folder = shard
    path = directory / PLAN if file == "plan" else directory / folder / "manifest.json"
    said = json.loads(path.read_text())
    said["encoder"][part] = text
    path.write_text(json.dumps(said))
    with pytest.raises(InvalidInputError, match="no text that can be printed") as caught:
        read_plan(directory) if file == "plan" else read(directory, folder)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_no_plan_is_written_that_is_refused_when_it_is_read(tmp_path, encoder):
    plan = plan_of(str(table(tmp_path / "t.jsonl", 3)), encoder)
    pin = EncoderPin("local-dir:/caf\udce9", "y", 512)
    with pytest.raises(InvalidInputError, match="Rename the folder of the model"):
        write_plan(tmp_path / "out", dataclasses.replace(plan, encoder=pin))
    assert not (tmp_path / "out").exists()


def test_a_plan_or_manifest_without_end_is_refused(shard, monkeypatch):
    directory, folder = shard
    monkeypatch.setattr(shard_files, "MAX_MANIFEST", 100)
    with pytest.raises(DamagedShardError, match="more than 100 bytes"):
        read(directory, folder)


def test_there_is_no_plan_where_there_is_no_folder(tmp_path):
    assert read_plan(tmp_path / "nowhere") is None
    assert read_plan(tmp_path) is None
    (tmp_path / PLAN).symlink_to("/etc/hostname")
    with pytest.raises(InvalidInputError, match="not a regular file"):
        read_plan(tmp_path)
