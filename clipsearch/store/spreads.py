"""How queries at large score over a library; kept in its settings, for confidences and for merging modalities."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection

from clipsearch.ranking import PRIOR_SPREAD
from clipsearch.store.catalog import get_setting
from clipsearch.types import Modality

SPREADS_KEY = "score_spreads"

_STORED = {"score_scales": "reach"}
"""Names in the catalog where they differ: those that libraries have."""

_NAMES = {stored: name for name, stored in _STORED.items()}


@dataclass(frozen=True, slots=True)
class Spreads:
    """Typical spreads of scores, as cosines, and how far the best rows of a modality stand out.

    rows: how many of each modality there were when they were measured. values: by `KIND MODALITY`, such as
    `text image` for queries by words over pictures. centres: typical medians, where a modality has too few rows to tell
    and others stood in for them. score_scales: the typical log E-value of a next best row, at least 1.
    """

    rows: dict[str, int] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    centres: dict[str, float] = field(default_factory=dict)
    score_scales: dict[str, float] = field(default_factory=dict)

    def get(self, kind: str | None, modality: Modality) -> float | None:
        """Return the spread for queries of a kind over a modality; None where it was not measured."""
        return self.values.get(f"{kind} {modality}")

    def unit_of(self, kind: str | None, modality: Modality) -> float:
        """Return the unit of cosines for queries of a kind over a modality, as `ranking.null_model` takes it.

        Vectors, of which nobody knows what they are, count as pictures do; without any measurement it is 1.
        """
        known = self.get(kind, modality) or self.get("image", modality)
        return known / PRIOR_SPREAD if known else 1.0

    def centre_of(self, kind: str | None, modality: Modality) -> float | None:
        """Return the median to expect of queries of a kind over a modality that has few rows; None if not measured."""
        return self.centres.get(f"{kind} {modality}")

    def score_scale_of(self, kind: str | None, modality: Modality) -> float:
        """Return the scale of the log E-values of a modality for queries of a kind; 1 if it was not measured."""
        return self.score_scales.get(f"{kind} {modality}", 1.0)

    def dump(self) -> str:
        """Return the setting's value."""
        values = asdict(self)
        return json.dumps({_STORED.get(name, name): values[name] for name in values})


def get_spreads(connection: Connection) -> Spreads:
    """Read what was measured last."""
    stored = get_setting(connection, SPREADS_KEY)
    try:
        values = json.loads(stored) if stored else {}
        return Spreads(**{_NAMES.get(name, name): value for name, value in values.items()})
    except (ValueError, TypeError, AttributeError, RecursionError):  # measured again by the next run
        return Spreads()
