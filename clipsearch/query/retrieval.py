"""Retrieval: candidates of every modality are ranked and made hits of, until there are k, or no more candidates.

Ranks are given in steps: the first FIRST_STEP from candidates of as many items, those to DEEPER times as many from
candidates of so many, and so on. A step goes on where the one before ended and moves none of its hits. How hits are
merged depends on how deep the candidates go; the steps do not depend on k, so an answer is a prefix of each longer one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from clipsearch.paths import real_path
from clipsearch.query.candidates import DEEPER, Candidates, QueryBatch, Retriever
from clipsearch.query.hybrid import WORDS_DEPTH, fuse_words
from clipsearch.query.scoring import ScoredRow, doubtful_texts, merge_modalities, score_rows
from clipsearch.store.catalog import Match
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Modality

FIRST_STEP = 10
"""How many ranks are given first; the depth for which an index is calibrated."""

_SELF_MARGIN = 1


@dataclass(frozen=True, slots=True)
class Ranking:
    """The ranked hits of one query, best first. keyword_ids: items that its words found."""

    hits: list[Hit]
    warnings: tuple[str, ...]
    keyword_ids: frozenset[int] = frozenset()


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
        answers = [_go_on(*each, most) for each in zip(answers, ranked, strict=True)] if answers else ranked
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
    keyword_ids = [batch.snapshot.keyword_search(text, batch.filters, WORDS_DEPTH) for text in keywords]
    keyword_ids = keyword_ids or [[]] * len(batch.queries)
    least = WORDS_DEPTH if any(keyword_ids) else 0

    def propose(wanted: int) -> list[Candidates]:
        return [retriever.candidates(batch, modality, max(least, wanted), wanted) for modality in modalities]

    def rank(found: list[Candidates], most: int) -> list[list[Hit]]:
        answers = []
        for i in range(len(batch.queries)):
            ranked = _rank(batch, i, found, keyword_ids[i])
            if keyword_ids[i]:
                hits = build_hits(batch.snapshot, ranked, len(ranked), excluded[i])
                answers.append(fuse_words(hits, keyword_ids[i], doubtful_texts(ranked))[:most])
            else:
                answers.append(build_hits(batch.snapshot, ranked, most, excluded[i]))
        return answers

    found = fill(k, _SELF_MARGIN if any(excluded) else 0, propose, rank)
    return [replace(each, keyword_ids=frozenset(ids)) for each, ids in zip(found, keyword_ids, strict=True)]


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
