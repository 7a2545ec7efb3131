"""Which lines of the text in a picture match a query: shown with the hit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from clipsearch.store.schema import FIRST_RECOGNISED_PART
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Modality, TextLine
from clipsearch.words import separate


def show_lines(
    snapshot: Snapshot,
    answers: Sequence[Sequence[Hit]],
    texts: Sequence[str],
    keyword_ids: Sequence[Collection[int]],
) -> list[list[Hit]]:
    """Give hits the lines of their pictures that match: those of the passage that matched, or with words of the query.

    answers: the hits of several queries. texts: each query as it is shown. keyword_ids: the items that its words found.
    """
    pictures = {
        hit.item.id
        for hits, named in zip(answers, keyword_ids, strict=True)
        for hit in hits
        if hit.item.modality is Modality.IMAGE and (_is_recognised(hit) or hit.item.id in named)
    }
    lines = snapshot.recognised_lines(pictures) if pictures else {}
    return [
        [_shown(hit, lines, text) if _is_recognised(hit) or hit.item.id in named else hit for hit in hits]
        for hits, text, named in zip(answers, texts, keyword_ids, strict=True)
    ]


def _shown(hit: Hit, lines: Mapping[int, tuple[TextLine, ...]], text: str) -> Hit:
    return replace(hit, recognised=_choose(hit, lines[hit.item.id], text)) if hit.item.id in lines else hit


def _is_recognised(hit: Hit) -> bool:
    return hit.modality is Modality.TEXT and hit.part >= FIRST_RECOGNISED_PART


def _choose(hit: Hit, lines: tuple[TextLine, ...], text: str) -> tuple[TextLine, ...]:
    """Return the lines with words of a text; else those of the passage that matched."""
    words = [tokens_of(word) for word in text.split()]
    telling = [word for word in words if len(word) > 1 or (word and (len(word[0]) > 2 or not word[0].isascii()))]
    for wanted in (telling, words):
        with_words = tuple(line for line in lines if any(_has(tokens_of(line.text), word) for word in wanted if word))
        if with_words:
            return with_words
    if _is_recognised(hit) and hit.passage is not None:
        return lines[hit.passage.line - 1 : hit.passage.end_line]
    return ()


def tokens_of(text: str) -> list[str]:
    """Return words as full text search compares them: without case and accents, each Chinese character alone."""
    plain = "".join(c for c in unicodedata.normalize("NFD", separate(text)) if not unicodedata.combining(c))
    return re.findall(r"[^\W_]+", plain.casefold())


def _has(line: Sequence[str], word: Sequence[str]) -> bool:
    return any(list(line[i : i + len(word)]) == list(word) for i in range(len(line) - len(word) + 1))
