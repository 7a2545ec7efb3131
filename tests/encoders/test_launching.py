"""How batches are launched: as captured graphs, compiled, and without waiting for other threads."""

import logging
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from clipsearch.encoders import switching, torch_graphs, torch_lanes, torch_runtime
from clipsearch.encoders.device_batch import DeviceBatch
from clipsearch.encoders.onnx_runtime import OnnxEncoder
from clipsearch.encoders.torch_compiling import Tower
from clipsearch.encoders.torch_lanes import Lane
from tests.support import tiny_openclip
from tests.support.pictures import noise_picture
from tests.support.vectors import cosines

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
NEVER = 9e9


class Layer(torch.nn.Module):
    """A tower of one layer that notes how many rows it is called with."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(6, 3)
        self.calls = []

    def forward(self, values):
        self.calls.append(len(values))
        return torch.nn.functional.normalize(self.layer(values), dim=1)


class Graph:
    """Stands for a CUDA graph: computes from where it read at its capture to where it wrote, when replayed."""

    def __init__(self, run, rows):
        self.run, self.rows, self.replays = run, rows, 0

    def replay(self):
        self.replays += 1
        self.rows.copy_(self.run())


class Captures:
    """Makes such graphs; fails with an error where there is one."""

    def __init__(self, error=None):
        self.graphs, self.lanes, self.error = [], 0, error

    def __call__(self, stream):
        self.lanes += 1
        return self.capture

    def capture(self, run):
        if self.error:
            raise self.error
        rows = run()
        with torch.inference_mode():
            graph = Graph(run, rows.fill_(torch.nan))  # what is captured is not run
        self.graphs.append(graph)
        return graph, rows


def lane_of(captures, module=None, size=4, tower=None):
    tower = tower or Tower(module, NEVER)
    return Lane(tower, CPU, DeviceBatch(size, "model", grow_after=1), (6,), torch.float32, 3, captures)


def some_rows(count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32)


@torch.inference_mode()
def expected_of(module, rows):
    return module(torch.from_numpy(rows)).numpy()


def test_full_batches_replay_a_graph_of_each_slot_and_others_do_not():
    module, captures = Layer(), Captures()
    lane = lane_of(captures, module)
    for seed, count in enumerate((43, 3, 4, 40, 1)):
        rows = some_rows(count, seed)
        np.testing.assert_allclose(lane.encode(iter(rows)), expected_of(module, rows), atol=1e-6)
    assert len(captures.graphs) == 2 and captures.lanes == 1
    # 11 + 1 + 1 + 10 full ones; the first of each slot ran as it was, and its graph was replayed once to compare
    assert sum(graph.replays for graph in captures.graphs) == 23
    module.calls.clear()
    lane.encode(iter(some_rows(3)))
    assert module.calls == [4], "three rows are padded to four, which is a full batch"
    module.calls.clear()
    lane.encode(iter(some_rows(2)))
    assert module.calls == [2]


@pytest.mark.parametrize("error", [RuntimeError("operation not permitted when stream is capturing"), MemoryError()])
def test_a_tower_that_cannot_be_captured_runs_as_it_is(error, caplog):
    module = Layer()
    lane, rows = lane_of(captures := Captures(error), module), some_rows(60)
    with caplog.at_level(logging.DEBUG, logger="clipsearch"):
        np.testing.assert_allclose(lane.encode(iter(rows)), expected_of(module, rows), atol=1e-6)
    assert not captures.graphs and lane._batch.size == 4, "it fits as it is"
    failures = [record for record in caplog.records if "cannot be captured" in record.getMessage()]
    assert len(failures) == 2 and {record.levelno for record in failures} == {logging.DEBUG}


def test_a_graph_that_gives_other_rows_is_not_used():
    module = Layer()

    class Wrong(Captures):
        def capture(self, run):
            return super().capture(lambda: run().roll(1, dims=1))

    lane, rows = lane_of(captures := Wrong(), module), some_rows(60)
    np.testing.assert_allclose(lane.encode(iter(rows)), expected_of(module, rows), atol=1e-6)
    assert [graph.replays for graph in captures.graphs] == [1, 1]


def test_a_batch_of_another_size_is_captured_again():
    class Small(Layer):
        room = 4

        def forward(self, values):
            if len(values) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(values)

    module, captures = Small(), Captures()
    lane, rows = lane_of(captures, module, size=8), some_rows(64)
    module.room = 64
    expected = expected_of(module, rows)
    module.room = 4
    np.testing.assert_allclose(lane.encode(iter(rows)), expected, atol=1e-6)
    assert {len(graph.rows) for graph in captures.graphs} == {4}
    module.room = 64
    np.testing.assert_allclose(lane.encode(iter(rows)), expected, atol=1e-6)
    np.testing.assert_allclose(lane.encode(iter(rows)), expected, atol=1e-6)
    assert len(captures.graphs[-1].rows) == 8 and captures.lanes >= 3
    assert captures.graphs[-1].replays > 1


def test_memory_that_runs_out_in_a_replayed_batch_loses_no_row():
    module, captures = Layer(), Captures()
    lane, rows = lane_of(captures, module, size=8), some_rows(80)
    expected = expected_of(module, rows)
    lane.encode(iter(rows))

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    captures.graphs[0].replay = full
    np.testing.assert_allclose(lane.encode(iter(rows)), expected, atol=1e-6)
    assert len(captures.graphs) > 2


@pytest.mark.parametrize("kind", ["classic_clip", "siglip_like"])
def test_a_model_with_captured_graphs_gives_the_vectors_of_the_export(models, monkeypatch, kind):
    captures = Captures()
    monkeypatch.setattr(torch_runtime, "capture_on", captures)
    encoder = tiny_openclip.on_torch(models.source(kind), ["cpu"], device_batch=8)
    reference = OnnxEncoder(*models.export(kind), threads=1)
    pictures = [noise_picture(seed, (40, 40)) for seed in range(34)]
    expected = reference.encode_images(pictures)
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: encoder.encode_images(pictures), range(6)):
            assert cosines(rows, expected).min() >= 0.9999
    assert 2 <= len(captures.graphs) <= 4 and sum(graph.replays for graph in captures.graphs) >= 6 * 4
    before = len(captures.graphs)
    texts = [f"a photo of {number} {'old ' * (number % 7)}houses" for number in range(40)]
    assert cosines(encoder.encode_texts(texts), reference.encode_texts(texts)).min() >= 0.9999
    # rows of texts have one length in one of the models, and many in the other
    assert (len(captures.graphs) > before) == (kind == "siglip_like")


@pytest.fixture
def compiler(monkeypatch):
    """The compiler, replaced by one that notes what it is asked to compile, when it comes to run it."""
    compiled = []

    def compile_module(module, dynamic):
        def run(values):
            if values.shape not in compiled:
                compiled.append(values.shape)
            return module(values)

        return run

    monkeypatch.setattr(torch, "compile", compile_module)
    return compiled


def test_a_batch_that_was_halved_is_compiled_again_and_the_first_one_kept(compiler):
    module = Layer()
    tower = Tower(module, compile_after=10.0)
    batch = DeviceBatch(8, "model", grow_after=1)
    lane = Lane(tower, CPU, batch, (6,), torch.float32, 3, Captures())
    rows, expected = some_rows(64), expected_of(module, some_rows(64))
    lane.encode(iter(rows))
    assert not compiler
    tower.worked(11)
    lane.encode(iter(rows))
    assert [shape[0] for shape in compiler] == [8]
    batch.halve(8, "full")
    batch._grow_after = 10**6
    np.testing.assert_allclose(lane.encode(iter(rows)), expected, atol=1e-6)
    assert [shape[0] for shape in compiler] == [8], "only after as much work again"
    tower.worked(11)
    np.testing.assert_allclose(lane.encode(iter(rows)), expected, atol=1e-6)
    assert [shape[0] for shape in compiler] == [8, 4]
    batch._grow_after = 1
    lane.encode(iter(rows))
    tower.worked(11)
    np.testing.assert_allclose(lane.encode(iter(rows)), expected, atol=1e-6)
    assert batch.size == 8 and [shape[0] for shape in compiler] == [8, 4] and tower.is_compiled


def test_what_was_captured_is_captured_again_when_it_is_compiled(compiler):
    module, captures = Layer(), Captures()
    tower = Tower(module, compile_after=10.0)
    lane, rows = lane_of(captures, tower=tower), some_rows(40)
    lane.encode(iter(rows))
    tower.worked(11)
    np.testing.assert_allclose(lane.encode(iter(rows)), expected_of(module, rows), atol=1e-6)
    assert len(captures.graphs) == 4 and compiler
    replays = [graph.replays for graph in captures.graphs]
    lane.encode(iter(rows))
    assert [graph.replays for graph in captures.graphs][:2] == replays[:2], "the old ones are no longer used"


def test_the_other_devices_go_on_while_one_compiles(monkeypatch):
    began, may_end = threading.Event(), threading.Event()

    def compile_slowly(module, dynamic):
        began.set()
        assert may_end.wait(60)
        return module

    monkeypatch.setattr(torch, "compile", compile_slowly)
    busy, other = (Tower(Layer(), compile_after=10.0) for _ in range(2))
    one, two, third = (lane_of(Captures(), tower=tower, size=8) for tower in (busy, other, busy))
    rows = some_rows(43)
    expected = [expected_of(tower._module, rows) for tower in (busy, other)]
    for lane in (one, two, third):
        lane.encode(iter(rows))
    busy.worked(11)
    other.worked(11)
    with ThreadPoolExecutor(3) as pool:
        compiling = pool.submit(one.encode, iter(rows))
        try:
            assert began.wait(20)
            # the last batch of each has three rows: nothing but what was captured can be launched meanwhile
            found = [pool.submit(lane.encode, iter(rows)).result(20) for lane in (two, third)]
            assert not compiling.done()
        finally:
            may_end.set()
        np.testing.assert_allclose(compiling.result(20), expected[0], atol=1e-6)
    np.testing.assert_allclose(found[0], expected[1], atol=1e-6)
    np.testing.assert_allclose(found[1], expected[0], atol=1e-6)
    two.encode(iter(rows))
    assert other.is_compiled, "its turn comes"


def test_the_switch_interval_is_short_while_a_gpu_encodes_and_then_what_it_was(monkeypatch):
    seen, before = [], sys.getswitchinterval()

    class Asking(Layer):
        def forward(self, values):
            seen.append(sys.getswitchinterval())
            return super().forward(values)

    lane = lane_of(Captures(), Asking())
    lane.encode(iter(some_rows(8)))
    assert set(seen) == {before}, "the processor needs none"
    monkeypatch.setattr(torch_lanes, "_is_gpu", lambda device: True)
    seen.clear()
    with ThreadPoolExecutor(3) as pool:
        lanes = [lane_of(Captures(), Asking()) for _ in range(3)]
        list(pool.map(lambda lane: [lane.encode(iter(some_rows(8))) for _ in range(5)], lanes))
    assert max(seen) <= switching.SECONDS * 1.01
    assert sys.getswitchinterval() == before

    class Failing(Layer):
        def forward(self, values):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        lane_of(Captures(), Failing()).encode(iter(some_rows(8)))
    assert sys.getswitchinterval() == before


def test_an_interval_that_the_application_set_meanwhile_or_before_stays():
    before = sys.getswitchinterval()
    try:
        with switching.short_interval():
            sys.setswitchinterval(0.02)
        assert sys.getswitchinterval() == pytest.approx(0.02)
        sys.setswitchinterval(0.0001)
        shorter = sys.getswitchinterval()
        with switching.short_interval():
            assert sys.getswitchinterval() == shorter
        assert sys.getswitchinterval() == shorter
        for microseconds in range(4995, 5005):
            sys.setswitchinterval(microseconds / 1e6 + 5e-7)
            asked = sys.getswitchinterval()
            for _ in range(3):
                with switching.short_interval():
                    assert sys.getswitchinterval() < asked
            assert sys.getswitchinterval() == asked
    finally:
        sys.setswitchinterval(before)


def test_a_processor_captures_nothing():
    assert torch_graphs.capture_on(None) is None


def test_a_gpu_replays_what_it_captured():
    tiny_openclip.require_gpu()
    device, module = torch.device("cuda:0"), Layer().to("cuda:0")
    lane = Lane(Tower(module, NEVER), device, DeviceBatch(64, "model"), (6,), torch.float32, 3)
    rows = some_rows(1000)
    for _ in range(3):
        found = lane.encode(iter(rows))
    assert all(slot.launch.is_captured for slot in lane._slots)
    expected = expected_of(module.cpu(), rows)
    np.testing.assert_allclose(found, expected, atol=1e-3)
