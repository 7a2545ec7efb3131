"""The contract of AnnIndex, over every kind of index."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.ann import faiss_runtime, milvus, milvus_params, registry, server_trust
from clipsearch.ann.base import AnnIndex, Probe
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.faiss_flat import MAX_GPU_K, FaissFlatIndex
from clipsearch.ann.faiss_ivfpq import IvfPqIndex, IvfPqParams
from clipsearch.ann.faiss_runtime import GPU_QUERIES, SCRATCH_BYTES, has_gpu, import_faiss
from clipsearch.ann.flat import ArrayRows, FlatIndex, exact_search, merge, no_neighbors, top_k
from clipsearch.ann.milvus_server import MilvusServer
from clipsearch.ann.rotation import balancing_rotation
from clipsearch.ann.torch_flat import TorchFlatIndex, TorchFlatParams
from clipsearch.errors import AnnIndexError, InvalidInputError
from clipsearch.types import Modality, Neighbors

DIM = 32
TORCH, FAISS = TorchFlatIndex.kind, FaissFlatIndex.kind
KINDS = sorted({*registry.KINDS} - {"auto", registry.REMOTE})


def clustered(rows: int, seed: int = 0) -> np.ndarray:
    """Unit rows around a few centres, as real embeddings lie."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, DIM))
    x = centres[rng.integers(20, size=rows)] + 0.5 * rng.standard_normal((rows, DIM))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def created(kind: str, rows: int) -> AnnIndex:
    choice = registry.choose(kind, rows, DIM)
    if choice.kind == "flat":
        return FlatIndex(DIM)
    if choice.kind == FAISS:
        return FaissFlatIndex(DIM)
    if choice.kind == TORCH:
        return TorchFlatIndex(TorchFlatParams(DIM), device="cpu")
    return IvfPqIndex(IvfPqParams(DIM, choice.nlist, choice.m))


def loaded(kind: str, folder: Path, params: Mapping[str, Any]) -> AnnIndex:
    known = {"flat": FlatIndex, registry.REMOTE: milvus.MilvusIndex, TORCH: TorchFlatIndex, FAISS: FaissFlatIndex}
    return known.get(kind, IvfPqIndex).load(folder, params)


def on_server(uri: str, rows: np.ndarray) -> AnnIndex:
    """A collection of the rows, indexed and loaded."""
    server_trust.remember(uri)
    nlist, m = milvus_params.choose_lists(len(rows), DIM)
    name = milvus_params.collection_name("0" * 32, Modality.IMAGE)
    params = milvus_params.MilvusParams(DIM, nlist, m, len(rows), uri, name)
    index = milvus.MilvusIndex(params, MilvusServer(uri), label=milvus_params.label("0" * 32, "a test"))
    index.train(rows.astype(np.float32))
    for start in range(0, len(rows), 400):
        index.add(rows[start : start + 400])
    index.finish(rows[:200].astype(np.float32))
    return index


def built(kind: str, rows: np.ndarray) -> AnnIndex:
    index = created(kind, len(rows))
    index.train(rows.astype(np.float32))
    for start in range(0, len(rows), 400):
        index.add(rows[start : start + 400])
    return index


@pytest.fixture(scope="module", params=[*KINDS, pytest.param(registry.REMOTE, marks=pytest.mark.cluster)])
def index_and_rows(request):
    rows = clustered(1500)
    if request.param == registry.REMOTE:
        return on_server(request.getfixturevalue("milvus_server").uri, rows), rows
    return built(request.param, rows), rows


def test_it_is_an_ann_index_and_counts_its_rows(index_and_rows):
    index, rows = index_and_rows
    assert isinstance(index, AnnIndex)
    assert len(index) == len(rows)


def test_shapes_dtypes_and_order(index_and_rows):
    index, rows = index_and_rows
    found = index.search(rows[:7].astype(np.float32), 5)
    assert found.ids.shape == found.scores.shape == (7, 5)
    assert found.ids.dtype == np.int64 and found.scores.dtype == np.float32
    assert np.all(np.diff(found.scores, axis=1) <= 0)


def test_a_row_finds_itself(index_and_rows):
    index, rows = index_and_rows
    found = index.search(rows.astype(np.float32), 30)
    assert np.mean([i in ids for i, ids in enumerate(found.ids)]) >= 0.99


def test_no_row_scores_below_what_is_said_of_its_like(index_and_rows):
    index, rows = index_and_rows
    queries = rows[::5].astype(np.float32)
    found = index.search(queries, len(rows), probe=Probe(nprobe=10_000))
    own = found.scores[found.ids == np.arange(len(rows))[::5, None]]
    least = index.own_scores(queries)
    assert own.shape == least.shape == (len(queries),) and least.dtype == np.float32
    assert np.all(own >= least - 1e-5) and np.all(own - least < 0.1)


@pytest.mark.parametrize("kind", registry.APPROXIMATE)
def test_among_rows_that_are_almost_alike_each_finds_itself(kind):
    rng = np.random.default_rng(0)
    shots = rng.standard_normal((1, DIM)) / DIM**0.5 + rng.exponential(0.1, (3000, 1)) * unit(
        rng.standard_normal((3000, 5)) @ rng.standard_normal((5, DIM)) + 0.2 * rng.standard_normal((3000, DIM))
    )
    rows = unit(shots).astype(np.float16)
    index = IvfPqIndex(IvfPqParams(DIM, 1 if kind == "pq4" else 80, DIM // 4))
    index.train(rows.astype(np.float32))
    index.add(rows)
    queries, numbers, probe = unit(shots).astype(np.float32), np.arange(3000), Probe(nprobe=4, candidates=20)
    first = search_candidates(index, ArrayRows(rows), queries, 1, probe)
    own = np.einsum("nd,nd->n", queries, rows.astype(np.float32))
    assert np.all(first.scores[:, 0] > own - 2e-4)  # itself, or another row that is as good as equal
    cut_off = ~(index.search(queries, 20, probe=probe).ids == numbers[:, None]).any(axis=1)
    assert cut_off.sum() > 100  # which the codes alone do not find


def test_most_true_neighbours_are_among_the_candidates(index_and_rows):
    index, rows = index_and_rows
    queries = clustered(50, seed=1).astype(np.float32)
    exact = exact_search(ArrayRows(rows), queries, 10).ids
    found = index.search(queries, 100).ids
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]) >= 0.9


def test_only_allowed_rows_are_returned(index_and_rows):
    index, rows = index_and_rows
    allowed = np.zeros(len(rows), bool)
    allowed[::3] = True
    ids = index.search(rows[:20].astype(np.float32), 50, allowed=allowed).ids
    assert np.all(ids[ids >= 0] % 3 == 0)
    assert np.all(ids[::3, 0] >= 0)


def test_nothing_allowed_gives_empty_places(index_and_rows):
    index, rows = index_and_rows
    found = index.search(rows[:2].astype(np.float32), 3, allowed=np.zeros(len(rows), bool))
    assert np.all(found.ids == -1) and np.all(np.isneginf(found.scores))


def test_searching_changes_nothing(index_and_rows):
    index, rows = index_and_rows
    queries = rows[:5].astype(np.float32)
    before = index.search(queries, 10)
    index.search(queries, 3, allowed=np.arange(len(rows)) % 2 == 0)
    after = index.search(queries, 10)
    assert np.array_equal(before.ids, after.ids) and np.array_equal(before.scores, after.scores)


def test_what_was_saved_answers_the_same(index_and_rows, tmp_path):
    index, rows = index_and_rows
    index.save(tmp_path)
    again = loaded(index.kind, tmp_path, index.params)
    queries = rows[:9].astype(np.float32)
    assert len(again) == len(index)
    assert np.array_equal(again.search(queries, 10).ids, index.search(queries, 10).ids)


def test_unreadable_files_are_our_error(index_and_rows, tmp_path):
    index, _ = index_and_rows
    if index.kind == registry.REMOTE:
        pytest.skip("The index is on a server, and is known by its params.")
    index.save(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(AnnIndexError):
        loaded(index.kind, tmp_path, index.params)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(AnnIndexError):
        loaded(index.kind, tmp_path, index.params)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 2, 38, 255, 256, 1000])
def test_every_size_builds_or_is_refused_clearly(kind, rows):
    index = built(kind, clustered(rows))
    assert 0 in index.search(clustered(rows)[:1].astype(np.float32), 10).ids[0]
    if kind in registry.APPROXIMATE:
        assert (index.kind == kind) == (rows >= 256)


def test_ivfpq_refuses_too_few_rows_and_odd_codes():
    with pytest.raises(AnnIndexError, match="256"):
        IvfPqIndex(IvfPqParams(DIM, 4, 8)).train(np.zeros((100, DIM), np.float32))
    for params in (IvfPqParams(DIM, 4, 7), IvfPqParams(DIM, 0, 8)):
        with pytest.raises(AnnIndexError, match="even number"):
            IvfPqIndex(params)


def test_the_ladder_goes_from_exact_to_lists_as_rows_and_dimensions_grow():
    kinds = [registry.choose("auto", rows, 512).kind for rows in (1000, registry.PQ4_ROWS, registry.IVFPQ_ROWS)]
    assert kinds == ["flat", "pq4", "ivfpq"]
    assert registry.choose("auto", registry.PQ4_ROWS, 64).kind == "flat"
    assert registry.choose("ivfpq", 1_000_000, 512).nlist == 4000
    assert registry.choose("pq4", 1_000_000, 512).nlist == 1


def test_a_memory_budget_is_kept_or_refused():
    rows, sizes = 1_000_000, []
    for budget in (0, 100_000_000, 70_000_000, 45_000_000):
        choice = registry.choose("ivfpq", rows, 512, budget)
        taken = IvfPqParams(512, choice.nlist, choice.m).memory(rows)
        assert not budget or taken <= budget
        sizes.append(taken)
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) > 2
    with pytest.raises(InvalidInputError, match="--memory-budget"):
        registry.choose("ivfpq", rows, 512, 5_000_000)


@pytest.mark.parametrize("dim", [2, 3, 17, 33, 257])
def test_any_dimension_can_be_quantised(dim):
    rng = np.random.default_rng(dim)
    rows = rng.standard_normal((600, dim))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    choice = registry.choose("ivfpq", len(rows), dim)
    index = IvfPqIndex(IvfPqParams(dim, choice.nlist, choice.m))
    index.train(rows.astype(np.float32))
    index.add(rows)
    found = index.search(rows.astype(np.float32), 60, probe=Probe(index.nlist, 0.5))
    assert np.mean([i in ids for i, ids in enumerate(found.ids)]) >= 0.99


def test_the_rotation_gives_every_sub_quantiser_the_same_product_of_variances():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5000, 30)).astype(np.float32) * np.geomspace(1, 0.01, 30, dtype=np.float32)
    rotation = balancing_rotation(rows, 6)
    assert np.allclose(rotation.T @ rotation, np.eye(30), atol=1e-5)
    logs = np.log((rows @ rotation).var(axis=0)).reshape(6, 5).sum(axis=1)
    assert np.ptp(logs) < 0.1 * np.ptp(np.log(rows.var(axis=0)).reshape(6, 5).sum(axis=1))


def test_an_emptied_index_has_learnt_the_same(tmp_path):
    rows = clustered(1500)
    index = built("ivfpq", rows)
    index.save(tmp_path)
    again = IvfPqIndex.load(tmp_path, index.params).emptied()
    assert len(again) == 0
    again.add(rows)
    queries = clustered(20, seed=2).astype(np.float32)
    assert np.array_equal(again.search(queries, 20).ids, index.search(queries, 20).ids)


def test_an_index_that_was_read_takes_more_rows(tmp_path):
    rows = clustered(2000)
    index = built("ivfpq", rows[:1500])
    index.save(tmp_path)
    more = IvfPqIndex.load(tmp_path, index.params)
    more.add(rows[1500:])
    whole = index.emptied()
    whole.add(rows)
    queries = clustered(20, seed=2).astype(np.float32)
    assert len(more) == 2000
    assert np.array_equal(more.search(queries, 20).ids, whole.search(queries, 20).ids)


def test_distortion_tells_rows_of_another_distribution():
    index = built("ivfpq", clustered(3000))
    assert index.distortion(clustered(1000, seed=0).astype(np.float32)) == pytest.approx(1.0, abs=0.15)
    other = np.random.default_rng(9).standard_normal((1000, DIM)).astype(np.float32)
    assert index.distortion(other / np.linalg.norm(other, axis=1, keepdims=True)) > 1.3


def test_every_list_probed_and_rescored_equals_exact():
    rows = clustered(2000)
    index = IvfPqIndex(IvfPqParams(DIM, 16, 8))
    index.train(rows.astype(np.float32))
    index.add(rows)
    queries = clustered(30, seed=3).astype(np.float32)
    candidates = index.search(queries, 2000, probe=Probe(16)).ids
    exact = exact_search(ArrayRows(rows), queries, 10)
    for query, ids, expected in zip(queries, candidates, exact.ids, strict=True):
        scores = rows[ids].astype(np.float32) @ query
        best = top_k(Neighbors(ids[None], scores[None]), 10).ids[0]
        assert np.array_equal(best, expected)


def place_at_hand():
    """The first GPU where there is one, else a device that, like a GPU, takes no mask: the path is the same."""
    return None if has_gpu() else lambda flat: flat


@pytest.mark.parametrize("count", [300, 5000])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.5, 1.0])
def test_a_device_that_takes_no_mask_answers_as_the_scan_does(count, share):
    rows, queries = clustered(count), clustered(12, seed=7).astype(np.float32)
    allowed = np.random.default_rng(8).random(count) < share
    index = FaissFlatIndex(DIM, place=place_at_hand())
    for start in range(0, count, 400):
        index.add(rows[start : start + 400])
    found = index.search(queries, 20, allowed=allowed)
    expected = exact_search(ArrayRows(rows), queries, 20, allowed=allowed)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)
    assert (found.ids == expected.ids).mean() > 0.99  # float32 sums may tell copies apart
    assert (found.ids >= 0).sum() == len(queries) * min(20, allowed.sum())


def test_more_neighbours_than_a_gpu_returns_come_from_the_scan():
    rows, queries = clustered(MAX_GPU_K + 500), clustered(3, seed=7).astype(np.float32)
    some = FaissFlatIndex(DIM, place=place_at_hand())
    some.add(rows[: MAX_GPU_K + 400])
    for index in (FaissFlatIndex.over(ArrayRows(rows), stop=MAX_GPU_K + 400), some):
        found = index.search(queries, MAX_GPU_K + 300)
        assert found.ids.shape == (3, MAX_GPU_K + 300)
        assert all(len(np.unique(ids)) == MAX_GPU_K + 300 for ids in found.ids) and found.ids.max() < MAX_GPU_K + 400


class Device:
    """A flat index in the place of one on a GPU, which ends the process where two threads enter the device."""

    entered = threading.Lock()
    calls: ClassVar[list[int]] = []

    def __init__(self, flat):
        self.flat, self.ntotal = flat, flat.ntotal

    def use(self, call):
        assert Device.entered.acquire(blocking=False), "two threads are on the device"
        try:
            time.sleep(0.002)  # lets another thread come, if nothing holds it
            return call()
        finally:
            self.ntotal = self.flat.ntotal
            Device.entered.release()

    def add(self, rows):
        self.use(lambda: self.flat.add(rows))

    def search(self, queries, k, params):
        Device.calls.append(len(queries))
        return self.use(lambda: self.flat.search(queries, k, params=params))


def test_one_thread_at_a_time_is_on_a_device_whichever_index_it_asks():
    rows = clustered(1000)
    indexes = [FaissFlatIndex(DIM, place=Device) for _ in range(2)]
    for index in indexes:
        index.add(rows[:500])
    batches = [clustered(3, seed=seed).astype(np.float32) for seed in range(20)]

    def work(number):
        if number == 10:
            indexes[1].add(rows[500:])
        return indexes[number % 2].search(batches[number], 5)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(work, range(20)))
    for number in range(0, 20, 2):
        assert np.array_equal(found[number].ids, exact_search(ArrayRows(rows[:500]), batches[number], 5).ids)


def test_a_device_gets_few_queries_at_a_time_and_the_processor_all():
    rows, queries = clustered(1000), clustered(3 * GPU_QUERIES + 1, seed=5).astype(np.float32)
    there, here = FaissFlatIndex(DIM, place=Device), FaissFlatIndex(DIM, place=None)
    there.add(rows)
    Device.calls.clear()
    found = there.search(queries, 7)
    assert Device.calls == [GPU_QUERIES] * 3 + [1]
    assert np.array_equal(found.ids, exact_search(ArrayRows(rows), queries, 7).ids)
    if not has_gpu():
        here.add(rows)
        here._scores = Device(here._scores)
        Device.calls.clear()
        here.search(queries, 7)
        assert Device.calls == [len(queries)]


@pytest.mark.skipif(has_gpu(), reason="FAISS finds a GPU here")
def test_threads_search_at_once_on_the_processor():
    index = FaissFlatIndex(DIM)
    index.add(clustered(500))
    flat, both = index._scores, threading.Barrier(2, timeout=20)

    class Meeting:
        ntotal = flat.ntotal

        def search(self, *arguments, **options):
            both.wait()  # breaks where only one thread at a time gets here
            return flat.search(*arguments, **options)

    index._scores = Meeting()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda seed: index.search(clustered(3, seed=seed).astype(np.float32), 5), range(2)))


def test_a_gpu_keeps_little_memory_for_its_work_and_learns_behind_the_lock(monkeypatch):
    kept = []

    class Resources:
        def setTempMemory(self, size):
            kept.append(size)

    def move(resources, device, flat):
        assert isinstance(resources, Resources) and device == 0 and faiss_runtime.GPU_LOCK.locked()
        return flat

    faiss = import_faiss()
    monkeypatch.setattr(faiss, "StandardGpuResources", Resources)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", move)
    FaissFlatIndex(DIM)
    rows = clustered(1500)
    built("ivfpq", rows)
    assert kept == [SCRATCH_BYTES] * 2 and SCRATCH_BYTES < 512 << 20
    assert not faiss_runtime.GPU_LOCK.locked()


def test_a_device_that_refuses_is_our_error():
    def refuse(flat):
        raise RuntimeError("Error in faiss::gpu at x.cu:1: out of memory")

    with pytest.raises(AnnIndexError, match="faiss_flat index could not be set up"):
        FaissFlatIndex(DIM, place=refuse)
    FaissFlatIndex(DIM, place=lambda flat: flat)  # the lock is free again


@pytest.mark.skipif(not has_gpu(), reason="FAISS finds no GPU here")
def test_a_gpu_learns_and_answers_as_the_processor_does():
    rows, queries = clustered(20_000), clustered(50, seed=3).astype(np.float32)
    expected = exact_search(ArrayRows(rows), queries, 10)
    found = FaissFlatIndex.over(ArrayRows(rows)).search(queries, 10)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    index = built("ivfpq", rows)
    near = index.search(queries, 10, probe=Probe(nprobe=index.nlist)).ids
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(near, expected.ids, strict=True)]) > 0.5


def test_training_writes_nothing_to_stderr():
    script = (
        "import numpy as np; from clipsearch.ann.faiss_ivfpq import *; x = np.random.default_rng(0)"
        ".standard_normal((300, 32)).astype('f4'); i = IvfPqIndex(IvfPqParams(32, 7, 8)); i.train(x)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == done.stdout == ""


scores = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, -1.0]), min_size=1, max_size=40)


@given(scores, st.integers(1, 45))
@settings(max_examples=200, deadline=None)
def test_top_k_is_the_start_of_a_stable_sort(values, k):
    row = np.array([values], np.float32)
    ids = np.arange(len(values))[None]
    found = top_k(Neighbors(ids, row), k)
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    assert found.ids[0].tolist() == expected


@given(scores, st.integers(1, 10), st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_merging_two_halves_equals_the_whole(values, k, cut):
    row, ids = np.array([values], np.float32), np.arange(len(values))[None]
    left = top_k(Neighbors(ids[:, :cut], row[:, :cut]), k)
    right = top_k(Neighbors(ids[:, cut:], row[:, cut:]), k)
    assert np.array_equal(merge(left, right, k).ids, top_k(Neighbors(ids, row), k).ids)


def test_scan_of_a_part_and_of_nothing():
    rows = clustered(100)
    query = rows[:1].astype(np.float32)
    assert set(exact_search(ArrayRows(rows), query, 200, start=90).ids[0]) == set(range(90, 100))
    assert exact_search(ArrayRows(rows), query, 5, start=100).ids.shape == (1, 0)
    assert no_neighbors(2, 3).ids.tolist() == [[-1] * 3] * 2
