"""Answers that stay full where what stands beside an item in the catalog, such as its metadata, is damaged.

That is read last, for the few items that are shown. So a search that finds damage there is made again without them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from clipsearch.query.answers import make_answers
from clipsearch.query.collapse import fill_collapsed
from clipsearch.query.options import SearchOptions
from clipsearch.query.retrieval import Ranking
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import EncoderPin, Results

_TURNS = 6
_AHEAD = 4


def answer_fully(
    names: Sequence[str],
    pin: EncoderPin,
    snapshot: Snapshot,
    fetch: Callable[[int], list[Ranking]],
    options: SearchOptions,
    notes: Sequence[Sequence[str]],
    library: str,
) -> list[Results]:
    """Answer several queries; items that turn out to be damaged are no hits, and others take their places.

    fetch: finds at least so many hits of each query. notes: warnings about each. names, library: see `make_answers`.
    """
    if options.explain:
        from clipsearch.query.explaining import explain_answers, fetch_one_more

        rankings: list[Ranking] = []
        fetch = fetch_one_more(fetch, rankings)
    for turn in range(1, _TURNS + 1):
        known = len(snapshot.damaged)
        found = _find(fetch, snapshot, options)
        warned = [replace(each, warnings=(*said, *each.warnings)) for said, each in zip(notes, found, strict=True)]
        answers = make_answers(names, pin, snapshot, warned, options, library)
        if len(snapshot.damaged) == known:
            break
        # Where one is, more may be: each turn looks further, so that a few are enough.
        snapshot.enrich([hit.item for ranking in fetch(options.end * _AHEAD**turn) for hit in ranking.hits])
    return explain_answers(snapshot, answers, rankings, options) if options.explain else answers


def _find(fetch: Callable[[int], list[Ranking]], snapshot: Snapshot, options: SearchOptions) -> list[Ranking]:
    if options.is_arranged:
        from clipsearch.query.arranging import fill_arranged

        return fill_arranged(fetch, snapshot, options)
    return fill_collapsed(fetch, snapshot, options.end) if options.collapse else fetch(options.end)
