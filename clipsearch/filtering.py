"""Filters: which items may be found; and as plain values, for JSON, free of the folder that they were written in."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from numbers import Integral
from typing import Any

from clipsearch.errors import InvalidInputError
from clipsearch.media.extras import EXTRAS
from clipsearch.metadata import shown
from clipsearch.types import PICTURE_SUFFIXES, TEXT_SUFFIXES, Box, Media, Modality
from clipsearch.where import Where
from clipsearch.words import fold_tag, parse_words, tidy_name

MAX_DEPTH, MAX_SIZE = 32, 400
"""How deep filters may be combined, and how many: SQLite bounds both, the latter to about 500."""

MAX_RATING = 5
"""Stars."""

ORIENTATIONS = ("landscape", "portrait", "square")

_ONE_FORMAT = (
    frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp"}),
    frozenset({".tif", ".tiff"}),
    frozenset({".heic", ".heif", ".heics", ".heifs", ".hif"}),
    frozenset({".avif", ".avifs"}),
    frozenset({".png", ".apng"}),
)
"""Endings that mean the same."""

_ANYTHING = Where()


@dataclass(frozen=True, slots=True)
class Filter:
    """Which items may be found. Every condition that is given must hold; Filter() allows all.

    `a & b` allows what both allow, `a | b` what either allows, `~a` what `a` does not. A value that an item lacks, as
    a text has no camera, meets no condition, and so meets the opposite of any. The records of an imported collection
    are in the folder of its source.

    Attributes:
        ids: Ids of items.
        folders: Absolute, or relative to the current folder; items at or below any of them.
        taken_from: Earliest local time of the camera, without a time zone.
        taken_until: The time before which it was taken.
        cameras: Parts of camera names, any of them; ASCII letters match in either case.
        min_width: Pixels.
        min_height: Pixels.
        types: `image`, `text`, `film`, `document` or endings of files (`jpeg` stands for .jpg too), any of them.
        orientation: `landscape`, `portrait` or `square`.
        min_rating: Stars, 1 to 5, that the metadata `rating` has at least; pictures bring theirs along.
        color_labels: Names of colors that the metadata `label` has, any of them: as written, in lower or upper case, or
            with a capital.
        near: Latitude and longitude in degrees, and a radius in km along the great circle.
        box: South, west, north and east in degrees, between which it was taken; a west beyond the east lies across the
            date line.
        places: Names of countries, regions or cities, any of them, in either case, as `clipsearch index` found them for
            the coordinates (see docs/metadata.md).
        caption: Words that the caption, or a text, has: all of them, `"in this order"`, or `beginning*`.
        tags: Whole tags, any of them, in either case.
        collections: Names of collections, any of them, in either case.
        keys: Keys of items, any of them: the caller's ids of records, the absolute paths of files.
        where: Conditions on metadata by name, all of which must hold: `{"price": {"lt": 20}, "brand": ["acme", "zoo"],
            "sold": False}`. The operators are eq, ne, lt, le, gt, ge, in, nin, contains and exists; a value alone
            stands for eq, a list for in. Numbers compare with numbers, texts with texts by code point; a truth value
            equals itself alone. A list of texts meets eq, in and contains if one of its texts does.
        all_of: Filters that must all hold.
        any_of: Filters of which at least one must hold, if any are given.
        none_of: Filters of which none may hold.
        depth: How deep it is combined from others, 1 if it is not.
        size: Of how many filters it is combined, itself included.

    Raises:
        InvalidInputError: A value is out of its range, or filters are combined beyond MAX_DEPTH or MAX_SIZE.
    """

    ids: frozenset[int] | None = None
    folders: tuple[str, ...] = ()
    taken_from: datetime | None = None
    taken_until: datetime | None = None
    cameras: tuple[str, ...] = ()
    min_width: int | None = None
    min_height: int | None = None
    types: tuple[str, ...] = ()
    orientation: str | None = None
    min_rating: int | None = None
    color_labels: tuple[str, ...] = ()
    near: tuple[float, float, float] | None = None
    box: Box | None = None
    places: tuple[str, ...] = ()
    caption: str | None = None
    tags: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    where: Mapping[str, Any] = _ANYTHING
    all_of: tuple[Filter, ...] = ()
    any_of: tuple[Filter, ...] = ()
    none_of: tuple[Filter, ...] = ()
    depth: int = field(default=1, init=False, repr=False, compare=False)
    size: int = field(default=1, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, made in (("ids", frozenset), *((name, tuple) for name in _LISTS)):
            value = getattr(self, name)
            if isinstance(value, str) or (value is not None and not isinstance(value, Iterable)):
                raise InvalidInputError(f"{name} must be a list, even for one value, not {shown(value)}.")
            object.__setattr__(self, name, None if value is None else made(value))
        if self.near is not None:
            object.__setattr__(self, "near", _checked_place(self.near))
        if self.box is not None:
            object.__setattr__(self, "box", _checked_box(self.box))
        for folder in self.folders:
            if not isinstance(folder, str):
                raise InvalidInputError(f"A folder to search in is a str, not {shown(folder)}.")
        if "" in self.folders:
            raise InvalidInputError("The name of a folder to search in is empty. Name a folder; . is the current one.")
        _check_times(self.taken_from, self.taken_until)
        self._check_pictures()
        _check_ratings(self.min_rating, self.color_labels)
        if self.caption is not None:
            parse_words(self.caption)
        object.__setattr__(self, "where", self.where if isinstance(self.where, Where) else Where(self.where))
        self._check_parts()

    def _check_parts(self) -> None:
        for number in self.ids or ():
            if not isinstance(number, Integral):
                raise InvalidInputError(f"The id of an item is a whole number, not {shown(number)}.")
        _check_names("tag", self.tags)
        _check_names("name of a place", self.places)
        for name in self.collections:
            tidy_name(name)
        for key in self.keys:
            if not isinstance(key, str) or not key:
                raise InvalidInputError(f"A key is the id of a record or the path of a file, not {shown(key)}.")
        for part in (*self.all_of, *self.any_of, *self.none_of):
            if not isinstance(part, Filter):
                raise InvalidInputError(f"A filter is combined from filters, not from {shown(part)}.")
        self._check_size()

    def _check_size(self) -> None:
        parts = (*self.all_of, *self.any_of, *self.none_of)
        depth = 1 + max((part.depth for part in parts), default=0)
        size = 1 + sum(part.size for part in parts)
        if depth > MAX_DEPTH:
            raise InvalidInputError(f"Filters can be combined {MAX_DEPTH} deep, but no deeper. Simplify the filter.")
        if size > MAX_SIZE:
            raise InvalidInputError(
                f"A filter can be combined of {MAX_SIZE} filters, but not of {size}. Give lists of values, such as "
                "keys, or {'name': [...]} in where: they may be of any length."
            )
        object.__setattr__(self, "depth", depth)
        object.__setattr__(self, "size", size)

    def _check_pictures(self) -> None:
        for name in ("min_width", "min_height"):
            size = getattr(self, name)
            if size is not None and (not isinstance(size, int) or not 0 <= size < 2**63):
                raise InvalidInputError(f"{name} is {size!r}, but it must be a whole number of pixels of at least 0.")
        if "" in self.cameras:
            raise InvalidInputError("The name of a camera is empty. Write at least part of it.")
        for kind in self.types:
            file_endings(kind)
        if self.orientation is not None and self.orientation not in ORIENTATIONS:
            raise InvalidInputError(f"There is no orientation {self.orientation!r}. Use {_listed(ORIENTATIONS)}.")

    def __and__(self, other: Filter) -> Filter:
        if not isinstance(other, Filter):
            return NotImplemented
        return Filter(all_of=(*self._parts(), *other._parts()))

    def __or__(self, other: Filter) -> Filter:
        if not isinstance(other, Filter):
            return NotImplemented
        return Filter(any_of=(*self._alternatives(), *other._alternatives()))

    def __invert__(self) -> Filter:
        is_opposite = len(self.none_of) == 1 and self == Filter(none_of=self.none_of)
        return self.none_of[0] if is_opposite else Filter(none_of=(self,))

    def _parts(self) -> tuple[Filter, ...]:
        return self.all_of if self == Filter(all_of=self.all_of) else (self,)

    def _alternatives(self) -> tuple[Filter, ...]:
        return self.any_of if self.any_of and self == Filter(any_of=self.any_of) else (self,)


_COMBINED = ("all_of", "any_of", "none_of")
_LISTS = ("folders", "cameras", "types", "places", "tags", "collections", "color_labels", "keys", *_COMBINED)


def file_endings(kind: str) -> frozenset[str]:
    """Return the endings of files that a type of a filter stands for; none for a modality, a film or a document.

    Raises InvalidInputError for an unknown type.
    """
    if isinstance(kind, str) and kind in {*Modality, *Media}:
        return frozenset()
    known = PICTURE_SUFFIXES.union(TEXT_SUFFIXES, *(extra.suffixes for extra in EXTRAS))
    ending = f".{kind}".lower() if isinstance(kind, str) else ""
    if ending not in known:
        names = _listed([*Modality, *Media, *sorted(each[1:] for each in known)])
        raise InvalidInputError(f"There is no type {shown(kind)}. Use {names}.")
    return next((same for same in _ONE_FORMAT if ending in same), frozenset({ending}))


def absolute(wanted: Filter) -> Filter:
    """Return a filter that means the same whatever the current folder is.

    Raises InvalidInputError if that is gone, or for anything but a filter.
    """
    if not isinstance(wanted, Filter):
        raise InvalidInputError(f"Filters are given as a clipsearch.Filter, not as {type(wanted).__name__}.")
    return replace(change_parts(wanted, absolute), folders=tuple(map(_absolute, wanted.folders)))


def change_parts(wanted: Filter, change: Callable[[Filter], Filter]) -> Filter:
    """Return a filter that is combined of what a function makes of the filters that it is combined of."""
    parts = {name: tuple(map(change, getattr(wanted, name))) for name in _COMBINED}
    return replace(wanted, **parts)  # type: ignore[arg-type]


def to_values(wanted: Filter) -> dict[str, Any]:
    """Return what is set in a filter, as JSON has it."""
    given = {each.name: (getattr(wanted, each.name), each.default) for each in fields(wanted) if each.init}
    return {name: _plain(value) for name, (value, default) in given.items() if value != default}


def from_values(values: Mapping[str, Any]) -> Filter:
    """Return the filter that `to_values` was given. Raises InvalidInputError for values that are no filter's."""
    read = dict(values)
    try:
        for name in ("taken_from", "taken_until"):
            if name in read:
                read[name] = datetime.fromisoformat(read[name])
        for name in _COMBINED:
            read[name] = tuple(map(from_values, read.get(name, ())))
        return Filter(**read)
    except RecursionError as error:
        raise InvalidInputError(f"Filters can be combined {MAX_DEPTH} deep, but no deeper. Simplify it.") from error
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{shown(values)} are not values of a filter ({error}).") from error


def _check_times(start: object, end: object) -> None:
    for time in (start, end):
        if time is not None and not isinstance(time, datetime):
            raise InvalidInputError(f"A time is a datetime, not {time!r}.")
        if time is not None and time.tzinfo is not None:
            raise InvalidInputError(f"Pictures have local times, but {time} has a time zone. Leave out the zone.")
    if isinstance(start, datetime) and isinstance(end, datetime) and start >= end:
        raise InvalidInputError(f"No time is from {start} until before {end}. Swap the times.")


def _check_ratings(least: object, labels: tuple[str, ...]) -> None:
    if least is not None and (not isinstance(least, int) or isinstance(least, bool) or not 1 <= least <= MAX_RATING):
        raise InvalidInputError(f"The least rating is {shown(least)}, but must be from 1 to {MAX_RATING} stars.")
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise InvalidInputError(f"A color label is a word such as Red, not {shown(label)}.")


def _check_names(what: str, names: Iterable[object]) -> None:
    for name in names:
        if not isinstance(name, str) or not fold_tag(name):
            raise InvalidInputError(f"A {what} is one or more words, not {shown(name)}.")


def _checked_place(place: object) -> tuple[float, float, float]:
    try:
        latitude, longitude, radius = map(float, place)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise InvalidInputError(f"A place is a latitude, a longitude and kilometres, not {place!r}.") from None
    _check_degrees(("latitude", latitude, 90), ("longitude", longitude, 180))
    if not 0 < radius < math.inf:
        raise InvalidInputError(f"The radius is {radius:g} km, but it must be above 0.")
    return latitude, longitude, radius


def _checked_box(box: object) -> Box:
    try:
        south, west, north, east = map(float, box)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        raise InvalidInputError(f"A box is south, west, north and east in degrees, not {shown(box)}.") from None
    _check_degrees(("south", south, 90), ("west", west, 180), ("north", north, 90), ("east", east, 180))
    if south > north:
        raise InvalidInputError(f"The south of the box, {south:g}, lies beyond its north, {north:g}. Swap them.")
    return south, west, north, east


def _check_degrees(*given: tuple[str, float, int]) -> None:
    for name, degrees, most in given:
        if not abs(degrees) <= most:
            raise InvalidInputError(f"The {name} is {degrees:g}, but it must be from -{most} to {most} degrees.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _absolute(folder: str) -> str:
    if os.path.isabs(folder):
        return folder
    try:
        return os.path.join(os.getcwd(), folder)
    except OSError as error:
        raise InvalidInputError(
            f"The current folder no longer exists ({error.strerror}). Name folders by absolute paths."
        ) from error


def _plain(value: object) -> object:
    if isinstance(value, Filter):
        return to_values(value)
    if isinstance(value, Where):
        return dict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, frozenset):
        return sorted(map(int, value))
    return [_plain(each) for each in value] if isinstance(value, tuple) else value
