"""Adding what a framework holds: what cannot be a record fails alone, with its reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from clipsearch import InvalidInputError, Record, SearchEngine

Failure = tuple[str, str]
"""The id of what was not added, and why."""

T = TypeVar("T")


def add_all(
    engine: SearchEngine,
    given: Iterable[T],
    to_record: Callable[[T], Record],
    id_of: Callable[[T], str],
    **options: Any,
) -> list[Failure]:
    """Add the records that documents or nodes become.

    Args:
        engine: Of the library.
        given: What is added; taken one by one.
        to_record: Makes a record; raises InvalidInputError for what cannot be one.
        id_of: Returns the id under which a failure is reported.
        **options: Those of `SearchEngine.add`.

    Returns:
        What was not added; the others were.

    Raises:
        ClipSearchError: As in `SearchEngine.add`.
    """
    failed: list[Failure] = []

    def records() -> Iterator[Record]:
        for each in given:
            try:
                record = to_record(each)
            except InvalidInputError as error:
                failed.append((id_of(each), str(error)))
            else:
                yield record

    report = engine.add(records(), **options)
    return [*failed, *report.failed]
