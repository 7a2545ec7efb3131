"""Times as cameras and programs write them."""

from datetime import datetime

import pytest

from clipsearch.media.moments import read_moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2018:01:02 03:04:05", datetime(2018, 1, 2, 3, 4, 5)),
        ("2018:01:02 03:04", datetime(2018, 1, 2, 3, 4)),
        ("2018-01-02T03:04:05+02:00", datetime(2018, 1, 2, 3, 4, 5)),
        ("2018-01-02T03:04:05Z", datetime(2018, 1, 2, 3, 4, 5)),
        ("2018/01/02 03:04:05.75", datetime(2018, 1, 2, 3, 4, 5)),
        ("2019:01:01 24:04:20", datetime(2019, 1, 1, 0, 4, 20)),
        ("2006: 1: 2  3: 4: 5", datetime(2006, 1, 2, 3, 4, 5)),
        ("2011:08:14", datetime(2011, 8, 14)),
        ("2011:08:14 ", datetime(2011, 8, 14)),
        ("2016:12:31 23:59:60", datetime(2016, 12, 31, 23, 59, 59)),
        ("2018:01:02 03:04:05 PM", datetime(2018, 1, 2, 15, 4, 5)),
        ("2018:01:02 03:04:05 p.m.", datetime(2018, 1, 2, 15, 4, 5)),
        ("2018:01:02 12:04:05 AM", datetime(2018, 1, 2, 0, 4, 5)),
        ("2018:01:02 12:04:05 PM", datetime(2018, 1, 2, 12, 4, 5)),
        ("2018:01:02 15:04:05 PM", datetime(2018, 1, 2, 15, 4, 5)),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("2018:13:02 03:04:05", None),
        ("2018:01:02 25:04:05", None),
        ("1700:01:02 03:04:05", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_time_is_read(text, expected):
    assert read_moment(text) == expected
