"""What is left out of an answer: below a confidence or a score, or after the gap in the scores."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch import Indexed, InvalidInputError
from clipsearch.cli.query import query
from clipsearch.ranking import SCORE_GAP_SHARE, score_gap_cutoff
from clipsearch.types import Modality
from tests.support.cli import run_cli
from tests.support.libraries import index, photos
from tests.support.vectors import DIM, VectorLibrary, unit

ASKED = np.eye(DIM, dtype=np.float32)[0]


def near(count, cosine):
    """Rows of this cosine to ASKED, apart from each other."""
    rng = np.random.default_rng(3)
    sides = rng.standard_normal((count, DIM))
    sides[:, 0] = 0
    sides /= np.linalg.norm(sides, axis=1, keepdims=True)
    return (cosine * ASKED + math.sqrt(1 - cosine**2) * sides).astype(np.float32)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """600 rows that have nothing to do with ASKED, and three that do."""
    library = VectorLibrary(tmp_path_factory.mktemp("trimming"))
    others = np.random.default_rng(0).standard_normal((600, DIM))
    library.add((others / np.linalg.norm(others, axis=1, keepdims=True)).astype(np.float32))
    library.add(near(3, 0.93))
    return library


@pytest.mark.parametrize("wanted", [{"cut": True}, {"min_confidence": 0.9}, {"min_score": 0.9}])
def test_of_three_right_rows_three_are_left(rows, wanted):
    whole = rows.engine.search(vector=ASKED, k=10)
    trimmed = rows.engine.search(vector=ASKED, k=10, **wanted)
    assert (len(whole), whole.left_out) == (10, 0) and (len(trimmed), trimmed.left_out) == (3, 7)
    assert list(trimmed) == list(whole)[:3] and trimmed.warnings == ()


def test_nothing_is_cut_where_nothing_falls_off(tmp_path):
    library = VectorLibrary(tmp_path)
    library.add(unit(600, 0))
    library.add(near(10, 0.93))
    assert len(library.engine.search(vector=ASKED, k=10, cut=True)) == 10


def test_where_nothing_is_left_the_answer_says_what_was_missing(rows):
    found = rows.engine.search(vector=-ASKED, k=10, min_confidence=1.0)
    assert not found and not found.confident and found.left_out == 10
    assert found.warnings[0].startswith("No confident match: nothing reaches a confidence of 1; the nearest reaches 0.")
    best = rows.engine.search(vector=ASKED, k=1)[0].confidence
    for wanted, said in (
        ({"min_score": 0.99}, "No match: nothing reaches a score of 0.99; the nearest reaches 0.93."),
        ({"min_score": 0.99, "min_confidence": 0.5}, "nothing reaches a score of 0.99; the nearest reaches 0.93."),
        ({"min_score": 0.99, "min_confidence": 1}, "confidence of 1 and a score of 0.99; the nearest reaches 0.99 and"),
    ):
        assert best < 1
        (warning,) = rows.engine.search(vector=ASKED, k=10, **wanted).warnings
        assert said in warning, warning


def test_a_library_too_small_to_tell_loses_nothing(tmp_path):
    library = VectorLibrary(tmp_path)
    library.add(unit(9, 0))
    hits = library.engine.search(vector=ASKED, k=10, min_confidence=1.0, cut=True)
    assert len(hits) == 9 and hits[0].confidence is None
    assert not library.engine.search(vector=ASKED, k=10, min_score=1.0)


def test_the_other_kinds_of_query_are_trimmed_too(rows):
    first = rows.engine.search(vector=ASKED, k=1)[0].item.id
    for fusion in ("decision", "feature", "rank"):
        found = rows.engine.search(Indexed(first) * 2, fusion=fusion, k=10, cut=True)
        assert len(found) == 2 and [hit.rank for hit in found] == [1, 2]
    several = rows.engine.search(vector=np.stack([ASKED, -ASKED]), k=10, min_score=0.9)
    assert [len(each) for each in several] == [3, 0]


def test_each_kind_of_item_is_set_against_its_own_in_one_cut(tmp_path):
    library = VectorLibrary(tmp_path)
    library.add(unit(900, 5))
    library.add(unit(60, 1), Modality.TEXT)
    library.add(near(2, 0.93), Modality.TEXT)
    assert len(library.engine.search(vector=ASKED, k=10)) == 10
    assert {hit.modality for hit in library.engine.search(vector=ASKED, k=10, cut=True)} == {Modality.TEXT}


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.01, -1.01, "0.5", True])
def test_what_is_no_confidence_or_score_is_refused(rows, value):
    for name in ("min_confidence", "min_score"):
        with pytest.raises(InvalidInputError, match=name.removeprefix("min_")):
            rows.engine.search(vector=ASKED, **{name: value})
    with pytest.raises(InvalidInputError, match=r"-0\.5, but it must be a number from 0 to 1"):
        rows.engine.search(Indexed(1), min_confidence=-0.5)


@given(st.lists(st.floats(-20, 2000), max_size=20), st.integers(1, 10**9))
def test_the_first_always_stands_and_what_is_as_rare_with_it(log_evalues, count):
    log_evalues = [max(value, -math.log(count)) for value in log_evalues]
    stand = score_gap_cutoff(log_evalues, [count] * len(log_evalues))
    assert stand[:1] == [True] * len(log_evalues[:1])
    assert all(stands for stands, value in zip(stand, log_evalues, strict=True) if value == max(log_evalues))
    kinds = [i % 2 for i in range(len(log_evalues))]
    for i, stands in enumerate(score_gap_cutoff(log_evalues, [count] * len(log_evalues), kinds)):
        assert stands or i > 0
        assert not stands or i % 2 == 0 or log_evalues[i] > 0, "of the other kind, what chance explains goes"
    assert score_gap_cutoff([9.0, SCORE_GAP_SHARE * 9.0 + 0.01, SCORE_GAP_SHARE * 9.0 - 0.01], [1] * 3) == [
        True,
        True,
        False,
    ]


@pytest.fixture(scope="module")
def home(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("trimmed")
    photos(folder / "photos", 40)
    index(folder / ".clipsearch", folder / "photos", encoder=encoder)
    return folder


@pytest.mark.slow
def test_the_command_says_what_was_cut(home):
    done = run_cli("query", "a cat", "--min-confidence", "0.999", cwd=home)
    assert (done.code, done.out) == (0, b"")
    assert done.err.startswith("No confident match: nothing reaches a confidence of 0.999; the nearest reaches 0")
    assert len(done.err.splitlines()) == 1
    assert run_cli("query", "a cat", "--min-score", "0.99", "--json", cwd=home).json["hits"] == []
    done = run_cli("similar", "1", "--min-score", "0.99", "--paths", cwd=home)
    assert done.out == b"" and done.err.startswith("No match: nothing reaches a score of 0.99; the nearest reaches 0.")
    assert 1 <= len(run_cli("similar", "1", "--cut", "-k", "39", "--paths", cwd=home).out.splitlines()) < 39


@pytest.mark.parametrize("arguments", [["--min-confidence", "90"], ["--min-confidence", "nan"], ["--min-score", "-2"]])
def test_wrong_limits_are_wrong_usage(home, monkeypatch, arguments):
    monkeypatch.chdir(home)
    with pytest.raises(InvalidInputError, match="it must be a number from"):
        query.main(["a cat", *arguments], standalone_mode=False)


def test_the_former_name_of_the_log_evalue_can_still_be_read(rows):
    hit = rows.engine.search(vector=ASKED, k=1)[0]
    with pytest.warns(DeprecationWarning, match="log_evalue"):
        assert hit.surprise == hit.log_evalue
