"""benchmarks/gpu_encode.py on the processor: every phase runs, results are kept after each, pictures are made once."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from PIL import Image

from tests.support.paths import ROOT

sys.path.append(str(ROOT / "benchmarks"))  # which is no package
harness = importlib.import_module("harness")
peer = importlib.import_module("gpu.peer")
pictures = importlib.import_module("gpu.pictures")
session = importlib.import_module("gpu.session")
towers = importlib.import_module("gpu.towers")


def run(folder: Path, budget: int) -> dict:
    """Run the benchmark, tiny, and return its phases."""
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_encode.py"), "--tiny", "--budget", str(budget)]
    command += ["--pictures", str(folder / "pictures"), "--out", str(folder / "out")]
    # Compiling takes half a minute, and needs a compiler.
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"TORCH_COMPILE_DISABLE": "1"})
    values: dict = json.loads((folder / "out" / "gpu_encode.json").read_text())["values"]
    assert len(values["rows"]) == 1
    phases: dict = values["models"]["tiny"]
    return phases


@pytest.mark.slow
def test_every_phase_runs_and_what_was_made_is_kept(tmp_path):
    phases = run(tmp_path, 300)
    assert len(phases) == 13
    assert {name: found for name, found in phases.items() if {"failed", "skipped", "unfinished"} & {*found}} == {}
    assert min(found["per_second"] for found in phases.values() if "per_second" in found) > 0
    trace = json.loads(gzip.decompress((tmp_path / "out" / phases["trace"]["file"]).read_bytes()))["traceEvents"]
    products = {event["tid"] for event in trace if event.get("name") == "aten::addmm"}
    assert phases["trace"]["batches"] > 1
    assert products - {event["pid"] for event in trace if event.get("name") == "process_name"}, "no thread that encodes"

    files = sorted((tmp_path / "pictures").rglob("*.jpg"))
    assert len({path.read_bytes() for path in files}) == 192 + 100
    written = {path: path.stat().st_mtime_ns for path in files}
    phases = run(tmp_path, 0)
    assert {tuple(found) for found in phases.values()} == {("skipped",)}
    assert {path: path.stat().st_mtime_ns for path in files} == written


class FakeBenchmark:
    """A model whose phases move a clock on: by name (seconds wanted, seconds taken; None for all that are given)."""

    def __init__(self, name, clock, phases, shared=()):
        self.name, self.clock, self.wanted, self.shared = name, clock, phases, shared
        self.given = {}

    def phases(self):
        return [
            session.Phase(name, wants, 1, lambda given, name=name: self.work(name, given), name in self.shared or None)
            for name, (wants, _) in self.wanted.items()
        ]

    def work(self, name, given):
        taken = self.wanted[name][1]
        if isinstance(taken, BaseException):
            raise taken
        self.given[name] = given
        self.clock[0] += given if taken is None else taken
        return {"per_second": 7}

    def row(self, found):
        return {"model": self.name, "rate": found["second"].get("per_second")}

    def close(self):
        pass


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(session.time, "monotonic", lambda: now[0])
    return now


def values(folder):
    """Read the result that was kept."""
    return json.loads((folder / "gpu_encode.json").read_text())["values"]


def test_the_budget_is_shared_out_over_the_phases_of_all_models(tmp_path, clock):
    benchmarks = [FakeBenchmark(name, clock, {"first": (10, None), "second": (30, None)}) for name in "ab"]
    session.Session({"gpu": "x"}, 40, tmp_path).run(benchmarks)
    assert [benchmark.given for benchmark in benchmarks] == [{"first": 5.0, "second": 15.0}] * 2
    assert values(tmp_path)["rows"] == [{"model": "a", "rate": 7}, {"model": "b", "rate": 7}]


def test_a_phase_that_takes_too_long_leaves_less_to_the_others(tmp_path, clock):
    benchmarks = [FakeBenchmark(name, clock, {"first": (10, 39.5), "second": (30, None)}) for name in "ab"]
    session.Session({}, 40, tmp_path).run(benchmarks)
    found = values(tmp_path)["models"]
    assert [[*each] for each in (found["a"]["first"], found["a"]["second"])] == [
        ["per_second", "took_seconds"],
        ["skipped"],
    ]
    assert [[*each] for each in found["b"].values()] == [["skipped"]] * 2
    assert clock[0] == 139.5


def test_a_phase_that_fails_is_named_and_the_next_goes_on(tmp_path, clock):
    benchmark = FakeBenchmark("a", clock, {"first": (10, RuntimeError("no kernel")), "second": (30, None)})
    session.Session({}, 40, tmp_path).run([benchmark])
    found = values(tmp_path)["models"]["a"]
    assert found["first"]["failed"] == "RuntimeError: no kernel"
    assert found["second"]["per_second"] == 7


def test_a_run_that_is_cut_off_says_where_and_what_it_lacks(tmp_path, clock):
    cut = FakeBenchmark("a", clock, {"first": (1, None), "second": (1, KeyboardInterrupt()), "third": (1, None)})
    other = FakeBenchmark("b", clock, {"first": (1, None)})
    with pytest.raises(KeyboardInterrupt):
        session.Session({}, 40, tmp_path).run([cut, other])
    found = values(tmp_path)["models"]
    assert found["a"]["first"]["per_second"] == 7
    assert [[*found["a"]["second"]], [*found["a"]["third"]], [*found["b"]["first"]]] == [
        ["unfinished"],
        ["skipped"],
        ["skipped"],
    ]


def test_what_no_model_changes_is_measured_once_and_costs_once(tmp_path, clock):
    benchmarks = [FakeBenchmark(name, clock, {"first": (10, None), "second": (30, None)}, {"first"}) for name in "ab"]
    session.Session({}, 35, tmp_path).run(benchmarks)
    assert [benchmark.given for benchmark in benchmarks] == [{"first": 5.0, "second": 15.0}, {"second": 15.0}]
    assert values(tmp_path)["models"]["b"]["first"] == {"per_second": 7, "measured_with": "a"}


def shown(path):
    """Return the picture in a file."""
    with Image.open(path) as picture:
        return picture.copy()


def test_pictures_are_different_files_that_are_made_once(tmp_path):
    photos = pictures.keep_pictures(tmp_path, 6, 16)
    files = sorted(photos.iterdir())
    assert len({path.read_bytes() for path in files}) == 6
    assert {shown(path).size for path in files} == {(16, 16)}
    written = [path.stat().st_mtime_ns for path in files]
    assert pictures.keep_pictures(tmp_path, 6, 16) == photos
    assert [path.stat().st_mtime_ns for path in files] == written
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:100])
    pictures.keep_pictures(tmp_path, 6, 16)
    assert files[0].read_bytes() == whole


def test_copies_of_a_picture_decode_alike_from_other_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_DIFFERENT", 2)
    pictures._make_share(tmp_path, 4, 16, 0, 1)
    one, other, again, _ = (path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert one != again and len(one) == len(again)
    pixels = [shown(tmp_path / f"{number:08d}.jpg").tobytes() for number in range(3)]
    assert pixels[0] == pixels[2] != pixels[1]
    assert other != one


def test_small_files_that_are_not_whole_are_made_again(tmp_path):
    (tmp_path / "5-small" / "000").mkdir(parents=True)
    (tmp_path / "5-small" / "000" / "000000.jpg").write_bytes(b"cut off")
    files = sorted(pictures.keep_small_files(tmp_path, 5).rglob("*.jpg"))
    assert [path.stat().st_size for path in files] == [16_384] * 5
    written = [path.stat().st_mtime_ns for path in files]
    pictures.keep_small_files(tmp_path, 5)
    assert [path.stat().st_mtime_ns for path in files] == written


def test_the_peer_gets_as_many_workers_as_shared_memory_has_room_for(monkeypatch, capsys):
    batch = 256 * 12 * 224 * 224
    monkeypatch.setattr(peer, "free_shared_memory", lambda: 64 << 20)  # what a container gets by default
    assert peer.fitting_workers(16, 256, 12 * 224 * 224) == 0
    assert "--shm-size" in capsys.readouterr().out
    monkeypatch.setattr(peer, "free_shared_memory", lambda: 16 * 3 * batch * 10 // 9 + 16)
    assert peer.fitting_workers(16, 256, 12 * 224 * 224) == 16
    monkeypatch.setattr(peer, "free_shared_memory", lambda: None)
    assert peer.fitting_workers(16, 256, 12 * 224 * 224) == 16
    assert capsys.readouterr().out == ""


def test_a_peer_that_fails_leaves_the_model_where_it_was(tmp_path, monkeypatch):
    places = []
    picture = SimpleNamespace(height=8, width=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    reference = SimpleNamespace(picture=picture, model=SimpleNamespace(to=places.append))

    def fail(*_):
        raise RuntimeError("a worker died")

    monkeypatch.setattr(peer, "_reader", fail)
    with pytest.raises(RuntimeError, match="a worker died"):
        peer.encode_folder(reference, "cuda:0", tmp_path, tmp_path, size=2, package=None, seconds=1)
    assert places == ["cuda:0", "cpu"]


def test_a_batch_that_does_not_fit_leaves_the_smaller_ones():
    def tower(pixels):
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    reference = SimpleNamespace(picture=SimpleNamespace(height=4, width=4))
    found = towers.eager(tower, reference, "cpu", (1, 2, 4, 8), 0.02)
    assert [*found["by_batch"]] == [1, 2] and found["too_large"] == [4, 8]
    assert found["per_second"] == found["by_batch"][found["at_batch"]]


def test_the_wheels_to_bring_have_the_versions_that_the_project_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {canonicalize_name(each.name): each.specifier for each in map(Requirement, project["dependencies"])}
    lines = (ROOT / "benchmarks" / "gpu" / "wheels.txt").read_text().splitlines()
    listed = [Requirement(line) for line in lines if not line.startswith("#")]
    assert len(listed) == len({canonicalize_name(each.name) for each in listed}) > 10
    for each in listed:
        assert each.specifier == wanted.get(canonicalize_name(each.name), SpecifierSet()), each.name


def test_a_result_can_be_kept_where_there_is_no_git(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    harness.write_result("nothing", {}, tmp_path)
    assert json.loads((tmp_path / "nothing.json").read_text())["commit"] == ""
