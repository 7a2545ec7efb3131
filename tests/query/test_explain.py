"""Explanations: the order of an answer follows from the numbers that they give."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clipsearch import Filter, Indexed, Picture, Text
from clipsearch.query.explaining_filters import describe
from clipsearch.query.explaining_words import MAX_CHARACTERS, WordFinder, find_spans
from clipsearch.query.recognised import tokens_of
from clipsearch.types import Modality
from tests.support.cli import run_cli
from tests.support.joined import fill, records
from tests.support.pictures import noise_picture

COUNT = 60


@pytest.fixture(scope="module")
def engine(tmp_path_factory, encoder):
    """Pictures with and without captions, and texts; enough to be measured."""
    with fill(tmp_path_factory.mktemp("explain") / "l", encoder, [records(0, 0, COUNT)]) as opened:
        yield opened


SEARCHES = {
    "words": lambda e, **o: e.search("a dog by the sea", **o),
    "meaning alone": lambda e, **o: e.search("a dog by the sea", hybrid=False, **o),
    "rare words": lambda e, **o: e.search("market bread", **o),
    "pictures": lambda e, **o: e.search("old house", modality="image", **o),
    "texts": lambda e, **o: e.search("old house", modality="text", **o),
    "a picture": lambda e, **o: e.search(image=noise_picture(31, (64, 48)), **o),
    "a vector": lambda e, **o: e.search(vector=e.vectors("r040")[0], kind="image", **o),
    "a vector of any kind": lambda e, **o: e.search(vector=e.vectors("r041")[0], **o),
    "an item": lambda e, **o: e.search(Indexed(e.get("r050").id), **o),
    "two terms": lambda e, **o: e.search(Text("a dog") + Text("snow"), **o),
    "three terms": lambda e, **o: e.search(Text("a dog") + 2 * Text("snow") - Text("sea"), **o),
    "one without another": lambda e, **o: e.search(Text("a dog") - Text("sea"), **o),
    "by ranks": lambda e, **o: e.search(Text("a dog") + Text("snow"), fusion="rank", **o),
    "a picture and words": lambda e, **o: e.search(
        Picture("p", noise_picture(31, (64, 48))) + Text("snow") - Text("boat"), **o
    ),
    "a filter": lambda e, **o: e.search("a boat", filters=Filter(where={"price": {"lt": 5}}), **o),
}


def moved_up(order: list[int], promised: list[int]) -> list[int]:
    """Put the r-th of those promised at place 2r or before, as docs/scores.md says."""
    if all(order.index(each) < 2 * r for r, each in enumerate(promised, 1)):
        return order
    left, kept = [*order], []
    for place in range(1, len(order) + 1):
        r = place // 2
        is_due = place % 2 == 0 and r <= len(promised) and promised[r - 1] in left
        kept.append(left.pop(left.index(promised[r - 1]) if is_due else 0))
    return kept


@pytest.mark.parametrize("name", SEARCHES)
def test_an_explanation_changes_no_answer(engine, name):
    plain, found = (SEARCHES[name](engine, k=COUNT, explain=explain) for explain in (False, True))
    assert [replace(hit, explanation=None) for hit in found] == [*plain]
    assert all(hit.explanation is None for hit in plain)
    assert [hit.explanation.place for hit in found] == [hit.rank for hit in found]
    steps = [hit.explanation.step for hit in found]
    assert steps in ([1] * len(found), [1 + (r >= 10) + (r >= 40) for r in range(len(found))])
    half = SEARCHES[name](engine, k=COUNT // 4, explain=True)
    assert [*half] == [*found[: COUNT // 4]]


@pytest.mark.parametrize("name", [each for each in SEARCHES if each != "a filter"])
def test_the_order_follows_from_the_explanations_alone(engine, name):
    """Ten items at a time, which are all candidates: the rules of docs/scores.md, once more by hand."""
    for first in range(1, COUNT, 10):
        found = SEARCHES[name](engine, k=COUNT, explain=True, filters=Filter(ids=range(first, first + 10)))
        if not found:
            continue
        known = {hit.item.id: hit.explanation for hit in found}
        by_order = sorted(known, key=lambda item: known[item].order_place)
        values = [np.inf if known[item].order is None else known[item].order for item in by_order]
        assert values == sorted(values, reverse=True)
        outstanding = [item for item in known if picture_worth(known[item]) > 0]
        promised = sorted(outstanding, key=lambda item: (-picture_worth(known[item]), -known[item].terms[0].score))
        kinds = {term.modality for each in known.values() for term in each.terms}
        composed = len({term.term for each in known.values() for term in each.terms}) > 1
        by_meaning = sorted(known, key=lambda item: known[item].meaning_place)
        if len(kinds) > 1 and not composed:
            assert by_meaning == moved_up(by_order, promised)
        merit = {item: 1 / (60 + place) for place, item in enumerate(by_meaning, 1)}
        merit |= {item: merit[item] + 1 / (60 + each.words_place) for item, each in known.items() if each.words_place}
        fused = moved_up(sorted(by_meaning, key=lambda item: -merit[item]), by_meaning)
        top, second = known[by_meaning[0]], known[fused[0]]
        if second.words_place and top.order is not None and second.words_worth < top.order and top.words_place is None:
            kept_first = found[0].item.id
            fused = [kept_first, *(item for item in fused if item != kept_first)]
        assert [hit.item.id for hit in found] == fused


def picture_worth(known) -> float:
    """How far the picture of an item stands out, of a query of one term; -inf without a picture."""
    values = [
        np.inf if each.log_evalue is None else each.log_evalue for each in known.terms if each.modality == "image"
    ]
    return max(values, default=-np.inf)


def test_terms_have_the_exact_scores_and_their_places(engine):
    query = Text("a dog") + 2 * Text("snow") - Text("sea")
    found = engine.search(query, k=30, explain=True)
    words = dict(zip(["a dog", "snow", "sea"], engine.embed(texts=["a dog", "snow", "sea"], kind="query"), strict=True))
    for hit in found:
        weights = {(each.term, each.weight) for each in hit.explanation.terms}
        assert weights == {("a dog", 1.0), ("snow", 2.0), ("sea", -1.0)}
        for term in hit.explanation.terms:
            row = engine.vectors(hit.item.key, modality=term.modality)[0]
            if hit.item.text is None or term.modality is Modality.IMAGE:  # else the mean of passages
                assert term.score == pytest.approx(float(row @ words[term.term]), abs=2e-3)
    alone = engine.search("snow", k=COUNT, hybrid=False, modality="image", explain=True)
    scores = [hit.score for hit in alone]
    assert [hit.explanation.terms[0].place for hit in alone[:10]] == [1 + scores.index(score) for score in scores[:10]]
    for hit in alone:
        (term,) = hit.explanation.terms
        assert (term.score, term.confidence, term.log_evalue) == (hit.score, hit.confidence, hit.log_evalue)


def test_the_reason_names_the_fact_that_decides(engine):
    found = engine.search("market bread", k=20, explain=True)
    named = [hit for hit in found if hit.explanation.words_place is not None]
    assert named and all(hit.explanation.words for hit in named)
    for hit, following in zip(found, [*found[1:], None], strict=True):
        mine, why = hit.explanation, hit.explanation.above_next
        assert why
        if following is None:
            continue
        theirs = following.explanation
        if "has all words" in why:
            assert mine.words_place is not None and theirs.words_place is None
        if why.startswith("its") and " against " in why:
            numbers = [float(number.strip("s:")) for number in why.split(": ")[1].split(" against ")]
            assert numbers[0] >= numbers[1] and mine.order >= theirs.order
    shorter = engine.search("market bread", k=7, explain=True)
    assert list(shorter) == list(found[:7])
    assert engine.search("market bread", k=500, explain=True)[-1].explanation.above_next == ""
    itself = engine.search(image=noise_picture(31, (64, 48)), k=3, explain=True)[0]
    assert itself.explanation.order is None and "searched by" in itself.explanation.above_next


def test_other_orders_have_their_own_reasons(engine):
    sized = engine.search("a dog", k=5, sort="name", min_confidence=0.0, explain=True)
    assert all("its name comes first" in hit.explanation.above_next for hit in sized[:-1])
    assert sized[-1].explanation.above_next == ""
    answers = [engine.search(text, k=60, diverse=True, explain=True) for text in ("a dog", "snow", "old house")]
    pairs = [(one.explanation, two.explanation) for found in answers for one, two in pairwise(found)]
    moved = [one.above_next for one, two in pairs if one.place > two.place]
    assert moved and all("more that is new" in why for why in moved)


def test_words_are_marked_in_the_text_that_has_them():
    def marked(text: str, query: str) -> list[str]:
        return [text[a:b] for a, b in find_spans(text, [tokens_of(word) for word in query.split()])]

    assert marked("The DOGS and a Dog, a dog's", "dog") == ["Dog", "dog"]
    assert marked("Zwei Café-Häuser am Fluß", "cafe fluß hauser") == ["Café", "Häuser", "Fluß"]
    assert marked("雪地里的狗在跑", "狗在 雪") == ["雪", "狗在"]
    assert marked("nothing of it", "dog") == []


def test_only_the_beginning_of_a_long_passage_is_looked_through_and_returned(monkeypatch):
    text = "zebra " + "x" * MAX_CHARACTERS + " zebra"
    monkeypatch.setattr(WordFinder, "_texts", lambda *_, **__: [("text", text)])
    finder = WordFinder(None, SimpleNamespace(leaves=[SimpleNamespace(is_words=True)]), ["zebra"])
    (match,) = finder.find(None, None, [], is_named=False)
    assert match.spans == ((0, 5),) and match.text == text[:MAX_CHARACTERS]


def test_filters_are_said_in_words():
    wanted = Filter(cameras=("canon",), where={"price": {"ge": 2, "lt": 9}, "brand": ["a", "b"]}, min_rating=4)
    assert describe(wanted & ~Filter(tags=("sea",))) == (
        "cameras: canon", "min rating: 4", "price >= 2", "price < 9", "brand in a, b", "not (tags: sea)",
    )  # fmt: skip
    assert describe(Filter(tags=("a",)) | Filter(tags=("b",))) == ("(tags: a) or (tags: b)",)
    assert describe(Filter()) == ()


@pytest.mark.slow
def test_the_command_line_explains_in_a_table_in_json_and_on_a_page(engine, tmp_path):
    library = ["--library", str(engine.library.folder)]
    table = run_cli("query", "market bread", "--explain", "-k", "3", "--where", "price<7", *library).out.decode()
    assert table.count("above the next: ") == 3 and "[market]" in table and "meets price < 7" in table
    page = tmp_path / "p.html"
    shown = json.loads(
        run_cli("query", "market bread", "--explain", "-k", "3", "--json", "--html", str(page), *library).out
    )
    expected = engine.search("market bread", k=3, explain=True)
    assert [hit["explanation"]["above_next"] for hit in shown["hits"]] == [h.explanation.above_next for h in expected]
    assert shown["hits"][0]["explanation"]["terms"][0]["term"] == "market bread"
    html = page.read_text(encoding="utf-8")
    assert html.count("<details") == 3 and "<mark>market</mark>" in html and "above the next" in html
    plain = run_cli("query", "market bread", "-k", "3", "--json", *library).out
    assert b"explanation" not in plain and Path(page).exists()
