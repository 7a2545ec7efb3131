"""How queries at large score over a library; kept in its settings, for confidences and for merging modalities."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields

from sqlalchemy import Connection

from clipsearch.ranking import MIN_WIDTH, PRIOR_SPREAD, Tail
from clipsearch.store.catalog import get_setting
from clipsearch.types import Modality

SPREADS_KEY = "score_spreads"

_MAX_COSINE = 2.0


@dataclass(frozen=True, slots=True)
class Tails:
    """How the highest scores of unrelated rows lie above the typical median, and above that of the query itself."""

    typical: Tail
    own: Tail


@dataclass(frozen=True, slots=True)
class Spreads:
    """Typical spreads of scores, as cosines, and the tails of those that texts get.

    rows: how many of each modality there were when they were measured. values: by `KIND MODALITY`, such as
    `text image` for queries by words over pictures. centres: typical medians. tails: start and scale above the typical
    median, then above that of each query. Of the last two, only those of texts are measured, and the median of words
    over few pictures. stand_ins: whether vectors of the library stood for queries by words, as its encoder was
    unavailable.
    """

    rows: dict[str, int] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    centres: dict[str, float] = field(default_factory=dict)
    tails: dict[str, list[float]] = field(default_factory=dict)
    stand_ins: bool = False

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
        """Return the median to expect of queries of a kind over a modality; None where it was not measured."""
        return self.centres.get(f"{kind} {modality}")

    def tails_of(self, kind: str | None, modality: Modality) -> Tails | None:
        """Return the tails for queries of a kind over a modality; None where they were not measured."""
        found = self.tails.get(f"{kind} {modality}")
        if not found:
            return None
        start, scale, own_start, own_scale = found
        return Tails(Tail(start, scale), Tail(own_start, own_scale))

    def dump(self) -> str:
        """Return the setting's value."""
        return json.dumps(asdict(self))


def get_spreads(connection: Connection) -> Spreads:
    """Read what was measured last, by this version or an older one; nothing of what is damaged."""
    return read_spreads(get_setting(connection, SPREADS_KEY))


def read_spreads(stored: str | None) -> Spreads:
    """Return what `Spreads.dump` wrote; nothing of anything else."""
    try:
        values = json.loads(stored) if stored else {}
        found = Spreads(**{each.name: values[each.name] for each in fields(Spreads) if each.name in values})
        return found if _is_sound(found) else Spreads()
    except (ValueError, TypeError, AttributeError, RecursionError):  # measured again by the next run
        return Spreads()


def _is_sound(found: Spreads) -> bool:
    """Tell whether all numbers are such as can be measured. Raises ValueError, TypeError, AttributeError if not."""
    return (
        isinstance(found.stand_ins, bool)
        and all(0 <= count < float("inf") for count in found.rows.values())
        and all(map(_is_width, found.values.values()))
        and all(map(_is_place, found.centres.values()))
        and all(map(_is_tail, found.tails.values()))
    )


def _is_tail(numbers: Sequence[float]) -> bool:
    start, scale, own_start, own_scale = numbers
    return all(map(_is_place, (start, own_start))) and all(map(_is_width, (scale, own_scale)))


def _is_width(value: float) -> bool:
    return MIN_WIDTH <= value <= _MAX_COSINE


def _is_place(value: float) -> bool:
    return -_MAX_COSINE <= value <= _MAX_COSINE
