"""Options of saved searches, as they are kept and as they are read when a search runs.

They are kept as `SearchOptions.to_values` has them, so that new ones come along. Two things are kept differently: of a
date in words its words, and of a folder below a portable library the path from there, so that both move together.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from clipsearch.dates import WrittenMoment, parse_period
from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter, absolute, to_values
from clipsearch.paths import real_path
from clipsearch.query.options import SearchOptions

if TYPE_CHECKING:
    from clipsearch.query.embedding import Picture

MAX_K, MAX_OFFSET = 10_000, 1_000_000
"""The most that a saved search asks for."""

_COMBINED = ("all_of", "any_of", "none_of")
_TIMES = ("taken_from", "taken_until")


def within(options: SearchOptions, during: str | None) -> SearchOptions:
    """Return options that allow only what was taken within a date in words."""
    if during is None:
        return options
    start, end = parse_period(during, datetime.now())
    wanted = Filter(taken_from=start, taken_until=end)
    return replace(options, filters=wanted if options.filters is None else options.filters & wanted)


def without_image(options: SearchOptions, image: Picture) -> SearchOptions:
    """Return options that leave out the file of a picture by its path, where `exclude_self` says so."""
    options = replace(options, kind="image")
    if not options.exclude_self or not isinstance(image, str | os.PathLike):
        return replace(options, exclude_self=False)
    other = ~Filter(keys=(real_path(image),))
    filters = other if options.filters is None else options.filters & other
    return replace(options, exclude_self=False, filters=filters)


def option_values(options: SearchOptions, base: str) -> dict[str, Any]:
    """Return options as they are kept. base: the folder that the library moves with, or an empty text."""
    values = options.to_values()
    if values.get("modality") == "any":  # which is the default, said
        del values["modality"]
    if options.filters is not None:
        values["filters"] = _filter_values(absolute(options.filters), base)
    return values


def _filter_values(wanted: Filter, base: str) -> dict[str, Any]:
    values = to_values(wanted)
    for name in _TIMES:
        moment = getattr(wanted, name)
        if isinstance(moment, WrittenMoment) and moment.written:
            values[name] = {"written": moment.written, "is_end": moment.is_end}
    if wanted.folders:
        values["folders"] = [_portable(folder, base) for folder in wanted.folders]
    return values | {
        name: [_filter_values(part, base) for part in getattr(wanted, name)] for name in _COMBINED if name in values
    }


def _portable(folder: str, base: str) -> str:
    folder = os.path.normpath(folder)
    is_below = base and os.path.commonpath([base, folder]) == base if os.path.isabs(folder) else False
    return os.path.relpath(folder, base) if is_below else folder


def read_options(values: Mapping[str, Any], base: str) -> SearchOptions:
    """Read options as they are kept. base: as above.

    Raises ClipSearchError, TypeError, KeyError, AttributeError, ValueError or RecursionError for others.
    """
    read = dict(values)
    if read.get("filters") is not None:
        read["filters"] = _read_filter(read["filters"], base, datetime.now())
    options = SearchOptions.from_values(read)
    check_counts(options)
    if options.filters is not None:
        refuse_other_machines(options.filters)
    return options


def _read_filter(values: Mapping[str, Any], base: str, now: datetime) -> dict[str, Any]:
    """Return the values of a filter as `to_values` writes them."""
    read = dict(values)
    for name in _TIMES:
        if isinstance(moment := read.get(name), dict):
            period = parse_period(moment["written"], now)
            read[name] = (period.end if moment["is_end"] else period.start).isoformat()
    if "folders" in read:
        read["folders"] = [folder if os.path.isabs(folder) else _below(base, folder) for folder in read["folders"]]
    return read | {name: [_read_filter(part, base, now) for part in read[name]] for name in _COMBINED if name in read}


def _below(base: str, folder: str) -> str:
    if not base:
        raise InvalidInputError(f"The folder {folder!r} of a saved search is relative, but the library does not move.")
    return os.path.normpath(os.path.join(base, folder))


def refuse_other_machines(wanted: Filter) -> None:
    """Raise InvalidInputError for a path on another machine, at which Windows would log in to look at it."""
    for path in (*wanted.folders, *wanted.keys):
        if path.replace("\\", "/").startswith("//"):
            raise InvalidInputError(f"A saved search must not look at another machine, as at {path!r}. Save it again.")
    for part in (*wanted.all_of, *wanted.any_of, *wanted.none_of):
        refuse_other_machines(part)


def names_folder(wanted: Filter) -> bool:
    """Tell whether a filter, or one that it is combined of, has folders."""
    parts = (*wanted.all_of, *wanted.any_of, *wanted.none_of)
    return bool(wanted.folders) or any(map(names_folder, parts))


def check_counts(options: SearchOptions) -> None:
    """Raise InvalidInputError for more hits than a saved search asks for."""
    if options.k > MAX_K or options.offset > MAX_OFFSET:
        raise InvalidInputError(
            f"A saved search asks for up to {MAX_K:,} hits after up to {MAX_OFFSET:,} others, not for {options.k:,} "
            f"after {options.offset:,}."
        )
