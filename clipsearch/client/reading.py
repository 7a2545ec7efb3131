"""JSON of a server, member by member: what is not as it must be is a ValueError that says where."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

_KINDS: dict[type, str] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


class Fields:
    """An object of JSON."""

    __slots__ = ("_place", "_values")

    def __init__(self, value: object, place: str = "the answer") -> None:
        """Take a value. Raises ValueError for anything but an object."""
        if not isinstance(value, dict):
            raise ValueError(f"{place} is not an object")
        self._values: dict[str, Any] = value
        self._place = place

    def has(self, name: str) -> bool:
        """Tell whether a member is there, and is not null."""
        return name in self and not self.is_null(name)

    def text(self, name: str) -> str:
        """Return a text."""
        return str(self._get(name, str))

    def whole(self, name: str) -> int:
        """Return a whole number."""
        return int(self._get(name, int))

    def number(self, name: str) -> float:
        """Return a finite number."""
        return float(self._get(name, float))

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        return bool(self._get(name, bool))

    def text_or_none(self, name: str) -> str | None:
        """Return a text; None where it is null."""
        return None if self.is_null(name) else self.text(name)

    def whole_or_none(self, name: str) -> int | None:
        """Return a whole number; None where it is null."""
        return None if self.is_null(name) else self.whole(name)

    def number_or_none(self, name: str) -> float | None:
        """Return a number; None where it is null."""
        return None if self.is_null(name) else self.number(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the texts of a list."""
        found = self._list(name)
        if not all(isinstance(each, str) for each in found):
            self._fail(name, "is not a list of texts")
        return tuple(found)

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return the numbers of a list."""
        return tuple(_number(each, f"{self._place}.{name}") for each in self._list(name))

    def lists(self, name: str) -> list[Any]:
        """Return a list of anything."""
        return self._list(name)

    def object(self, name: str) -> Fields:
        """Return an object."""
        return Fields(self._member(name), f"{self._place}.{name}")

    def objects(self, name: str) -> Iterator[Fields]:
        """Return the objects of a list."""
        for number, each in enumerate(self._list(name)):
            yield Fields(each, f"{self._place}.{name}[{number}]")

    def objects_or_none(self, name: str) -> Iterator[Fields | None]:
        """Return the objects of a list, with None for null."""
        for number, each in enumerate(self._list(name)):
            yield None if each is None else Fields(each, f"{self._place}.{name}[{number}]")

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object as it is."""
        found = self._member(name)
        return found if isinstance(found, dict) else self._fail(name, "is not an object")

    def is_null(self, name: str) -> bool:
        """Tell whether a member is null."""
        return self._member(name) is None

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def _member(self, name: str) -> Any:  # noqa: ANN401
        return self._values[name] if name in self._values else self._fail(name, "is missing")

    def _list(self, name: str) -> list[Any]:
        found = self._member(name)
        return found if isinstance(found, list) else self._fail(name, "is not a list")

    def _get(self, name: str, kind: type) -> Any:  # noqa: ANN401
        found = self._member(name)
        if kind is float:
            return _number(found, f"{self._place}.{name}")
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            self._fail(name, f"is not {_KINDS[kind]}")
        return found

    def _fail(self, name: str, why: str) -> NoReturn:
        raise ValueError(f"{self._place}.{name} {why}")


def parse(body: bytes) -> Any:  # noqa: ANN401
    """Read JSON. Raises ValueError for anything else, RecursionError for what is nested too deep."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(body, parse_constant=refuse)


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{place} is not a number")
    try:
        found = float(value)
    except OverflowError:
        raise ValueError(f"{place} is too large") from None
    if not math.isfinite(found):
        raise ValueError(f"{place} is not a finite number")
    return found
