"""How wide queries at large score over a library; kept in its settings, for confidences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection

from clipsearch.store.catalog import get_setting
from clipsearch.types import Modality

SPREADS_KEY = "score_spreads"


@dataclass(frozen=True, slots=True)
class Spreads:
    """Typical spreads of scores, as cosines.

    rows: how many of each modality there were when they were measured. values: by `KIND MODALITY`, such as
    `text image` for queries by words over pictures.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    def get(self, kind: str | None, modality: Modality) -> float | None:
        """Return the spread for queries of a kind over a modality; None where it was not measured."""
        return self.values.get(f"{kind} {modality}")

    def dump(self) -> str:
        """Return the setting's value."""
        return json.dumps(asdict(self))


def get_spreads(connection: Connection) -> Spreads:
    """Read what was measured last."""
    stored = get_setting(connection, SPREADS_KEY)
    return Spreads(**json.loads(stored)) if stored else Spreads()
