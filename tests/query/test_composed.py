"""Composed queries on real photographs with the builtin encoder, as a person would expect them to be answered."""

import csv
import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import clipsearch
from clipsearch import Indexed, Picture, Text, parse
from clipsearch.config import Settings
from clipsearch.encoders import registry
from clipsearch.errors import InvalidInputError, PictureError
from clipsearch.query.engine import SearchEngine
from clipsearch.query.terms import FUSIONS, as_query
from clipsearch.store.library import Library
from tests.support.cli import run_cli
from tests.support.libraries import index
from tests.support.paths import PHOTOGRAPHS, ROOT

sys.path.insert(0, str(ROOT / "tools"))
from demo import copy_shipped


@pytest.fixture(scope="module")
def base(isolated_user):
    return registry.load("builtin-base", threads=2, offline=True)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory, base):
    """An engine over the photographs that scikit-image and scikit-learn ship, and their folder."""
    root = tmp_path_factory.mktemp("shipped")
    copy_shipped(root / "photos")
    (root / "notes.txt").write_text("The rocket was launched from the coast at night.")
    index(root / "library", root / "photos", root / "notes.txt", encoder=base)
    with SearchEngine(Library(root / "library"), encoder=base) as engine:
        yield engine, root / "photos"


def names(results) -> list[str]:
    return [Path(hit.path).stem for hit in results]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("kitty - puppy", "chelsea"),
        ("kitty - puppy - roof - fence", "chelsea"),
        ("a cat - a dog - a roof - a fence", "chelsea"),
        ("a cup of coffee - a cat - a dog - a roof - a fence - a car", "coffee"),
        ("a flower - a roof - a fence - a dog - a car - a man", "flower"),
        ("a rocket + 3:a motorcycle", "motorcycle_left"),
        ("3:a rocket + a motorcycle", "rocket"),
        ("a vehicle - a rocket", "motorcycle_left"),
        ("a plant - a building", "flower"),
        ("a building + a tree", "china"),
        ("a person + a camera", "camera"),
        ("a drink + a table", "coffee"),
        ('image:"{photos}/moon.png" + money', "coins"),
        ('image:"{photos}/rocket.jpg" + 3:"a cup of coffee"', "coffee"),
        ('image:"{photos}/chelsea.png" - a dog - a motorcycle', "chelsea"),
    ],
)
def test_what_a_person_means_comes_first(shipped, query, first):
    engine, photos = shipped
    assert names(engine.search(parse(query.format(photos=photos)), modality="image", k=3))[0] == first


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, base):
    """An engine over photographs with captions, and the captions by name."""
    if not PHOTOGRAPHS.is_dir():
        pytest.skip("the shared photographs with captions are not here")
    captions = defaultdict(list)
    with (PHOTOGRAPHS / "captions.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            captions[Path(row["image"]).stem].append(row["caption"].lower())
    library = tmp_path_factory.mktemp("photographs")
    index(library, PHOTOGRAPHS, encoder=base, settings=Settings(threads=2, offline=True))
    with SearchEngine(Library(library), encoder=base) as engine:
        yield engine, captions


@pytest.mark.parametrize(
    ("query", "shows", "not_shows"),
    [
        ("dog - snow", "dogs?", "snow"),
        ("dog - grass - snow - water - ball", "dogs?|puppy", "snow|ball"),
        ("dog - snow - water", "dogs?", "snow|water|ocean"),
        ("snow - dog", "snow\\w*", "dogs?"),
        ("snow - dog - child", "snow\\w*", "dogs?|child|boy|girl"),
        ("ball - dog", "ball|football|soccer|basketball|baseball|tennis", "dogs?"),
        ("child - dog - water", "child|children|boys?|girls?|kids?|toddler|baby", "dogs?|water|pool"),
        ("water - surfing - beach", "water|pool|river|lake|fountain|stream|creek|ocean|swim\\w*", "surf\\w*"),
        ("dog + water", "dogs?", "bike|car"),
        ("child + swing", "child|boy|girl|kid|toddler|baby", "dogs?"),
    ],
)
def test_what_is_taken_away_stays_away_and_what_is_wanted_stays(photographs, query, shows, not_shows):
    engine, captions = photographs
    found = names(engine.search(parse(query), k=5))

    def says(name: str, words: str) -> int:
        return sum(bool(re.search(rf"\b({words})\b", caption)) for caption in captions[name])

    assert sum(says(name, shows) >= 2 for name in found) >= 4, [captions[name][0] for name in found]
    assert sum(says(name, not_shows) >= 2 for name in found) == 0, [captions[name][0] for name in found]


def test_a_lone_term_is_what_a_plain_search_finds(shipped):
    engine, photos = shipped
    assert names(engine.search(Text("a cat"))) == names(engine.search("a cat"))
    picture = str(photos / "moon.png")
    alone, plain = engine.search(as_query(Picture(picture))), engine.search(image=picture)
    assert names(alone) == names(plain)
    np.testing.assert_allclose([hit.score for hit in alone], [hit.score for hit in plain], atol=1e-6)


def test_items_that_are_terms_are_no_hits(shipped):
    engine, _ = shipped
    found = engine.search("a cat", k=12)
    cat, other = (next(hit.item for hit in found if Path(hit.path).stem == stem) for stem in ("chelsea", "coins"))
    results = engine.search(Indexed(cat.id) - Indexed(other.id), k=12)
    assert {"chelsea", "coins"}.isdisjoint(names(results)) and len(results) == 10
    assert results.query == f"id:{cat.id} - id:{other.id}"


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_fills_k_and_ranks(shipped, fusion):
    engine, _ = shipped
    results = engine.search(Text("a rocket") + Text("night") - Text("a cat"), k=12, fusion=fusion)
    assert len(results) == 12 == len(set(names(results)))
    assert [hit.rank for hit in results] == list(range(1, 13))
    assert all(-1 <= hit.score <= 1 for hit in results)


def test_texts_and_pictures_stand_in_one_answer(shipped):
    engine, _ = shipped
    query = Text("a rocket") + Text("night") - Text("a cat")
    assert {hit.modality for hit in engine.search(query, k=12)} == {"image", "text"}
    assert names(engine.search(query, k=12, modality="text")) == ["notes"]


def test_filters_hold_for_composed_queries(shipped):
    engine, photos = shipped
    only = clipsearch.Filter(min_width=400, folders=(str(photos),))
    results = engine.search(Text("a cat") - Text("a dog"), filters=only, k=20)
    assert results and all(hit.item.picture and hit.item.picture.width >= 400 for hit in results)
    assert len(results) == len(engine.search("anything", filters=only, k=20))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (-Text("a fence"), "only says what not to find"),
        (Text("a cat") - Text("a cat"), "cancel"),
        (Text("a cat") + Indexed(10**6), "no item id:1000000"),
        (sum((Text(f"word {i}") for i in range(40)), Text("a cat")), "41 terms"),
    ],
)
def test_queries_that_cannot_be_answered_say_why(shipped, query, message):
    with pytest.raises(InvalidInputError, match=message):
        shipped[0].search(query)


def test_a_picture_that_cannot_be_read_is_named(shipped, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(PictureError, match=r"torn\.jpg"):
        shipped[0].search(Text("a cat") - Picture(str(tmp_path / "torn.jpg")))


def test_an_unknown_fusion_is_refused(shipped):
    with pytest.raises(InvalidInputError, match="no fusion 'best'"):
        shipped[0].search(Text("a cat") + Text("a dog"), fusion="best")


@pytest.fixture(scope="module")
def library(shipped):
    engine, photos = shipped
    return str(engine.library.folder), photos


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "first", "shown"),
    [
        (["kitty", "-", "puppy", "-", "roof", "-", "fence"], "chelsea.png", '"kitty" - "puppy" - "roof" - "fence"'),
        (["a rocket", "+", "3:a", "motorcycle"], "motorcycle_left.png", '"a rocket" + 3:"a motorcycle"'),
        (["./moon.png", "+", "money"], "coins.png", 'image:"./moon.png" + "money"'),
        (["./moon.png"], "moon.png", "./moon.png"),
        (["moon.png"], "moon.png", "moon.png"),
        (["a", "cat"], "chelsea.png", "a cat"),
        (["text:a cat"], "chelsea.png", "a cat"),
        (["2:a cat"], "chelsea.png", "2:a cat"),
        (["0:15"], None, "0:15"),
    ],
)
def test_arguments_of_the_command_are_terms(library, arguments, first, shown):
    folder, photos = library
    options = ["--library", folder, "--modality", "image", "-k", "3", "--json"]
    ran = run_cli("query", *options, "--", *arguments, cwd=photos)
    assert ran.code == 0 and ran.json["query"] == shown, ran
    assert first is None or Path(ran.json["hits"][0]["path"]).name == first
    assert run_cli("query", *arguments, *options, cwd=photos).out == ran.out


@pytest.mark.slow
def test_like_and_unlike_are_terms_of_items(library):
    folder, _ = library
    hits = run_cli("query", "a cat", "-k", 12, "--json", "--library", folder).json["hits"]
    ids = {Path(hit["path"]).stem: hit["id"] for hit in hits}
    ran = run_cli("query", "--like", ids["moon"], "--unlike", ids["chelsea"], "--json", "--library", folder)
    assert ran.json["query"] == f"id:{ids['moon']} - id:{ids['chelsea']}"
    same = run_cli("query", f"id:{ids['moon']}", "-", f"id:{ids['chelsea']}", "--json", "--library", folder)
    assert same.out == ran.out
    assert {"moon", "chelsea"}.isdisjoint(Path(hit["path"]).stem for hit in ran.json["hits"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cat", "-"], "after the - at argument 2"),
        (["-", "fence"], "only says what not to find"),
        (["cat", "+", "id:x"], "argument 3"),
        (["id:99999"], "no item id:99999"),
        (["cat", "+", "./missing.png"], "missing.png"),
        (["cat", "--image", "moon.png"], "in words or with --image"),
        (["cat", "--fusion", "best"], "best"),
    ],
)
def test_what_cannot_be_asked_is_named(library, arguments, message):
    folder, photos = library
    ran = run_cli("query", *arguments, "--library", folder, cwd=photos)
    assert ran.code == 2 and message in ran.err and not ran.out, ran


@pytest.mark.slow
def test_more_like_a_text_of_many_passages_is_still_found(tmp_path, base):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "long.txt").write_text(
        "\n\n".join(f"Day {i}: rain over the harbour. " * 30 for i in range(260))
    )
    for number in range(5):
        (tmp_path / "texts" / f"short{number}.txt").write_text(f"A note about ship number {number}.")
    index(tmp_path / "library", tmp_path / "texts", encoder=base)
    with SearchEngine(Library(tmp_path / "library"), encoder=base) as engine:
        (long,) = (item for item in engine.find().items if item.path.endswith("long.txt"))
        assert len(engine.search(Text("a ship") + Indexed(long.id), k=10)) == 5
