"""Answers and listings in another order than relevance: sorted, diverse, with days together."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

import clipsearch
from clipsearch import Filter
from clipsearch.present import shape_listing
from clipsearch.query.diversity import POOL, marginal_relevance
from clipsearch.query.engine import SearchEngine
from clipsearch.sorting import SORTS, sort_items
from clipsearch.store.library import Library
from clipsearch.types import Item, Listing, Modality
from indexer.importing import import_embeddings
from tests.support.cli import run_cli

DIM, BURST, OTHERS, FAR = 64, 12, 8, 120
STARS = {0: 3, 2: 5, 13: -1, 15: 1}


def at(cosine: float, axis: np.ndarray, other: np.ndarray) -> np.ndarray:
    other = other - (other @ axis) * axis
    return cosine * axis + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)


def vectors() -> np.ndarray:
    """A burst of pictures near the first axis, others as far from each other as can be, and many that are far."""
    chance = np.random.default_rng(7)
    axis, alike = np.eye(DIM)[0], chance.normal(size=DIM)
    rows = [at(0.80 - 0.001 * i, axis, alike + 0.05 * chance.normal(size=DIM)) for i in range(BURST)]
    rows += [at(0.76 - 0.002 * i, axis, np.eye(DIM)[1 + i]) for i in range(OTHERS)]
    far = chance.normal(size=(FAR, DIM))
    far[:, 0] = 0.3 * chance.normal(size=FAR)
    return np.array([*rows, *(far / np.linalg.norm(far, axis=1, keepdims=True))], np.float32)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arranged")
    rows = vectors()
    with (folder / "v.jsonl").open("w") as file:
        for i in range(len(rows)):
            taken = {} if i == 3 else {"taken_at": f"2024-05-{1 + i % 3:02}T10:{i // 60:02}:{i % 60:02}"}
            stars = {"rating": STARS[i]} if i in STARS else {}
            file.write(json.dumps({"path": f"/p/IMG_{i}.jpg", "width": 4, "height": 3, **taken, **stars}) + "\n")
    np.save(folder / "v.npy", rows)
    import_embeddings(folder / "l", str(folder / "v.npy"), encoder="hf-hub:someone/model", items=folder / "v.jsonl")
    with SearchEngine(Library(folder / "l")) as opened:
        yield opened


def numbers(found) -> list[int]:
    paths = (each.path if hasattr(each, "path") else each for each in found)
    return [int(Path(path).stem.removeprefix("IMG_")) for path in paths]


def ask(engine, **options):
    return engine.search(vector=np.eye(DIM)[0], kind="image", **options)


def test_only_confident_hits_are_sorted_and_pages_go_on(engine):
    confident = {n for n, hit in zip(range(500), ask(engine, k=140), strict=False) if hit.confidence >= 0.75}
    assert confident == set(range(BURST + OTHERS))
    found = ask(engine, k=50, sort="name")
    assert numbers(found) == list(range(20)) and [hit.rank for hit in found] == list(range(1, 21))
    assert found.confident and not found.left_out
    pages = [ask(engine, k=6, offset=start, sort="name") for start in range(0, 24, 6)]
    assert [n for page in pages for n in numbers(page)] == list(range(20))
    assert [hit.rank for hit in pages[1]] == [7, 8, 9, 10, 11, 12]
    times = [hit.item.picture.taken_at if hit.item.picture else None for hit in ask(engine, k=30, sort="taken")]
    assert times[-1] is None and times[:-1] == sorted(times[:-1], reverse=True) and len(times) == 20
    rated = numbers(ask(engine, k=30, sort="rating"))
    assert rated[:3] == [2, 0, 15] and rated[-1] == 13


def test_a_least_confidence_takes_the_place_of_that_of_a_confident_hit_and_nothing_is_said_to_be_nothing(engine):
    assert len(ask(engine, k=500, sort="name", min_confidence=0.0)) == 140
    found = ask(engine, sort="name", min_score=0.9)
    assert not found and not found.confident and found.left_out == 10
    assert any("nothing reaches" in warning for warning in found.warnings)


def test_a_filter_holds_in_a_sorted_and_in_a_diverse_answer(engine):
    wanted = Filter(where={"rating": {"ge": 1}})
    assert numbers(ask(engine, sort="name", filters=wanted)) == [0, 2, 15]
    assert sorted(numbers(ask(engine, diverse=True, filters=wanted))) == [0, 2, 15]


def test_a_diverse_answer_is_not_one_burst_and_is_a_prefix_of_longer_ones(engine):
    plain, diverse = ask(engine, k=10), ask(engine, k=10, diverse=True)
    assert sum(n < BURST for n in numbers(plain)) == 10
    assert diverse[0] == plain[0]
    assert sum(n < BURST for n in numbers(diverse)) <= 3
    assert all(hit.confidence >= 0.75 for hit in diverse)
    whole = ask(engine, k=140, diverse=True)
    assert sorted(numbers(whole)) == list(range(140)) and [hit.rank for hit in whole] == list(range(1, 141))
    assert numbers(whole)[POOL:] == numbers(ask(engine, k=140))[POOL:]
    assert numbers(whole)[:10] == numbers(diverse)
    assert numbers(ask(engine, k=7, offset=5, diverse=True)) == numbers(whole)[5:12]
    assert numbers(ask(engine, k=140, diverse=True, offset=95)) == numbers(whole)[95:]


def test_marginal_relevance_is_that_of_the_paper():
    chance = np.random.default_rng(3)
    for share in (0.0, 0.3, 0.7, 1.0):
        relevance, likeness = np.sort(chance.random(12))[::-1], chance.random((12, 12))
        likeness = (likeness + likeness.T) / 2
        chosen = [0]
        while len(chosen) < 12:
            left = [i for i in range(12) if i not in chosen]
            chosen.append(
                max(left, key=lambda i: share * relevance[i] - (1 - share) * max(likeness[i, j] for j in chosen))
            )
        assert marginal_relevance(relevance, likeness, share) == chosen
    assert marginal_relevance(np.empty(0), np.empty((0, 0)), 0.5) == []


@pytest.mark.parametrize(
    "value", ["abc", None, b"x", 1e300, -1e300, float("inf"), float("nan"), pytest.param(10**400, id="huge"), True]
)
@pytest.mark.parametrize("sort", SORTS[1:])
def test_a_damaged_value_is_unknown_to_an_order(sort, value):
    good = Item(1, "/p/a", Modality.IMAGE, 5, 10**18, "00", key="a", metadata={"rating": 3})
    bad = Item(2, "/p/b", Modality.IMAGE, value, value, "00", key="b", metadata={"rating": value})
    is_large = sort in ("size", "rating") and value in (1e300, 10**400)
    assert sort_items([bad, good], sort)[0] is (bad if is_large else good)
    assert shape_listing(Listing("/l", (replace(bad, metadata={}),), 1), "table", "/p").count(b"\n") == 2


def test_listings_are_sorted_by_names_with_numbers_sizes_and_ratings(engine):
    assert numbers(engine.find(sort="name", limit=12)) == list(range(12))
    assert numbers(engine.find(sort="name", limit=3, offset=9)) == [9, 10, 11]
    assert numbers(engine.find(sort="rating", limit=3)) == [2, 0, 15]
    assert numbers(engine.find(sort="rating"))[-1] == 13
    assert numbers(engine.find(sort="size")) == numbers(engine.find())  # records have no size
    with pytest.raises(clipsearch.InvalidInputError, match="no order 'relevance'"):
        engine.find(sort="relevance")


def test_days_stand_together_in_the_order_of_their_first_hits(engine):
    found = ask(engine, k=6)
    groups = clipsearch.group_by_day(found)
    assert [(day, numbers(hits)) for day, hits in groups] == [
        (date(2024, 5, 1), [0]), (date(2024, 5, 2), [1, 4]), (date(2024, 5, 3), [2, 5]), (None, [3])
    ]  # fmt: skip
    assert clipsearch.group_by_day([]) == []


@pytest.mark.slow
def test_the_command_line_sorts_groups_and_writes_a_page_of_days(engine, tmp_path):
    library = ["--library", str(engine.library.folder)]
    listed = run_cli("find", "--sort", "name", "-k", "4", "--group", "day", *library)
    lines = [line.strip() for line in listed.out.decode().splitlines()]
    assert [line for line in lines if "(" in line] == [
        "2024-05-01 (1)",
        "2024-05-02 (1)",
        "2024-05-03 (1)",
        "no date (1)",
    ]
    found = json.loads(run_cli("find", "--sort", "rating", "-k", "2", "--json", "--group", "day", *library).out)
    assert found["groups"] == [{"day": "2024-05-03", "count": 1}, {"day": "2024-05-01", "count": 1}]
    page = tmp_path / "page.html"
    like = ["similar", "1", "-k", "5", *library, "--html", str(page), "--group", "day"]
    found = json.loads(run_cli(*like, "--json").out)
    assert sum(each["count"] for each in found["groups"]) == 5 and page.read_text().count("<h2>") == len(
        found["groups"]
    )
    assert "groups" not in json.loads(run_cli(*like[:-2], "--json").out)
    counts = []
    for order in ([], ["--diverse"]):
        found = json.loads(run_cli("similar", str(BURST + 1), "--json", *order, *library).out)
        counts.append(sum(n < BURST for n in numbers(hit["path"] for hit in found["hits"])))
    assert counts[0] == 10 > counts[1]
    both = run_cli("similar", "1", "--diverse", "--sort", "name", *library)
    assert both.code == 2 and "not both" in both.err
