"""Explanations of hits, from what their ranking was made of; computed only for the hits that are shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from clipsearch.explanation import Explanation
from clipsearch.query.candidates import DEEPER
from clipsearch.query.explaining_filters import describe
from clipsearch.query.explaining_terms import TermJudge
from clipsearch.query.explaining_words import WordFinder
from clipsearch.query.hybrid import fuse_words
from clipsearch.query.options import SearchOptions
from clipsearch.query.reasons import Reasons
from clipsearch.query.retrieval import FIRST_STEP, Ranking, Trace
from clipsearch.query.scored import ScoredRows
from clipsearch.query.scoring import item_worths
from clipsearch.ranking import words_evalue
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Hit, Modality, Results


def fetch_one_more(fetch: Callable[[int], list[Ranking]], kept: list[Ranking]) -> Callable[[int], list[Ranking]]:
    """Return what fetches one hit more, to say why the last one stands above it, and keeps what it found last."""

    def fetch_more(depth: int) -> list[Ranking]:
        kept[:] = fetch(depth + 1)
        return [*kept]

    return fetch_more


def explain_answers(
    snapshot: Snapshot, answers: Sequence[Results], found: Sequence[Ranking], options: SearchOptions
) -> list[Results]:
    """Return answers whose hits have an explanation. found: their rankings, before anything was left out of them."""
    return [
        replace(answer, hits=tuple(_Explainer(snapshot, answer, ranking, options).explain()))
        for answer, ranking in zip(answers, found, strict=True)
    ]


@dataclass(frozen=True)
class Step:
    """One look at candidates, and what it made of each item. by_meaning: rows of an item are together, best first."""

    by_meaning: ScoredRows
    trace: Trace
    texts: int

    @cached_property
    def words_worth(self) -> float | None:
        """What the words of the query are worth; None if no item has them."""
        return words_evalue(self.trace.keywords.counts, self.texts) if self.trace.keywords.ids else None

    @cached_property
    def meaning_places(self) -> dict[int, int]:
        """The place of each item by meaning, from 1."""
        return _places(self.by_meaning.items)

    @cached_property
    def orders(self) -> dict[int, float]:
        """By what each item is compared."""
        first, _, worth = item_worths(self.by_meaning, adds_up=self.trace.adds_up)
        return dict(zip(self.by_meaning.items[first].tolist(), worth.tolist(), strict=True))

    @cached_property
    def order_places(self) -> dict[int, int]:
        """The place of each item by its order alone, from 1."""
        ranked = sorted(self.orders, key=lambda item: (-self.orders[item], self.meaning_places[item]))
        return {item: place for place, item in enumerate(ranked, 1)}

    @cached_property
    def words_places(self) -> dict[int, int]:
        """The place of each item that has the words, from 1."""
        present = [item for item in self.trace.keywords.ids if item in self.meaning_places]
        return {item: place for place, item in enumerate(present, 1)}

    @cached_property
    def places(self) -> dict[int, int]:
        """The place of each item by meaning and words, from 1."""
        if self.words_worth is None:
            return self.meaning_places
        return _places(fuse_words(self.by_meaning, self.trace.keywords.ids, self.words_worth).items)

    def places_of_rows(self, item: int) -> list[int]:
        """Return where in `by_meaning` the rows of an item are, the one that counts most first."""
        at: list[int] = np.flatnonzero(self.by_meaning.items == item).tolist()
        return at


def _places(items: NDArray[np.int64]) -> dict[int, int]:
    return {item: place for place, item in enumerate(dict.fromkeys(items.tolist()), 1)}


class _Explainer:
    """Explains the hits of one answer."""

    def __init__(self, snapshot: Snapshot, answer: Results, ranking: Ranking, options: SearchOptions) -> None:
        trace = ranking.trace
        texts = snapshot.live_count(Modality.TEXT)
        self._hits = answer.hits
        self._ranks = {hit.item.id: hit.rank for hit in ranking.hits}
        self._after = {hit.rank: hit for hit in ranking.hits}
        self._steps = [Step(rows, trace, texts) for rows in trace.steps]
        names = trace.names or (answer.query,)
        self._terms = TermJudge(snapshot, trace, names)
        self._words = WordFinder(snapshot, trace, names)
        given = [each for each in (options.filters, trace.filters) if each is not None]
        self._filters = tuple(condition for each in given for condition in describe(each))
        self._options = options
        self._snapshot = snapshot

    def explain(self) -> list[Hit]:
        """Return the hits with their explanations."""
        known: dict[int, Explanation] = {hit.item.id: self._explain(hit) for hit in self._hits}
        last = self._following()
        shown = [*self._hits, *([last] if last else [])]
        known |= {last.item.id: self._explain(last)} if last else {}
        reasons = Reasons(self._snapshot, self._options, known, shown)
        return [
            replace(hit, explanation=replace(known[hit.item.id], above_next=reasons.above_next(place)))
            for place, hit in enumerate(self._hits)
        ]

    def _following(self) -> Hit | None:
        """Return the hit after the last one that is shown; None where it is unknown, or another order counts."""
        if not self._hits or self._options.is_arranged:
            return None
        rank = self._ranks[self._hits[-1].item.id]
        also = {item.id for hit in self._hits for item in hit.also or ()}
        later = (self._after[rank] for rank in range(rank + 1, len(self._after) + 1) if rank in self._after)
        return next((hit for hit in later if hit.item.id not in also), None)

    def _explain(self, hit: Hit) -> Explanation:
        item, rank = hit.item.id, self._ranks[hit.item.id]
        number = next((i for i in range(len(self._steps)) if rank <= FIRST_STEP * DEEPER**i), len(self._steps) - 1)
        step = self._steps[number]
        order = step.orders[item]
        words_place = step.words_places.get(item)
        rows = step.places_of_rows(item)
        rows.sort(key=lambda at: step.by_meaning.key(at)[0] is not hit.modality)
        return Explanation(
            terms=self._terms.judge(step.by_meaning, rows),
            order=order if np.isfinite(order) else None,
            order_place=step.order_places[item],
            meaning_place=step.meaning_places[item],
            words_place=words_place,
            words_worth=step.words_worth,
            place=rank,
            step=number + 1,
            words=self._words.find(hit, step.by_meaning, rows, is_named=words_place is not None),
            filters=self._filters,
        )
