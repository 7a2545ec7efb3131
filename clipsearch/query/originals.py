"""The picture that another one was made from: candidates by the encoder, each compared point by point.

Vectors alone do not tell a crop from another picture of the same kind, and they name something for anything. So the
pictures whose vectors are nearest are read, nearest first, and only those count in which enough points of the picture,
or of its mirror image, lie where they must.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from clipsearch.config import Settings
from clipsearch.crop import Crop
from clipsearch.errors import InvalidInputError, MediaError, StoreCorruptError, WorkerUnavailableError
from clipsearch.filtering import Filter
from clipsearch.matches import Match, Matches, Unread
from clipsearch.media.local_features import (
    MIN_POINTS,
    SIDE,
    WHOLE_SIDE,
    Placement,
    describe,
    locate,
    require_opencv,
)
from clipsearch.query.embedding import open_image
from clipsearch.query.options import SearchOptions
from clipsearch.types import Hit, Modality, Results

if TYPE_CHECKING:
    from PIL.Image import Image

    from clipsearch.crop import Written
    from clipsearch.encoders.base import Encoder
    from clipsearch.query.embedding import Picture

CANDIDATES = 200
"""Items that are compared at most (benchmarks/match.py)."""

SURE = 30
"""Points from which a match is certain, so that the search ends with the candidates that are being compared."""

SECONDS = 30.0
"""After which no further candidate is compared."""

_TURNS = (1, 2, 3, 3, 3)
"""How many candidates of the whole picture come for each of a view."""

_AT_ONCE = 8
"""Candidates that are compared before it is decided whether to go on."""

_UNREADABLE = (InvalidInputError, MediaError, StoreCorruptError, WorkerUnavailableError)

_SHORTER_SIDE = WHOLE_SIDE // 2
"""Pixels of the shorter side that candidates are decoded to at least."""


class MatchingEngine(Protocol):
    """What the search needs of an engine."""

    _settings: Settings

    @property
    def encoder(self) -> Encoder:
        """The encoder of the library."""

    def _search_batch(self, options: SearchOptions, *, images: list[Image]) -> list[Results]: ...

    def _picture_of(self, hit: Hit, side: int) -> Image: ...


@dataclass(frozen=True, slots=True)
class _Look:
    """What became of a candidate: where the picture lies in it, or why it cannot be read."""

    hit: Hit
    placement: Placement | None = None
    mirrored: bool = False
    reason: str | None = None


def find_originals(
    engine: MatchingEngine, image: Picture, k: int, crop: Written | None, filters: Filter | None
) -> Matches:
    """Find the pictures of a library that a picture is a part or an edited copy of; `SearchEngine.match`."""
    require_opencv()
    until = time.monotonic() + SECONDS
    picture = open_image(image, max(engine.encoder.picture_side, SIDE), engine._settings, crop)
    options = SearchOptions(k=CANDIDATES, modality=Modality.IMAGE, filters=filters)
    answers = engine._search_batch(options, images=_views(picture))
    found, candidates = answers[0], _merge(answers)
    comparison = _Comparison(engine, picture)
    looks = list(comparison.run(candidates, until))
    warnings = list(found.warnings)
    if not comparison.is_possible:
        warnings.append("The picture has too few details to tell what it was made from, so nothing was compared.")
    elif len(looks) < len(candidates) and not _is_sure(looks):
        warnings.append(
            f"Only {len(looks):,} of {len(candidates):,} candidates were compared within {SECONDS:g} seconds."
        )
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else found.query
    return Matches(
        name, found.encoder, found.library, _ranked(looks, k), len(looks),
        tuple(Unread(each.hit.item, each.hit.score, each.reason) for each in looks if each.reason is not None),
        tuple(warnings),
    )  # fmt: skip


def _views(picture: Image) -> list[Image]:
    """Return a picture and parts of it: what is around a picture in a screenshot or a frame hides it from the encoder.

    The middle, and of the longer side the middle half, the first half and the second.
    """
    width, height = picture.size
    parts = [Crop(0.15, 0.15, 0.7, 0.7)]
    for start in (0.25, 0.0, 0.5):
        parts.append(Crop(0, start, 1, 0.5) if height > width else Crop(start, 0, 0.5, 1))
    return [picture, *(part.cut(picture) for part in parts)]


def _merge(answers: Sequence[Results]) -> list[Hit]:
    """Return the candidates of all views in turn: one of a part for two or three of the whole picture."""
    places: dict[tuple[int, int], tuple[float, Hit]] = {}
    for answer, weight in zip(answers, _TURNS, strict=True):
        for number, hit in enumerate(answer):
            place = weight * number + (weight - 1) / 2
            known = places.get((hit.item.id, hit.part))
            if known is None or place < known[0]:
                places[hit.item.id, hit.part] = place, hit
    return [hit for _, hit in sorted(places.values(), key=lambda each: each[0])][:CANDIDATES]


class _Comparison:
    """A picture, and its mirror image, compared with others."""

    def __init__(self, engine: MatchingEngine, picture: Image) -> None:
        from PIL.Image import Transpose

        self._engine = engine
        self._straight = describe(picture, SIDE)
        self._mirrored = describe(picture.transpose(Transpose.FLIP_LEFT_RIGHT), SIDE)

    @property
    def is_possible(self) -> bool:
        """Whether enough points are there to agree on anything."""
        return max(len(each.points) for each in (self._straight, self._mirrored)) >= MIN_POINTS

    def run(self, candidates: Sequence[Hit], until: float) -> Iterator[_Look]:
        """Compare candidates in their order, until one is certain or the time is over; none where it is in vain."""
        if not self.is_possible:
            return
        with ThreadPoolExecutor(max(1, self._engine._settings.cores)) as pool:
            for start in range(0, len(candidates), _AT_ONCE):
                looks = list(pool.map(self._look, candidates[start : start + _AT_ONCE]))
                yield from looks
                if _is_sure(looks) or time.monotonic() > until:
                    return

    def _look(self, hit: Hit) -> _Look:
        try:
            features = describe(self._engine._picture_of(hit, _SHORTER_SIDE), WHOLE_SIDE)
        except _UNREADABLE as error:
            return _Look(hit, reason=str(error))
        except MemoryError:
            return _Look(hit, reason="not enough memory to read it")
        straight = locate(self._straight, features)
        mirrored = None if _points(straight) >= SURE else locate(self._mirrored, features)
        is_mirrored = _points(mirrored) > _points(straight)
        return _Look(hit, mirrored if is_mirrored else straight, is_mirrored)


def _points(placement: Placement | None) -> int:
    return 0 if placement is None else placement.points


def _is_sure(looks: Iterable[_Look]) -> bool:
    return any(_points(each.placement) >= SURE for each in looks)


def _ranked(looks: Iterable[_Look], k: int) -> tuple[Match, ...]:
    """Return the candidates in which the picture lies, those of most points first."""
    placed = sorted((each for each in looks if each.placement), key=lambda each: -_points(each.placement))
    return tuple(_match(rank, each) for rank, each in enumerate(placed[:k], 1))


def _match(rank: int, look: _Look) -> Match:
    assert look.placement is not None
    hit, placement = look.hit, look.placement
    return Match(rank, hit.item, hit.score, placement.points, placement.box, look.mirrored, hit.part, hit.position)
