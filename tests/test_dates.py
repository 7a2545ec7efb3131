"""Dates as people write them."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipsearch.dates import parse_period
from clipsearch.errors import InvalidInputError

NOW = datetime(2026, 3, 31, 12, 30)  # a Tuesday


def day(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2024", "2024-01-01", "2025-01-01"),
        ("2024-06", "2024-06-01", "2024-07-01"),
        ("2024-12", "2024-12-01", "2025-01-01"),
        ("2024-02-29", "2024-02-29", "2024-03-01"),
        (" 2024/6/1 ", "2024-06-01", "2024-06-02"),
        ("2024-06-01T12:00", "2024-06-01T12:00", "2024-06-01T12:01"),
        ("2024-06-01 23:59:59", "2024-06-01T23:59:59", "2024-06-02"),
        ("last summer", "2025-06-01", "2025-09-01"),
        ("This Summer", "2026-06-01", "2026-09-01"),
        ("last winter", "2025-12-01", "2026-03-01"),
        ("last spring", "2025-03-01", "2025-06-01"),
        ("summer 2023", "2023-06-01", "2023-09-01"),
        ("winter 2023", "2023-12-01", "2024-03-01"),
        ("fall  2022", "2022-09-01", "2022-12-01"),
        ("today", "2026-03-31", "2026-04-01"),
        ("yesterday", "2026-03-30", "2026-03-31"),
        ("last week", "2026-03-23", "2026-03-30"),
        ("last month", "2026-02-01", "2026-03-01"),
        ("last year", "2025-01-01", "2026-01-01"),
        ("3 weeks ago", "2026-03-10", "2026-03-11"),
        ("1 month ago", "2026-02-28", "2026-03-01"),
        ("an hour ago", "2026-03-31T11:30", "2026-03-31T11:31"),
        ("June 2024", "2024-06-01", "2024-07-01"),
        ("June", "2025-06-01", "2025-07-01"),
        ("5 May 2023", "2023-05-05", "2023-05-06"),
        ("31.12.2024", "2024-12-31", "2025-01-01"),
        ("vor 3 Wochen", "2026-03-10", "2026-03-11"),
        ("3周前", "2026-03-10", "2026-03-11"),
        ("去年", "2025-01-01", "2026-01-01"),
        ("2024年6月", "2024-06-01", "2024-07-01"),
    ],
)
def test_a_date_is_the_period_that_it_names(text, start, end):
    assert parse_period(text, NOW) == (day(start), day(end))


def test_the_last_year_of_the_calendar_ends_with_it():
    assert parse_period("9999", NOW).end == parse_period("winter 9999", NOW).end == datetime.max


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2024-02-30", "the day at column 9 is 30, but must be from 1 to 29"),
        ("2023-2-29", "the day at column 8 is 29, but must be from 1 to 28"),
        ("2024-13", "the month at column 6 is 13"),
        ("2024-00-10", "the month at column 6 is 00"),
        ("0000", "the year at column 1"),
        ("2024-06-01T24:00", "the hour at column 12 is 24"),
        ("2024-06-01 10:60", "the minute at column 15 is 60"),
        ("summer", "which summer. Write 'last summer' or 'summer 2023'"),
        ("01/02/2024", "may mean two different days"),
        ("1 May 2024 UTC", "cannot be read as a date"),
        ("noon", "cannot be read as a date"),
        ("banana", "'banana' cannot be read as a date. Write it as 2024"),
        ("30 February 2024", "as a date"),
        ("12", "as a date"),
        ("a", "as a date"),
        ("", "as a date"),
        ("9999 years ago", "as a date"),
    ],
)
def test_what_is_no_date_is_told(text, message):
    with pytest.raises(InvalidInputError, match=message):
        parse_period(text, NOW)


@given(st.one_of(st.text(max_size=12), st.from_regex(r"[0-9]{1,4}[-/. ][0-9]{1,2}([-/. ][0-9]{1,4})?", fullmatch=True)))
def test_any_text_is_a_period_or_told(text):
    try:
        period = parse_period(text, NOW)
    except InvalidInputError:
        return
    assert period.start < period.end and period.start.tzinfo is None
