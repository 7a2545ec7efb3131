"""Full text search: what is found, and that its index has at any time the words of what is there."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.errors import InvalidInputError, LibraryError
from clipsearch.filtering import Filter
from clipsearch.query.joint.ids import joint_id, split_id
from clipsearch.query.joint.merging import keyword_search
from clipsearch.store import compaction, full_text
from clipsearch.store.library import Library
from clipsearch.store.records import Encoded, FileRecord, Scope
from clipsearch.types import Modality, Passage
from clipsearch.words import Phrase, parse_words
from tests.support.catalogs import drop_checksums, raw_catalog, set_version
from tests.support.contents import add_root, block, hash_of, new_library, vectors_of
from tests.support.state import words_of

CAPTIONS = [
    "A Dog runs along the beach.",
    "dogs; a beach-ball",
    "Café in Zürich",
    "一只狗在海滩上奔跑",
    "海边，日落",
    "iPhone手机 ＤＯＧ",
    "강아지가 해변에서",
    "犬がビーチを走る",
    "บ้านริมทะเล",
    "Собака на пляже",
]


def note(root: int, name: str, *passages: str) -> Encoded:
    content = f"{name} {passages}"
    parts = tuple(Passage(text, i + 1, i + 1) for i, text in enumerate(passages))
    return Encoded(
        FileRecord(root, name, 1, 1), hash_of(content), Modality.TEXT, vectors_of(content, len(parts)), None, parts
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    made = new_library(tmp_path_factory.mktemp("words") / "lib")
    with made.writer() as opened:
        opened.commit_records(opened.add_collection(made.base, "/source"), block([*CAPTIONS, None, ""]))
    yield made
    made.close()


def found(library: Library, words: str) -> list[int]:
    """Which of the records have these words."""
    with library.read() as snapshot:
        return [int(row) for row in snapshot.matching(Modality.IMAGE, Filter(caption=words))]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dog", [0, 5]),
        ("BEACH dog", [0]),
        ("beach", [0, 1]),
        ("dog*", [0, 1, 5]),
        ('"dog runs"', [0]),
        ('"runs dog"', []),
        ('"beach ball" dogs', [1]),
        ("cafe zurich", [2]),
        ("狗", [3]),
        ("海滩", [3]),
        ("滩海", []),
        ("海 狗", [3]),
        ("海*", [3, 4]),
        ("手机", [5]),
        ("강아지", [6]),
        ("ビーチ", [7]),
        ("ทะเล", [8]),
        ("собака", [9]),
        ("dog OR cat", []),
        ("NEAR(dog, beach)", []),
        ("words: dog", []),
        ("^dog", [0, 5]),
        ("＂dog＂", [0, 5]),
    ],
)
def test_words_are_found_in_any_script(library, words, expected):
    assert found(library, words) == expected


SHARP = [
    "Die Schloßstraße im Regen",
    "STRASSE am Fluss, Strasse am Berg",
    "eine Straße und noch eine strasse",
    "Gasse",
    "Straßen",
    "am Fluß",
]


@pytest.fixture(scope="module")
def sharp(tmp_path_factory):
    made = new_library(tmp_path_factory.mktemp("sharp") / "lib")
    with made.writer() as opened:
        opened.commit_records(opened.add_collection(made.base, "/source"), block([*SHARP, *["etwas"] * 60]))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("STRASSE", [1, 2]),
        ("straße", [1, 2]),
        ("STRAẞE", [1, 2]),
        ("strass*", [1, 2, 4]),
        ("schlossstrasse", [0]),
        ("SCHLOßSTRASSE regen", [0]),
        ('"AM FLUSS"', [1, 5]),
        ('"fluß straße"', [1]),
        ('"straße fluß"', []),
        ("gaße", [3]),
        ("stra", []),
    ],
)
def test_a_sharp_s_is_found_in_upper_case_and_the_other_way_round(sharp, words, expected):
    assert found(sharp, words) == expected
    if not any(c in '"*' for c in words):  # else they mean nothing in a query
        with sharp.read() as snapshot:
            assert sorted(snapshot.keyword_search(words, None, 10).ids) == [row + 1 for row in expected]


def test_spellings_of_a_word_count_together_and_rank_apart(sharp):
    with sharp.read() as snapshot:
        one, other = (snapshot.keyword_search(words, None, 10) for words in ("strasse", "Straße"))
        assert one == other and one.counts == (3,), "two items have one spelling, and one has the other"
        assert one.ids == [3, 2], "both spellings, one of which is rare, before one spelling twice"
        assert snapshot.keyword_search("STRASSE fluß", None, 10) == ([2], (3, 2))


WORDS = ["straße", "strasse", "dog", "cat", "cats", "狗", "犬が", "the", "a-b"]


def test_several_libraries_rank_as_one_index_of_all_would(tmp_path):
    chance = random.Random(2)
    texts = [" ".join(chance.choices(WORDS, k=chance.randrange(1, 12))) for _ in range(90)] + ["etwas"] * 900
    made = {}
    for name, part in (("whole", texts), ("first", texts[:500:2] + texts[500:]), ("second", texts[1:500:2])):
        made[name] = new_library(tmp_path / name)
        with made[name].writer() as opened:
            opened.commit_records(opened.add_collection(made[name].base, "/source"), block(part))
    asked = [*WORDS, *(" ".join(chance.choices(WORDS, k=2)) for _ in range(30)), "STRASSE the", "nothing", "etwas"]
    with made["whole"].read() as whole, made["first"].read() as first, made["second"].read() as second:
        for words in asked:
            expected = whole.keyword_search(words, None, 1000)
            together = keyword_search([(0, first, None), (1, second, None)], words, 1000)
            assert together.counts == expected.counts, words
            place = {joint_id(i % 2, i // 2 + 1): i + 1 for i in range(500)}
            assert {place[number] for number in together.ids} == {*expected.ids}, words
            alone = keyword_search([(0, whole, None)], words, 1000)
            assert [split_id(number)[1] for number in alone.ids] == expected.ids, words
    for each in made.values():
        each.close()


@given(st.text(st.characters(), max_size=20))
@settings(max_examples=200)
def test_any_words_are_looked_for_or_refused(library, words):
    try:
        parse_words(words)
    except InvalidInputError:
        with pytest.raises(InvalidInputError):
            Filter(caption=words)
        return
    assert set(found(library, words)) <= set(range(len(CAPTIONS)))


def test_words_are_read_as_phrases_and_beginnings():
    assert parse_words(' a "b c" d* "e*"') == (
        Phrase("a", False),
        Phrase("b c", False),
        Phrase("d*", True),
        Phrase("e*", False),
    )


def words_in(folder) -> dict[int, list[str]]:
    with raw_catalog(folder) as db:
        return words_of(db)


def test_the_index_follows_every_change(tmp_path):
    library = new_library(tmp_path / "lib")
    root = add_root(library, "/notes")
    with library.writer() as opened:
        opened.commit(
            [note(root, "a.txt", "one two", "three"), note(root, "b.txt", "four"), note(root, "sub/c.txt", "five")]
        )
        source = opened.add_collection(library.base, "/source")
        opened.commit_records(source, block(["six", None, "seven"]))
    expected = {1: ["one", "two", "three"], 2: ["four"], 3: ["five"], 4: ["six"], 6: ["seven"]}
    assert words_in(library.folder) == expected
    with library.writer() as opened:
        opened.commit([note(root, "a.txt", "eight")])
        opened.commit_records(source, block(["six", "nine", "ten"]))
    expected |= {1: ["eight"], 5: ["nine"], 6: ["ten"]}
    assert words_in(library.folder) == expected
    with library.writer() as opened:
        opened.ledger.note([FileRecord(root, "a.txt", 1, 1), FileRecord(root, "sub/c.txt", 1, 1)], retry_failed=False)
        opened.ledger.find_missing([Scope(root)], [])
        assert opened.remove_missing() == 1
    assert words_in(library.folder) == expected, "b.txt may come back"
    with library.read() as snapshot:
        assert snapshot.matching(Modality.TEXT, Filter(caption="four")).tolist() == []
    with library.writer() as opened:
        compaction.commit(opened, compaction.prepare(opened, Modality.TEXT), None)
        opened.forget(Scope(root, "sub"))
    del expected[2], expected[3]
    assert words_in(library.folder) == expected
    with library.writer() as opened:
        opened.forget(Scope(source))
        opened.forget(Scope(root))
    assert words_in(library.folder) == {}
    library.close()


def test_a_commit_that_fails_changes_no_words(tmp_path):
    library = new_library(tmp_path / "lib")
    root = add_root(library, "/notes")
    with library.writer() as opened:
        opened.commit([note(root, "a.txt", "before")])
        with opened.rehearsal():
            opened.commit([note(root, "a.txt", "after"), note(root, "b.txt", "more")])
    assert words_in(library.folder) == {1: ["before"]}
    library.close()


@pytest.fixture
def old_library(tmp_path):
    """A library of version 2, which had no index of words."""
    library = new_library(tmp_path / "lib")
    root = add_root(library, "/notes")
    with library.writer() as opened:
        opened.commit([note(root, "a.txt", "one 海滩", "two")])
        opened.commit_records(opened.add_collection(library.base, "/source"), block(["three", None]))
    library.close()
    with raw_catalog(library.folder) as db:
        drop_checksums(db)
        db.execute("DROP TABLE full_text")
        db.execute("DROP TABLE tags")
        db.execute("ALTER TABLE items DROP COLUMN caption_stamp")
        db.commit()
    set_version(library.folder, "2")
    return library.folder


@pytest.mark.sqlite
def test_an_older_library_is_read_but_for_its_words_which_the_next_writer_indexes(old_library):
    reader = Library(old_library)
    with reader.read() as snapshot:
        assert len(snapshot.matching(Modality.TEXT, Filter())) == 2
        with pytest.raises(LibraryError, match="Run once: clipsearch index"):
            snapshot.matching(Modality.TEXT, Filter(caption="one"))
    with Library(old_library).writer():
        pass
    assert words_in(old_library) == {1: ["one", "海", "滩", "two"], 2: ["three"]}
    with reader.read() as snapshot:
        assert snapshot.matching(Modality.TEXT, Filter(caption="海滩")).tolist() == [0, 1]
    reader.close()


def test_words_of_a_query_name_what_has_all_of_them_but_for_those_that_most_items_have(tmp_path):
    library = new_library(tmp_path / "lib")
    root = add_root(library, "/notes")
    with library.writer() as opened:
        texts = [f"the boat {'sinks' if i % 100 == 7 else 'floats'} {'slowly' * (i == 7)}" for i in range(300)]
        opened.commit([note(root, f"{i}.txt", text) for i, text in enumerate(texts)])
    with library.read() as snapshot:
        assert sorted(snapshot.keyword_search("The SINKS", None, 10).ids) == [8, 108, 208]
        assert snapshot.keyword_search("the boat sinks slowly", None, 10).counts == (3, 1), "all items have the others"
        assert snapshot.keyword_search("boat sinks slowly", None, 10).ids == [8]
        assert len(snapshot.keyword_search("sinks", None, 2).ids) == 2
        for nothing in ("the boat", "sinks everywhere", "", "?!"):
            assert snapshot.keyword_search(nothing, None, 10).ids == []
        assert snapshot.keyword_search("sinks", Filter(ids=frozenset({108})), 10).ids == [108]
    library.close()


def test_of_words_that_many_have_the_newest_are_ranked(tmp_path, monkeypatch):
    library = new_library(tmp_path / "lib")
    texts = [f"a dog {'barks ' * (number % 5)}" if number % 6 == 0 else "a cat" for number in range(300)]
    with library.writer() as opened:
        opened.commit_records(opened.add_collection(library.base, "/source"), block(texts))
    with library.read() as snapshot:
        every = snapshot.keyword_search("dog", None, 100).ids
        assert len(every) == 50
        monkeypatch.setattr(full_text, "RANKED", 20)
        newest = snapshot.keyword_search("dog", None, 100).ids
        assert newest == [number for number in every if number in {*sorted(every)[-20:]}]
        assert snapshot.keyword_search("dog", None, 3).ids == newest[:3]
        chosen = Filter(ids=sorted(every)[:25])
        allowed = snapshot.keyword_search("dog", chosen, 100).ids
        assert allowed == [number for number in every if number in {*sorted(every)[5:25]}]
