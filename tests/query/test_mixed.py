"""Pictures and texts in one ranking: an unrelated text stands before no picture, one that answers stands first."""

import argparse
import decimal
import difflib
import inspect
import json
import logging.handlers
import math
import smtplib
import sqlite3
import statistics
import sys
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from clipsearch import parse
from clipsearch.encoders import registry
from clipsearch.query.engine import SearchEngine
from clipsearch.query.scored import Judge, ScoredRows
from clipsearch.query.scoring import is_doubtful, merge_modalities
from clipsearch.ranking import (
    CONFIDENT,
    TAIL_SHARE,
    NullModel,
    Tail,
    evalue_confidence,
    log_evalue,
    upper_tail,
    words_evalue,
)
from clipsearch.store.library import Library
from clipsearch.store.spreads import Spreads
from clipsearch.types import Modality
from tests.support.libraries import index
from tests.support.paths import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from demo import copy_shipped

REFUND = "Refunds: we pay the price back within two weeks if the receipt is sent to the shop in Leipzig."
SHOWN = {
    "a cat": "chelsea", "a cup of coffee": "coffee", "a rocket at night": "rocket", "a man with a camera": "camera",
    "a motorcycle in a garage": "motorcycle_left", "a temple": "china",
}  # fmt: skip
ABSENT = ("kookaburras", "a giraffe", "a wedding cake", "an aircraft carrier", "three children on a beach", "a violin")


@pytest.fixture(scope="module")
def base(isolated_user):
    return registry.load("builtin-base", threads=2, offline=True)


def passages():
    """What modules say of themselves, which no photograph has to do with."""
    modules = (argparse, decimal, difflib, logging.handlers, smtplib, statistics, tarfile, zipfile)
    owners = [member for module in modules for _, member in inspect.getmembers(module, inspect.isclass)]
    texts = {inspect.getdoc(member) for owner in owners for _, member in inspect.getmembers(owner, inspect.isroutine)}
    return sorted(text for text in texts if text and len(text) > 120)


@pytest.fixture(scope="module", params=[1, 12, 100], ids=lambda count: f"{count} texts")
def mixed(request, tmp_path_factory, base):
    """The photographs that scikit-image and scikit-learn ship, and some texts, of which the first is on refunds."""
    root = tmp_path_factory.mktemp("mixed")
    copy_shipped(root / "files")
    texts = passages()
    for number, text in enumerate([REFUND, *texts[:: len(texts) // 100]][: request.param]):
        (root / "files" / f"text{number}.md").write_text(text, "utf-8")
    index(root / "library", root / "files", encoder=base)
    with SearchEngine(Library(root / "library"), encoder=base) as engine:
        yield engine


def stems(results):
    return [Path(hit.path).stem for hit in results]


def test_a_picture_that_fits_stands_before_unrelated_texts(mixed):
    for query, name in SHOWN.items():
        assert stems(mixed.search(query, k=1)) == [name], query


def test_an_unrelated_text_is_no_confident_answer_and_a_single_one_never_first(mixed, request):
    found = {query: mixed.search(query, k=1)[0] for query in ABSENT}
    if "[1 texts]" in request.node.name:
        assert {hit.modality for hit in found.values()} == {Modality.IMAGE}
    for query in (*ABSENT, *SHOWN):
        assert mixed.search(query, k=1, modality="text")[0].confidence < CONFIDENT, query


@pytest.mark.parametrize("query", ["refunds receipt Leipzig", "shop price weeks", "how do I get my money back"])
def test_a_text_that_answers_stands_first(mixed, query):
    assert stems(mixed.search(query, k=1)) == ["text0"]


@pytest.mark.parametrize(
    "query", ["a cat - a kitty", "a motorcycle - a vehicle", "a person + a camera - a man", "coffee - a cup - a table"]
)
def test_a_text_does_not_win_where_a_negative_pushes_pictures_down(mixed, query):
    assert mixed.search(parse(query), k=1)[0].modality is Modality.IMAGE


@pytest.mark.parametrize("query", ["money back for a purchase - a dog", "a refund + a receipt - a street"])
def test_a_text_that_fits_a_composed_query_stands_first(mixed, query):
    assert stems(mixed.search(parse(query), k=1)) == ["text0"]


def test_a_library_of_an_earlier_version_answers_and_is_measured_at_the_next_run(tmp_path, base):
    copy_shipped(tmp_path / "files")
    (tmp_path / "files" / "note.md").write_text(REFUND)
    index(tmp_path / "library", tmp_path / "files", encoder=base)

    def spreads():
        with closing(Library(tmp_path / "library")) as library, library.read() as snapshot:
            return snapshot.spreads()

    found = spreads()
    assert found.tails_of("text", Modality.TEXT) and not found.tails_of("text", Modality.IMAGE)
    former = {"rows": found.rows, "values": found.values, "centres": found.centres, "reach": {"text text": 2.0}}
    with closing(sqlite3.connect(tmp_path / "library" / "catalog.db")) as db, db:
        db.execute("UPDATE settings SET value = ? WHERE key = 'score_spreads'", [json.dumps(former)])
    assert spreads().values == found.values and not spreads().tails
    with SearchEngine(Library(tmp_path / "library"), encoder=base) as engine:
        assert stems(engine.search("a cat", k=1)) == ["chelsea"]
    index(tmp_path / "library", encoder=base)
    assert spreads() == found


BAD_TAILS = (
    3, [0.1], [0.1, None, 0.1, 0.1], [0.1, 0, 0.1, 0.1], [0.1, -1, 0.1, 0.1], [0.1, 0.1, 0.1, 1e-300],
    [0.1, 0.1, 0.1, 9], [3, 0.1, 0, 0.1],
)  # fmt: skip
DAMAGED = [
    *({"tails": {"text text": each}} for each in BAD_TAILS),
    *({"values": {"text text": each}} for each in (0, -1, 1e-300, 1e200, float("inf"), float("nan"), "a", None)),
    *({"centres": {"text text": each}} for each in (1e300, -2.5, float("nan"), [0.1])),
    {"rows": {"text": -1}}, {"rows": {"text": float("nan")}}, {"stand_ins": 3}, {"tails": [1]}, {"tails": "x"},
]  # fmt: skip


@pytest.fixture(scope="module")
def noted(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("noted")
    (folder / "note.md").write_text(REFUND)
    index(folder / "library", folder / "note.md", encoder=encoder)
    return folder / "library"


@pytest.mark.parametrize("damage", DAMAGED, ids=str)
def test_damaged_spreads_are_as_if_not_measured(noted, encoder, damage):
    sound = {"values": {"text text": 0.1}, "centres": {"text text": 0.1}, "tails": {"text text": [0.1, 0.05] * 2}}
    with closing(sqlite3.connect(noted / "catalog.db")) as db, db:
        value = json.dumps({"rows": {"text": 1}} | sound | damage)
        db.execute("UPDATE settings SET value = ? WHERE key = 'score_spreads'", [value])
    with closing(Library(noted)) as library, library.read() as snapshot:
        assert snapshot.spreads() == Spreads()
    with SearchEngine(Library(noted), encoder=encoder) as engine:
        assert len(engine.search("a refund")) == 1


def test_the_tail_is_that_of_the_scores():
    rng = np.random.default_rng(0)
    tail = upper_tail(rng.laplace(0.0, 0.05, (32, 1000)))
    assert (tail.start, tail.scale) == pytest.approx((0.05 * np.log(0.5 / TAIL_SHARE), 0.05), rel=0.05)
    seen = NullModel(0.1, 0.05, 100, 1000, tail)
    unrelated = 0.1 + rng.laplace(0.0, 0.05, 100_000)
    for score in (0.25, 0.3, 0.4):
        assert np.exp(-log_evalue(score, seen)) == pytest.approx(100 * (unrelated >= score).mean(), rel=0.2)
    worth = [log_evalue(score, seen) for score in np.linspace(-0.5, 1, 500)]
    assert worth == sorted(worth)


@pytest.mark.parametrize("unit", [1.0, 1e-6, 0.0])
def test_a_tail_of_equal_scores_has_a_width_that_is_kept(unit):
    tail = upper_tail(np.zeros((32, 40)), unit)
    assert isinstance(tail, Tail) and round(tail.scale, 5) > 0
    kept = Tail(round(tail.start, 5), round(tail.scale, 5))
    assert np.isfinite(log_evalue(1.0, NullModel(0.0, 0.01, 100, 40, kept)))


def scored(modality, orders, confidence=None):
    """Rows of one modality, with the order of each item; confidence: of the first, None where the library is small."""
    worth = np.array([*orders.values()])
    if confidence is not None:
        worth[0] = -np.log(-np.log(confidence))
    judge = Judge(modality, NullModel(0.0, 0.1, 100, 0 if confidence is None else 1000))
    ids, order = np.array([*orders], np.int64), np.array([*orders.values()])
    return ScoredRows(ids, ids, order / 10, worth, order, (judge,), np.zeros(len(ids), np.intp))


def test_a_picture_and_its_caption_add_up():
    pictures = scored(Modality.IMAGE, {1: 3.0, 2: 2.0, 3: -1.0})
    texts = scored(Modality.TEXT, {2: 2.5, 3: 0.5, 9: -2.0})
    merged = merge_modalities([pictures, texts], adds_up=True)
    assert [(entry.item, entry.modality) for entry in merged[:2]] == [(2, Modality.TEXT), (2, Modality.IMAGE)]
    assert list(dict.fromkeys(entry.item for entry in merged)) == [2, 1, 3, 9]
    assert merge_modalities([pictures, texts], adds_up=False)[0].item == 1


@pytest.mark.parametrize(
    ("order", "confidence", "words", "doubtful"),
    [
        (0.5, 0.55, 0.0, {6}),
        (4.0, 0.98, 0.0, {5, 6}),
        (4.0, 0.98, 4.0, set()),  # its words are worth it
        (4.0, None, 0.0, set()),  # of a few pictures none can stand out
    ],
)
def test_texts_that_neither_words_nor_meaning_make_worth_the_first_picture_are_doubtful(
    order, confidence, words, doubtful
):
    texts = scored(Modality.TEXT, {5: 0.5, 6: -0.5, 1: -2.0})
    ranked = ScoredRows.concatenate([scored(Modality.IMAGE, {1: order}, confidence), texts])
    assert {item for item in (1, 5, 6) if is_doubtful(ranked, item, words)} == doubtful
    assert not any(is_doubtful(texts, item, words) for item in (5, 6))


def test_a_word_is_worth_less_the_more_texts_have_it_and_several_are_worth_more_than_one():
    alone = words_evalue([1], 1000)
    assert evalue_confidence(alone, NullModel(0.0, 0.1, 100, 100)) == pytest.approx(CONFIDENT)
    assert words_evalue([20], 1000) == words_evalue([20], 50) == pytest.approx(alone - math.log(20))
    assert words_evalue([20, 1000], 1000) == pytest.approx(words_evalue([20], 1000)), "a word that all have"
    assert words_evalue([2, 2, 2], 1000) > words_evalue([2, 2], 1000) > 5 > words_evalue([20, 20, 20], 100)
    assert words_evalue([3], 0) == words_evalue([3], 1) < alone, "items may have words but no passage"


@pytest.mark.slow
def test_a_word_that_some_texts_have_in_passing_does_not_put_them_before_a_picture_of_it(tmp_path, base):
    copy_shipped(tmp_path / "files")
    for path in [each for each in (tmp_path / "files").iterdir() if each.suffix in (".png", ".jpg")]:
        with Image.open(path) as picture:  # beside so few photographs nothing is doubtful
            for number, change in enumerate((ImageOps.mirror, ImageOps.flip)):
                change(picture).save(path.with_name(f"{path.stem}.{number}{path.suffix}"))
    things = {"cat": "chelsea", "coffee": "coffee", "camera": "camera", "motorcycle": "motorcycle_left"}
    for number, text in enumerate(passages()[:40]):
        words = text.split()
        words.insert(len(words) // 2, [*things][number % 4])
        (tmp_path / "files" / f"text{number}.md").write_text(" ".join(words) if number % 3 else text, "utf-8")
    (tmp_path / "files" / "refund.md").write_text(REFUND)
    index(tmp_path / "library", tmp_path / "files", encoder=base)
    with SearchEngine(Library(tmp_path / "library"), encoder=base) as engine:
        found = {word: engine.search(word, k=2) for word in things}
        assert {word: Path(hits[0].path).name.partition(".")[0] for word, hits in found.items()} == things
        assert {hits[1].modality for hits in found.values()} == {Modality.TEXT}, "they are next"
        assert stems(engine.search("Leipzig", k=1)) == stems(engine.search("receipt shop Leipzig", k=1)) == ["refund"]


@pytest.mark.parametrize("notes", [["The manual of a pump."], ["The manual of a pump.", REFUND, "A recipe for bread."]])
def test_a_picture_finds_itself_first_beside_few_texts(tmp_path, base, notes):
    copy_shipped(tmp_path / "shipped")
    files = tmp_path / "files"
    files.mkdir()
    (tmp_path / "shipped" / "chelsea.png").rename(files / "chelsea.png")
    for number, note in enumerate(notes):
        (files / f"note{number}.md").write_text(note)
    index(tmp_path / "library", files, encoder=base)
    with SearchEngine(Library(tmp_path / "library"), encoder=base) as engine:
        first = engine.search(image=files / "chelsea.png", k=1)[0]
        assert Path(first.path).name == "chelsea.png" and first.score > 0.999
        assert stems(engine.search("a cat", k=1)) == ["chelsea"]
