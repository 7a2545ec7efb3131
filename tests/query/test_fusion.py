"""Fusion of terms: what adds, what takes away, and by how much."""

import numpy as np
import pytest

from clipsearch.errors import InvalidInputError
from clipsearch.query.fusion import choose, compose, decide, fuse_ranks
from clipsearch.ranking import NullModel

SEEN = [NullModel(0.2, 0.05, 1000, 500)] * 4


def decided(z, weights, saturates=None):
    scores = 0.2 + 0.05 * np.array(z)
    return decide(scores, np.array(weights, float), SEEN[: len(weights)], saturates or [False] * len(weights))


def test_terms_are_added_by_weight_to_a_unit_vector():
    vectors = np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(compose(vectors, np.array([3.0, 0.0, -4.0])), [0.6, 0, -0.8], atol=1e-7)
    assert compose(vectors, np.array([1.0, 1.0, 1.0])).dtype == np.float32


def test_terms_that_cancel_out_are_refused():
    with pytest.raises(InvalidInputError, match="cancel"):
        compose(np.array([[1, 0], [1, 0]], np.float32), np.array([1.0, -1.0]))


def test_a_row_that_matches_both_terms_beats_rows_that_match_one():
    both, first, second = decided([[4, 5, 0], [4, 0, 5]], [1, 1])
    assert both > max(first, second)


def test_weights_decide_between_terms():
    assert np.argmax(decided([[3, 2], [2, 3]], [2, 1])) == 0
    assert np.argmax(decided([[3, 2], [2, 3]], [1, 2])) == 1


def test_a_negative_only_hurts_what_it_matches():
    plain, unrelated, opposite, matching = decided([[4, 4, 4, 4], [-1, 0, -6, 5]], [1, -1])
    assert 4 - plain < 0.2 and 4 - unrelated < 0.4  # next to nothing
    assert abs(opposite - plain) < 0.2  # being unlike it is no merit
    assert matching < 0.1


def test_many_negatives_do_not_bring_up_what_matches_nothing():
    # a cat that is a little like each negative, and a cake that is like none
    cat, cake = decided([[4, 0.5], [0.5, -3], [1, -3], [1, -3]], [1, -1, -1, -1])
    assert cat > cake
    subtracted = np.array([1, -1, -1, -1]) @ np.array([[4, 0.5], [0.5, -3], [1, -3], [1, -3]])
    assert subtracted[0] < subtracted[1]  # which plain subtraction gets wrong


def test_copies_of_a_picture_do_not_drown_the_text():
    copy, wanted = decided([[12, 4], [0, 3]], [1, 1], [True, False])
    assert wanted > copy
    copy, wanted = decided([[12, 4], [0, 3]], [1, 1], [False, False])
    assert wanted < copy


def test_ranks_are_fused_reciprocally_and_ties_share():
    fused = fuse_ranks(np.array([[0.9, 0.5, 0.5, 0.1]]), np.array([1.0]))
    np.testing.assert_allclose(fused, [1 / 61, 1 / 62, 1 / 62, 1 / 64])
    both = fuse_ranks(np.array([[0.9, 0.5], [0.1, 0.7]]), np.array([1.0, -1.0]))
    np.testing.assert_allclose(both, [1 / 61 - 1 / 62, 1 / 62 - 1 / 61])


@pytest.mark.parametrize(
    ("weights", "pictures", "fusion"),
    [([1], [1], "feature"), ([1, -1], [0, 0], "feature"), ([2, -0.5], [0, 0], "feature"), ([1, -1], [1, 0], "decision"),
     ([1, 1], [0, 0], "decision"), ([1, -1, -1], [0, 0, 0], "decision"), ([1, 1, -1], [0, 0, 0], "decision")],
)  # fmt: skip
def test_the_kind_of_query_chooses_the_fusion(weights, pictures, fusion):
    assert choose(np.array(weights, float), pictures) == fusion
