"""The contract of executors, over this process and a real Ray cluster of three nodes on this machine."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from PIL import Image

from clipsearch.errors import ClusterError, EncoderMismatchError, InvalidInputError
from clipsearch.store.records import FileRecord
from clipsearch.types import Modality
from indexer import pipeline
from indexer.embed_files import FileTask, embed_files
from indexer.embed_shard import embed_shard
from indexer.executors.base import Embedded, Ended
from indexer.executors.local import LoadedOnce, LocalExecutor
from indexer.executors.ray import Embedder, RayExecutor, RayOptions, _unpack_outcomes
from indexer.outcome_codec import pack, unpack
from indexer.pipeline import IndexOptions, index
from tests.support.cli import COMMAND, environment
from tests.support.pictures import encode, noise_picture
from tests.support.shards import SETTINGS, same_library, table, tables, tasks_of
from tests.support.state import read_state

RAY = pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.filterwarnings("ignore")])
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


class Nodes:
    """A Ray cluster: a head and two more nodes, each with one processor."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.workers = [cluster.add_node(**NODE), cluster.add_node(**NODE)]

    @property
    def address(self):
        return self.cluster.address

    def kill(self):
        """Kill the processes of a node that is not the head."""
        self.cluster.remove_node(self.workers.pop(), allow_graceful=False)

    def restore(self):
        """Have three nodes again."""
        while len(self.workers) < 2:
            self.workers.append(self.cluster.add_node(**NODE))


@pytest.fixture(scope="module")
def cluster():
    pytest.importorskip("ray", reason="needs the extra `ray`")
    from ray.cluster_utils import Cluster

    started = Cluster(initialize_head=True, head_node_args=NODE)
    yield Nodes(started)
    started.shutdown()


@pytest.fixture
def nodes(cluster):
    cluster.restore()
    return cluster


@pytest.fixture(params=["local", RAY])
def executor(request, encoder):
    if request.param == "local":
        return LocalExecutor()
    return RayExecutor(RayOptions(request.getfixturevalue("nodes").address))


@pytest.fixture
def address(tmp_path):
    return tables(tmp_path / "data", 3, 8)


def test_results_are_those_of_the_function(executor, address, encoder):
    tasks = tasks_of(address, encoder)
    tasks[1] = dataclasses.replace(tasks[1], start=4)
    found = list(executor.run(tasks))
    for number, task in enumerate(tasks):
        own = [each for each in found if each.task == number]
        assert own[-1] == Ended(number)
        expected = [batch.checksum for batch in embed_shard(task, lambda: encoder)]
        assert [each.batch.checksum for each in own[:-1]] == expected


def test_nothing_comes_of_nothing(executor):
    assert list(executor.run([])) == []


def test_a_shard_that_cannot_be_read_ends_alone(executor, address, encoder, tmp_path):
    tasks = tasks_of(address, encoder)
    (tmp_path / "data" / "t01.jsonl").unlink()
    found = list(executor.run(tasks))
    ended = {each.task: each for each in found if isinstance(each, Ended)}
    assert {number: bool(each.reason) for number, each in ended.items()} == {0: False, 1: True, 2: False}
    assert not ended[1].is_broken
    assert {each.task for each in found if isinstance(each, Embedded)} == {0, 2}


def test_a_shard_that_is_broken_says_so(executor, encoder, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("color\nred\n")
    (end,) = executor.run(tasks_of(str(path), encoder))
    assert end.is_broken and "no column" in end.reason


def test_an_encoder_that_is_another_stops_all(executor, address, encoder):
    tasks = [
        dataclasses.replace(task, encoder=dataclasses.replace(task.encoder, fingerprint="0" * 32))
        for task in tasks_of(address, encoder)
    ]
    with pytest.raises(EncoderMismatchError, match="fingerprint"):
        list(executor.run(tasks))


def test_closing_ends_the_work(executor, address, encoder):
    results = executor.run(tasks_of(address, encoder))
    next(results)
    results.close()
    assert list(results) == []


def test_an_encoder_is_loaded_once(address, encoder):
    tasks = tasks_of(address, encoder)
    loaded = LoadedOnce()
    first = loaded.load(tasks[0])
    assert all(loaded.load(task) is first for task in tasks)
    assert LoadedOnce(encoder).load(tasks[0]) is encoder


def test_an_actor_loads_the_encoder_once_for_all_its_tasks(address, encoder):
    pyarrow = pytest.importorskip("pyarrow")
    actor = Embedder()
    encoders = []
    for number, task in enumerate(tasks_of(address, encoder)):
        given = pyarrow.Table.from_pylist([{"task": number, "json": task.to_json()}])
        kinds = [row["kind"] for part in actor(given) for row in part.to_pylist()]
        assert kinds == ["batch", "end"]
        encoders.append(actor.encoders.load(task))
    assert len({id(each) for each in encoders}) == 1


def test_a_cluster_that_is_not_there_is_said(address, encoder):
    pytest.importorskip("ray", reason="needs the extra `ray`")
    with pytest.raises(ClusterError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        list(RayExecutor(RayOptions("127.0.0.1:1")).run(tasks_of(address, encoder)))


class Killing:
    """Progress that kills a node once results have come."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.done = 0
        self.done_before = None

    def scanned(self, files): ...

    def preparing(self): ...

    def start(self, total): ...

    def advance(self, files):
        self.done += files
        if self.done_before is None:
            self.done_before = self.done
            self.nodes.kill()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_node_that_is_killed_in_mid_job_changes_nothing(nodes, tmp_path, encoder):
    address = tables(tmp_path / "data", 16, 150, pictures=10)
    index(tmp_path / "local", [address], SETTINGS, encoder=encoder)
    progress = Killing(nodes)
    options = IndexOptions(executor=RayExecutor(RayOptions(nodes.address)))
    report = index(tmp_path / "lib", [address], SETTINGS, options, encoder=encoder, progress=progress)
    assert progress.done_before < progress.done == 16 * 150
    assert (report.added, report.changed, report.failed_rows) == (16 * 148, 0, 32)
    same_library(tmp_path / "lib", tmp_path / "local")
    state = read_state(tmp_path / "lib")
    assert not any(state.tombstones.values())  # each item was written once
    assert state.committed == {Modality.IMAGE: 160, Modality.TEXT: 16 * 148}
    again = index(tmp_path / "lib", [address], SETTINGS, options, encoder=encoder)
    assert (again.added, again.encoded, again.unchanged) == (0, 0, 16 * 148)


def photographs(folder):
    """A folder with all that is read of files: captions beside and inside, copies, texts, what is no picture."""
    (folder / "sub").mkdir(parents=True)
    for number in range(12):
        (folder / f"p{number:02}.jpg").write_bytes(encode(noise_picture(number, (40, 30))))
    (folder / "p00.txt").write_text("A caption of the first picture.\n")
    (folder / "sub" / "copy.jpg").write_bytes((folder / "p00.jpg").read_bytes())
    (folder / "sub" / "copy.txt").write_text("A caption of the first picture.\n")
    (folder / "sub" / "captions.csv").write_text("file_name,caption,price\nq.png,in a table,3\n")
    (folder / "sub" / "q.png").write_bytes(encode(noise_picture(40, (30, 30)), "PNG"))
    taken = Image.Exif()
    taken[0x0132], taken[0x010F] = "2024:05:06 07:08:09", "Maker"
    noise_picture(41, (50, 20)).save(folder / "exif.jpg", exif=taken)
    (folder / "notes.md").write_text("# Notes\n\nThe tide was low.\n\nThe boats lay on the sand.\n")
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / os.fsdecode(b"odd\xff%.jpg")).write_bytes(encode(noise_picture(42, (20, 20))))
    return str(folder)


def test_a_folder_is_as_if_it_had_been_indexed_here(executor, tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(pipeline, "FILES", 4)
    folder = photographs(tmp_path / "photos")
    here = index(tmp_path / "local", [folder], SETTINGS, encoder=encoder)
    options = IndexOptions(executor=executor)
    there = index(tmp_path / "lib", [folder], SETTINGS, options, encoder=encoder)
    assert (there.added, sorted(there.failed)) == (here.added, sorted(here.failed)) and len(here.failed) == 1
    same_library(tmp_path / "lib", tmp_path / "local")
    state, own = read_state(tmp_path / "lib"), read_state(tmp_path / "local")
    assert state.committed[Modality.IMAGE] == own.committed[Modality.IMAGE]  # a copy shares the row
    again = index(tmp_path / "lib", [folder], SETTINGS, options, encoder=encoder)
    assert (again.added, again.encoded, again.unchanged) == (0, 0, here.added + 1)
    os.rename(tmp_path / "photos" / "p03.jpg", tmp_path / "photos" / "sub" / "p03.jpg")
    moved = index(tmp_path / "lib", [folder], SETTINGS, options, encoder=encoder)
    assert (moved.moved, moved.added, moved.removed) == (1, 0, 0)
    assert {each.id for each in read_state(tmp_path / "lib").live.values()} == {each.id for each in state.live.values()}


def test_outcomes_of_other_files_are_refused(tmp_path, encoder):
    folder = photographs(tmp_path / "photos")
    record = FileRecord(1, "p00.jpg", 1, 1)
    task = FileTask((record,), {1: folder}, tasks_of(tables(tmp_path, 1, 8), encoder)[0].encoder, SETTINGS)
    (outcome,) = embed_files(task, encoder)
    lines, vectors = pack([outcome])
    row = {"lines": lines, "image": vectors}
    assert repr(_unpack_outcomes(row, task)[0].captions) == repr(outcome.captions)
    other = dataclasses.replace(task, records=(dataclasses.replace(record, path="../p00.jpg"),))
    with pytest.raises(ClusterError, match="not asked for"):
        _unpack_outcomes(row, other)
    for said in (b"[", b'[{"class": "Path"}]', b'[{"class": "Failed"}]', b'[{"rows": [9, 9]}]'):
        with pytest.raises(InvalidInputError, match="cannot be read"):
            unpack(said, b"")


@pytest.fixture
def gpu_node(nodes):
    """A node that says that it has a GPU, which only Ray's bookkeeping knows."""
    added = nodes.cluster.add_node(**NODE | {"num_cpus": 4, "num_gpus": 1})
    yield added
    nodes.cluster.remove_node(added)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("gpus", "actors"), [(0.4, 2), (0.75, 1)])
def test_actors_share_a_gpu_by_fractions_and_no_more_than_that(nodes, gpu_node, tmp_path, encoder, gpus, actors):
    """The job lasts until all that have room have been seen: Ray starts the second when the first has much to do."""
    import ray

    path, count = table(tmp_path / "data" / "t000.jsonl", 40), 500
    for number in range(1, count):
        os.link(path, path.parent / f"t{number:03}.jsonl")
    settings = dataclasses.replace(SETTINGS, device="auto")
    tasks = [dataclasses.replace(task, settings=settings) for task in tasks_of(str(path.parent / "t*.jsonl"), encoder)]
    results, taken = RayExecutor(RayOptions(nodes.address, gpus=gpus)).run(tasks), set()
    for number, _ in enumerate(results):
        taken.add(round(ray.cluster_resources()["GPU"] - ray.available_resources().get("GPU", 0), 3))
        if number >= 100 and max(taken) >= actors * gpus:
            break
    results.close()
    assert max(taken) == actors * gpus  # 1 where the fraction does not reach Ray
    assert taken <= {number * gpus for number in range(actors + 1)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_actors_wait_while_results_are_not_taken(nodes, tmp_path, encoder):
    """Shards that nobody has begun when the driver pauses are taken away: those cannot have been read before."""
    path = tmp_path / "data" / "t000.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"text": f"row {n}", "fat": "x" * 900_000}) + "\n" for n in range(4)))
    count = 150
    for number in range(1, count):
        os.link(path, path.parent / f"t{number:03}.jsonl")
    results = RayExecutor(RayOptions(nodes.address)).run(tasks_of(str(path.parent / "t*.jsonl"), encoder))
    first = next(results)
    time.sleep(25)  # all 150 take less
    shutil.rmtree(path.parent)
    ended = [each for each in results if isinstance(each, Ended)]
    assert isinstance(first, Embedded) and len(ended) == count
    assert sum(not each.reason for each in ended) < count // 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_run_that_is_stopped_on_a_cluster_goes_on(nodes, tmp_path, address, encoder):
    index(tmp_path / "local", [address], SETTINGS, encoder=encoder)
    options = IndexOptions(executor=RayExecutor(RayOptions(nodes.address, workers=1)))
    done = []
    progress = Killing(nodes)
    progress.advance = done.append
    how = {"encoder": encoder, "progress": progress, "should_stop": lambda: bool(done)}
    stopped = index(tmp_path / "lib", [address], SETTINGS, options, **how)
    assert stopped.interrupted and 0 < stopped.added < 18
    rest = index(tmp_path / "lib", [address], SETTINGS, options, encoder=encoder)
    assert stopped.added + rest.added == 18
    same_library(tmp_path / "lib", tmp_path / "local")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_command_shows_nothing_of_ray(nodes, tmp_path, encoder):
    table(tmp_path / "t.jsonl", 8)
    command = [COMMAND, "index", "t.jsonl", "--model", "builtin-small", "--library", "lib", "--json"]
    command += ["--executor", "ray", "--address", nodes.address]
    done = subprocess.run(command, cwd=tmp_path, env=environment({}), capture_output=True, timeout=300, check=True)
    assert json.loads(done.stdout)["added"] == 6
    ours = ("builtin encoder", " files, ")
    lines = [line for line in done.stderr.decode().splitlines() if not any(each in line for each in ours)]
    assert [line.split(":")[0] for line in lines] == ["failed", "failed", "Done"]


def test_ray_is_not_loaded_before_it_is_needed():
    code = "import sys; from indexer.executors.ray import RayExecutor; RayExecutor(); sys.exit('ray' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
