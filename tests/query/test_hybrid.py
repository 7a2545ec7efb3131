"""Words and vectors in one ranking: what words name comes up, what vectors find is never buried."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.filtering import Filter
from clipsearch.query.engine import SearchEngine
from clipsearch.query.hybrid import fuse
from clipsearch.ranking import limit_demotion
from clipsearch.store.library import Library
from clipsearch.types import Modality
from tests.support.libraries import index, names, photos


@given(st.integers(0, 30), st.permutations(range(30)))
def test_what_is_rth_by_vectors_is_at_place_2r_or_before(count, others):
    fused = fuse(count, [item for item in others if item < count][: count // 2]).tolist()
    assert sorted(fused) == list(range(count))
    for rank, item in enumerate(range(count), 1):
        assert fused.index(item) + 1 <= 2 * rank


@given(st.permutations(range(20)), st.permutations(range(20)), st.integers(0, 20))
def test_a_promise_moves_only_what_is_due(ranked, others, count):
    promised = [item for item in others if item < count]
    kept = limit_demotion(np.array(ranked), np.array(promised, np.intp)).tolist()
    assert sorted(kept) == list(range(20))
    for rank, item in enumerate(promised, 1):
        assert kept.index(item) + 1 <= 2 * rank
    moved = [item for item in ranked if item not in promised]
    assert [item for item in kept if item not in promised] == moved
    if all(ranked.index(item) + 1 <= 2 * rank for rank, item in enumerate(promised, 1)):
        assert kept == ranked


def test_rankings_that_agree_stay_as_they_are_and_words_lift():
    assert fuse(4, [0, 1]).tolist() == [0, 1, 2, 3]
    assert fuse(4, []).tolist() == [0, 1, 2, 3]
    assert fuse(4, [3]).tolist() == [3, 0, 1, 2]
    assert fuse(6, [5, 4, 3]).tolist() == [5, 0, 4, 1, 3, 2], "the first by vectors has to be at place 2"


NAMES = ["Aiko Tanaka", "Bruno Keller", "Chiara Rossi", "Dmitri Orlov"]


@pytest.fixture(scope="module")
def album(tmp_path_factory, encoder):
    """Sixty pictures, of which every third has a caption; four name somebody whom no encoder knows."""
    folder = tmp_path_factory.mktemp("album")
    for i, path in enumerate(photos(folder / "photos", 60)):
        if i % 3 == 0:
            name = NAMES[i // 15] if i % 15 == 0 else "somebody"
            path.with_suffix(".txt").write_text(f"{name} and friends at the lake, number {i}")
    (folder / "photos" / "notes.md").write_text("The lake is deep and cold.\n")
    index(folder / "lib", folder / "photos", encoder=encoder)
    return folder


@pytest.fixture
def engine(album, encoder):
    with SearchEngine(Library(album / "lib"), encoder=encoder) as opened:
        yield opened


def test_a_name_is_found_by_its_words(engine):
    for i, name in enumerate(NAMES):
        (hit,) = engine.search(name.upper(), k=1)
        assert Path(hit.path).name == f"p{15 * i:03d}.jpg" and hit.rank == 1
        assert hit.passage is None or name in hit.passage.text


def test_pictures_stay_where_vectors_put_them_or_a_little_below(engine):
    text = "friends at the lake"
    alone = names(engine.search(text, k=61, modality="image"))
    assert len(alone) == 60
    together = names(engine.search(text, k=61))
    assert len(together) == len(set(together)) == 61
    vectors_only = names(engine.search(text, k=61, hybrid=False))
    for rank, name in enumerate(vectors_only, 1):
        assert together.index(name) + 1 <= 2 * rank
    assert together != vectors_only, "this query has words that captions have"


def test_words_that_are_nowhere_change_nothing(engine):
    for text in ("a unicorn named Zebedee", "lake zebedee"):
        hybrid, plain = (engine.search(text, k=20, hybrid=each) for each in (True, False))
        assert hybrid.hits == plain.hits


def test_pictures_alone_are_not_found_by_words(engine):
    hybrid, plain = (engine.search(NAMES[1], k=20, hybrid=each, modality="image") for each in (True, False))
    assert hybrid.hits == plain.hits and {hit.modality for hit in hybrid} == {Modality.IMAGE}


def test_filters_hold_for_words_too(engine, album):
    found = engine.search(NAMES[2], k=61, filters=Filter(types=("image",)) & ~Filter(caption="Chiara"))
    assert len(found) == 59 and "p030.jpg" not in names(found)


def test_a_batch_answers_as_its_queries_alone(engine):
    texts = [NAMES[0], "the lake", "something else"]
    for text, answer in zip(texts, engine.search_batch(texts=texts, k=7), strict=True):
        assert names(answer) == names(engine.search(text, k=7))


@pytest.mark.parametrize(
    "text",
    ['"', '"a" OR b*', "NEAR(a b)", "-x", "words:a", "\0", "*", "😀", "湖", "lake\udce9", "\ud800 lake", "lake " * 999],
)
def test_marks_that_mean_something_to_the_index_of_words_do_no_harm(engine, text):
    assert len(engine.search(text, k=5)) == 5


def test_bytes_that_are_no_text_keep_no_word_from_being_found(engine):
    assert names(engine.search(f"{NAMES[1]} \udce9", k=1)) == ["p015.jpg"]
    many = " ".join([NAMES[1], *(f"number{i}" for i in range(300))])
    assert engine.search(many, k=20).hits == engine.search(many, k=20, hybrid=False).hits


def test_the_exact_score_is_shown_whatever_lifted_a_hit(engine):
    vector = engine.encoder.encode_queries([NAMES[3]])[0]
    for hit in engine.search(NAMES[3], k=10):
        (exact,) = engine.search(vector=vector, k=1, modality=hit.modality, filters=Filter(ids={hit.item.id}))
        assert hit.score == pytest.approx(exact.score, abs=1e-6)
        assert np.isfinite(hit.score)
