"""The tokens that a catalog in PostgreSQL keeps are those of FTS5."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipsearch.store import full_text
from clipsearch.store.postgres.tokens import NO_TERM, tokenise
from clipsearch.words import separate

pytestmark = pytest.mark.sqlite  # no server is needed

MARKS = "Über e\u0301te\u0301 \u0345\u0301 a\u0301\u0302b  don't x-ray ﬁ ǅ ß ẞ İ ı Σς 狗 한국어 ไทย \U0001f600 \x00 ① ²"
PIECES = st.one_of(st.text(max_size=12), st.sampled_from(MARKS.split(" ")), st.text(st.sampled_from(MARKS), max_size=9))


def tokens_of_fts5(texts: list[str]) -> list[list[str]]:
    found: list[list[str]] = [[] for _ in texts]
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(full_text.CREATE)
        db.execute(f"CREATE VIRTUAL TABLE terms USING fts5vocab({full_text.NAME}, instance)")
        db.executemany("INSERT INTO full_text (rowid, words) VALUES (?, ?)", enumerate(texts))
        for number, term in db.execute("SELECT doc, term FROM terms ORDER BY doc, offset"):
            found[number].append(term or NO_TERM)
    return found


@given(st.lists(PIECES, max_size=20).map(" ".join))
@settings(max_examples=300)
def test_texts_are_cut_as_fts5_cuts_them(text):
    for each in (text, separate(text)):
        assert [list(tokenise(each))] == tokens_of_fts5([each])


@pytest.mark.parametrize("character", ["a", "é", "狗", "\U0001f150", "\u0301"])
@pytest.mark.parametrize("count", [32_768, 32_769, 100_000])
def test_a_word_without_end_is_cut_off_where_fts5_cuts_it(character, count):
    text = f"x {character * count} y"
    try:
        expected = tokens_of_fts5([text])
    except sqlite3.OperationalError:  # in the middle of a character, which nobody can read then
        return
    assert [list(tokenise(text))] == expected


@pytest.mark.slow
def test_every_character_is_in_tokens_or_between_them_as_in_fts5():
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    texts = [f"a{chr(code)}b {chr(code)}" for code in codes]
    for start in range(0, len(texts), 1 << 16):
        page = texts[start : start + (1 << 16)]
        assert [list(tokenise(text)) for text in page] == tokens_of_fts5(page)
