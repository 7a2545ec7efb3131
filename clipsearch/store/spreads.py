"""How queries at large score over a library; kept in its settings, for confidences and for merging modalities."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection

from clipsearch.store.catalog import get_setting
from clipsearch.types import Modality

SPREADS_KEY = "score_spreads"


@dataclass(frozen=True, slots=True)
class Spreads:
    """Typical spreads of scores, as cosines, and how far the best rows of a modality stand out.

    rows: how many of each modality there were when they were measured. values: by `KIND MODALITY`, such as
    `text image` for queries by words over pictures. centres: typical medians, where a modality has too few rows to tell
    and others stood in for them. reach: the typical surprise of a next best row, at least 1.
    """

    rows: dict[str, int] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    centres: dict[str, float] = field(default_factory=dict)
    reach: dict[str, float] = field(default_factory=dict)

    def get(self, kind: str | None, modality: Modality) -> float | None:
        """Return the spread for queries of a kind over a modality; None where it was not measured."""
        return self.values.get(f"{kind} {modality}")

    def centre_of(self, kind: str | None, modality: Modality) -> float | None:
        """Return the median to expect of queries of a kind over a modality that has few rows; None if not measured."""
        return self.centres.get(f"{kind} {modality}")

    def reach_of(self, kind: str | None, modality: Modality) -> float:
        """Return the reach of a modality for queries of a kind; 1 where it was not measured."""
        return self.reach.get(f"{kind} {modality}", 1.0)

    def dump(self) -> str:
        """Return the setting's value."""
        return json.dumps(asdict(self))


def get_spreads(connection: Connection) -> Spreads:
    """Read what was measured last."""
    stored = get_setting(connection, SPREADS_KEY)
    try:
        return Spreads(**json.loads(stored)) if stored else Spreads()
    except (ValueError, TypeError, RecursionError):  # measured again by the next run
        return Spreads()
