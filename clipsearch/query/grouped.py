"""How well rows match a tree of sums and choices, from how they match its leaves. Pure functions.

A choice is worth its best part, as fuzzy logic has it (Zadeh, Information and Control 1965: or is the maximum). `and`
adds, as in clipsearch.query.fusion: the minimum, which is the `and` of fuzzy logic, finds half as much, because each
score is noisy. Only where a sum is taken away, what must match all of it, it is the minimum. benchmarks/boolean.py
compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clipsearch.filtering import Filter
from clipsearch.query.fusion import SATURATED, TOLERATED
from clipsearch.query.resolving import Choice, Leaf, Node, Sum

_FAR_BELOW = -10.0
_TIE = 1e-3
"""How much of the rest counts between rows that match for certain."""

Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judged:
    """What rows are worth.

    merit: float64 (rows,), -inf for what no filter allows. use: float64 (rows, leaves), how much each leaf counted.
    """

    merit: Rows
    use: NDArray[np.float64]


def judge(tree: Sum, z: NDArray[np.floating], passes: Mapping[Filter, NDArray[np.bool_]] | None = None) -> Judged:
    """Judge rows by a tree.

    z (leaves, rows): how far rows stand out on each leaf, in standard deviations. passes: for each filter of the tree,
    bool (rows,), which rows it allows; None for rows at large, which may do what they must and do nothing that is sure.
    """
    return _Judging(z.astype(np.float64), passes).sum(tree)


def cosines(judged: Judged, scores: NDArray[np.floating], vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of each row with the sum of the leaves that counted for it: float32 (rows,).

    scores (leaves, rows): with each leaf. vectors: unit rows (leaves, dim).
    """
    products = np.einsum("rl,lr->r", judged.use, scores)
    lengths = np.sqrt(np.einsum("rl,lm,rm->r", judged.use, vectors.astype(np.float64) @ vectors.T, judged.use).clip(0))
    clipped: NDArray[np.float32] = (products / np.maximum(lengths, 1e-9)).clip(-1, 1).astype(np.float32)
    return clipped


class _Judging:
    def __init__(self, z: NDArray[np.float64], passes: Mapping[Filter, NDArray[np.bool_]] | None) -> None:
        self._z = z
        self._passes = passes

    def sum(self, node: Sum, is_against: bool = False) -> Judged:
        wanted = [self._weighted(weight, each, is_against) for weight, each in node.terms if weight > 0]
        against = [self._weighted(weight, each, True) for weight, each in node.terms if weight < 0]
        merits = np.array([each.merit for each in wanted])
        merit = merits.min(axis=0) if is_against else merits.sum(axis=0)
        if against:
            merit += np.sum([each.merit for each in against], axis=0) / np.sqrt(len(against))
        if node.filters is not None and self._passes is not None:
            merit = np.where(self._passes[node.filters], merit, -np.inf)
        return Judged(merit, np.sum([each.use for each in (*wanted, *against)], axis=0))

    def _weighted(self, weight: float, node: Node, is_against: bool) -> Judged:
        own = self._node(node, is_against)
        merit = own.merit if weight > 0 else np.logaddexp(0.0, own.merit - TOLERATED)  # softplus
        return Judged(weight * merit, weight * np.where(np.isfinite(own.merit)[:, None], own.use, 0.0))

    def _node(self, node: Node, is_against: bool) -> Judged:
        if isinstance(node, Leaf):
            use = np.zeros(self._z.shape[::-1])
            use[:, node.number] = 1.0
            return Judged(self._z[node.number], use)
        return self.sum(node, is_against) if isinstance(node, Sum) else self._choice(node, is_against)

    def _choice(self, node: Choice, is_against: bool) -> Judged:
        parts = [self.sum(part, is_against) for part in node.parts]
        merits = np.array([each.merit for each in parts])
        best = merits.argmax(axis=0)
        merit, use = merits.max(axis=0), np.stack([each.use for each in parts])[best, np.arange(len(best))]
        if node.certain is not None and self._passes is not None:
            sure = SATURATED + _TIE * np.maximum(merit, _FAR_BELOW)
            merit = np.where(self._passes[node.certain], np.maximum(merit, sure), merit)
        return Judged(merit, use)


def evidence(
    tree: Sum,
    found: NDArray[np.float64],
    passes: Mapping[Filter, NDArray[np.bool_]],
    sure: float,
    *,
    subtract: bool = False,
) -> Rows:
    """Return how far rows fit a tree, float64 (rows,), by log E-values: added up where above 0, the best of a choice.

    found (leaves, rows): of each leaf. passes: as in `judge`. sure: of what matches for certain. subtract: take away
    what the negative terms have.
    """
    return _sum_evidence(tree, found, passes, sure, subtract)


def add_evidence(found: NDArray[np.float64]) -> Rows:
    """Add up log E-values (terms, rows) where they are above 0; elsewhere the best of them counts: float64 (rows,)."""
    best: Rows = found.max(axis=0)
    return np.where(best > 0, np.maximum(found, 0.0).sum(axis=0), best)


def _sum_evidence(
    node: Sum, found: NDArray[np.float64], passes: Mapping[Filter, NDArray[np.bool_]], sure: float, subtract: bool
) -> Rows:
    def evidence_of(each: Node) -> Rows:
        if isinstance(each, Leaf):
            leaf: Rows = found[each.number]
            return leaf
        if isinstance(each, Sum):
            return _sum_evidence(each, found, passes, sure, subtract)
        parts = [_sum_evidence(part, found, passes, sure, subtract) for part in each.parts]
        best: Rows = np.max(parts, axis=0)
        return best if each.certain is None else np.where(passes[each.certain], np.maximum(best, sure), best)

    wanted = np.array([evidence_of(each) for weight, each in node.terms if weight > 0])
    fit = np.where(np.isneginf(wanted).any(axis=0), -np.inf, add_evidence(wanted))
    against = [evidence_of(each) for weight, each in node.terms if weight < 0]
    if against and subtract:
        fit = fit - np.maximum(add_evidence(np.array(against)), 0.0)
    return fit if node.filters is None else np.where(passes[node.filters], fit, -np.inf)
