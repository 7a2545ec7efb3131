"""Rows with their scores, in columns: several hundred a query are ranked, and few become hits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, overload

import numpy as np
from numpy.typing import NDArray

from clipsearch.ranking import CONFIDENT, MIN_SAMPLE, NullModel, bounded_log_evalue, evalue_confidence, is_identical
from clipsearch.relevance import TYPICAL_WORDS, RelevanceCurve, curve_of
from clipsearch.types import Modality


class Judge(NamedTuple):
    """By what rows of one modality were judged.

    seen: the null model of their scores. bounded: whether that no cosine is above 1 counts, see `ranking.confidence`.
    curve, words: how likely hits are right, for a query of so many content words. best: the highest log E-value that is
    known of the library. relief: what is added to a log E-value to tell whether a row stands out among those that pass
    a filter, where chance has other tries. is_certain: a filter that the query names as an alternative lets it through.
    """

    modality: Modality
    seen: NullModel
    bounded: bool = False
    curve: RelevanceCurve = curve_of("text", Modality.IMAGE)
    words: float = TYPICAL_WORDS
    best: float = 0.0
    relief: float = 0.0
    is_certain: bool = False

    def is_itself(self, score: float) -> bool:
        """Tell whether a row of this cosine is what is searched by: the picture, the vector, or what a filter names."""
        return self.is_certain or (self.bounded and is_identical(score, self.seen))

    def worth(self, score: float, log_evalue: float) -> float:
        """Return the log E-value of a row, which for a cosine that is bounded is another than rows are ordered by."""
        return bounded_log_evalue(score, self.seen) if self.bounded else log_evalue


class ScoredRow(NamedTuple):
    """A row with its score.

    item: the id of its item. log_evalue: see `ranking.log_evalue`. order: what rows are sorted by, highest first,
    comparable between modalities: a log E-value too; above 0 for more than chance, infinite for the query itself.
    """

    row: int
    item: int
    score: float
    log_evalue: float
    order: float
    judge: Judge

    @property
    def modality(self) -> Modality:
        """The modality of the row."""
        return self.judge.modality

    @property
    def stands_out(self) -> bool | None:
        """Whether the row is more than chance explains among those that pass the filter; None where nothing tells."""
        judge = self.judge
        chance = evalue_confidence(judge.worth(self.score, self.log_evalue) + judge.relief, judge.seen)
        return None if chance is None else chance >= CONFIDENT or judge.is_itself(self.score)

    @property
    def confidence(self) -> float | None:
        """The chance that a hit by this row is right, whatever else passes the filter; few rows become one."""
        judge = self.judge
        if judge.seen.sampled < MIN_SAMPLE:
            return None
        if judge.is_itself(self.score):
            return 1.0
        gap = judge.best - self.log_evalue
        return judge.curve.chance(judge.worth(self.score, self.log_evalue), gap, judge.words)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredRows(Sequence[ScoredRow]):
    """Scored rows of one query: a sequence of ScoredRow, which are made when they are asked for.

    rows, items: int64 (n,). scores, log_evalues, orders: floats (n,). judges: of the modalities. judged: intp (n,), by
    which of the judges.
    """

    rows: NDArray[np.int64]
    items: NDArray[np.int64]
    scores: NDArray[np.floating]
    log_evalues: NDArray[np.floating]
    orders: NDArray[np.floating]
    judges: tuple[Judge, ...]
    judged: NDArray[np.intp]

    @classmethod
    def concatenate(cls, parts: Sequence[ScoredRows]) -> Self:
        """Put the rows of several modalities one after the other."""
        starts = np.cumsum([0, *(len(each.judges) for each in parts)])
        return cls(
            np.concatenate([np.empty(0, np.int64), *(each.rows for each in parts)]),
            np.concatenate([np.empty(0, np.int64), *(each.items for each in parts)]),
            np.concatenate([np.empty(0, np.float32), *(each.scores for each in parts)]),
            np.concatenate([np.empty(0), *(each.log_evalues for each in parts)]),
            np.concatenate([np.empty(0), *(each.orders for each in parts)]),
            tuple(judge for each in parts for judge in each.judges),
            np.concatenate([np.empty(0, np.intp), *(each.judged + s for each, s in zip(parts, starts, strict=False))]),
        )

    def take(self, places: NDArray[np.intp]) -> ScoredRows:
        """Return the rows at these places, intp (any,), in this order."""
        return ScoredRows(
            self.rows[places],
            self.items[places],
            self.scores[places],
            self.log_evalues[places],
            self.orders[places],
            self.judges,
            self.judged[places],
        )

    def are_of(self, modality: Modality) -> NDArray[np.bool_]:
        """Tell which rows are of a modality: bool (n,)."""
        known = np.array([judge.modality is modality for judge in self.judges], np.bool_)
        return known[self.judged]

    def key(self, place: int) -> tuple[Modality, int]:
        """Return modality and number of the row at a place."""
        return self.judges[self.judged[place]].modality, int(self.rows[place])

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> ScoredRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[ScoredRow]: ...
    def __getitem__(self, index: int | slice) -> ScoredRow | list[ScoredRow]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return ScoredRow(
            int(self.rows[index]),
            int(self.items[index]),
            float(self.scores[index]),
            float(self.log_evalues[index]),
            float(self.orders[index]),
            self.judges[self.judged[index]],
        )
