"""Which hits an answer leaves out on request: below a confidence or a score, or after the gap in the scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from clipsearch.ranking import score_gap_cutoff
from clipsearch.types import Hit, Modality


@dataclass(frozen=True, slots=True)
class Cutoff:
    """What the hits of an answer must have; Cutoff() keeps all.

    confidence: in [0, 1]. score: a cosine, in [-1, 1]. cut: whether the answer ends at the gap in the scores. A hit
    that has no confidence, as in a library too small to tell, passes the first and the last.
    """

    confidence: float | None = None
    score: float | None = None
    cut: bool = False

    def apply(self, hits: Sequence[Hit], rows: Mapping[Modality, int], places: int) -> list[Hit]:
        """Return those of the first hits that stay, numbered again.

        hits: an answer from its first hit on; of FIRST_STEP hits or all, so that the gap does not depend on how many
        are wanted. rows: how many of each modality E-values count. places: how many hits are looked at.
        """
        stand = [True] * len(hits)
        kinds = [hit.modality for hit in hits]
        if self.cut and hits and hits[0].confidence is not None:
            stand = score_gap_cutoff([hit.log_evalue for hit in hits], [rows[kind] for kind in kinds], kinds)
        looked_at = list(zip(hits, stand, strict=True))[:places]
        kept = [hit for hit, stands in looked_at if stands or hit.confidence is None]
        kept = [hit for hit in kept if _reaches(hit.confidence, self.confidence) and _reaches(hit.score, self.score)]
        return [hit if hit.rank == i else replace(hit, rank=i) for i, hit in enumerate(kept, 1)]

    def explain(self, hits: Sequence[Hit]) -> str:
        """Say why nothing stayed of some hits."""
        best = {
            (name, least): max(known)
            for name, least, values in (
                ("confidence", self.confidence, [hit.confidence for hit in hits]),
                ("score", self.score, [hit.score for hit in hits]),
            )
            if least is not None and (known := [value for value in values if value is not None])
        }
        missed = {limit: value for limit, value in best.items() if value < limit[1]} or best
        wanted = [f"a {name} of {least:g}" for name, least in missed]
        had = [f"{_rounded_down(value):g}" for value in missed.values()]
        what = "No match" if self.confidence is None else "No confident match"
        return f"{what}: nothing reaches {' and '.join(wanted)}; the nearest reaches {' and '.join(had)}."


def _reaches(value: float | None, least: float | None) -> bool:
    return value is None or least is None or value >= least


def _rounded_down(value: float) -> float:
    """Return a value to two places, never above itself: what falls short must not look as if it did not."""
    return math.floor(100 * value) / 100
