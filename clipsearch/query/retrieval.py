"""Retrieval: candidates of every modality are ranked and made hits of, until there are k, or no more candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clipsearch.paths import real_path
from clipsearch.query.candidates import DEEPER, Candidates, QueryBatch, Retriever
from clipsearch.query.hybrid import WORDS_DEPTH, fuse_words
from clipsearch.query.scoring import ScoredRow, doubtful_texts, merge_modalities, score_rows
from clipsearch.ranking import words_evalue
from clipsearch.store.catalog import Match
from clipsearch.store.full_text import NOTHING
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Modality

_SELF_MARGIN = 1


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranked hits of one query, best first. keyword_ids: items that its words found."""

    hits: list[Hit]
    warnings: tuple[str, ...]
    keyword_ids: frozenset[int] = frozenset()


def fill(
    k: int,
    wanted: int,
    propose: Callable[[int], list[Candidates]],
    rank: Callable[[list[Candidates]], list[list[Hit]]],
) -> list[Ranking]:
    """Find k hits of each query: the loop of every search.

    wanted: from how many items the candidates of a query are at first. propose: finds candidates of so many items, for
    each modality. rank: makes at most k hits of them for each query.
    """
    warnings: frozenset[str] = frozenset()
    while True:
        found = propose(wanted)
        warnings = warnings.union(*(each.warnings for each in found))
        answers = rank(found)
        if all(each.is_all for each in found) or all(len(hits) == k for hits in answers):
            return [Ranking(hits, tuple(sorted(warnings))) for hits in answers]
        wanted *= DEEPER


def retrieve(
    retriever: Retriever,
    batch: QueryBatch,
    k: int,
    modalities: Sequence[Modality],
    *,
    excluded: Sequence[str | None] = (),
    keywords: Sequence[str] = (),
) -> list[Ranking]:
    """Find the k best hits of each query, each an item of its own.

    excluded: for each query, the real path of a file to leave out. keywords: the texts of the queries, if items that
    have their words are to be found by them as well.
    """
    excluded = excluded or [None] * len(batch.queries)
    named = [batch.snapshot.keyword_search(text, batch.filters, WORDS_DEPTH) for text in keywords]
    named = named or [NOTHING] * len(batch.queries)
    least = WORDS_DEPTH if any(each.ids for each in named) else 0

    def propose(wanted: int) -> list[Candidates]:
        return [retriever.candidates(batch, modality, max(least, wanted), wanted) for modality in modalities]

    def rank(found: list[Candidates]) -> list[list[Hit]]:
        answers = []
        for i in range(len(batch.queries)):
            ids, counts = named[i]
            ranked = _rank(batch, i, found, ids)
            if ids:
                hits = build_hits(batch.snapshot, ranked, len(ranked), excluded[i])
                worth = words_evalue(counts, batch.snapshot.live_count(Modality.TEXT))
                answers.append(fuse_words(hits, ids, doubtful_texts(ranked, worth))[:k])
            else:
                answers.append(build_hits(batch.snapshot, ranked, k, excluded[i]))
        return answers

    found = fill(k, k + (_SELF_MARGIN if any(excluded) else 0), propose, rank)
    return [replace(each, keyword_ids=frozenset(ids)) for each, (ids, _) in zip(found, named, strict=True)]


def _rank(batch: QueryBatch, i: int, found: Sequence[Candidates], keyword_ids: Sequence[int]) -> list[ScoredRow]:
    """Score the candidates of the i-th query, and the rows of items that its words find; best first."""
    lists = []
    for each in found:
        own = batch.snapshot.rows_of_items(each.modality, keyword_ids) if keyword_ids else {}
        rows = np.union1d(each.rows[i], [*own]).astype(np.int64)
        item_ids = each.item_ids | own
        lists.append(score_rows(batch.snapshot, each.modality, batch.queries[i], rows, item_ids, batch.kind))
    return merge_modalities(lists, adds_up=batch.kind == "text")


def build_hits(
    snapshot: Snapshot,
    scored: Sequence[ScoredRow],
    k: int,
    excluded: str | None = None,
    excluded_ids: frozenset[int] = frozenset(),
) -> list[Hit]:
    """Turn rows into hits, best first: k items, each by its best row, none of them excluded by its file or id.

    A damaged row is not a hit; see `Snapshot.warnings`.
    """
    matches: dict[tuple[Modality, int], Match] = {}
    for modality in Modality:
        rows = [entry.row for entry in scored if entry.modality is modality]
        matches |= {(modality, row): match for row, match in snapshot.matches(modality, rows).items()}
    hits: list[Hit] = []
    seen = {*excluded_ids}
    for entry in scored:
        match = matches.get((entry.modality, entry.row))
        if match is None or match.item_id in seen or not snapshot.is_sound(match):
            continue
        seen.add(match.item_id)
        if excluded is not None and real_path(match.item.path) == excluded:
            continue
        hits.append(_hit(len(hits) + 1, match, entry))
        if len(hits) == k:
            break
    return hits


def _hit(rank: int, match: Match, scored: ScoredRow) -> Hit:
    return Hit(
        rank,
        match.item,
        scored.score,
        scored.confidence,
        scored.modality,
        part=match.part,
        passage=match.passage,
        log_evalue=scored.log_evalue,
    )
