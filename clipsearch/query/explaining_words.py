"""Which words of a query stand in the texts of a hit, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from clipsearch.explanation import WordMatch
from clipsearch.query.recognised import tokens_of
from clipsearch.query.retrieval import Trace
from clipsearch.query.scored import ScoredRows
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Modality
from clipsearch.words import spellings

MAX_PASSAGES = 64
"""Passages of an item in which words are looked for."""

MAX_MATCHES = 8
"""Passages that are shown."""

MAX_CHARACTERS = 20_000
"""Of a passage that are looked through and shown."""

_WORD = re.compile(r"[^\W_]+")


class WordFinder:
    """Finds the words of one query."""

    def __init__(self, snapshot: Snapshot, trace: Trace, names: Sequence[str]) -> None:
        """Prepare. names: of the terms of the query; words are those of its positive texts."""
        self._snapshot = snapshot
        texts = (name for leaf, name in zip(trace.leaves, names, strict=False) if leaf.is_words)
        self._wanted = [way for text in texts for way in _telling(text)]

    def find(self, hit: Hit, ranked: ScoredRows, rows: Sequence[int], *, is_named: bool) -> tuple[WordMatch, ...]:
        """Return the texts of a hit that have words of the query. rows: its rows. is_named: whether words found it."""
        if not self._wanted:
            return ()
        found: dict[str, WordMatch] = {}
        for source, whole in self._texts(hit, ranked, rows, look_further=is_named):
            text = whole[:MAX_CHARACTERS]
            if text not in found and (spans := find_spans(text, self._wanted)):
                found[text] = WordMatch(source, text, spans)
            if len(found) == MAX_MATCHES:
                break
        return tuple(found.values())

    def _texts(
        self, hit: Hit, ranked: ScoredRows, rows: Sequence[int], *, look_further: bool
    ) -> Iterator[tuple[str, str]]:
        own = "caption" if hit.item.modality is Modality.IMAGE else "text"
        if hit.recognised:
            yield "recognised", "\n".join(line.text for line in hit.recognised)
        elif hit.passage is not None:
            yield own, hit.passage.text
        numbers = [number for modality, number in map(ranked.key, rows) if modality is Modality.TEXT]
        if look_further:
            further = sorted(self._snapshot.rows_of_items(Modality.TEXT, [hit.item.id]))[:MAX_PASSAGES]
            numbers += [number for number in further if number not in numbers]
        matches = self._snapshot.matches(Modality.TEXT, numbers) if numbers else {}
        for number in numbers:
            if number in matches and (passage := matches[number].passage) is not None:
                yield own, passage.text


def find_spans(text: str, wanted: Sequence[Sequence[str]]) -> tuple[tuple[int, int], ...]:
    """Return where words stand in a text: start and end of each, in characters, in order.

    wanted: each word as its tokens, which are found one after the other, without case and accents.
    """
    tokens: list[tuple[str, int, int]] = []
    for word in _WORD.finditer(text):
        pieces = tokens_of(word[0])
        if len(pieces) == len(word[0]):  # characters that are words by themselves
            tokens += [(piece, word.start() + i, word.start() + i + 1) for i, piece in enumerate(pieces)]
        else:
            tokens += [(piece, word.start(), word.end()) for piece in pieces]
    names = [name for name, _, _ in tokens]
    found = {
        (tokens[at][1], tokens[at + len(word) - 1][2])
        for word in wanted
        for at in range(len(names) - len(word) + 1)
        if names[at : at + len(word)] == [*word]
    }
    return tuple(sorted(found))


def _telling(text: str) -> list[list[str]]:
    """Return the words of a query that say something, in each spelling: not `a`, `of`."""
    words = [tokens_of(way) for word in text.split() for way in spellings(word)]
    return [word for word in words if len(word) > 1 or (word and (len(word[0]) > 2 or not word[0].isascii()))]
