"""Many values in one statement, and the numbers that a query found."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Select, Text, bindparam, column, func, select

from clipsearch.errors import StoreCorruptError
from clipsearch.store.refusals import REPAIR

MAX_PARAMETERS = 500
"""Values in one IN (...): far below any database's limit, and a statement that is cached."""

_MOST = 2**63


def chunks(values: Iterable[Any], size: int = MAX_PARAMETERS) -> Iterable[list[Any]]:
    """Cut values into lists short enough for one IN (...)."""
    values = list(values)
    return (values[i : i + size] for i in range(0, len(values), size))


def listed(values: Iterable[int]) -> Select[tuple[int]]:
    """Build the query for these numbers: one parameter, however many they are. Those beyond 64 bits are in no row."""
    known = sorted(values)
    if known and not -_MOST <= known[0] <= known[-1] < _MOST:
        known = [value for value in known if -_MOST <= value < _MOST]
    found = func.json_each(json.dumps(known, default=int)).table_valued(column("value", BigInteger))
    return select(found.c.value)


def listed_texts(values: Iterable[str]) -> Select[tuple[str]]:
    """Build the query for these texts: one parameter, however many they are."""
    found = func.json_each(json.dumps(sorted(values))).table_valued(column("value", Text))
    return select(found.c.value)


def number_parameter(name: str) -> Select[tuple[int]]:
    """Build the query for the numbers of a parameter, which is given as `to_parameter` writes it.

    For statements that are built once, since SQLAlchemy takes longer to build one than SQLite to answer it.
    """
    found = func.json_each(bindparam(name)).table_valued(column("value", BigInteger))
    return select(found.c.value)


def text_parameter(name: str) -> Select[tuple[str]]:
    """Build the query for the texts of a parameter, as `number_parameter` does for numbers."""
    found = func.json_each(bindparam(name)).table_valued(column("value", Text))
    return select(found.c.value)


def to_parameter(values: Iterable[int | str]) -> str:
    """Write values as a `number_parameter` or a `text_parameter`."""
    return json.dumps(list(values))


def numbers(found: Iterable[int]) -> NDArray[np.int64]:
    """Return whole numbers that a query found: int64, in its order. Raises StoreCorruptError for anything else."""
    try:
        return np.fromiter(found, np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise StoreCorruptError(f"The catalog has {error} instead of a number. {REPAIR}") from error
