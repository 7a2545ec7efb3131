"""Metrics of retrieval: against trec_eval, against plain counting, and where ties could flatter."""

import ir_measures
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG

from clipsearch.query.eval.metrics import (
    METRICS,
    Clusters,
    Ranks,
    hit_rate_at_k,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank,
    summarise,
    weighted_median,
)
from clipsearch.query.eval.ranks import Pairs, rank_right


def ranked(scores, right):
    """Ranks by plain counting. scores: (queries, rows). right: bool of that shape."""
    queries, rows = np.nonzero(right)
    wrong = np.where(right, -np.inf, scores)
    ahead = (wrong[queries] >= scores[queries, rows][:, None]).sum(axis=1)
    return Ranks.of(queries, scores[queries, rows], ahead)


def random_run(seed, queries=40, rows=60, levels=None):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((queries, rows)) if levels is None else rng.integers(0, levels, (queries, rows)) * 1.0
    right = rng.random((queries, rows)) < 0.06
    right[np.arange(queries), rng.integers(0, rows, queries)] = True
    return scores, right


def test_all_metrics_are_those_of_trec_eval():
    scores, right = random_run(0)
    qrels = [
        ir_measures.Qrel(f"{q:03d}", f"d{r}", int(right[q, r])) for q in range(40) for r in range(60) if right[q, r]
    ]
    run = [ir_measures.ScoredDoc(f"{q:03d}", f"d{r}", scores[q, r]) for q in range(40) for r in range(60)]
    ranks = ranked(scores, right)
    theirs = {
        nDCG @ 10: METRICS["ndcg@10"], RR: METRICS["mrr"],
        **{R @ k: METRICS[f"recall@{k}"] for k in (1, 5, 10)},
        **{Success @ k: METRICS[f"hit_rate@{k}"] for k in (1, 5, 10)},
    }  # fmt: skip
    found = {(m.query_id, str(m.measure)): m.value for m in ir_measures.iter_calc(list(theirs), qrels, run)}
    assert set(theirs.values()) == set(METRICS.values())
    for measure, ours in theirs.items():
        values = [found[f"{q:03d}", str(measure)] for q in range(40)]
        np.testing.assert_allclose(ours(ranks), values, atol=1e-9, err_msg=str(measure))


def test_one_query_by_hand():
    ranks = Ranks(np.array([0, 0, 1]), np.array([2, 7, 1]))
    assert recall_at_k(ranks, 5).tolist() == [0.5, 1.0]
    assert hit_rate_at_k(ranks, 1).tolist() == [0.0, 1.0]
    assert reciprocal_rank(ranks).tolist() == [0.5, 1.0]
    ideal = 1 + 1 / np.log2(3)
    assert ndcg_at_k(ranks, 10).tolist() == pytest.approx([(1 / np.log2(3) + 1 / 3) / ideal, 1.0])
    assert ndcg_at_k(ranks, 1).tolist() == [0.0, 1.0]


def test_an_encoder_that_says_the_same_of_everything_scores_nothing():
    """The usual trap: with all scores equal, sorting puts the right answer where it happens to stand."""
    right = np.eye(50, dtype=bool)
    ranks = ranked(np.zeros((50, 50)), right)
    assert ranks.ranks.tolist() == [50] * 50
    assert recall_at_k(ranks, 10).sum() == 0


@given(seed=st.integers(0, 1000), levels=st.integers(1, 6))
def test_no_order_of_tied_answers_is_worse_than_what_is_told(seed, levels):
    scores, right = random_run(seed, 5, 12, levels)
    ranks = ranked(scores, right)
    worst_first = np.lexsort((right, -scores), axis=1)  # wrong before right where they tie
    sorted_right = np.take_along_axis(right, worst_first, 1)
    assert np.argwhere(sorted_right)[:, 1].tolist() == (ranks.ranks - 1).tolist()


@given(seed=st.integers(0, 1000), size=st.integers(1, 40))
def test_counting_in_blocks_ranks_as_sorting_does(seed, size):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((40, 8)).astype(np.float32)
    rows[7] = rows[3]  # a tie, wherever they fall
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[rng.permutation(40)[:9]] + rng.standard_normal((9, 8)).astype(np.float32) * 0.1
    right = rng.random((9, 40)) < 0.1
    right[:, 3] |= ~right.any(axis=1)
    used = np.flatnonzero(right.any(axis=0))
    query, row = np.nonzero(right)
    shuffled = rng.permutation(len(query))
    pairs = Pairs(query[shuffled], np.searchsorted(used, row)[shuffled])
    blocks = [(np.arange(i, min(i + size, 40)), rows[i : i + size]) for i in range(0, 40, size)]
    found = rank_right(queries, rows[used], pairs, used, blocks)
    exact = (queries.astype(np.float64) @ rows.T).round(6)
    expected = ranked(exact, right)
    assert found.queries.tolist() == expected.queries.tolist() and found.ranks.tolist() == expected.ranks.tolist()


def test_the_weighted_median_is_that_of_repeated_values():
    values = np.array([9, 1, 4, 4, 2])
    weights = np.array([[1, 1, 1, 1, 1], [0, 3, 0, 0, 2], [5, 1, 0, 0, 0]], np.float64)
    repeated = [np.sort(np.repeat(values, w.astype(int))) for w in weights]
    assert weighted_median(values, weights).tolist() == [r[(len(r) - 1) // 2] for r in repeated]


def test_the_bootstrap_draws_whole_pictures_and_covers_what_it_should():
    """Five captions a picture that are right or wrong together: an interval of captions would be far too narrow."""
    rng = np.random.default_rng(3)
    queries, clusters = np.arange(500), np.repeat(np.arange(100), 5)
    covered, widths = 0, []
    for _ in range(25):
        first = np.repeat(np.where(rng.random(100) < 0.5, 1, 20), 5)
        ranks = Ranks(queries, first)
        drawn = np.concatenate([summarise(ranks, w)["recall@1"] for w in Clusters(queries, clusters).resample(200)])
        low, high = np.percentile(drawn, [2.5, 97.5])
        covered += low <= 0.5 <= high
        widths.append(high - low)
    assert covered >= 20
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 100), rel=0.1)


def test_a_text_of_two_pictures_counts_once_and_with_both():
    """Query 1 is of both pictures; query 0 of the first only."""
    together = Clusters(np.array([0, 1, 1]), np.array([0, 0, 1]))
    weights = np.concatenate(list(together.resample(4000, seed=1)))
    assert set(map(tuple, weights.tolist())) == {(2.0, 1.0), (1.0, 1.0), (0.0, 1.0)}
    assert weights.mean(axis=0) == pytest.approx([1.0, 1.0], abs=0.05)
    assert np.array_equal(weights, np.concatenate(list(together.resample(4000, seed=1))))
