"""The terms of a composed query, how each is written, and the query that they make.

`and` adds as `+` does, and `not` takes away as `-` does: a query is a sum of weighted terms. `or` makes a term of its
own, and so does a sum that is taken away as a whole.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter, absolute
from clipsearch.paths import is_url
from clipsearch.types import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from PIL.Image import Image

FUSIONS = ("auto", "decision", "feature", "rank")
"""How the terms of a query can be fused; `auto` is what clipsearch.query.fusion.choose says."""

MAX_WEIGHT = 1000.0
MAX_DEPTH = 16
"""How deep terms can be grouped."""

WEIGHT = re.compile(r"(\d+(?:\.\d*)?|\.\d+):")
KIND = re.compile(r"(text|image|id):")
"""What may stand before a term, and within its quotes."""

_PATH = re.compile(r"\.{0,2}[/\\]|~[/\\]|[A-Za-z]:[/\\]")


class _Combines:
    """What terms and queries share: `+`, `-`, `*`, `&`, `|` and `~` build a query, of filters too."""

    __slots__ = ()

    def __add__(self, other: Term | Query | Filter) -> Query:
        return Query((*_parts(self), *_parts(other)))

    def __sub__(self, other: Term | Query | Filter) -> Query:
        return self + -as_query(other)

    def __and__(self, other: Term | Query | Filter) -> Query:
        return self + other

    def __rand__(self, other: Filter) -> Query:
        return Query((*_parts(other), *_parts(self)))

    def __or__(self, other: Term | Query | Filter) -> Query:
        return as_query(AnyOf((as_query(self), as_query(other))))

    def __ror__(self, other: Filter) -> Query:
        return as_query(AnyOf((as_query(other), as_query(self))))

    def __invert__(self) -> Query:
        return Query((Weighted(-1.0, AllOf(as_query(self))),))

    def __neg__(self) -> Query:
        return Query(tuple(replace(part, weight=-part.weight) for part in _parts(self)))

    def __mul__(self, factor: float) -> Query:
        return Query(tuple(_scaled(part, factor) for part in _parts(self)))

    __rmul__ = __mul__


@dataclass(frozen=True, slots=True)
class Text(_Combines):
    """Words to look for.

    Attributes:
        text: The words.

    Raises:
        InvalidInputError: There is no word.
    """

    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InvalidInputError(f"The text to search for, {self.text!r}, has no words. Write at least one.")

    def __str__(self) -> str:
        try:
            is_plain = build_term(None, None, self.text) == (1.0, self)
        except InvalidInputError:
            is_plain = False
        return quote(self.text) if is_plain else f"text:{quote(self.text)}"


@dataclass(frozen=True, slots=True)
class Picture(_Combines):
    """A picture to look for.

    Attributes:
        source: A path or a URL; with `image` any name.
        image: A Pillow image or the bytes of a file; None opens the source.

    Raises:
        InvalidInputError: The source is empty.
    """

    source: str
    image: Image | bytes | None = field(default=None, hash=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.source, str) or not self.source:
            raise InvalidInputError(f"A picture to search for needs a path or a URL, not {self.source!r}.")

    def __str__(self) -> str:
        return f"image:{quote(self.source)}"


@dataclass(frozen=True, slots=True)
class Indexed(_Combines):
    """An item of the library, to look for more of its kind.

    Attributes:
        id: The id of the item.

    Raises:
        InvalidInputError: The id is below 1.
    """

    id: int

    def __post_init__(self) -> None:
        if not isinstance(self.id, int) or self.id < 1:
            raise InvalidInputError(f"The id of an item is a whole number of at least 1, not {self.id!r}.")

    def __str__(self) -> str:
        return f"id:{self.id}"


@dataclass(frozen=True, slots=True)
class Filtered(_Combines):
    """What a filter allows; as a term it must hold. Folders that are relative are those below the current folder."""

    filters: Filter

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", absolute(self.filters))

    def __str__(self) -> str:
        from clipsearch.query.filter_terms import write_filter

        return write_filter(self.filters)


@dataclass(frozen=True, slots=True)
class AnyOf(_Combines):
    """What matches any of several queries, at least two. Raises InvalidInputError if it is deeper than MAX_DEPTH."""

    parts: tuple[Query, ...]
    depth: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(each for part in self.parts for each in _alternatives(part)))
        if len(self.parts) < 2:
            raise InvalidInputError("An or needs at least two terms.")
        object.__setattr__(self, "depth", _deeper(self.parts))

    def __str__(self) -> str:
        return f"({' or '.join(map(_write, self.parts))})"


@dataclass(frozen=True, slots=True)
class AllOf(_Combines):
    """What matches a query as a whole, to be taken away: that is, all of its terms. Raises as AnyOf does."""

    query: Query
    depth: int = field(default=0, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _deeper((self.query,)))

    def __str__(self) -> str:
        return f"({_write(self.query)})"


Term = Text | Picture | Indexed | Filtered | AnyOf | AllOf


@dataclass(frozen=True, slots=True)
class Weighted:
    """A term and how much it counts, below 0 against. Raises InvalidInputError for 0 and beyond MAX_WEIGHT."""

    weight: float
    term: Term

    def __post_init__(self) -> None:
        if not 0 < abs(self.weight) <= MAX_WEIGHT:
            raise InvalidInputError(
                f"The weight of {self.term} is {self.weight}, but it must be above 0 and at most {MAX_WEIGHT:g}."
            )
        if isinstance(self.term, Filtered) and abs(self.weight) != 1:
            raise InvalidInputError(f"{self.term} holds or does not: it has no weight. Leave out the {self.weight:g}.")

    def __str__(self) -> str:
        size = abs(self.weight)
        return f"{self.term}" if size == 1 else f"{_number(size)}:{self.term}"


@dataclass(frozen=True, slots=True)
class Query(_Combines):
    """Terms that add to and take from each other.

    A query of only negative terms can be written, as a part of another; it cannot be searched for.

    Attributes:
        terms: Terms with their weights.

    Raises:
        InvalidInputError: There is no term.

    Example:
        >>> str(Text("horse") + 2 * Text("stripes") - Text("fence"))
        '"horse" + 2:"stripes" - "fence"'
    """

    terms: tuple[Weighted, ...]

    def __post_init__(self) -> None:
        if not self.terms:
            raise InvalidInputError("A query needs at least one term.")
        if any(isinstance(part.term, AllOf) for part in self.terms):
            object.__setattr__(self, "terms", tuple(_opened(self.terms)))

    def __iter__(self) -> Iterator[Weighted]:
        return iter(self.terms)

    def __str__(self) -> str:
        if self.is_grouped:
            return _write(self)
        first, *rest = self.terms
        start = f"- {first}" if first.weight < 0 else str(first)
        return start + "".join(f" {'-' if part.weight < 0 else '+'} {part}" for part in rest)

    @property
    def is_grouped(self) -> bool:
        """Whether it has terms that are filters or groups."""
        return any(isinstance(part.term, Filtered | AnyOf | AllOf) for part in self.terms)

    def leaves(self) -> Iterator[Term]:
        """Yield the terms that are not groups, from the first to the last, in groups too."""
        for part in self.terms:
            if isinstance(part.term, AnyOf):
                for each in part.term.parts:
                    yield from each.leaves()
            elif isinstance(part.term, AllOf):
                yield from part.term.query.leaves()
            else:
                yield part.term

    def replace_leaves(self, change: Callable[[Term], Term]) -> Query:
        """Return this query with what a function makes of each term that is not a group."""

        def change_term(term: Term) -> Term:
            if isinstance(term, AnyOf):
                return AnyOf(tuple(each.replace_leaves(change) for each in term.parts))
            return AllOf(term.query.replace_leaves(change)) if isinstance(term, AllOf) else change(term)

        return Query(tuple(Weighted(part.weight, change_term(part.term)) for part in self.terms))


def as_query(term: Term | Query | Filter | _Combines) -> Query:
    """Return a query; a term or a filter becomes one of its own."""
    return Query(tuple(_parts(term)))


def build_term(weight: float | None, kind: str | None, content: str) -> tuple[float, Term]:
    """Make a term and its weight of what is written; what is not said outside of the quotes may stand within.

    weight, kind: what stands before the content, if anything. Raises InvalidInputError for anything that is not a term.
    """
    if weight is None and kind is None and (found := WEIGHT.match(content)):
        weight, content = float(found[1]), content[found.end() :].strip()
    if kind is None and (found := KIND.match(content)):
        kind, content = found[1], content[found.end() :].strip()
    size = 1.0 if weight is None else weight
    if kind == "id":
        if not re.fullmatch(r"[0-9]{1,18}", content):
            raise InvalidInputError(f"The id of an item is a whole number, not {content!r}.")
        return size, Indexed(int(content))
    if kind == "image" or (kind is None and _names_picture(content)):
        return size, Picture(content)
    return size, Text(content)


def _names_picture(content: str) -> bool:
    if is_url(content) or _PATH.match(content):
        return True
    return not re.search(r"\s", content) and any(content.lower().endswith(ending) for ending in PICTURE_SUFFIXES)


def _parts(value: object) -> tuple[Weighted, ...]:
    if isinstance(value, Query):
        return value.terms
    if isinstance(value, Filter):
        value = Filtered(value)
    if isinstance(value, Term):
        return (Weighted(1.0, value),)
    raise InvalidInputError(f"A query is made of Text, Picture, Indexed and Filter, not of {type(value).__name__}.")


def _opened(terms: Iterable[Weighted]) -> Iterator[Weighted]:
    """Yield terms without sums that need no parentheses: those that are added, and those of one term."""
    for part in terms:
        if isinstance(part.term, AllOf) and (part.weight > 0 or len(part.term.query.terms) == 1):
            yield from _opened(_scaled(each, part.weight) for each in part.term.query)
        else:
            yield part


def _scaled(part: Weighted, factor: float) -> Weighted:
    """Return a term that counts more or less; a filter, which holds or does not, can only be reversed."""
    if isinstance(part.term, Filtered):
        factor = math.copysign(bool(factor), factor)
    return replace(part, weight=part.weight * factor)


def _alternatives(query: Query) -> tuple[Query, ...]:
    first = query.terms[0]
    is_only = len(query.terms) == 1 and first.weight == 1
    return first.term.parts if is_only and isinstance(first.term, AnyOf) else (query,)


def _deeper(parts: Iterable[Query]) -> int:
    depth = 1 + max(each.term.depth if isinstance(each.term, AnyOf | AllOf) else 0 for part in parts for each in part)
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"Terms can be grouped {MAX_DEPTH} deep, but no deeper. Simplify the query.")
    return depth


def _write(query: Query) -> str:
    """Write a query by `and` and `not`, as in a group."""
    return " and ".join(f"not {part}" if part.weight < 0 else str(part) for part in query)


def quote(content: str) -> str:
    """Put words into quotes, as a query has them."""
    return '"' + content.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _number(value: float) -> str:
    from decimal import Decimal

    return f"{Decimal(repr(value)):f}".removesuffix(".0")
