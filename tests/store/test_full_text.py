"""Full text search: what is found, and that its index has at any time the words of what is there."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.errors import InvalidInputError, LibraryError
from clipsearch.filtering import Filter
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
