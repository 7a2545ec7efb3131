"""The words of a query as FTS5 takes them, each in all its spellings, and which of them are selective."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from clipsearch.words import Phrase, separate, spellings

_MOST_SHARE, _MOST_ITEMS, _MOST_WORDS = 0.2, 50, 256

SelectiveWords = Sequence[Mapping[str, int]]
"""Words of a query that few items have: of each its spellings, as FTS5 takes them, and how many items have each."""


def most_items(total: int) -> int:
    """Return how many of `total` items may have a word before it counts as too frequent to rank by."""
    return max(_MOST_ITEMS, int(_MOST_SHARE * total))


def phrases_of(wanted: str) -> list[tuple[str, ...]]:
    """Return the words of a text that are looked for, each in its spellings, as FTS5 takes them.

    There are none of a text of too many words, and no other spellings of one where these are too many.
    """
    words = dict.fromkeys(word for word in _characters(wanted).split() if any(c.isalnum() for c in word))
    if len(words) > _MOST_WORDS:
        return []
    found = dict.fromkeys(tuple(phrase_of(Phrase(way, False)) for way in spellings(word)) for word in words)
    if sum(map(len, found)) > _MOST_WORDS:
        found = dict.fromkeys((phrase_of(Phrase(word, False)),) for word in words)
    return [*found]


def _characters(text: str) -> str:
    """Return a text with spaces for what no database takes: NUL, and bytes of an argument that are no UTF-8."""
    return "".join(" " if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


def selective_words(phrases: Iterable[Sequence[str]], count: Callable[[str], int], most: int) -> list[dict[str, int]]:
    """Return those words of a query that at most `most` items have, in the spellings that any has.

    Where no item has one of them, no item has all: there are none. phrases: the spellings of each. count: says how many
    items have one, up to one more than `most`.
    """
    selective = []
    for ways in phrases:
        present = {phrase: found for phrase in ways if (found := count(phrase))}
        if not present:
            return []
        if sum(present.values()) <= most:
            selective.append(present)
    return selective


def phrase_of(wanted: Phrase) -> str:
    """Return words one after the other as FTS5 takes them."""
    words = separate(wanted.words).replace('"', " ")  # which a wide quote has become
    return f'"{words}"{"*" if wanted.is_start else ""}'


def either(ways: Sequence[str]) -> str:
    """Return a phrase in any of its spellings: the index keeps ß as it stands, which is SS in upper case."""
    return ways[0] if len(ways) == 1 else f"({' OR '.join(ways)})"
