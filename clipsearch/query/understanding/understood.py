"""What was understood of the words of a query: the words that remain, and the filter that was lifted out of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from clipsearch.errors import InvalidInputError

if TYPE_CHECKING:
    from clipsearch.filtering import Filter

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Understood:
    """What the words of a query mean; `str` of it reads as "beach, taken in July 2023, in Spain, with Anna".

    Attributes:
        text: The words to look for; empty where all were about the filter.
        filters: The filter that was lifted out of the words; None where nothing was.
        parts: What it says, for people, such as `taken in July 2023`.
        without: What the words say is not there, such as `leash`; a search takes it away.
    """

    text: str
    filters: Filter | None = None
    parts: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether anything was lifted."""
        return self.filters is not None or bool(self.without)

    def __str__(self) -> str:
        return ", ".join((self.text or "everything", *self.parts, *(f"without {each}" for each in self.without)))

    def to_values(self) -> dict[str, Any]:
        """Return it as JSON values."""
        from clipsearch.filtering import to_values

        filters = None if self.filters is None else to_values(self.filters)
        lists = {"parts": list(self.parts), "without": list(self.without)}
        return {"text": self.text, "filters": filters, **lists, "description": str(self)}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_values` returned. Raises InvalidInputError, KeyError, TypeError or ValueError for others."""
        from clipsearch.filtering import from_values

        lists = values["parts"], values["without"]
        if not isinstance(values["text"], str) or not all(isinstance(part, str) for each in lists for part in each):
            raise InvalidInputError("What was understood has texts, but these are not. Ask again.")
        filters = None if values["filters"] is None else from_values(values["filters"])
        return cls(values["text"], filters, tuple(values["parts"]), tuple(values["without"]))


def describe_period(start: datetime, end: datetime) -> str:
    """Return a period as people read it, such as `taken in July 2023`."""
    if (start.month, start.day, end.month, end.day) == (1, 1, 1, 1) and end.year == start.year + 1:
        return f"taken in {start.year}"
    if start.day == end.day == 1 and (end.year * 12 + end.month) - (start.year * 12 + start.month) == 1:
        return f"taken in {start:%B} {start.year}"
    if end - start == _DAY:
        return f"taken on {_day(start)}"
    return f"taken from {_day(start)} to {_day(end - _DAY)}"


def _day(moment: datetime) -> str:
    return f"{moment.day} {moment:%B} {moment.year}"
