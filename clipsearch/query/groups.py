r"""Queries with `and`, `or`, `not` and parentheses: `(dog or cat) and not tag:"indoor"`.

    any     = all {"or" all}
    all     = [sign] operand {("and" | sign) operand}
    operand = {"not"} [weight ":"] ("(" any ")" | [kind ":"] content)
    kind    = "text" | "image" | "id" | the name of a filter

What signs, weights and contents are says clipsearch.query.parser. People search for words such as "rock and roll" and
"(black and white) photo" as well. So a text is such a query only if all of it reads as one, and a term beside an
operator is marked: in parentheses, in quotes, an item, or a filter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from clipsearch.errors import InvalidInputError
from clipsearch.query.filter_terms import NAMES, read_filter
from clipsearch.query.parser import QUOTED, SIGN, QuerySyntaxError, unquote
from clipsearch.query.terms import (
    MAX_DEPTH,
    WEIGHT,
    AllOf,
    AnyOf,
    Filtered,
    Indexed,
    Query,
    Term,
    Weighted,
    build_term,
)

_OPERATOR = re.compile(r'((?i:and|or|not))(?=[\s()"]|$)')
_KIND = re.compile(rf"(text|image|id|(?:{'|'.join(NAMES)})(?=:\S)):")
_FILTER = re.compile(rf"\s+({'|'.join(NAMES)}):(\w\S*)")
_WORD = re.compile(r'[^\s()"](?:[^\s()"]|\([^\s()"]*\))*')
MAX_TERMS = 100
"""How many terms are read, filters among them; what is searched for has fewer."""

_REMEDY = "For words that only look like this, write text: and the words in quotes."


class _ProseError(QuerySyntaxError):
    """What reads as words, in which people write parentheses too."""


def read_groups(text: str) -> Query | None:
    """Read a query with operators; None for a text that is not one, but words or signs and terms.

    Raises QuerySyntaxError, which names the column, for one that is meant as such a query and cannot be read.
    """
    reader = _Reader(text)
    try:
        query = reader.read()
    except _ProseError:
        return None
    except QuerySyntaxError:
        if reader.is_evident or reader.is_too_deep:
            raise
        return None
    return query if reader.is_evident or reader.has_signed_filter else None


class _Reader:
    """Reads one text from left to right. is_evident: a marked term beside an operator was seen."""

    @property
    def has_signed_filter(self) -> bool:
        """Whether a filter is added or taken away by a sign, as in `dog + tag:beach`."""
        return self._signs > 0 and self._filters > 0

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._operators = 0
        self._is_after_operator = False
        self._is_after_marked = False
        self.is_evident = False
        self.is_too_deep = False
        self._terms = self._signs = self._filters = 0

    def read(self) -> Query:
        query = self._any()
        if self._at < len(self._text):
            raise self._fault(f"There is no ( for the ) at column {self._at + 1}.")
        return query

    def _any(self) -> Query:
        parts = [self._all()]
        while self._take_operator("or"):
            parts.append(self._all())
        if len(parts) == 1:
            return parts[0]
        with self._naming(self._at):
            return Query((Weighted(1.0, AnyOf(tuple(parts))),))

    def _all(self) -> Query:
        sign = self._take_sign() or "+"
        terms: list[Weighted] = []
        start = self._at
        while True:
            terms.append(self._operand(sign))
            if self._take_operator("and"):
                sign = "+"
            elif found := self._take_sign():
                sign = found
            elif not self._peek() or self._peek() == ")" or self._peek_operator() == "or":
                break
            else:
                raise self._missing_operator()
        with self._naming(start):
            return Query(tuple(terms))

    def _operand(self, sign: str) -> Weighted:
        is_negative = sign == "-"
        while self._take_operator("not"):
            is_negative = not is_negative
        start = self._at
        weight = WEIGHT.match(self._text, start)
        self._at = weight.end() if weight else start
        given = float(weight[1]) if weight else None
        if self._peek() == "(":
            size, term, is_marked = 1.0 if given is None else given, self._group(), True
        else:
            size, term, is_marked = self._term(start, given)
        self.is_evident |= is_marked and self._is_after_operator
        self._is_after_operator, self._is_after_marked = False, is_marked
        with self._naming(start):
            return Weighted(-size if is_negative else size, term)

    def _group(self) -> Term:
        start, operators = self._at, self._operators
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self.is_too_deep = True
            raise self._fault(f"Terms can be grouped {MAX_DEPTH} deep, but no deeper, as at column {start + 1}.")
        self._at += 1
        is_after_operator, self._is_after_operator = self._is_after_operator, False
        self._is_after_marked = False
        query = self._any()
        if self._peek() != ")":
            raise self._fault(f"The ( at column {start + 1} is not closed. Put a ) where the group ends.", start)
        self._at += 1
        self._depth -= 1
        self._is_after_operator = is_after_operator
        self.is_evident |= self._operators > operators
        return AllOf(query)

    def _term(self, start: int, weight: float | None) -> tuple[float, Term, bool]:
        """Read a term that is not a group: its weight, the term, and whether it is marked."""
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise self._fault(f"A query can have {MAX_TERMS} terms, but not another one, at column {start + 1}.", start)
        kind = _KIND.match(self._text, self._at)
        self._at = kind.end() if kind else self._at
        self._peek()
        name = kind[1] if kind else None
        content, is_quoted = self._content(start)
        with self._naming(start):
            if name in NAMES:
                is_beside = self._is_after_operator or self._peek_operator() is not None
                self.is_evident |= is_quoted or (is_beside and content[:1].isdigit())
                found = Filtered(read_filter(name, content))
                self._filters += 1
                return 1.0 if weight is None else weight, found, True
            size, term = build_term(weight, name, content)
        return size, term, is_quoted or isinstance(term, Indexed)

    def _content(self, start: int) -> tuple[str, bool]:
        if self._text[self._at : self._at + 1] == '"':
            quoted = QUOTED.match(self._text, self._at)
            if quoted is None:
                raise self._fault(f'The quote at column {self._at + 1} is not closed. Put a " where the term ends.')
            self._at = quoted.end()
            return unquote(quoted[1]), True
        begin = self._at
        end = begin
        while not SIGN.match(self._text, self._at) and not _OPERATOR.match(self._text, self._at):
            word = _WORD.match(self._text, self._at)
            if word is None:
                break
            end = self._at = word.end()
            self._peek()
        content = self._text[begin:end]
        if not re.search(r"\w", content):
            raise self._fault(f"There is no term at column {start + 1}, where one is expected.", start)
        return content, False

    def _take_operator(self, name: str) -> bool:
        if self._peek_operator() != name:
            return False
        self._at += len(name)
        self._operators += 1
        self.is_evident |= self._is_after_marked
        self._is_after_operator, self._is_after_marked = True, False
        self._peek()
        return True

    def _take_sign(self) -> str | None:
        self._peek()
        sign = SIGN.match(self._text, self._at)
        if sign is None:
            return None
        self._at = sign.end()
        self._signs += 1
        self._is_after_marked = False
        self._peek()
        return sign[1]

    def _peek(self) -> str:
        """Pass over space; return the character that follows, or nothing at the end."""
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1
        return self._text[self._at : self._at + 1]

    def _peek_operator(self) -> str | None:
        self._peek()
        found = _OPERATOR.match(self._text, self._at)
        return found[1].lower() if found else None

    def _missing_operator(self) -> QuerySyntaxError:
        column = self._at + 1
        message = f"Two terms need an and, an or, a + or a - between them, at column {column}. {_REMEDY}"
        is_not = self._peek_operator() == "not"
        self.is_evident |= is_not and self._is_filter_after_not()
        kind = QuerySyntaxError if is_not else _ProseError
        return kind(message, column)

    def _is_filter_after_not(self) -> bool:
        """Tell whether a filter that can be read follows, as in `beach not tag:sea`."""
        found = _FILTER.match(self._text, self._at + len("not"))
        if found is None:
            return False
        try:
            read_filter(found[1], found[2])
        except InvalidInputError:
            return False
        return True

    def _fault(self, message: str, at: int | None = None) -> QuerySyntaxError:
        return QuerySyntaxError(f"{message} {_REMEDY}", (self._at if at is None else at) + 1)

    @contextmanager
    def _naming(self, start: int) -> Iterator[None]:
        """Say of an error where the term stands that it is about."""
        try:
            yield
        except QuerySyntaxError:
            raise
        except InvalidInputError as error:
            message = f"{error} This is about {self._text[start : self._at].strip()!r} at column {start + 1}."
            raise QuerySyntaxError(message, start + 1) from error
