"""Small numeric parts: float16 read as float32, recall, exact search over halves."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.ann.flat import ArrayRows, exact_scores_of, exact_search, search_among
from clipsearch.float16 import widen
from clipsearch.query.eval.metrics import knn_recall

HALVES = np.arange(65536, dtype=np.uint16).view(np.float16)


def test_every_finite_half_is_widened_exactly():
    finite = HALVES[np.isfinite(HALVES)]
    wide = widen(finite)
    assert len(finite) == 63488 and wide.dtype == np.float32
    assert np.array_equal(wide.view(np.uint32), finite.astype(np.float32).view(np.uint32)), "zeros keep their sign too"


@pytest.mark.parametrize(
    "view", [lambda x: x[::3], lambda x: x[:, ::2], lambda x: x.T, np.asfortranarray, lambda x: x[:0]]
)
def test_any_layout_is_widened(view):
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float16)
    before = rows.copy()
    assert np.array_equal(widen(view(rows)), view(rows).astype(np.float32))
    assert np.array_equal(rows, before)


def test_widening_reads_a_file_that_is_mapped_read_only(tmp_path):
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float16)
    rows.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", dtype="<f2", mode="r", shape=(40, 8))
    assert np.array_equal(widen(mapped[3:9]), rows[3:9].astype(np.float32))


def test_recall_counts_true_neighbours_wherever_they_stand():
    true = np.array([[1, 2, 3], [4, 5, -1], [-1, -1, -1]])
    found = np.array([[3, 9, 1, 7], [5, 4, -1, -1], [1, 2, 3, -1]])
    assert knn_recall(found, true) == pytest.approx([2 / 3, 1.0, 0.0])


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 40), st.integers(0, 3))
def test_a_scan_in_blocks_is_a_sort(rows, queries, k, seed):
    stored, asked = unit(rows, 8, seed).astype(np.float16), unit(queries, 8, seed + 9)
    found = exact_search(ArrayRows(stored), asked, k)
    scores = asked @ stored.astype(np.float32).T
    best = np.sort(-scores, axis=1)[:, :k]
    assert np.allclose(-found.scores[:, : min(k, rows)], best, atol=1e-6)


def test_a_scan_of_many_blocks_finds_what_one_block_holds():
    stored, asked = unit(30_000, 64, 0).astype(np.float16), unit(3, 64, 1)
    scores = asked @ stored.astype(np.float32).T
    assert np.array_equal(exact_search(ArrayRows(stored), asked, 20).ids, np.argsort(-scores, axis=1)[:, :20])


def test_candidates_are_scored_exactly_and_empty_places_are_not():
    stored, asked = unit(50, 8, 0).astype(np.float16), unit(2, 8, 1)
    ids = np.array([[4, 9, 2, -1], [-1, -1, 7, -1]])
    scores = exact_scores_of(ArrayRows(stored), asked, ids)
    exact = asked @ stored.astype(np.float32).T
    assert scores[0, :3] == pytest.approx(exact[0, [4, 9, 2]]) and scores[1, 2] == pytest.approx(exact[1, 7])
    assert np.all(np.isneginf(scores[ids < 0]))


def test_a_search_among_rows_equals_a_scan_with_a_mask():
    stored, asked = unit(5000, 16, 0).astype(np.float16), unit(4, 16, 1)
    among = np.arange(0, 5000, 7)
    mask = np.zeros(5000, bool)
    mask[among] = True
    found = search_among(ArrayRows(stored), asked, 10, among)
    assert np.array_equal(found.ids, exact_search(ArrayRows(stored), asked, 10, allowed=mask).ids)
    assert search_among(ArrayRows(stored), asked, 10, among[:0]).ids.shape == (4, 0)
