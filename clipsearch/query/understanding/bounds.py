"""Dates that are bounds: "before 2022", "since last summer", "until March 2020"."""

from __future__ import annotations

from clipsearch.dates import Period
from clipsearch.filtering import Filter
from clipsearch.query.understanding.understood import describe_period

BOUNDS = {
    **dict.fromkeys(("before", "vor", "avant", "antes de", "antes del", "以前", "之前", "前"), "before"),
    **dict.fromkeys(("after", "nach", "après", "después de", "después del", "之后"), "after"),
    **dict.fromkeys(("since", "seit", "ab", "depuis", "à partir de", "desde", "a partir de", "以来", "以后"), "since"),
    **dict.fromkeys(("until", "till", "bis", "jusqu'en", "hasta"), "until"),
}
"""Words beside a date -> which bound they make it."""


def limit(period: Period, bound: str) -> Filter:
    """Return the filter of a date. bound: one of the values of BOUNDS, or empty for the period itself."""
    if not bound:
        return Filter(taken_from=period.start, taken_until=period.end)
    if bound in ("before", "until"):
        return Filter(taken_until=period.start if bound == "before" else period.end)
    return Filter(taken_from=period.end if bound == "after" else period.start)


def describe(period: Period, bound: str) -> str:
    """Return a date with its bound as people read it, such as `taken before July 2023`."""
    words = describe_period(period.start, period.end)
    if not bound:
        return words
    day = words.removeprefix("taken ").removeprefix("in ").removeprefix("on ")
    if day.startswith("from "):  # of a season or a week, the end that counts
        first, _, last = day.removeprefix("from ").partition(" to ")
        day = first if bound in ("before", "since") else last
    return f"taken {bound} {day}"
