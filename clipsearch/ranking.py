"""From candidates to an answer: exact scores, and what they are worth. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MIN_SAMPLE = 32
"""With fewer scores than this there is no confidence: too few to know how scores are spread."""

PRIOR_SPREAD, PRIOR_WEIGHT = 0.1, 8
"""The spread (cosine) that is assumed of a library before any score is seen, and how many scores that counts for."""

MIN_SPREAD = 0.01
"""Cosine: scores spread less than this only where the library repeats itself, which says nothing of chance."""

MIN_WIDTH = 1e-5
"""Cosine: a measured spread or scale of less is what rounding leaves of 0."""

CONFIDENT = 0.75
"""A first hit below this confidence is shown as "no confident match"; benchmarks/confidence.py has the curve."""

_CONFIDENT_EVALUE = -math.log(-math.log(CONFIDENT))
"""The log E-value of a hit whose confidence is CONFIDENT."""

_ROUNDING, _MAX_ROUNDING, _SHARE_OF_SPREAD = 1e-6, 1e-4, 0.1
"""How far below 1 the cosine of a row and itself may be: what float16 takes, and less where all rows are alike."""

_NEARLY_1 = 1 - _MAX_ROUNDING

_FAR = 30.0
"""Standard deviations from which on the tail of the normal is computed by its asymptote."""

UNIT_TOLERANCE = 0.01
"""The length of a stored row is 1, by so much; float16 costs less than a tenth of it."""

MIN_ROWS = 100
"""The fewest rows that an E-value counts: a modality with few rows does not stand out only because it is small."""

TRIES_PER_ROW, MAX_ADDED_TRIES = 4, 1000
"""How many tries each of few rows is worth, and up to how many tries in all (benchmarks/filtered.py compares)."""

TAIL_SHARE = 0.05
"""The share of unrelated scores that a measured tail describes (benchmarks/mixed.py)."""

SCORE_GAP_SHARE = 0.7
"""The share of the first hit's rarity that a hit needs to belong to it; benchmarks/cut.py compares."""

GAP_WINDOW = 10
"""How many hits are looked at for the rarest."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The upper tail of unrelated scores: TAIL_SHARE of them lie above `start`, by `scale` in the mean.

    Peaks over a threshold, as an exponential distribution (Pickands, Annals of Statistics 1975). start, scale: cosine,
    start from the centre of the scores.
    """

    start: float
    scale: float


@dataclass(frozen=True, slots=True)
class NullModel:
    """The null model of one query: how rows that are unrelated to it score, as a normal distribution.

    centre, spread: cosine. rows: how many could be hit. sampled: how many scores this was learnt from. tail: what
    describes the highest scores better than the normal distribution, if that was measured. best: the highest score that
    this was learnt from.
    """

    centre: float
    spread: float
    rows: int
    sampled: int
    tail: Tail | None = None
    best: float = -math.inf


def exact_scores(query: NDArray[np.float32], rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the cosine of a unit query (dim,) to rows (n, dim) that float16 has left almost of unit length."""
    norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    scores = np.einsum("nd,d->n", rows, query, dtype=np.float64) / np.maximum(norms, 1e-12)
    clipped: NDArray[np.float32] = np.clip(scores, -1.0, 1.0).astype(np.float32)
    return clipped


def are_unit(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell which rows (n, dim) are of unit length, as every row that was stored is: bool (n,); a damaged one is not."""
    with np.errstate(over="ignore", invalid="ignore"):
        unit: NDArray[np.bool_] = np.abs(np.sqrt(np.einsum("nd,nd->n", rows, rows)) - 1) < UNIT_TOLERANCE
    return unit


def lower_spread(scores: NDArray[np.floating]) -> float:
    """Return the median of scores (n,) less their 16th percentile: one sigma of a normal, whatever scores high."""
    low, centre = np.percentile(scores, [15.87, 50.0])
    return float(centre - low)


def typical_spread(queries: NDArray[np.float32], rows: NDArray[np.float32]) -> float:
    """Return how far scores spread for a typical one of some queries (q, dim) over a sample of rows (n, dim)."""
    return float(np.median([lower_spread(scores) for scores in queries @ rows.T]))


def upper_tail(excesses: NDArray[np.floating], unit: float = 1.0) -> Tail:
    """Measure the tail of scores less their centre (any shape), at least 1 / TAIL_SHARE of them.

    unit: as of `null_model`.
    """
    start = float(np.quantile(excesses, 1 - TAIL_SHARE))
    above = excesses[excesses > start]
    scale = float(above.mean()) - start if len(above) else 0.0
    return Tail(start, max(scale, unit * MIN_SPREAD / 2, MIN_WIDTH))


def counted_rows(rows: int) -> int:
    """Return how many rows the E-values of a library of `rows` rows count."""
    return max(rows, MIN_ROWS)


def counted_tries(rows: int) -> int:
    """Return how many tries chance has among `rows` rows whose scores count as normal.

    The best of few rows is moderately high, and there the scores of unrelated rows have a heavier tail: of what is not
    there, 2 to 4 times as many pictures lie three spreads above the centre.
    """
    return max(counted_rows(rows), min(TRIES_PER_ROW * rows, MAX_ADDED_TRIES))


def null_model(
    scores: NDArray[np.floating],
    rows: int,
    *,
    spread: float | None = None,
    centre: float | None = None,
    tail: Tail | None = None,
    unit: float = 1.0,
) -> NullModel:
    """Describe a query's scores (n,), n > 0, over a sample of a library whose E-values count `rows` rows.

    The centre is the median: the few rows that do match do not pull it. spread: that of queries at large, where it is
    known; else the lower spread of these scores, drawn towards the prior for a small sample. centre: the one to expect,
    which takes the place of the median of a small sample. tail: that of queries at large, where it is known; with it, a
    small sample is enough for confidences. unit: what a cosine of 1 is in these scores.
    """
    count, median, best = len(scores), float(np.median(scores)), float(scores.max())
    if spread is None:
        own = count * lower_spread(scores) ** 2
        spread = math.sqrt((own + PRIOR_WEIGHT * (unit * PRIOR_SPREAD) ** 2) / (count + PRIOR_WEIGHT))
    if centre is not None and count < MIN_SAMPLE:
        median = centre
        count = count if tail is None else MIN_SAMPLE
    return NullModel(median, max(spread, unit * MIN_SPREAD), rows, count, tail, best)


def log_evalue(score: float, seen: NullModel) -> float:
    """Return -ln of the E-value, the number of unrelated rows expected to score as high; above 0 is more than chance.

    E-values are those of sequence search (Karlin and Altschul, PNAS 1990): rows times the tail of the null model.
    """
    excess, tail = score - seen.centre, seen.tail
    if tail is not None and excess > tail.start:
        return -(math.log(seen.rows) + math.log(TAIL_SHARE) - (excess - tail.start) / tail.scale)
    chance = _log_upper_tail(excess / seen.spread)
    return -(math.log(seen.rows) + (chance if tail is None else max(chance, math.log(TAIL_SHARE))))


def words_evalue(counts: Sequence[int], rows: int) -> float:
    """Return what it is worth that a text has all words of a query, to compare with `log_evalue`.

    -ln of the number of texts expected to have them, were each spread over the texts by chance: the inverse document
    frequencies add up (Robertson, Journal of Documentation 2004). A word that a single text has is worth what a hit is
    that is just confident; one that many have is worth less, and several rare ones are worth more.

    counts: how many texts have each word. rows: how many passages there are.
    """
    rows = max(rows, *counts, 1)
    return _CONFIDENT_EVALUE - (math.log(rows) + sum(math.log(count / rows) for count in counts))


def log_evalues(scores: NDArray[np.floating], seen: NullModel) -> NDArray[np.float64]:
    """Return `log_evalue` of each of many scores: float64 (n,)."""
    excess, tail = scores.astype(np.float64) - seen.centre, seen.tail
    if tail is None:
        return -(math.log(seen.rows) + _log_upper_tails(excess / seen.spread))
    chance = math.log(TAIL_SHARE) - (excess - tail.start) / tail.scale
    below = excess <= tail.start
    chance[below] = np.maximum(_log_upper_tails(excess[below] / seen.spread), math.log(TAIL_SHARE))
    return -(math.log(seen.rows) + chance)


def limit_demotion(ranked: NDArray[np.intp], promised: NDArray[np.intp]) -> NDArray[np.intp]:
    """Move entries of a ranking up so far that the r-th of those promised stands at place 2r or before.

    ranked: numbers from 0 to n - 1, each once: intp (n,). promised: some of them, each once. The order of the ranking
    is kept otherwise.
    """
    places = np.empty(len(ranked), np.intp)
    places[ranked] = np.arange(1, len(ranked) + 1)
    if (places[promised] <= 2 * np.arange(1, len(promised) + 1)).all():
        return ranked
    kept: dict[int, None] = {}
    rest, first = iter(ranked.tolist()), promised.tolist()
    for place in range(1, len(ranked) + 1):
        entry = first[place // 2 - 1] if place % 2 == 0 and place // 2 <= len(first) else next(rest)
        while entry in kept:
            entry = next(rest)
        kept[entry] = None
    return np.array([*kept], np.intp)


def confidence(score: float, seen: NullModel, *, bounded: bool = False) -> float | None:
    """Return the chance, in [0, 1], that none of the library's rows would score as high if none were related.

    The distribution of the largest of n draws from a normal: exp(-n Q(z)). None where the sample is too small.
    bounded: that no cosine is above 1 counts. Pictures score high among pictures, and of many draws from a normal the
    largest would be above 1: a picture that finds itself would seem to be chance.
    """
    return evalue_confidence((bounded_log_evalue if bounded else log_evalue)(score, seen), seen)


def bounded_log_evalue(score: float, seen: NullModel) -> float:
    """Return `log_evalue` of a cosine that counts as one, which none is above 1; a measured tail has its own bound."""
    if seen.tail is not None:
        return log_evalue(score, seen)
    return -(math.log(seen.rows) + _log_upper_tail(_bounded_z(score, seen)))


def is_identical(score: float, seen: NullModel) -> bool:
    """Tell whether a row is the query itself by its cosine, whatever else is in the library."""
    return 1 - score <= max(_ROUNDING, min(_MAX_ROUNDING, _SHARE_OF_SPREAD * seen.spread))


def evalue_confidence(worth: float, seen: NullModel) -> float | None:
    """Return the confidence of a hit by its log E-value."""
    return None if seen.sampled < MIN_SAMPLE else math.exp(-math.exp(min(-worth, 700.0)))


def score_gap_cutoff(
    log_evalues: Sequence[float],
    rows: Sequence[int],
    kinds: Sequence[Hashable] | None = None,
    share: float = SCORE_GAP_SHARE,
) -> list[bool]:
    """Tell which hits come before the gap in the scores; the first one always does.

    A hit does if its rarity, -ln of the chance that one unrelated row scores as high, is at least a share of that of
    the rarest hit of its kind, among the first GAP_WINDOW and those before it: so more hits change nothing. At
    SCORE_GAP_SHARE it then lies some 0.8 as far above the rest of the library. Hits of other kinds than the first do
    only if chance does not explain them.

    log_evalues: of the hits, the first one first. rows: how many rows each E-value counts. kinds: of the hits, such as
    their modalities; one for all by default.
    """
    kinds = kinds or [None] * len(log_evalues)
    rarities = [value + math.log(count) for value, count in zip(log_evalues, rows, strict=True)]
    rarest: dict[Hashable, float] = {}
    for kind, value in zip(kinds[:GAP_WINDOW], rarities, strict=False):
        rarest[kind] = max(rarest.get(kind, value), value)
    stand = []
    for i, (kind, rarity) in enumerate(zip(kinds, rarities, strict=True)):
        rarest[kind] = max(rarest.get(kind, rarity), rarity)
        stand.append(i == 0 or (rarity >= share * rarest[kind] and (kind == kinds[0] or log_evalues[i] > 0)))
    return stand


def _log_upper_tails(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `_log_upper_tail` of each of many normal deviates: float64 (n,)."""
    with np.errstate(divide="ignore"):
        found: NDArray[np.float64] = np.log([0.5 * math.erfc(value) for value in (z / math.sqrt(2.0)).tolist()])
    for i in np.flatnonzero(z > _FAR):
        found[i] = _log_upper_tail(float(z[i]))
    return found


def _bounded_z(score: float, seen: NullModel) -> float:
    """Return the normal deviate that is as rare as a cosine under a Beta distribution of that centre and spread.

    Cosines of random directions have a Beta distribution between -1 and 1. The approximation is that of Peizer and
    Pratt (JASA 1968), whose logarithms of tails are right to 3 percent.
    """
    plain = (score - seen.centre) / seen.spread
    mean, x = ((1 + min(max(value, -_NEARLY_1), _NEARLY_1)) / 2 for value in (seen.centre, score))
    total = mean * (1 - mean) / (seen.spread / 2) ** 2 - 1
    above, below, n = mean * total - 0.5, (1 - mean) * total - 0.5, total - 1
    away = below - n * (1 - x)
    if min(above, below) <= 0 or abs(away) < 1e-6 * n:  # too wide for a bound, or so near the centre that none matters
        return plain
    deviance = below * math.log(below / (n * (1 - x))) + above * math.log(above / (n * x))
    correction = (below + 1 / 6 - (n + 1 / 3) * (1 - x)) / abs(away)
    return correction * math.sqrt(max(0.0, 2 / (1 + 1 / (6 * n)) * deviance))


def _log_upper_tail(z: float) -> float:
    """Return ln Q(z) of the standard normal, by its asymptote where Q underflows."""
    if z > _FAR:
        return -0.5 * z * z - math.log(z * math.sqrt(2.0 * math.pi))
    return math.log(0.5 * math.erfc(z / math.sqrt(2.0)))
