"""Saved searches, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipsearch.types import Results


@dataclass(frozen=True, slots=True)
class SavedSearch:
    """A search that a library keeps under a name.

    Attributes:
        name: As it was written.
        query: The query as it is shown.
        options: Its options that are not at their defaults, as JSON values.
        saved_at: When it was saved: ISO 8601, in UTC.
    """

    name: str
    query: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    saved_at: str = ""


@dataclass(frozen=True, slots=True)
class SavedAnswer:
    """The answer of a saved search.

    Attributes:
        results: The hits.
        mark: Up to where the library is seen with them, for `remember_search`; None unless only new matches were asked
            for.
        k: How many hits were asked for.
    """

    results: Results
    mark: str | None = None
    k: int = 10
