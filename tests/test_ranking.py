"""Scores, backgrounds and merged lists."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.ranking import (
    MIN_BACKGROUND,
    Background,
    background,
    confidence,
    exact_scores,
    reciprocal_rank_fusion,
    surprise,
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


def test_background_needs_some_rows():
    assert background(np.zeros(MIN_BACKGROUND - 1, np.float32), 100) is None


def test_background_of_normal_scores_is_theirs_and_a_few_matches_do_not_move_it():
    scores = np.random.default_rng(1).normal(0.2, 0.05, 2000).astype(np.float32)
    seen = background(scores, 2000)
    assert seen is not None
    assert (seen.centre, seen.spread) == pytest.approx((0.2, 0.05), abs=0.005)
    scores[:40] = 0.9
    moved = background(scores, 2000)
    assert moved is not None and moved.centre == pytest.approx(seen.centre, abs=0.005)


def test_confidence_is_the_chance_that_the_best_of_n_unrelated_scores_lower():
    rng = np.random.default_rng(2)
    seen = Background(0.0, 1.0, 100)
    best = rng.standard_normal((4000, 100)).max(axis=1)
    for score in (2.0, 2.5, 3.0):
        assert confidence(score, seen) == pytest.approx((best < score).mean(), abs=0.03)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.01, 0.3), st.integers(1, 10**9))
def test_confidence_is_a_probability_and_grows_with_the_score(one, other, spread, rows):
    seen = Background(0.0, spread, rows)
    low, high = sorted((one, other))
    assert 0.0 <= confidence(low, seen) <= confidence(high, seen) <= 1.0
    assert surprise(low, seen) <= surprise(high, seen)
    assert math.isfinite(surprise(low, seen))


def test_more_rows_make_the_same_score_less_surprising():
    few, many = Background(0.0, 0.1, 10), Background(0.0, 0.1, 10**6)
    assert confidence(0.3, few) > confidence(0.3, many)


def test_fusion_rewards_what_both_lists_have():
    assert reciprocal_rank_fusion([["a", "b", "c"], ["d", "b"]])[0] == "b"
    assert reciprocal_rank_fusion([["a", "b"], []]) == ["a", "b"]
    assert reciprocal_rank_fusion([["a"], ["b"]]) == ["a", "b"]
