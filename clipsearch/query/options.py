"""What a search is asked for beside its query: one object, checked once, from Python and from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self, TypedDict

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter
from clipsearch.query.terms import FUSIONS
from clipsearch.types import Modality

if TYPE_CHECKING:
    from clipsearch.crop import Written
    from clipsearch.query.cutoff import Cutoff


MOST = 2**62
"""Above any number of items; twice that is still an int64."""


class SearchKeywords(TypedDict, total=False):
    """The options of `SearchEngine.search` by keyword; see `SearchOptions`."""

    kind: str | None
    k: int
    offset: int
    modality: Modality | str | None
    filters: Filter | None
    exclude_self: bool
    fusion: str
    collapse: bool
    hybrid: bool
    min_confidence: float | None
    min_score: float | None
    cut: bool
    suggest: bool
    crop: Written | None
    sort: str
    diverse: bool
    explain: bool
    understand: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """The options of a search.

    Attributes:
        k: How many hits are returned at most, at least 1.
        offset: How many of the best hits are passed over, at least 0.
        modality: `image`, `text`, or None or `any` for both in one ranking.
        filters: Which items may be found; None for all.
        exclude_self: Leave out the file that a query by picture names.
        fusion: How the terms of a query of several are fused, one of `FUSIONS`.
        collapse: Show copies and bursts once, by the best of them.
        hybrid: Find items by their words as well, where the query is a text and texts may be found.
        min_confidence: Leave out hits below this confidence, from 0 to 1.
        min_score: Leave out hits below this cosine, from -1 to 1.
        cut: Leave out hits after the gap in the scores.
        suggest: Say, where nothing is confident, what else would find something.
        kind: What a vector was made from, `text` or `image`; None if that is unknown. For queries by vector only.
        crop: The part of a picture that is searched by, as `Crop.read` takes it; None for all of it.
        sort: `relevance`, or what hits of a confidence of at least 0.5 are sorted by instead; one of `SORTS`.
        diverse: Put hits that are unlike those before them first, among the best.
        explain: Say of each hit why it stands where it does.
        understand: Lift dates, places, tags and cameras out of the words of a text, as `SearchEngine.understand` does.

    Raises:
        InvalidInputError: A value is out of its range.

    """

    k: int = 10
    offset: int = 0
    modality: Modality | str | None = None
    filters: Filter | None = None
    exclude_self: bool = False
    fusion: str = "auto"
    collapse: bool = False
    hybrid: bool = True
    min_confidence: float | None = None
    min_score: float | None = None
    cut: bool = False
    suggest: bool = False
    kind: str | None = None
    crop: Written | None = None
    sort: str = "relevance"
    diverse: bool = False
    explain: bool = False
    understand: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or not 1 <= self.k < MOST:
            raise InvalidInputError(f"k must be a whole number of at least 1, not {self.k!r}.")
        if not isinstance(self.offset, int) or isinstance(self.offset, bool) or not 0 <= self.offset < MOST:
            raise InvalidInputError(f"offset must be a whole number of at least 0, not {self.offset!r}.")
        read_modalities(self.modality)
        check_filters(self.filters)
        if self.kind not in (None, "text", "image"):
            raise InvalidInputError(f"A vector is of the kind text or image, not {self.kind!r}.")
        if self.fusion not in FUSIONS:
            raise InvalidInputError(f"There is no fusion {self.fusion!r}. Use one of: {', '.join(FUSIONS)}.")
        if self.sort != "relevance":
            _check_sort(self.sort, self.diverse)
        _check_least("confidence", self.min_confidence, 0, "0.9 is what a table shows as 90%")
        _check_least("score", self.min_score, -1, "it is a cosine")
        if self.crop is not None:
            from clipsearch.crop import Crop

            object.__setattr__(self, "crop", str(Crop.read(self.crop)))  # one way to write it, and one to compare

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities that may be found."""
        return read_modalities(self.modality)

    @property
    def end(self) -> int:
        """How many of the best hits there are up to the last that is returned."""
        return self.offset + self.k

    @property
    def is_arranged(self) -> bool:
        """Whether hits are not, or not only, in the order of their relevance."""
        return self.diverse or self.sort != "relevance"

    @property
    def cutoff(self) -> Cutoff:
        """What the hits must have."""
        from clipsearch.query.cutoff import Cutoff

        return Cutoff(self.min_confidence, self.min_score, self.cut)

    def to_values(self) -> dict[str, Any]:
        """Return the options that are not at their defaults, as JSON values."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        changed = {name: value for name, value in values.items() if value != _DEFAULTS[name]}
        if self.filters is not None:
            from clipsearch.filtering import to_values

            changed["filters"] = to_values(self.filters)
        return changed

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_values` returned. Raises ClipSearchError, TypeError, KeyError or ValueError for others."""
        filters = values.get("filters")
        if filters is None:
            return cls(**values)
        from clipsearch.filtering import from_values

        return cls(**{**values, "filters": from_values(filters)})


_DEFAULTS = {each.name: each.default for each in fields(SearchOptions)}


def read_modalities(modality: Modality | str | None) -> tuple[Modality, ...]:
    """Return the modalities that a name stands for. Raises InvalidInputError for an unknown one."""
    if modality is None or modality == "any":
        return tuple(Modality)
    try:
        return (Modality(modality),)
    except ValueError:
        raise InvalidInputError(f"There is no modality {modality!r}. Use image, text or any.") from None


def check_kind(options: SearchOptions, vectors: object) -> None:
    """Raise InvalidInputError where a text or a picture is said to be of a kind."""
    if options.kind is not None and vectors is None:
        raise InvalidInputError(f"kind={options.kind!r} says what a vector was made from. Leave it out without one.")


def check_crop(options: SearchOptions, images: object) -> None:
    """Raise InvalidInputError where a part is wanted of what is not a picture."""
    if options.crop is not None and images is None:
        raise InvalidInputError(
            f"The crop {options.crop} is a part of a picture. Name the picture: --image FILE (in Python: image=...)."
        )


def check_filters(filters: object) -> None:
    """Raise InvalidInputError for what is neither a Filter nor None."""
    if filters is None:
        return
    from clipsearch.filtering import Filter
    from clipsearch.metadata import shown

    if not isinstance(filters, Filter):
        raise InvalidInputError(
            f"filters must be a Filter, not {shown(filters)}. Such as Filter(where={{'price': {{'lt': 20}}}})."
        )


def _check_sort(sort: object, diverse: bool) -> None:
    """Raise InvalidInputError for an order that cannot be used."""
    from clipsearch.sorting import check_sort

    if check_sort(sort) and diverse:
        raise InvalidInputError(f"An answer is diverse, or sorted by {sort}, but not both. Leave one out.")


def _check_least(name: str, value: object, low: int, hint: str) -> None:
    """Raise InvalidInputError for what cannot be a least confidence or score."""
    if value is None:
        return
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= 1:
        raise InvalidInputError(f"The least {name} is {value!r}, but it must be a number from {low} to 1: {hint}.")
