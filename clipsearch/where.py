"""Conditions on metadata: as a mapping of Python, as one expression of the command line, and as checked values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from clipsearch.errors import InvalidInputError
from clipsearch.metadata import Scalar, check_scalar, shown, stored_name

OPERATORS = ("eq", "ne", "lt", "le", "gt", "ge", "in", "nin", "contains", "exists")

MAX_CONDITIONS = 400
"""As many at most: SQLite bounds how many it joins."""

_LISTS = ("in", "nin")
_ORDERED = ("lt", "le", "gt", "ge")
_WRITTEN = {"=": "eq", "==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge", "~": "contains"}
_EXPRESSION = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[^"<>=!~]+?)\s*(?:(==|<=|>=|!=|=|<|>|~)\s*(.*))?', re.DOTALL)


class Condition(NamedTuple):
    """One condition on a value of the metadata. value: a tuple for `in` and `nin`, a bool for `exists`."""

    name: str
    operator: str
    value: Scalar | tuple[Scalar, ...]


class Where(Mapping[str, Mapping[str, Any]]):
    """Conditions by the name of the value, all of which must hold; immutable.

    A name has a mapping from operators to what they compare with. Two are equal if they say the same, where 1 is not
    True.
    """

    __slots__ = ("_text", "conditions")

    def __init__(self, wanted: Mapping[str, Any] | None = None) -> None:
        """Check conditions; a scalar stands for `eq`, a list for `in`. Raises InvalidInputError."""
        if wanted is not None and not isinstance(wanted, Mapping):
            raise InvalidInputError(
                f"where is {shown(wanted)}, but it must be a mapping from names to conditions, such as {{'price': "
                "{'lt': 20}}."
            )
        if sum(len(each) if isinstance(each, Mapping) else 1 for each in (wanted or {}).values()) > MAX_CONDITIONS:
            raise InvalidInputError(f"where can have {MAX_CONDITIONS} conditions, but no more. Use fewer.")
        self.conditions = tuple(found for name in wanted or () for found in _conditions(name, (wanted or {})[name]))
        self._text = json.dumps(self.conditions, ensure_ascii=False)

    def __getitem__(self, name: str) -> dict[str, Any]:
        found = {each.operator: _plain(each.value) for each in self.conditions if each.name == name}
        if not found:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(each.name for each in self.conditions))

    def __len__(self) -> int:
        return len({each.name for each in self.conditions})

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Where) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return repr({name: self[name] for name in self})


def parse_where(written: str) -> Where:
    """Read a condition such as `price<20`, `brand=["acme", "zoo"]`, `title~beach`, or `price` for one that exists.

    A value is JSON where it reads as that, else a text; a name with an operator in it is a JSON string. Raises
    InvalidInputError.
    """
    match = _EXPRESSION.fullmatch(written)
    if match is None:
        raise InvalidInputError(
            f"{written!r} is not a condition. Write one such as price<20, brand=acme or title~beach."
        )
    name, sign, value = match.groups()
    name = _json_or_text(name) if name.startswith('"') else name
    if sign is None:
        return Where({name: {"exists": True}})
    operator, read = _WRITTEN[sign], _json_or_text(value)
    if operator in _ORDERED and not value:
        raise InvalidInputError(f"{written!r} has no value. Write one, such as {name}{sign}20.")
    if operator == "contains":
        read = read if isinstance(read, str) else value
    elif isinstance(read, list):
        operator = {"eq": "in", "ne": "nin"}.get(operator, operator)
    return Where({name: {operator: read}})


def _conditions(name: object, wanted: object) -> Iterator[Condition]:
    stored_name(name)
    assert isinstance(name, str)
    if not isinstance(wanted, Mapping):
        wanted = {"in" if isinstance(wanted, list | tuple | set | frozenset) else "eq": wanted}
    if not wanted:
        raise InvalidInputError(f"{name!r} has no condition. Write one, such as {{{name!r}: {{'exists': True}}}}.")
    for operator, value in wanted.items():
        if operator not in OPERATORS:
            raise InvalidInputError(f"There is no operator {shown(operator)}. Use {', '.join(OPERATORS)}.")
        yield Condition(name, operator, _checked(name, operator, value))


def _checked(name: str, operator: str, value: object) -> Scalar | tuple[Scalar, ...]:
    if operator in _LISTS:
        if not isinstance(value, list | tuple | set | frozenset):
            raise InvalidInputError(f"{operator} of {name!r} takes a list of values, not {shown(value)}.")
        return tuple(check_scalar(name, each) for each in value)
    if operator == "exists" and not isinstance(value, bool):
        raise InvalidInputError(f"exists of {name!r} takes True or False, not {shown(value)}.")
    if operator == "contains" and not isinstance(value, str):
        raise InvalidInputError(f"contains of {name!r} takes a text, not {shown(value)}.")
    if operator in _ORDERED and (value is None or isinstance(value, bool)):
        raise InvalidInputError(f"{operator} of {name!r} takes a number or a text, not {shown(value)}.")
    return check_scalar(name, value)


def _plain(value: Scalar | tuple[Scalar, ...]) -> Any:  # noqa: ANN401
    return list(value) if isinstance(value, tuple) else value


def _json_or_text(written: str) -> Any:  # noqa: ANN401
    try:
        found = json.loads(written)
    except (ValueError, RecursionError):
        return written
    return written if isinstance(found, dict) or found in (float("inf"), float("-inf")) or found != found else found
