"""What is suggested where a query finds nothing confident: each suggestion finds something."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import clipsearch
from clipsearch import Filter, Text, filtering
from clipsearch.cli.query import query as query_command
from clipsearch.query import scored, suggesting
from clipsearch.query.engine import SearchEngine
from clipsearch.store import near_words
from clipsearch.store.library import Library
from clipsearch.store.snapshot import Snapshot
from tests.support.libraries import index, photos

CAPTIONS = [
    "a red bicycle",
    "two bicycles and a dog",
    "Ein Straßenfest",
    "красивая собака",
    "a café in the rain",
    "沙发上的猫",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encoder):
    home = tmp_path_factory.mktemp("suggestions")
    photos(home / "photos", 40, size=(16, 16))
    index(home / ".clipsearch", home / "photos", encoder=encoder)
    with SearchEngine(Library(home / ".clipsearch"), encoder=encoder) as engine:
        engine.add({"id": f"r{i}", "text": text} for i, text in enumerate(CAPTIONS))
        engine.add([{"id": "gone", "text": "a xylophone"}])
        engine.delete("gone")
        engine.tag([1, 2, 3], add=["Horse", "stripes"])
        engine.tag([4], add=["submarine"])
        engine.tag(["r0", "r1", "r2"], add=["outside"])
        engine.tag(["r0", "r1"], add=["wheels"])
        engine.tag(["r0"], add=["red"])
        engine.tag([f"r{i}" for i in range(len(CAPTIONS))], add=["words"])
    return home


@pytest.fixture
def engine(folder, encoder):
    with SearchEngine(Library(folder / ".clipsearch"), encoder=encoder) as opened:
        yield opened


def suggested(found, kind):
    return [each.text for each in found.suggestions if each.kind == kind]


@pytest.fixture
def unsure(monkeypatch):
    """Nothing counts as confident: over pictures of noise, chance decides what does."""
    monkeypatch.setattr(scored, "CONFIDENT", 2.0)


def ask(engine, text, **options):
    return engine.search(text, suggest=True, **options)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("a red bycicle", "a red bicycle"),  # two vowels in each other's place
        ("a red bicylce", "a red bicycle"),
        ("BICYCEL!", "bicycle!"),
        ("bycicle and bycicle", "bicycle and bicycle"),
        ("reddog bicicle", None),
        ("красвая собока", "красивая собака"),
        ("caffe", "cafe"),
        ("bicyc", "bicycle"),  # a beginning
        ("bicyqlez", None),  # two errors
        ("redbicycle", "red bicycle"),
    ],
)
def test_a_misspelled_word_is_suggested_as_the_library_spells_it(engine, wrong, right, unsure):
    found = suggested(ask(engine, wrong), "spelling")
    assert (found[:1] == [right]) if right else "bicycle" in " ".join(found)


@pytest.mark.parametrize(
    "text", ["a red bicycle", "xylophon", "zqxwvzq", "猫咪咪咪", "the", "a" * 30, "12345", "ab-cd"]
)
def test_words_that_are_right_or_that_nothing_is_like_have_no_spelling(engine, text, unsure):
    assert suggested(ask(engine, text), "spelling") == []  # that of a deleted item finds nothing


def test_a_spelling_is_one_that_the_filters_allow(engine, unsure):
    cat = Filter(keys=("r4",))
    assert suggested(ask(engine, "bycicle", filters=cat), "spelling") == []
    assert suggested(ask(engine, "submarien", filters=Filter(ids=(1, 2))), "tag") == []  # both have all tags
    assert suggested(ask(engine, "submarien", filters=Filter(ids=(4,))), "tag") == ["submarine"]


def test_tags_are_those_spelled_alike_and_those_of_the_nearest_items(engine, unsure):
    found = suggested(ask(engine, "a submarien", k=40, modality="image"), "tag")
    assert found[0] == "submarine" and {*found} == {"submarine", "Horse", "stripes"}
    assert suggested(ask(engine, "HORSE"), "tag")[0] == "Horse"
    assert suggested(ask(engine, "zqxwv", modality="text", k=1), "tag") == []


def test_a_tag_is_near_if_two_of_the_nearest_have_it_and_more_of_them_than_of_all(engine, unsure, monkeypatch):
    near = {"k": 2, "modality": "text", "hybrid": False}
    assert {*suggested(ask(engine, "riding bikes", **near), "tag")} == {"wheels", "outside", "words"}
    texts = Filter(types=("text",))
    assert {*suggested(ask(engine, "riding bikes", **near, filters=texts), "tag")} == {"wheels", "outside"}
    whole = suggested(ask(engine, "riding bikes", k=len(CAPTIONS), filters=texts, hybrid=False), "tag")
    assert whole == []  # of all that may be found, as many
    largest = texts | Filter(tags=("x",))
    monkeypatch.setattr(filtering, "MAX_SIZE", largest.size)
    assert suggested(ask(engine, "riding bikes", **near, filters=largest), "tag") == []


def test_captions_are_the_nearest_texts(engine, unsure):
    found = ask(engine, "a dog on a bike")
    assert suggested(found, "caption")[0] in CAPTIONS and len(suggested(found, "caption")) == suggesting.MOST
    assert {*suggested(ask(engine, "dog", filters=Filter(keys=("r1",))), "caption")} == {CAPTIONS[1]}
    assert suggested(ask(engine, "dog", modality="image"), "caption") == []


def test_terms_and_vectors_have_tags_and_captions_but_no_spellings(engine, unsure):
    by_terms = ask(engine, Text("bycicle") - Text("x"), k=40)
    by_vector = engine.search(vector=engine.embed(texts=["dog"])[0], suggest=True, k=40)
    for found in (by_terms, by_vector):
        assert suggested(found, "tag") and suggested(found, "caption") and not suggested(found, "spelling")


def test_nothing_is_looked_up_for_a_confident_answer_or_unasked(engine, monkeypatch):
    def refuse(*args):
        raise AssertionError("it was looked up")

    for name in ("near_words", "tags_like", "tag_counts"):
        monkeypatch.setattr(Snapshot, name, refuse)
    sure = engine.search("a red bicycle", k=3, suggest=True)
    assert sure.confident and sure == engine.search("a red bicycle", k=3)
    assert not engine.search("bycicle", min_confidence=1.0).suggestions
    assert not engine.search("bycicle", min_confidence=1.0, offset=5, suggest=True).suggestions


def test_an_answer_is_otherwise_the_same(engine, unsure):
    import dataclasses

    plain, asked = engine.search("bycicle"), ask(engine, "bycicle")
    assert dataclasses.replace(asked, suggestions=()) == plain


@given(st.text(alphabet="abcdeизλ", min_size=0, max_size=26))
def test_spellings_are_few_and_none_is_the_word(word):
    near = near_words.spellings_near(word)
    assert word not in near and len(near) < 64 * (len(word) + 1) + len(word) ** 2
    assert all(cost >= 0 for cost in near.values())


@pytest.mark.slow
def test_several_libraries_suggest_together(folder, tmp_path, encoder, unsure):
    with clipsearch.open(tmp_path / "other", create=True, model="builtin-small") as other:
        other.add([{"id": "a", "text": "a trombone"}])
        other.tag("a", add=["brass"])
    with clipsearch.open([folder / ".clipsearch", tmp_path / "other"]) as joint:
        assert suggested(ask(joint, "trombnoe bycicle"), "spelling")[0] == "trombone bicycle"
        assert suggested(ask(joint, "bras"), "tag")[0] == "brass"


@pytest.mark.slow
def test_the_command_line_says_them_in_tables_and_elsewhere_when_asked(folder, monkeypatch, unsure):
    monkeypatch.chdir(folder)

    def run(*arguments):
        return CliRunner().invoke(query_command, ["bycicle zqxwv", *arguments])

    table = run()
    assert "Spelled otherwise: bicycle zqxwv" in table.stderr and "Nearest captions: " in table.stderr
    assert "Spelled" not in run("--no-suggest").stderr and run("--no-suggest").stdout == table.stdout
    assert "suggestions" not in json.loads(run("--json").stdout)
    found = json.loads(run("--json", "--suggest").stdout)["suggestions"]
    assert found[0] == {"kind": "spelling", "text": "bicycle zqxwv"}


def test_few_words_are_looked_for_and_few_compared_however_long_the_texts(engine, monkeypatch, unsure):
    looked, compared = [], []
    own, distance = near_words._of_texts, near_words._distance
    monkeypatch.setattr(
        near_words, "_of_texts", lambda given, word, allowed: looked.append(word) or own(given, word, allowed)
    )
    ask(engine, " ".join(f"zqxw{letter * 3}" for letter in "abcdefghij"))
    assert len(looked) == suggesting._MISSPELLED
    assert suggested(ask(engine, "an ox on a red bycicle"), "spelling")[0].endswith("bicycle")  # the short do not count
    monkeypatch.setattr(near_words, "_distance", lambda one, other: compared.append(other) or distance(one, other))
    monkeypatch.setattr(near_words, "_MOST_COMPARED", 1)
    ask(engine, "bicyqlez")
    assert compared in (["bicycles"], ["bicycle"])
    monkeypatch.setattr(near_words, "_MOST_READ", 9)
    with engine.library.query() as connection:
        assert sum(map(len, near_words._texts(connection, [*range(1, 100)]))) == 9


def test_a_distance_is_right_up_to_two():
    found = [near_words._distance("abcdef", other) for other in ("abcdef", "abdcef", "badcef", "xxabcdef", "uvwxyz")]
    assert found == [0, 1, 2, 2, 3]
