"""Retrieval: candidates of every modality are ranked and made hits of, until there are k, or no more candidates.

Ranks are given in steps: the first FIRST_STEP from candidates of as many items, those to DEEPER times as many from
candidates of so many, and so on. A step goes on where the one before ended and moves none of its hits. How hits are
merged depends on how deep the candidates go; the steps do not depend on k, so an answer is a prefix of each longer one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from clipsearch.filtering import Filter
from clipsearch.query.candidates import DEEPER, Candidates, QueryBatch, Retriever
from clipsearch.query.hits import HitBuilder
from clipsearch.query.hybrid import WORDS_DEPTH, fuse_words
from clipsearch.query.scored import ScoredRows
from clipsearch.query.scoring import gather_rows, merge_modalities, score_rows
from clipsearch.ranking import words_evalue
from clipsearch.relevance import TYPICAL_WORDS
from clipsearch.store.full_text import NOTHING, Keywords
from clipsearch.types import Hit, Modality

FIRST_STEP = 10
"""How many ranks are given first; the depth for which an index is calibrated."""

_SELF_MARGIN = 1

_GATHERED = 16_384
"""How many rows are read together for several queries: bounds the memory of a batch."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A term of a query. vector: float32 (dim,). kind: what it is judged as, `text` or `image`; None if unknown."""

    vector: NDArray[np.float32]
    kind: str | None
    weight: float = 1.0

    @property
    def is_words(self) -> bool:
        """Whether it is words, to be found."""
        return self.kind == "text" and self.weight > 0


@dataclass(frozen=True, slots=True)
class Trace:
    """What a ranking was made of, for an explanation.

    steps: the rows of each step by meaning, those of an item together. leaves: the terms. names: of the terms, where
    there are several. keywords: what words found. adds_up: see `merge_modalities`. filters: what terms of the query
    allow.
    """

    steps: tuple[ScoredRows, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    names: tuple[str, ...] = ()
    keywords: Keywords = NOTHING
    adds_up: bool = False
    filters: Filter | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranked hits of one query, best first.

    keyword_ids: items that its words found. left_out: how many hits were taken out of them before. trace: what it was
    made of.
    """

    hits: list[Hit]
    warnings: tuple[str, ...]
    keyword_ids: frozenset[int] = frozenset()
    left_out: int = 0
    trace: Trace = Trace()


@dataclass(frozen=True, slots=True)
class RankedRows:
    """The rows of one query, ranked; those of an item are together. is_all: whether there are no more of them."""

    rows: ScoredRows
    is_all: bool
    warnings: frozenset[str]

    @classmethod
    def of(cls, rows: ScoredRows, found: Sequence[Candidates]) -> Self:
        """Say of ranked rows what their candidates, of every modality, say."""
        return cls(rows, all(each.is_all for each in found), frozenset().union(*(each.warnings for each in found)))


def fill(
    k: int,
    margin: int,
    propose: Callable[[int], list[Candidates]],
    rank: Callable[[list[Candidates], int], list[list[Hit]]],
) -> list[Ranking]:
    """Find at least k hits of each query, if there are so many: the loop of every search.

    margin: how many items more the candidates are of than hits are wanted. propose: finds candidates of so many items,
    for each modality. rank: makes at most so many hits of them for each query.
    """
    warnings: frozenset[str] = frozenset()
    answers: list[list[Hit]] = []
    step = FIRST_STEP
    while True:
        found = propose(step + margin)
        warnings = warnings.union(*(each.warnings for each in found))
        is_all = all(each.is_all for each in found)
        most = max(k, step) if is_all else step
        ranked = rank(found, most)
        answers = [_go_on(hits, more, most) for hits, more in zip(answers or ranked, ranked, strict=True)]
        if is_all or all(len(hits) >= k for hits in answers):
            return [Ranking(hits, tuple(sorted(warnings))) for hits in answers]
        step *= DEEPER


def _go_on(before: list[Hit], deeper: Sequence[Hit], most: int) -> list[Hit]:
    """Add the hits of a deeper ranking to those of the steps before, up to `most`."""
    seen = {hit.item.id for hit in before}
    more = [hit for hit in deeper if hit.item.id not in seen][: most - len(before)]
    return before + [replace(hit, rank=rank) for rank, hit in enumerate(more, len(before) + 1)]


def retrieve(
    retriever: Retriever,
    batch: QueryBatch,
    k: int,
    modalities: Sequence[Modality],
    *,
    excluded: Sequence[str | None] = (),
    keywords: Sequence[str] = (),
) -> list[Ranking]:
    """Find at least the k best hits of each query, each an item of its own, if there are so many.

    excluded: for each query, the real path of a file to leave out. keywords: the texts of the queries, if items that
    have their words are to be found by them as well.
    """
    excluded = excluded or [None] * len(batch.queries)
    named = batch.snapshot.keyword_searches(keywords, batch.filters, WORDS_DEPTH) or [NOTHING] * len(batch.queries)
    answers: dict[int, Ranking] = {}
    # How deep a query goes must not depend on what else is in the batch.
    for have_words in (True, False):
        chosen = [i for i, each in enumerate(named) if bool(each.ids) is have_words]
        if chosen:
            part = _Part(batch.take(chosen), [named[i] for i in chosen])
            found = part.retrieve(retriever, k, modalities, [excluded[i] for i in chosen])
            answers |= dict(zip(chosen, found, strict=True))
    return [answers[i] for i in range(len(named))]


def rank_rows(
    retriever: Retriever, batch: QueryBatch, wanted: int, modalities: Sequence[Modality], keywords: Sequence[str]
) -> RankedRows:
    """Rank candidates of so many items for the one query of a batch: a step of `retrieve`, before hits are made."""
    named = batch.snapshot.keyword_searches(keywords, batch.filters, WORDS_DEPTH) or [NOTHING]
    return _Part(batch, named).rank_rows(retriever, wanted, modalities)


class _Part:
    """Queries of a batch of which all have items that their words find, or none has. named: these items."""

    def __init__(self, batch: QueryBatch, named: Sequence[Keywords]) -> None:
        self._batch = batch
        self._keywords = named
        self._keyword_ids = [each.ids for each in named]
        self._hits = HitBuilder(batch.snapshot)
        self._named: dict[Modality, Mapping[int, Sequence[int]]] = {}
        self._steps: list[list[ScoredRows]] = []

    def retrieve(
        self, retriever: Retriever, k: int, modalities: Sequence[Modality], excluded: Sequence[str | None]
    ) -> list[Ranking]:
        def propose(wanted: int) -> list[Candidates]:
            return self._propose(retriever, wanted, modalities)

        def rank(found: list[Candidates], most: int) -> list[list[Hit]]:
            return self._hits.build_all(self._rank(found), most, excluded)

        found = fill(k, _SELF_MARGIN if any(excluded) else 0, propose, rank)
        return [
            replace(each, keyword_ids=frozenset(ids), trace=self._trace(number))
            for number, (each, ids) in enumerate(zip(found, self._keyword_ids, strict=True))
        ]

    def _trace(self, number: int) -> Trace:
        batch = self._batch
        steps = tuple(ranked[number] for ranked in self._steps)
        leaf = Leaf(batch.queries[number], batch.kind)
        return Trace(steps, (leaf,), (), self._keywords[number], batch.kind == "text")

    def rank_rows(self, retriever: Retriever, wanted: int, modalities: Sequence[Modality]) -> RankedRows:
        """Rank candidates of so many items for the one query; see `rank_rows`."""
        found = self._propose(retriever, wanted, modalities)
        return RankedRows.of(self._rank(found)[0], found)

    def _propose(self, retriever: Retriever, wanted: int, modalities: Sequence[Modality]) -> list[Candidates]:
        least = WORDS_DEPTH if any(self._keyword_ids) else 0
        return [retriever.candidates(self._batch, each, max(least, wanted), wanted) for each in modalities]

    def _rank(self, found: Sequence[Candidates]) -> list[ScoredRows]:
        """Rank the candidates of each query, and the rows of items that its words find; best first."""
        scored = [list(self._score(each)) for each in found]
        adds_up = self._batch.kind == "text"
        ranked = [merge_modalities(lists, adds_up=adds_up) for lists in zip(*scored, strict=True)]
        self._steps.append(ranked)
        return [
            self._fuse(rows, named) if named.ids else rows for rows, named in zip(ranked, self._keywords, strict=True)
        ]

    def _fuse(self, ranked: ScoredRows, named: Keywords) -> ScoredRows:
        worth = words_evalue(named.counts, self._batch.snapshot.live_count(Modality.TEXT))
        return fuse_words(ranked, named.ids, worth)

    def _score(self, found: Candidates) -> Iterator[ScoredRows]:
        """Score the candidates of one modality for each query; the rows of several queries are read together."""
        batch, modality = self._batch, found.modality
        rows, item_ids = self._with_named(found)
        at_once = max(1, _GATHERED // max(1, max(map(len, rows))))
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            numbers = part[0] if len(part) == 1 else np.unique(np.concatenate(part))
            gathered = gather_rows(batch.snapshot, modality, numbers, item_ids)
            for i, numbers in enumerate(part, start):
                words = batch.words[i] if batch.words else TYPICAL_WORDS
                yield score_rows(
                    batch.snapshot, gathered.only(numbers), batch.queries[i], batch.kind, batch.filters, words
                )

    def _with_named(self, found: Candidates) -> tuple[list[NDArray[np.int64]], Mapping[int, int]]:
        """Return the candidates of each query and the rows of items that its words find, ascending; and their items."""
        ids = {item for each in self._keyword_ids for item in each}
        if not ids:
            return [np.sort(rows) for rows in found.rows], found.item_ids
        if found.modality not in self._named:
            rows_by_item: dict[int, list[int]] = {}
            for row, item in self._batch.snapshot.rows_of_items(found.modality, ids).items():
                rows_by_item.setdefault(item, []).append(row)
            self._named[found.modality] = rows_by_item
        named = self._named[found.modality]
        rows = [
            np.union1d(rows, [row for item in own for row in named.get(item, ())]).astype(np.int64)
            for rows, own in zip(found.rows, self._keyword_ids, strict=True)
        ]
        return rows, found.item_ids | {row: item for item, own in named.items() for row in own}
