"""Many inverted lists, which are learnt and looked up on two levels."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.ann import coarse
from clipsearch.ann.base import Probe
from clipsearch.ann.candidates import search_candidates
from clipsearch.ann.faiss_ivfpq import IvfPqIndex, IvfPqParams
from clipsearch.ann.flat import ArrayRows, exact_search

DIM, ROWS, LISTS = 32, 6000, 120


def rows_around(centers, count, seed):
    rng = np.random.default_rng(seed)
    rows = np.random.default_rng(0).standard_normal((centers, DIM))[rng.integers(centers, size=count)]
    rows += 0.5 * rng.standard_normal((count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture
def two_levels(monkeypatch):
    """Two levels for few lists too, and so few groups looked at that some rows are not in their nearest list."""
    monkeypatch.setattr(coarse, "LEARNT_AT_ONCE", 8)
    monkeypatch.setattr(coarse, "LOOKED_UP_AT_ONCE", 16)
    monkeypatch.setattr(coarse, "GROUPS_LOOKED_AT", 2)


@pytest.fixture
def index(two_levels):
    rows = rows_around(40, ROWS, 1)
    made = IvfPqIndex(IvfPqParams(DIM, LISTS, 16))
    made.train(rows.astype(np.float32))
    for start in range(0, ROWS, 1000):
        made.add(rows[start : start + 1000])
    return made, rows


def test_every_row_is_in_one_list_and_lists_are_balanced(index):
    sizes = index[0].list_sizes()
    assert len(sizes) == LISTS and sizes.sum() == ROWS
    assert sizes.std() < sizes.mean()


def test_a_row_finds_itself_in_the_only_list_that_is_probed(index):
    """Also where that is not the list of its nearest centroid, as by way of groups it may be another."""
    made, rows = index
    found = made.search(rows[::7].astype(np.float32), 200, probe=Probe(1, 0.25, 200)).ids
    assert (found == np.arange(ROWS)[::7, None]).any(axis=1).all()


def test_all_lists_and_exact_scores_give_the_exact_answer(index):
    made, rows = index
    queries = rows_around(40, 30, 2).astype(np.float32)
    found = search_candidates(made, ArrayRows(rows), queries, 10, Probe(LISTS, 0.25, ROWS))
    assert np.array_equal(found.ids, exact_search(ArrayRows(rows), queries, 10).ids)


def test_an_index_that_was_saved_goes_on_as_before(index, tmp_path):
    made, _ = index
    made.save(tmp_path)
    loaded = IvfPqIndex.load(tmp_path, made.params)
    more = rows_around(40, 500, 3)
    for each in (made, loaded):
        each.add(more)
    queries = more.astype(np.float32)
    for probe in (Probe(1, 0.25, 10), Probe(5, 0.5, 10)):
        one, other = made.search(queries, 10, probe=probe), loaded.search(queries, 10, probe=probe)
        assert np.array_equal(one.ids, other.ids)
    assert np.array_equal(made.own_scores(queries), loaded.own_scores(queries))


def test_an_emptied_index_puts_rows_into_the_same_lists(index):
    made, rows = index
    other = made.emptied()
    other.add(rows)
    assert np.array_equal(other.list_sizes(), made.list_sizes())


def test_an_index_without_groups_as_earlier_versions_made_it_is_read(tmp_path):
    rows = rows_around(40, ROWS, 1)
    made = IvfPqIndex(IvfPqParams(DIM, LISTS, 16))
    made.train(rows.astype(np.float32))
    made.add(rows)
    made.save(tmp_path)
    path = tmp_path / "transform.npz"
    with np.load(path) as stored:
        kept = {name: stored[name] for name in ("mean", "rotation", "distortion")}
    np.savez(path, **kept)
    loaded = IvfPqIndex.load(tmp_path, made.params)
    queries = rows[:50].astype(np.float32)
    assert np.array_equal(loaded.search(queries, 5).ids, made.search(queries, 5).ids)


def test_groups_of_another_length_are_refused(index, tmp_path):
    made, _ = index
    made.save(tmp_path)
    shutil.copy(tmp_path / "transform.npz", tmp_path / "kept.npz")
    with np.load(tmp_path / "kept.npz") as stored:
        np.savez(tmp_path / "transform.npz", **{**stored, "groups": np.zeros((3, DIM + 1), np.float32)})
    with pytest.raises(Exception, match="is not the IVF-PQ index"):
        IvfPqIndex.load(tmp_path, made.params)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=40), st.floats(0, 1))
def test_lists_are_shared_out_by_rows(sizes, share):
    rows = np.array(sizes, np.int64)
    count = int(share * rows.sum())
    shares = coarse._shares(rows, count)
    assert shares.sum() == count
    assert (shares <= rows).all() and (shares >= 0).all()
    assert (np.abs(shares - rows * count / max(1, rows.sum())) < 1).all()


def test_equal_rows_are_clustered(two_levels):
    """Duplicates leave k-means with fewer places than centroids."""
    rows = np.repeat(rows_around(3, 3, 0).astype(np.float32), 200, axis=0)
    centroids, groups = coarse.cluster(rows, 50)
    assert centroids.shape == (50, DIM) and groups.shape[1] == DIM
    assert np.isfinite(centroids).all()


def test_own_scores_do_not_depend_on_what_was_searched_before(index):
    made, rows = index
    queries, others = rows[:40].astype(np.float32), rows[40:80].astype(np.float32)
    alone = made.emptied().own_scores(queries)
    made.search(others, 10)
    assert np.allclose(made.own_scores(queries), alone, atol=1e-5)
    made.search(queries, 10, probe=Probe(3, 0.25, 10))
    assert np.allclose(made.own_scores(queries), alone, atol=1e-5)


def test_no_row_is_given_less_than_its_own_score(index):
    made, rows = index
    queries = rows[::11].astype(np.float32)
    found = made.search(queries, ROWS, probe=Probe(LISTS, 0.25, ROWS))
    at = found.ids == np.arange(ROWS)[::11, None]
    given_scores = found.scores[at]
    assert at.any(axis=1).all()
    assert (given_scores >= made.own_scores(queries) - 1e-5).all()


def test_what_rows_are_looked_up_in_is_freed_and_the_lists_keep_their_own(index, monkeypatch):
    made, rows = index
    looked_up_in = []
    around = coarse.Groups.around

    def watched(self, group):
        looked_up_in.append(around(self, group))
        return looked_up_in[-1]

    monkeypatch.setattr(coarse.Groups, "around", watched)
    made.add(rows[:100])
    assert looked_up_in and all(each.thisown for each in looked_up_in)
    assert made._quantizer.thisown
    assert made.search(rows[:1].astype(np.float32), 1).ids.shape == (1, 1)
