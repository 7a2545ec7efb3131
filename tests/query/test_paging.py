"""Every answer is a prefix of each longer one, and an offset goes on where another answer ended."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch import Filter, Indexed, InvalidInputError, Text
from clipsearch.query import deep
from clipsearch.query.options import SearchOptions
from clipsearch.query.retrieval import FIRST_STEP, Ranking
from clipsearch.query.scored import ScoredRows
from clipsearch.ranking import GAP_WINDOW
from clipsearch.relevance import TYPICAL_WORDS, count_words
from clipsearch.types import Modality
from tests.support.cli import run_cli
from tests.support.sentences import SENTENCES, sentence_library
from tests.support.vectors import VectorLibrary, unit

FILTERS = [
    None,
    Filter(ids=frozenset(range(1, 90))),
    Filter(caption="dog"),
    ~Filter(caption="beach"),
    Filter(types=("image",)),
]
WORDS = ["a dog on a beach", "striped", "a happy child", "snow", "an aeroplane", "a red cat in the snow"]


@pytest.fixture(scope="module", params=["flat", "ivfpq"])
def engine(request, encoder, tmp_path_factory):
    return sentence_library(tmp_path_factory.mktemp(request.param), encoder, request.param)


def shown(hits):
    """What must not change with how many hits are wanted: all but how many copies of a hit are known by then."""
    return [replace(hit, also=None) for hit in hits]


@st.composite
def searches(draw):
    """What is asked for, and how."""
    number = draw(st.integers(1, 300))
    asked = draw(
        st.sampled_from(
            [
                *({"text": words} for words in WORDS),
                {"vector": np.random.default_rng(number)},
                {"vector": np.random.default_rng(number), "kind": draw(st.sampled_from(["text", "image"]))},
                {"text": Indexed(number)},
                {"text": Text(draw(st.sampled_from(WORDS))) + Indexed(number)},
                {"text": 2 * Text("a dog") - Text("a beach") + Text("snow")},
            ]
        )
    )
    options = {
        "modality": draw(st.sampled_from([None, "image", "text"])),
        "filters": draw(st.sampled_from(FILTERS)),
        "collapse": draw(st.booleans()),
        "min_confidence": draw(st.sampled_from([None, None, 0.3, 0.9])),
        "min_score": draw(st.sampled_from([None, None, 0.2])),
        "cut": draw(st.booleans()),
    }
    if "text" in asked:
        options["hybrid"] = draw(st.booleans())
        options["fusion"] = draw(st.sampled_from(["auto", "decision", "feature", "rank"]))
    return asked, options


@pytest.mark.slow
@settings(max_examples=40)
@given(searches(), st.integers(1, 90), st.integers(0, 60))
def test_every_answer_is_a_prefix_of_a_longer_one(engine, asked, k, offset):
    wanted, options = asked
    if isinstance(wanted.get("vector"), np.random.Generator):
        wanted = wanted | {"vector": wanted["vector"].standard_normal(engine.encoder.dim)}
    whole = engine.search(**wanted, **options, k=150)
    assert [hit.rank for hit in whole] == list(range(1, len(whole) + 1))
    short = engine.search(**wanted, **options, k=k)
    assert shown(short) == shown(whole)[: len(short)]
    both = engine.search(**wanted, **options, k=offset + k)
    page = engine.search(**wanted, **options, offset=offset, k=k)
    assert shown(page) == shown(both)[offset:] and page.offset == offset
    assert page.confident == both.confident and page.left_out == both.left_out


@pytest.mark.parametrize("modality", list("it"))
def test_rows_that_score_alike_keep_their_places(tmp_path, modality):
    rows = VectorLibrary(tmp_path)
    rows.add(np.repeat(unit(6, 3), 30, axis=0), {"i": Modality.IMAGE, "t": Modality.TEXT}[modality])
    vector = rows.vectors["000003"] + 0.3 * unit(1, 4)[0]
    whole = [hit.item.id for hit in rows.engine.search(vector=vector, k=180)]
    for k in (1, 5, 9, 11, 39, 41, 100):
        assert [hit.item.id for hit in rows.engine.search(vector=vector, k=k)] == whole[:k]


def test_pages_of_a_batch_are_those_of_single_queries(engine):
    pages = [engine.search_batch(texts=WORDS, offset=at, k=7) for at in (0, 7, 14)]
    for i, words in enumerate(WORDS):
        joined = [hit for page in pages for hit in page[i]]
        assert joined == list(engine.search(words, k=21))


def test_the_items_left_out_do_not_move_the_next_page(engine):
    """Of an answer with a cutoff, the next page begins after the hits that it has."""
    whole = engine.search(SENTENCES[0], k=60, min_confidence=0.5)
    first = engine.search(SENTENCES[0], k=30, min_confidence=0.5)
    rest = engine.search(SENTENCES[0], k=30, offset=first.offset + len(first), min_confidence=0.5)
    joined = shown([*first, *rest])
    assert joined == shown(whole)[: len(joined)] and len(rest) > 0


@pytest.mark.slow
@settings(max_examples=25)
@given(searches(), st.lists(st.tuples(st.integers(1, 330), st.integers(1, 90)), min_size=1, max_size=4))
def test_a_page_far_down_is_that_of_the_whole_answer(engine, asked, pages):
    """Pages far down are made in another way, whichever of them is asked for first."""
    wanted, options = asked
    options = options | {"collapse": False, "cut": False, "min_confidence": None, "min_score": None}
    if isinstance(wanted.get("vector"), np.random.Generator):
        wanted = wanted | {"vector": wanted["vector"].standard_normal(engine.encoder.dim)}
    whole = engine.search(**wanted, **options, k=400)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deep, "DEEP", 40)
        for offset, k in pages:
            page = engine.search(**wanted, **options, offset=offset, k=k)
            assert page.hits == whole.hits[offset : offset + k]
            assert (page.warnings, page.offset, page.left_out) == (whole.warnings, offset, 0)
            assert page.query == whole.query and page.confident == whole.confident


@pytest.mark.parametrize("text", ["a dog", Text("a dog") - Text("snow")])
def test_a_page_far_down_is_of_the_library_as_it_is_now(encoder, tmp_path, monkeypatch, text):
    monkeypatch.setattr(deep, "DEEP", 40)
    engine = sentence_library(tmp_path, encoder)

    def pages():
        return [hit for at in range(0, 330, 30) for hit in engine.search(text, k=30, offset=at, hybrid=False)]

    before = pages()
    assert pages() == before and len(before) > 300
    gone = {before[at].item.key for at in (3, 70, 200)}
    engine.delete(gone)
    after = pages()
    assert after == list(engine.search(text, k=400, hybrid=False)) and len(after) == len(before) - len(gone)
    assert not {hit.item.key for hit in after} & gone


def test_few_rankings_are_kept(monkeypatch):
    monkeypatch.setattr(deep, "KEPT_ROWS", 700)
    kept = deep.DeepRankings()
    for number in range(4):
        rows = ScoredRows(*(np.zeros(300) for _ in range(5)), (), np.zeros(300, np.intp))
        kept.put(number, deep.DeepRanking(Ranking([], ()), rows, np.arange(300), 40, True, frozenset()))
    assert [kept.get(number) is not None for number in range(4)] == [False, False, True, True]


def test_past_the_end_there_is_nothing(engine):
    page = engine.search("a dog", k=10, offset=10_000)
    assert list(page) == [] and page.offset == 10_000 and not page.left_out


@pytest.mark.slow
def test_the_command_pages_too(engine):
    folder = str(engine.library.folder)
    line = ["query", "--library", folder, "--like", "7"]
    whole, page = run_cli(*line, "--paths", "-k", "9"), run_cli(*line, "--paths", "-k", "4", "--offset", "5")
    assert page.out.splitlines() == whole.out.splitlines()[5:]
    table = run_cli(*line, "-k", "4", "--offset", "5").out
    assert [line.split()[0] for line in table.splitlines()[1:]] == [b"6", b"7", b"8", b"9"]


@pytest.mark.parametrize("offset", [-1, 1.5, "2", None, True])
def test_an_offset_is_a_whole_number(engine, offset):
    with pytest.raises(InvalidInputError, match="offset must be a whole number of at least 0"):
        engine.search("a dog", offset=offset)
    with pytest.raises(InvalidInputError, match="offset"):
        engine.search_batch(texts=["a dog"], offset=offset)


def test_options_travel_with_their_offset_and_kind():
    options = SearchOptions(offset=4, kind="text")
    assert SearchOptions.from_values(options.to_values()) == options


def test_the_gap_is_looked_for_among_hits_that_every_answer_has():
    assert FIRST_STEP >= GAP_WINDOW


class TestKind:
    """A vector of which it is known what it was made from."""

    @pytest.mark.parametrize("words", WORDS)
    def test_that_of_a_text_is_answered_as_the_text(self, engine, words):
        vector = engine.encoder.encode_queries([words])[0]
        told = engine.search(vector=vector, kind="text", k=30)
        of_text = engine.search(words, hybrid=False, k=30).hits
        assert [replace(hit, confidence=None) for hit in told] == [replace(hit, confidence=None) for hit in of_text]
        assert (told.hits == of_text) is (count_words(words) == TYPICAL_WORDS), "so many words are assumed"
        assert told.hits == engine.search_batch(vectors=vector[None], kind="text", k=30)[0].hits
        assert told.hits == engine.search(vector=vector[None], kind="text", k=30)[0].hits
        assert told.hits != engine.search(vector=vector, k=30).hits

    def test_that_of_a_picture_is_answered_as_the_picture(self, engine, tmp_path):
        from tests.support.libraries import photo

        path = photo(tmp_path / "p.jpg", 3)
        by_picture = engine.search(image=path, k=30)
        from PIL import Image

        with Image.open(path) as opened:
            vector = engine.encoder.encode_images([opened])[0]
        by_vector = engine.search(vector=vector, kind="image", k=30)
        assert [hit.item.id for hit in by_vector] == [hit.item.id for hit in by_picture]

    @pytest.mark.parametrize("asked", [{"text": "a dog"}, {"text": Text("a dog") + Text("snow")}, {"image": "a.jpg"}])
    def test_anything_else_has_its_own(self, engine, asked):
        with pytest.raises(InvalidInputError, match="kind='text' says what a vector was made from"):
            engine.search(**asked, kind="text")

    def test_there_are_two(self, engine):
        with pytest.raises(InvalidInputError, match="A vector is of the kind text or image, not 'sound'"):
            engine.search(vector=np.ones(engine.encoder.dim), kind="sound")
