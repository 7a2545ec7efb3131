"""Calibration: how much of an approximate index must be looked at to find what an exact search finds.

Queries by text are another distribution than queries by picture and need more, so each kind is measured by itself.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann.base import AnnIndex, Probe, RowSource
from clipsearch.ann.flat import exact_search
from clipsearch.errors import AnnIndexError

FILE = "calibration.json"
DEPTH = 10
"""Recall is measured among the first so many."""

RADII = (0.1, 0.25, 0.5)
CANDIDATES = (20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000)
MORE_CANDIDATES = (*CANDIDATES, 1500, 2000, 3000)
"""Where CANDIDATES do not reach the target, as among a hundred million pictures of few dimensions."""

RESCORED_AS_SCANNED = 130
"""Scoring one candidate exactly takes as long as scanning so many codes (benchmarks/ann/ladder.py)."""

LIST_AS_SCANNED = 20
"""Turning to one more list takes as long as scanning so many codes."""

EXACT = Probe(1, 0.25, 2**31 - 1)
"""All rows are candidates: a search scans them instead of asking the index."""

_WORTH_TRYING, _WIDER_STEPS = 1.25, 4


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What one kind of query needs. recall: the mean share of the true first ten, over so many queries of a source.

    error: standard error of that recall. scanned: rows looked at a query.
    """

    probe: Probe
    recall: float
    error: float
    target: float
    queries: int
    source: str
    scanned: float

    @property
    def cost(self) -> float:
        """Return the work of a query, in codes scanned."""
        return self.scanned + LIST_AS_SCANNED * self.probe.nprobe + RESCORED_AS_SCANNED * self.probe.candidates

    @property
    def met(self) -> bool:
        """Tell whether the target was reached, by one standard error."""
        return self.recall - self.error >= self.target or self.recall == 1.0

    @property
    def is_exact(self) -> bool:
        """Tell whether such queries are answered by a scan of all rows."""
        return self.probe.candidates >= EXACT.candidates

    def as_exact(self, rows: int) -> Calibrated:
        """Return the same calibration for a scan of all `rows` rows."""
        return replace(self, probe=EXACT, recall=1.0, error=0.0, scanned=float(rows))


@dataclass(frozen=True, slots=True)
class Calibration:
    """The probes of one index, by kind of query (`text`, `image`). rows: how many were in it."""

    rows: int
    kinds: Mapping[str, Calibrated]

    def probe(self, kind: str | None) -> Probe:
        """Return the probe for a kind of query; for one that was not measured, the most thorough there is.

        Without words to measure with, earlier versions measured pictures alone, which says nothing of other queries:
        these scan all rows.
        """
        if kind is not None and kind in self.kinds:
            return self.kinds[kind].probe
        probes = [found.probe for found in self.kinds.values()]
        if not probes:
            return Probe()
        if "text" not in self.kinds:
            return EXACT
        thorough = max(probes, key=lambda probe: (probe.nprobe, probe.candidates))
        return replace(thorough, candidates=max(probe.candidates for probe in probes))

    def save(self, folder: Path) -> None:
        """Write it beside the index."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Calibration:
        """Read what `save` wrote; an index without one has none. Raises AnnIndexError if it cannot be read."""
        path = folder / FILE
        if not path.exists():
            return cls(0, {})
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            kinds = {k: Calibrated(**{**v, "probe": Probe(**v["probe"])}) for k, v in stored["kinds"].items()}
            return cls(int(stored["rows"]), kinds)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise AnnIndexError(f"{path} cannot be read: {error}.") from error


class Probed(AnnIndex, Protocol):
    """What is calibrated: an index with inverted lists."""

    @property
    def nlist(self) -> int:
        """How many lists there are."""

    def scanned(self, queries: NDArray[np.float32], probe: Probe) -> float:
        """Return how many rows a query looks at on average."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries of one kind: unit vectors float32 (n, dim). source: where they come from, for the reader.

    own: the row that each query is itself, int64 (n,), which does not count as found; None if they are no rows.
    """

    vectors: NDArray[np.float32]
    source: str
    own: NDArray[np.int64] | None = None


def truth(
    rows: RowSource, queries: Queries, stop: int, allowed: NDArray[np.bool_] | None = None, depth: int = DEPTH
) -> NDArray[np.int64]:
    """Find the first `depth` rows below `stop` of each query by exact search: int64 (n, depth), -1 where fewer."""
    if queries.own is None:
        return exact_search(rows, queries.vectors, depth, stop=stop, allowed=allowed).ids
    ids = exact_search(rows, queries.vectors, depth + 1, stop=stop, allowed=allowed).ids
    ids[ids == queries.own[:, None]] = -1
    order = np.argsort(ids < 0, axis=1, kind="stable")
    return np.take_along_axis(ids, order, 1)[:, :depth]


def calibrate(
    index: Probed, queries: Queries, true: NDArray[np.int64], target: float, allowed: NDArray[np.bool_] | None = None
) -> Calibrated:
    """Find the cheapest probe whose recall is at least `target`, by one standard error.

    Where none is, it is the cheapest whose recall is the best there is but for its standard error: to look at all
    lists would take far longer and find no more.

    true: what `truth` found over the rows of the index. What is among the candidates is found, because they are
    scored again exactly. allowed: as in search.
    """
    steps = _steps(index.nlist)
    radii = RADII if index.nlist > 1 else RADII[:1]
    for counts in (CANDIDATES, MORE_CANDIDATES):
        measures = [cache(partial(_measure, index, queries, true, allowed, target, counts, each)) for each in radii]
        if met := _enough(measures, steps, lambda option: option.met):
            return min(met, key=lambda option: option.cost)
    best = max(measures[0](steps[-1]), key=lambda option: option.recall)
    good = _enough(measures, steps, lambda option: option.recall >= best.recall - best.error)
    return min(good, key=lambda option: option.cost)


def _enough(
    measures: Sequence[Callable[[int], list[Calibrated]]],
    steps: Sequence[int],
    is_enough: Callable[[Calibrated], bool],
) -> list[Calibrated]:
    """Return what is enough; nothing where all lists are not, for which the radius does not matter.

    measures: for each radius, what a number of lists reaches.
    """
    options: list[Calibrated] = []
    for measure in measures:
        # more lists never find less: the first number that is enough, then some more lists for fewer candidates
        first = bisect_left(steps, True, key=lambda nprobe: is_enough(measure(nprobe)[-1]))
        if first == len(steps):
            return []
        for nprobe in steps[first : first + _WIDER_STEPS]:
            options += measure(nprobe)
    return [option for option in options if is_enough(option)]


def _measure(
    index: Probed,
    queries: Queries,
    true: NDArray[np.int64],
    allowed: NDArray[np.bool_] | None,
    target: float,
    counts: Sequence[int],
    radius: float,
    nprobe: int,
) -> list[Calibrated]:
    """Return what one choice of lists reaches, by number of candidates, up to the first that meets the target."""
    scanned = index.scanned(queries.vectors, Probe(nprobe, radius, counts[-1]))
    position = _positions(index, queries, true, allowed, Probe(nprobe, radius, counts[-1]))
    found: list[Calibrated] = []
    for candidates in counts:
        recall, error = _recall(position < candidates + (queries.own is not None), true >= 0)
        probe = Probe(nprobe, radius, candidates)
        found.append(Calibrated(probe, recall, error, target, len(true), queries.source, scanned))
        if found[-1].met:
            break
    return found


def _positions(
    index: Probed, queries: Queries, true: NDArray[np.int64], allowed: NDArray[np.bool_] | None, probe: Probe
) -> NDArray[np.int64]:
    """Return the place of each true row among the candidates, int64 (n, depth); beyond all for one that is not."""
    depth = probe.candidates + (queries.own is not None)
    ids = index.search(queries.vectors, depth, allowed=allowed, probe=probe).ids
    same = ids[:, :, None] == true[:, None, :]
    return np.where(same.any(axis=1), same.argmax(axis=1), np.iinfo(np.int64).max)


def _recall(is_found: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the mean share of the wanted rows that were found, and its standard error; both bool (n, depth)."""
    shares = (is_found & wanted).sum(axis=1) / np.maximum(wanted.sum(axis=1), 1)
    return float(shares.mean()), float(shares.std() / max(len(shares), 1) ** 0.5)


def _steps(nlist: int) -> list[int]:
    """Return numbers of lists to probe, from 1 to all, each some share more than the one before."""
    steps = [1]
    while steps[-1] < nlist:
        steps.append(min(nlist, max(steps[-1] + 1, int(steps[-1] * _WORTH_TRYING))))
    return steps
