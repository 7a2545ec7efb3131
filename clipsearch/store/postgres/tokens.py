"""The tokens of texts, as SQLite's FTS5 cuts and folds them.

FTS5's tokenizer decides by single characters: each belongs to tokens, as it is or folded, or sets them apart. So FTS5
is asked once for each character, and the answers cut every text. This is faster than to make an FTS5 index of the
texts and to read it back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from functools import lru_cache

DEFINITION = "fts5(words, content='', tokenize=\"unicode61 remove_diacritics 2 categories 'L* N* Co M*'\")"

NO_TERM = "-"
"""No token has it. It stands for what FTS5 folds to nothing, such as some marks: that is a token all the same."""

_MOST_BYTES = 32_768
"""Bytes of a token that FTS5 keeps; it drops the rest."""

_BLOCK = 256
_NOTHING = "\x01"


class _Folded(dict[int, str]):
    """What each character is in a token: " " for one that sets tokens apart, _NOTHING for one folded to nothing."""

    def __missing__(self, code: int) -> str:
        first = code - code % _BLOCK
        found = _ask_fts5(range(first, first + _BLOCK))
        self.update({each: found.get(each, " ") for each in range(first, first + _BLOCK)})
        return self[code]


_folded = _Folded()


def _ask_fts5(codes: range) -> dict[int, str]:
    """Return what FTS5 makes of those of these characters that belong to tokens."""
    characters = [(code, chr(code)) for code in codes if not 0xD800 <= code < 0xE000]
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"CREATE VIRTUAL TABLE each USING {DEFINITION}")
        database.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(each, instance)")
        database.executemany("INSERT INTO each (rowid, words) VALUES (?, ?)", characters)
        return {code: term or _NOTHING for code, term in database.execute("SELECT doc, term FROM terms")}


@lru_cache(maxsize=4096)
def tokens_of(text: str) -> tuple[str, ...]:
    """Return the tokens of a text of a query."""
    return tuple(tokenise(text))


def tokenise(text: str) -> Sequence[str]:
    """Cut a text into tokens, in order."""
    folded = text.translate(_folded)
    found = folded.split()
    if _NOTHING in folded:
        found = [token.replace(_NOTHING, "") or NO_TERM for token in found]
    if 4 * len(text) > _MOST_BYTES:
        found = [token.encode()[:_MOST_BYTES].decode("utf-8", "ignore") for token in found]
    return found
