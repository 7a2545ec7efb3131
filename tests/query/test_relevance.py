"""What a confidence says: the chance that a hit is right, of a picture itself, and among what a filter leaves."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import clipsearch
from clipsearch import Filter, Indexed, SearchEngine, Text
from clipsearch.ranking import CONFIDENT, is_identical, null_model
from clipsearch.relevance import count_words, curve_of
from clipsearch.types import Modality
from tests.support.joined import SETTINGS
from tests.support.libraries import photos
from tests.support.vectors import DIM, VectorLibrary, approximate, unit

KINDS = [(kind, modality) for kind in ("text", "image") for modality in Modality]
CONFIDENT_EVALUE = -math.log(-math.log(CONFIDENT))
ASKED = np.eye(DIM, dtype=np.float32)[0]
values = st.floats(-50, 500)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a dog", 1), ("DOG!", 1), ("two dogs playing in the snow", 4), ("", 1), ("of the", 1),
        ("der Hund im Schnee", 2), ("雪山", 1), ("一只狗在水里", 3), ("two 狗狗", 2), ("Việt ảnh đẹp", 3),
    ],
)  # fmt: skip
def test_words_that_say_what_to_find_are_counted_in_any_language(text, words):
    assert count_words(text) == words


@pytest.mark.parametrize(("kind", "modality"), KINDS)
@given(one=values, other=values, words=st.floats(1, 200))
def test_a_confidence_is_a_chance_that_grows_with_how_far_a_hit_stands_out(kind, modality, one, other, words):
    low, high = sorted((one, other))
    curve = curve_of(kind, modality)
    assert 0 <= curve.chance(low, high - low, words) <= curve.chance(high, 0, words) <= 1
    assert curve.chance(high, 0, words + 1) <= curve.chance(high, 0, words)


def test_a_query_that_says_more_is_right_less_often():
    chance = curve_of("text", Modality.IMAGE).chance
    assert chance(12, 0, 1) > 0.9 and chance(12, 0, 4) < 0.5
    assert curve_of(None, Modality.IMAGE) == curve_of("image", Modality.IMAGE) != curve_of("text", Modality.IMAGE)


@pytest.fixture(scope="module")
def engine(tmp_path_factory, encoder):
    """40 pictures and their engine."""
    folder = tmp_path_factory.mktemp("pictures")
    photos(folder / "photos", 40)
    with clipsearch.open(folder / "library", create=True, settings=SETTINGS) as opened:
        opened._encoder = encoder
        opened.index(folder / "photos")
        yield opened


def test_terms_and_batches_have_the_confidence_of_the_text(engine):
    texts = ["a dog", "a brown dog beside a red bicycle"]
    plain = [engine.search(text, k=5) for text in texts]
    for others in (engine.search_batch(texts=texts, k=5), [engine.search(Text(text), k=5) for text in texts]):
        for one, other in zip(plain, others, strict=True):
            assert [hit.confidence for hit in other] == pytest.approx([hit.confidence for hit in one])
    vectors = engine.encoder.encode_queries(texts)
    found = engine.search(vector=vectors, kind="text", k=5)
    assert found[0][0].confidence < plain[0][0].confidence and found[1][0].confidence > plain[1][0].confidence, (
        "of a vector two words are assumed"
    )


@pytest.fixture
def alike(tmp_path):
    """100 pictures that are nearly the same, each at a cosine of 0.999 and more from all others."""
    library = VectorLibrary(tmp_path)
    rows = ASKED + 0.005 * np.random.default_rng(0).standard_normal((100, DIM))
    library.add((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32))
    return library


@pytest.mark.parametrize("kind", ["image", None])
def test_a_picture_is_itself_also_among_its_likes(alike, kind):
    for number in (0, 41, 99):
        row = alike.vectors[f"{number:06d}"]
        found = alike.engine.search(vector=row, kind=kind, k=2)
        assert found[0].path.endswith(f"{number:06d}") and found[0].confidence == 1.0 and found.confident
        assert found[1].confidence < 0.5, "what is only like it is not it"


def test_what_is_identical_depends_on_how_alike_all_are():
    wide, narrow = (null_model(np.random.default_rng(0).normal(0, s, 500), 500, unit=s) for s in (0.1, 1e-5))
    assert is_identical(1 - 5e-5, wide) and not is_identical(1 - 5e-5, narrow)
    assert is_identical(1.0, narrow) and not is_identical(0.999, wide)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    """A row at a cosine to ASKED that is chance among 4,000, then rows that have nothing to do with it."""
    library = VectorLibrary(tmp_path_factory.mktemp("crowd"))
    rows = np.random.default_rng(4).standard_normal((4_000, DIM)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    near = 0.57 * ASKED + math.sqrt(1 - 0.57**2) * np.eye(DIM, dtype=np.float32)[1]
    library.add(np.vstack([near, rows[np.abs(rows[:, 0]) < 0.45]]).astype(np.float32))
    yield library
    library.engine.close()


def _ids(library, count):
    first = library.engine.page(limit=1).items[0].id
    return Filter(ids=frozenset(range(first, first + count)))


@pytest.mark.parametrize("kind", ["text", "image", None])
def test_chance_has_as_many_tries_as_rows_pass_a_filter(crowd, kind):
    whole = crowd.engine.search(vector=ASKED, kind=kind, k=3)
    assert not whole.confident
    for count in (5, 50, 100):
        found = crowd.engine.search(vector=ASKED, kind=kind, k=3, filters=_ids(crowd, count))
        assert found.confident and found[0].item == whole[0].item
        assert found[0].log_evalue == whole[0].log_evalue, "by which hits are ordered and cut"


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """100 rows that have nothing to do with each other."""
    library = VectorLibrary(tmp_path_factory.mktemp("few"))
    library.add(unit(100, 6))
    yield library
    library.engine.close()


@pytest.mark.parametrize("is_filtered", [False, True])
def test_among_few_pictures_words_need_a_hit_that_stands_out_more(crowd, few, is_filtered):
    library = crowd if is_filtered else few
    least = [CONFIDENT_EVALUE - math.log(len(library.vectors) / tries) for tries in (100, 400)]
    options = {"vectors": unit(200, 9), "k": 1, "filters": _ids(library, 100) if is_filtered else None}
    found = [hits[0] for hits in library.engine.search_batch(kind="text", **options)]
    assert all(hit.stands_out == (hit.log_evalue >= least[1]) for hit in found)
    assert sum(least[0] <= hit.log_evalue < least[1] for hit in found) > 10
    by_picture = [hits[0] for hits in library.engine.search_batch(kind="image", **options)]
    assert any(hit.stands_out for hit in by_picture if hit.log_evalue < least[1]), "of a bounded tail this is not known"


@pytest.mark.parametrize("kind", ["text", "image", None])
def test_whether_a_hit_is_right_depends_on_no_other_that_passes(crowd, kind):
    whole = {hit.item.id: hit.confidence for hit in crowd.engine.search(vector=ASKED, kind=kind, k=60)}
    for low, high in ((0, 60), (10, 40), (59, 60)):
        wanted = dict([*whole.items()][low:high])
        found = crowd.engine.search(vector=ASKED, kind=kind, k=60, filters=Filter(ids=frozenset(wanted)))
        assert {hit.item.id: hit.confidence for hit in found} == pytest.approx(wanted, rel=1e-4)


def test_so_it_does_not_for_several_terms_and_far_down(crowd):
    first = crowd.engine.page(limit=1).items[0].id
    terms, wanted = Indexed(first + 1) + Indexed(first + 2), _ids(crowd, 900)
    whole = {hit.item.id: hit for hit in crowd.engine.search(terms, k=2_000)}
    found = crowd.engine.search(terms, k=660, filters=wanted)
    assert [hit.confidence for hit in found[:5]] == pytest.approx([whole[hit.item.id].confidence for hit in found[:5]])
    page = crowd.engine.search(terms, k=10, offset=650, filters=wanted)
    assert [hit.item for hit in page] == [hit.item for hit in found[650:]]
    assert [hit.confidence for hit in page] == pytest.approx([hit.confidence for hit in found[650:]])


def test_a_filter_does_not_make_its_own_rows_the_measure(tmp_path):
    """As in a folder of dogs: none stands out among its likes, but each does in the library."""
    library = VectorLibrary(tmp_path)
    library.add(unit(900, 1))
    near = 0.9 * ASKED + math.sqrt(1 - 0.81) * unit(60, 5)
    library.add((near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32))
    first = max(item.id for item in library.engine.find()) - 59
    found = library.engine.search(
        vector=ASKED, kind="text", k=60, filters=Filter(ids=frozenset(range(first, first + 60)))
    )
    assert found.confident and len(found) == 60 and sum(hit.stands_out for hit in found) > 30


def test_k_is_filled_and_confidences_are_those_of_exact_search_on_every_page(tmp_path, monkeypatch):
    with SearchEngine(approximate(tmp_path)) as engine:
        first = engine.page(limit=1).items[0].id
        options = {"filters": Filter(ids=frozenset(range(first, first + 200))), "kind": "text"}
        exact = engine.search(vector=ASKED, k=300, **options)
        known = {hit.item.id: hit.confidence for hit in exact}
        assert len(exact) == 200
        for most in (20_000, 50):  # rows that pass, beyond which the index is asked
            monkeypatch.setattr("clipsearch.query.candidates.MAX_EXACT_ROWS", most)
            for offset, k in ((0, 10), (5, 100), (180, 20)):
                page = engine.search(vector=ASKED, k=k, offset=offset, **options)
                assert len(page) == k
                assert [hit.confidence for hit in page] == pytest.approx([known[hit.item.id] for hit in page])
            batch = engine.search_batch(vectors=np.stack([ASKED, -ASKED]), k=10, **options)
            assert [hit.confidence for hit in batch[0]] == pytest.approx([known[hit.item.id] for hit in batch[0]])


def test_hits_that_are_left_decide_whether_an_answer_is_confident(crowd):
    found = crowd.engine.search(vector=ASKED, kind="text", k=5, filters=_ids(crowd, 100))
    assert found.confident and [hit.stands_out for hit in found][1:] == [False] * 4
    rest = crowd.engine.search(vector=ASKED, kind="text", k=4, offset=1, filters=_ids(crowd, 100))
    assert rest.confident, "the first hit of the answer counts on every page"


def test_a_picture_of_the_library_is_itself_under_a_filter(engine):
    item = engine.find()[7]
    found = engine.search(image=item.path, k=1, filters=Filter(ids=frozenset({item.id})))
    assert found.confident and found[0].confidence == 1.0
