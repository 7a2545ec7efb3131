"""Exact search by PyTorch: the same answer as the scan, whatever the device, the blocks and the batch."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from clipsearch.ann import torch_flat
from clipsearch.ann.flat import ArrayRows, FlatIndex, exact_search
from clipsearch.ann.torch_flat import TorchFlatIndex, TorchFlatParams
from clipsearch.errors import AnnIndexError
from clipsearch.types import Neighbors


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((rows, dim))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def truth(rows: np.ndarray, queries: np.ndarray, k: int, allowed: np.ndarray | None = None) -> Neighbors:
    """All scores in float64, rounded once, and a full stable sort."""
    scores = (queries.astype(np.float64) @ rows.astype(np.float64).T).astype(np.float32)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    scores = np.take_along_axis(scores, ids, 1)
    return Neighbors(np.where(np.isneginf(scores), -1, ids), scores)


def index_of(rows: np.ndarray, *, block_bytes: int | None = None, device: str = "cpu") -> TorchFlatIndex:
    index = TorchFlatIndex(TorchFlatParams(rows.shape[1]), device=device, block_bytes=block_bytes)
    for start in range(0, len(rows), 700):
        index.add(rows[start : start + 700])
    return index


def assert_same(found: Neighbors, expected: Neighbors) -> None:
    assert np.array_equal(found.ids, expected.ids)
    assert np.array_equal(found.scores, expected.scores)
    assert found.ids.dtype == np.int64 and found.scores.dtype == np.float32


@pytest.mark.parametrize("block_bytes", [None, 1, 4000, 100_000])
@pytest.mark.parametrize(("rows", "dim", "queries", "k"), [(3000, 64, 5, 10), (1500, 7, 33, 100), (900, 512, 1, 1)])
def test_the_answer_is_that_of_the_scan_whatever_the_size_of_a_block(rows, dim, queries, k, block_bytes):
    stored = unit(rows, dim, 0).astype(np.float16)
    asked = unit(queries, dim, 1)
    found = index_of(stored, block_bytes=block_bytes).search(asked, k)
    assert_same(found, truth(stored, asked, k))
    scan = exact_search(ArrayRows(stored), asked, k)
    np.testing.assert_allclose(found.scores, scan.scores, atol=1e-6)
    # where float32 sums of the scan leave no doubt about the order, it is the same
    differs = found.ids != scan.ids
    assert np.abs(found.scores - scan.scores)[differs].max(initial=0) < 1e-6 and differs.mean() < 0.01


@pytest.mark.parametrize("block_bytes", [None, 3000])
def test_scores_that_float32_holds_exactly_give_the_very_order_of_the_scan(block_bytes):
    rng = np.random.default_rng(2)
    rows = (rng.integers(-8, 9, (2000, 16)) / 32).astype(np.float16)
    queries = (rng.integers(-8, 9, (20, 16)) / 32).astype(np.float32)
    allowed = rng.random(2000) < 0.5
    index = index_of(rows, block_bytes=block_bytes)
    for mask in (None, allowed):
        found = index.search(queries, 50, allowed=mask)
        assert (np.diff(found.scores, axis=1) == 0).any()
        assert_same(found, exact_search(ArrayRows(rows), queries, 50, allowed=mask))


@pytest.mark.parametrize("block_bytes", [None, 2000])
def test_copies_of_a_row_stand_in_order_of_id(block_bytes):
    rows = np.repeat(unit(3, 48, 3).astype(np.float16), 600, axis=0)[np.random.default_rng(4).permutation(1800)]
    queries = unit(4, 48, 5)
    assert_same(index_of(rows, block_bytes=block_bytes).search(queries, 700), truth(rows, queries, 700))


def test_what_float16_would_round_off_a_query_counts():
    # in steps of 2**-13, those of float16 here, above 0.25: row 0 scores 0.51, rows 1 to 100 score 0.01, row 101
    # scores 0.98; with the query as float16 they would be 1, 0.5 and 0
    query = np.full((1, 64), 0.125, np.float32)
    query[0, 2:4] += np.float32(0.49 * 2**-13)
    query[0, 4:] += np.float32(0.51 * 2**-13)
    query[0, 1] = np.sqrt(1 - np.square(np.delete(query, 1), dtype=np.float64).sum())
    rows = np.zeros((102, 64), np.float16)
    rows[:101, 0] = [1, *[1 - 2**-11] * 100]
    rows[np.arange(101), 4 + np.arange(101) % 60] = 1
    rows[101, 2:4] = 1
    found = index_of(rows).search(query, 1)
    assert found.ids.tolist() == [[101]]
    assert_same(found, truth(rows, query, 1))


def test_rows_tie_where_only_the_rounding_of_float32_sums_tells_them_apart():
    rng = np.random.default_rng(6)
    values = (unit(1, 512, 7)[0] * 10 ** rng.uniform(-3, 0, 512)).astype(np.float16)
    rows = np.stack([rng.permutation(values) for _ in range(1000)])
    query = np.full((1, 512), 512**-0.5, np.float32)
    assert len(np.unique(rows.astype(np.float32) @ query[0])) > 1
    found = index_of(rows).search(query, 20)
    assert found.ids.tolist() == [list(range(20))] and len(np.unique(found.scores)) == 1


def test_the_length_of_a_query_scales_its_scores_and_changes_no_order():
    rows = unit(500, 32, 8).astype(np.float16)
    queries = unit(1, 32, 9) * np.array([[1e-9], [1e-3], [1.0], [3e5], [0.0]], np.float32)
    found = index_of(rows).search(queries, 12)
    assert_same(found, truth(rows, queries, 12))
    assert found.ids[4].tolist() == list(range(12))


@pytest.mark.parametrize("share", [0.0, 0.002, 0.3, 1.0])
def test_a_mask_is_applied_before_the_best_are_taken(share):
    rows, queries = unit(2500, 24, 10).astype(np.float16), unit(6, 24, 11)
    allowed = np.random.default_rng(12).random(2500) < share
    found = index_of(rows, block_bytes=5000).search(queries, 40, allowed=allowed)
    assert_same(found, truth(rows, queries, 40, allowed))
    assert (found.ids >= 0).sum() == len(queries) * min(40, allowed.sum())


@pytest.mark.parametrize("k", [0, 1, 59, 60, 61, 1000])
def test_more_neighbours_than_rows_gives_all_rows(k):
    rows, queries = unit(60, 16, 13).astype(np.float16), unit(3, 16, 14)
    found = index_of(rows, block_bytes=2000).search(queries, k)
    assert found.ids.shape == found.scores.shape == (3, min(k, 60))
    assert_same(found, truth(rows, queries, k))


def test_no_rows_and_no_queries_are_answers_too():
    empty = TorchFlatIndex(TorchFlatParams(8), device="cpu")
    assert empty.search(unit(2, 8, 0), 5).ids.shape == (2, 0)
    assert index_of(unit(9, 8, 0).astype(np.float16)).search(np.empty((0, 8), np.float32), 5).ids.shape == (0, 5)


def test_more_queries_than_one_pass_takes():
    rows, queries = unit(300, 8, 15).astype(np.float16), unit(2500, 8, 16)
    assert_same(index_of(rows).search(queries, 4), truth(rows, queries, 4))


def test_rows_of_a_library_are_loaded_and_what_is_saved_is_a_flat_index(tmp_path):
    rows, queries = unit(1000, 16, 17).astype(np.float16), unit(3, 16, 18)
    rows.flags.writeable = False
    index = TorchFlatIndex.over(ArrayRows(rows), "cpu")
    assert len(index) == 1000 and index.params == {"dim": 16}
    index.save(tmp_path)
    assert np.array_equal(FlatIndex.load(tmp_path, {"dim": 16}).search(queries, 9).ids, index.search(queries, 9).ids)
    with pytest.raises(AnnIndexError, match="17 dimensions"):
        TorchFlatIndex.load(tmp_path, {"dim": 17})


def test_many_small_additions_keep_the_order_of_rows():
    rows, queries = unit(500, 16, 19).astype(np.float16), unit(3, 16, 20)
    index = TorchFlatIndex(TorchFlatParams(16), device="cpu")
    sizes = np.random.default_rng(21).integers(0, 9, 200)
    for start, size in zip(np.cumsum(sizes) - sizes, sizes, strict=True):
        index.add(rows[start : start + size])
    assert len(index) == 500
    assert_same(index.search(queries, 30), truth(rows, queries, 30))


def test_a_search_makes_nothing_larger_than_a_block():
    from torch.utils._python_dispatch import TorchDispatchMode

    made = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            made.extend(t.nbytes for t in (out if isinstance(out, tuple | list) else [out]) if hasattr(t, "nbytes"))
            return out

    index = index_of(unit(4000, 32, 29).astype(np.float16), block_bytes=50_000)
    for queries in (1, 40):
        with Watch():
            index.search(unit(queries, 32, 30), 15)
        assert 25_000 < max(made) <= 50_000
        made.clear()


def test_several_threads_search_at_once():
    rows = unit(4000, 32, 22).astype(np.float16)
    index = index_of(rows, block_bytes=50_000)
    batches = [unit(3, 32, 100 + i) for i in range(24)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda batch: index.search(batch, 15), batches))
    for batch, found in zip(batches, answers, strict=True):
        assert_same(found, truth(rows, batch, 15))


def test_a_search_leaves_the_settings_of_torch_alone():
    import torch

    def settings():
        matmul = torch.backends.cuda.matmul
        return (
            torch.get_num_threads(),
            matmul.allow_fp16_reduced_precision_reduction,
            torch.get_float32_matmul_precision(),
        )

    before = settings()
    index_of(unit(100, 8, 23).astype(np.float16)).search(unit(2, 8, 24), 3)
    assert settings() == before


def test_no_device_no_memory_and_wrong_dimensions_are_our_error():
    with pytest.raises(AnnIndexError, match=r"cuda:99.*clipsearch build"):
        TorchFlatIndex(TorchFlatParams(8), device="cuda:99")
    vast = TorchFlatIndex(TorchFlatParams(1 << 58), device="cpu")
    with pytest.raises(AnnIndexError, match=r"1 rows on cpu: .*Free memory"):
        vast.add(np.broadcast_to(np.float16(0), (1, 1 << 58)))
    index = index_of(unit(10, 8, 25).astype(np.float16))
    with pytest.raises(AnnIndexError, match=r"queries of shape \(n, 8\), but these are \(1, 9\)"):
        index.search(unit(1, 9, 0), 3)
    with pytest.raises(AnnIndexError, match=r"rows of shape \(n, 8\)"):
        index.add(unit(1, 9, 0).astype(np.float16))


@pytest.mark.parametrize("operator", ["cat", "tensor"])
def test_rows_stay_as_they_were_where_memory_runs_out_while_more_are_added(monkeypatch, operator):
    import torch

    monkeypatch.setattr(torch_flat, "_CHUNK_ROWS", 64)
    rows, queries = unit(200, 16, 31).astype(np.float16), unit(3, 16, 32)
    index = TorchFlatIndex(TorchFlatParams(16), device="cpu")
    index.add(rows[:30])
    make = getattr(torch, operator)

    def full(values, *arguments, **options):
        if operator == "cat" or len(values) < 64:  # `cat` at once, `tensor` with the last chunk
            raise torch.OutOfMemoryError("CUDA out of memory")
        return make(values, *arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(AnnIndexError, match="out of memory"):
        patch.setattr(torch, operator, full)
        index.add(rows[30:60] if operator == "cat" else rows[30:170])
    assert_same(index.search(queries, 200), truth(rows[:30], queries, 30))
    index.add(rows[30:])
    assert_same(index.search(queries, 200), truth(rows, queries, 200))


def test_importing_it_does_not_import_torch():
    script = "import sys, clipsearch.ann.torch_flat; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_gpu_gives_the_very_answer_of_the_processor():
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rows, queries = unit(20_000, 512, 26).astype(np.float16), unit(70, 512, 27)
    rows[1000:1500] = rows[0]
    allowed = np.random.default_rng(28).random(20_000) < 0.4
    precision = torch.get_float32_matmul_precision()
    try:
        for coarse in ("highest", "medium"):
            torch.set_float32_matmul_precision(coarse)
            for block_bytes in (None, 1_000_000):
                index = index_of(rows, block_bytes=block_bytes, device="cuda")
                assert_same(index.search(queries, 50), truth(rows, queries, 50))
                assert_same(index.search(queries, 50, allowed=allowed), truth(rows, queries, 50, allowed))
                assert_same(index.search(rows[:1].astype(np.float32), 600), truth(rows, rows[:1], 600))
    finally:
        torch.set_float32_matmul_precision(precision)
