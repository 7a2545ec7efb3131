"""Scores, backgrounds and merged lists."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.ranking import (
    MIN_ROWS,
    NullModel,
    confidence,
    counted_rows,
    counted_tries,
    exact_scores,
    log_evalue,
    null_model,
)


def test_scores_are_cosines_also_of_rows_that_float16_has_changed():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    query = (rows[3] / np.linalg.norm(rows[3])).astype(np.float32)
    scores = exact_scores(query, rows)
    expected = rows @ query / np.linalg.norm(rows, axis=1)
    assert scores == pytest.approx(expected, abs=1e-6)
    assert scores[3] == pytest.approx(1.0, abs=1e-6) and scores.max() <= 1.0


def test_a_small_sample_tells_no_confidence_but_still_ranks():
    few = null_model(np.array([0.1, 0.2, 0.9], np.float32), 3)
    assert confidence(0.9, few) is None
    assert log_evalue(0.9, few) > 2 > log_evalue(0.2, few)
    single = null_model(np.array([0.7], np.float32), 1)
    assert log_evalue(0.7, single) == pytest.approx(math.log(2), abs=1e-6)


def test_background_of_normal_scores_is_theirs_and_a_few_matches_do_not_move_it():
    scores = np.random.default_rng(1).normal(0.2, 0.05, 2000).astype(np.float32)
    seen = null_model(scores, 2000)
    assert (seen.centre, seen.spread) == pytest.approx((0.2, 0.05), abs=0.005)
    scores[:40] = 0.9
    moved = null_model(scores, 2000)
    assert moved.centre == pytest.approx(seen.centre, abs=0.005)


def test_confidence_is_the_chance_that_the_best_of_n_unrelated_scores_lower():
    rng = np.random.default_rng(2)
    seen = NullModel(0.0, 1.0, 100, 100)
    best = rng.standard_normal((4000, 100)).max(axis=1)
    for score in (2.0, 2.5, 3.0):
        assert confidence(score, seen) == pytest.approx((best < score).mean(), abs=0.03)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.01, 0.3), st.integers(1, 10**9))
def test_confidence_is_a_probability_and_grows_with_the_score(one, other, spread, rows):
    seen = NullModel(0.0, spread, rows, 1000)
    low, high = sorted((one, other))
    assert 0.0 <= confidence(low, seen) <= confidence(high, seen) <= 1.0
    assert log_evalue(low, seen) <= log_evalue(high, seen)
    assert math.isfinite(log_evalue(low, seen))


def test_more_rows_make_the_same_score_less_surprising():
    few, many = NullModel(0.0, 0.1, 10, 1000), NullModel(0.0, 0.1, 10**6, 1000)
    assert confidence(0.3, few) > confidence(0.3, many)


def test_chance_has_more_tries_at_few_rows_without_a_leap():
    tries = [counted_tries(rows) for rows in range(1, 3_000)]
    assert tries[0] == MIN_ROWS and tries[99] == 400 and tries[999:] == [*range(1_000, 3_000)]
    assert all(0 <= more - fewer <= 4 for fewer, more in pairwise(tries))
    assert all(count >= counted_rows(rows) for rows, count in enumerate(tries, 1))


def test_a_bounded_confidence_is_the_chance_that_random_directions_score_lower():
    rng = np.random.default_rng(0)
    dim, rows = 24, 3000
    best, others = [], []
    for _ in range(300):
        scores = rng.standard_normal((rows, dim))
        scores = scores[:, 0] / np.linalg.norm(scores, axis=1)
        best.append(scores.max())
        others.append(scores[:1000])
    seen = null_model(np.concatenate(others), rows, spread=float(np.std(others)))
    for score in (0.55, 0.6, 0.65, 0.7):
        expected = float((np.array(best) < score).mean())
        assert confidence(score, seen, bounded=True) == pytest.approx(expected, abs=0.08)
    assert confidence(1.0, seen, bounded=True) > 0.999


def test_of_more_rows_than_a_normal_can_tell_apart_one_that_finds_itself_is_certain():
    pictures = NullModel(centre=0.6, spread=0.1, rows=300_000, sampled=1024)
    assert confidence(0.9999, pictures) < 0.1, "the best of this many draws from a normal distribution would reach 1"
    assert confidence(0.9999, pictures, bounded=True) > 0.9999


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(-0.99, 0.99), st.floats(0.01, 0.8))
def test_a_bounded_confidence_grows_with_the_score(one, other, centre, spread):
    seen = NullModel(centre, spread, 1000, 100)
    low, high = sorted((one, other))
    assert confidence(low, seen, bounded=True) <= confidence(high, seen, bounded=True) + 1e-6
