"""Queries of groups made ready to be judged: filters are set apart, and the rest is a tree of sums and choices."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.query.terms import AllOf, AnyOf, Filtered, Query, Term, Weighted

MAX_WAYS = 32
"""How many ways to meet a query propose candidates; its terms do in any case."""

Way = tuple[NDArray[np.float64], Filter | None]
"""One way to meet a query: how much each leaf counts, float64 (leaves,), and what must hold."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A text, a picture or an item, by its number among those of the query."""

    number: int


@dataclass(frozen=True, slots=True)
class Sum:
    """Terms that add and take away, with their weights, and what must hold."""

    terms: tuple[tuple[float, Node], ...]
    filters: Filter | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Sums any of which may match. certain: what also matches, whatever it looks like."""

    parts: tuple[Sum, ...]
    certain: Filter | None = None


Node = Leaf | Sum | Choice


@dataclass(frozen=True, slots=True)
class Resolved:
    """A query: its leaves, weighted 1, or -1 where they are taken away; what all hits must meet; and the rest.

    tree: None where the leaves alone say it, weighted as in the query.
    """

    leaves: tuple[Weighted, ...]
    filters: Filter | None
    tree: Sum | None

    def key(self) -> Hashable:
        """Return what equals that of another only if both judge alike."""
        return (self.filters, self.tree)


def resolve(query: Query) -> Resolved:
    """Set the filters of a query apart. Raises InvalidInputError for one that says only what not to find."""
    leaves: list[Weighted] = []
    tree = _sum(query, leaves, 1.0)
    if not tree.terms:
        raise InvalidInputError(
            f"The query {query} has only filters, and nothing to rank by. To list what they allow: clipsearch find"
        )
    _require_positive(tree, query)
    if all(isinstance(node, Leaf) for _, node in tree.terms):
        weighted = tuple(Weighted(weight, leaves[i].term) for i, (weight, _) in enumerate(tree.terms))
        return Resolved(weighted, tree.filters, None)
    return Resolved(tuple(leaves), tree.filters, Sum(tree.terms))


def _sum(query: Query, leaves: list[Weighted], sign: float) -> Sum:
    """Resolve a sum. sign: below 0 where it is taken away."""
    terms: list[tuple[float, Node]] = []
    filters: list[Filter] = []
    for part in query:
        is_negative = part.weight < 0
        known, node = _node(part.term, leaves, -sign if is_negative else sign, is_negative)
        if known is not None:
            filters.append(~known if is_negative else known)
        if node is not None:
            terms.append((part.weight, node))
    return Sum(tuple(terms), reduce(and_, filters) if filters else None)


def _node(term: Term, leaves: list[Weighted], sign: float, is_negative: bool) -> tuple[Filter | None, Node | None]:
    """Return the filter that a term is, or that stands beside the rest of it, and the rest."""
    if isinstance(term, Filtered):
        return term.filters, None
    if isinstance(term, AllOf):
        whole = _sum(term.query, leaves, sign)
        if not whole.terms:
            return whole.filters, None
        _require_positive(whole, term.query)
        return None, whole
    if not isinstance(term, AnyOf):
        leaves.append(Weighted(sign, term))
        return None, Leaf(len(leaves) - 1)
    parts = [(_sum(part, leaves, sign), part) for part in term.parts]
    certain = [each.filters for each, _ in parts if not each.terms and each.filters is not None]
    known = reduce(or_, certain) if certain else None
    rest = [(each, part) for each, part in parts if each.terms]
    for each, part in rest:
        _require_positive(each, part)
    if not rest:
        return known, None
    sums = tuple(each for each, _ in rest)
    return (known, Choice(sums)) if is_negative else (None, Choice(sums, known))


def _require_positive(node: Sum, query: Query) -> None:
    if not any(weight > 0 for weight, _ in node.terms):
        raise InvalidInputError(f"{query} only says what not to find. Add a term without a not or a -.")


def filters_of(node: Node) -> Iterator[Filter]:
    """Yield the filters within a node."""
    for each in _nodes(node):
        own = each.certain if isinstance(each, Choice) else each.filters if isinstance(each, Sum) else None
        if own is not None:
            yield own


def _nodes(node: Node, *, wanted_only: bool = False) -> Iterator[Node]:
    """Yield a node and all within it. wanted_only: without those that are taken away."""
    yield node
    if isinstance(node, Choice):
        parts: list[Node] = [*node.parts]
    else:
        parts = [each for weight, each in node.terms if weight > 0 or not wanted_only] if isinstance(node, Sum) else []
    for part in parts:
        yield from _nodes(part, wanted_only=wanted_only)


def proposals(tree: Sum, wanted: NDArray[np.bool_]) -> dict[Filter | None, list[NDArray[np.float64]]]:
    """Return by what candidates are proposed: for each filter, the weights of leaves whose sums are looked for.

    wanted: bool (leaves,), which leaves are not taken away. Each of these is looked for by itself too.
    """
    alone = {i: np.eye(len(wanted))[i] for i in np.flatnonzero(wanted).tolist()}
    found: dict[Filter | None, dict[bytes, NDArray[np.float64]]] = {}
    ways = list(_ways(tree, len(wanted)))
    ways += [(each, None) for i, each in alone.items() if not any(weights[i] > 0 for weights, _ in ways)]
    ways += [(np.zeros(len(wanted)), each) for each in _certain(tree) if all(each is not other for _, other in ways)]
    for weights, filters in ways:
        own = [alone[i] for i in alone if weights[i] > 0] or [*alone.values()]
        for each in [*own, weights]:
            if each.any():
                found.setdefault(filters, {})[each.tobytes()] = each
    return {filters: [*each.values()] for filters, each in found.items()}


def _certain(node: Node) -> Iterator[Filter]:
    for each in _nodes(node, wanted_only=True):
        if isinstance(each, Choice) and each.certain is not None:
            yield each.certain


def _ways(node: Sum, leaves: int) -> Iterator[Way]:
    """Yield the ways to meet a sum: one alternative of each choice; MAX_WAYS at most."""
    options = [_options(weight, each, leaves) for weight, each in node.terms]
    for chosen in itertools.islice(itertools.product(*options), MAX_WAYS):
        filters = [each for _, each in chosen if each is not None]
        if node.filters is not None:
            filters.append(node.filters)
        yield np.sum([weights for weights, _ in chosen], axis=0), reduce(and_, filters) if filters else None


def _options(weight: float, node: Node, leaves: int) -> Sequence[Way]:
    none = np.zeros(leaves)
    if isinstance(node, Leaf):
        none[node.number] = weight
    if isinstance(node, Leaf | Sum) or weight < 0:
        return [(none, None)]
    certain: list[Way] = [] if node.certain is None else [(none, node.certain)]
    ways = ((weight * own, filters) for part in node.parts for own, filters in _ways(part, leaves))
    return [*certain, *itertools.islice(ways, MAX_WAYS)]
