"""How the parts of a hit fit each term of its query."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.explanation import TermScore
from clipsearch.query.retrieval import Leaf, Trace
from clipsearch.query.scored import Judge, ScoredRow, ScoredRows
from clipsearch.query.scoring import null_models
from clipsearch.ranking import exact_scores, log_evalue, log_evalues
from clipsearch.relevance import TYPICAL_WORDS, count_words, curve_of
from clipsearch.store.snapshot import Snapshot
from clipsearch.types import Modality


class TermJudge:
    """Judges rows by each term of one query; what is computed for one hit is kept for the next."""

    def __init__(self, snapshot: Snapshot, trace: Trace, names: Sequence[str]) -> None:
        """Prepare. names: of the terms, in order."""
        self._snapshot = snapshot
        self._trace = trace
        self._names = names
        self._scores: dict[tuple[int, Modality], list[NDArray[np.float32]]] = {}

    def judge(self, ranked: ScoredRows, rows: Sequence[int]) -> tuple[TermScore, ...]:
        """Return how rows fit each term. ranked: all rows of a step. rows: where in these they are."""
        if len(self._trace.leaves) == 1:
            return tuple(self._alone(ranked, at) for at in rows)
        return tuple(
            self._one_of(number, leaf, ranked, at) for at in rows for number, leaf in enumerate(self._trace.leaves)
        )

    def _alone(self, ranked: ScoredRows, at: int) -> TermScore:
        row = ranked[at]
        place = 1 + int((ranked.scores[ranked.are_of(row.modality)] > ranked.scores[at]).sum())
        order = row.order if math.isfinite(row.order) else None
        return TermScore(self._names[0], 1.0, row.modality, row.score, order, row.confidence, place)

    def _one_of(self, number: int, leaf: Leaf, ranked: ScoredRows, at: int) -> TermScore:
        modality, _ = ranked.key(at)
        scores = self._scores_of(ranked, modality)[number]
        score = float(scores[np.flatnonzero(ranked.are_of(modality)).searchsorted(at)])
        name, is_text = self._names[number], leaf.kind == Modality.TEXT
        seen, typical = null_models(self._snapshot, modality, leaf.vector, leaf.kind)
        best = float(log_evalues(scores, seen).max())
        words = count_words(name) if is_text else TYPICAL_WORDS
        judge = Judge(modality, seen, not is_text, curve_of(leaf.kind, modality), words, best)
        alone = ScoredRow(0, 0, score, log_evalue(score, seen), 0.0, judge)
        place = 1 + int((scores > score).sum())
        return TermScore(name, leaf.weight, modality, score, log_evalue(score, typical), alone.confidence, place)

    def _scores_of(self, ranked: ScoredRows, modality: Modality) -> list[NDArray[np.float32]]:
        """Return the score on each term of all rows of a modality, from the stored vectors."""
        key = (id(ranked), modality)
        if key not in self._scores:
            numbers = ranked.rows[ranked.are_of(modality)]
            vectors = self._snapshot.rows(modality).gather(numbers)
            self._scores[key] = [exact_scores(leaf.vector, vectors) for leaf in self._trace.leaves]
        return self._scores[key]
