"""Filters in SQL: which rows are vectors of items that a Filter allows."""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Column, ColumnElement, Connection, Select, and_, func, or_, select, true

from clipsearch.errors import InvalidInputError
from clipsearch.filtering import Filter, absolute, file_endings
from clipsearch.metadata import LABEL, RATING
from clipsearch.store import collections, full_text, item_media, item_metadata, tags
from clipsearch.store.keys import matching_keys
from clipsearch.store.places import within
from clipsearch.store.records import Scope
from clipsearch.store.roots import find_scope, find_sources, scopes_below, under
from clipsearch.store.schema import items, roots, vectors
from clipsearch.store.sql_values import listed, listed_texts, numbers
from clipsearch.types import Media, Modality
from clipsearch.where import Where

KEPT_FILTERS = 4
"""Of as many filters what they allow is kept: 8 bytes for each that matches."""

EARTH_KM = 6371.0088
"""The mean radius of the Earth (IUGG)."""

_SLACK = 1e-6
"""Degrees that a box is wider than its circle, so that no rounding cuts anything off."""

_ORIENTED = {
    "landscape": items.c.width > items.c.height,
    "portrait": items.c.width < items.c.height,
    "square": items.c.width == items.c.height,
}


def matching_rows(connection: Connection, modality: Modality, wanted: Filter, base: str) -> NDArray[np.int64]:
    """Return the rows of one modality that may be found and whose items a filter allows: int64, ascending.

    base: the folder that portable roots are relative to. Raises InvalidInputError for a folder that lies in no root.
    """
    wanted = absolute(wanted)
    allowed = select(items.c.id).where(~items.c.deleted, condition(connection, wanted, base))
    # Through the ids, because the index of vectors by item holds the rows too: the texts beside them are not read.
    query = select(vectors.c.row).where(vectors.c.modality == modality, vectors.c.item_id.in_(allowed))
    return np.sort(numbers(connection.execute(query).scalars()))


def condition(connection: Connection, wanted: Filter, base: str) -> ColumnElement[bool]:
    """Build the condition "an item that a filter allows"; the folders are looked up right away."""
    terms = _of_columns(wanted)
    if wanted.ids is not None:
        terms.append(items.c.id.in_(listed(wanted.ids)))
    if wanted.folders:
        terms.append(_below(connection, wanted.folders, base))
    if wanted.types:
        terms.append(or_(*map(_of_type, dict.fromkeys(wanted.types))))
    if wanted.near is not None:
        terms.append(items.c.id.in_(listed(_near(connection, wanted.near))))
    if wanted.caption is not None:
        terms.append(items.c.id.in_(full_text.matching(connection, wanted.caption)))
    if wanted.tags:
        terms.append(items.c.id.in_(tags.matching(connection, wanted.tags)))
    if wanted.collections:
        terms.append(items.c.id.in_(collections.matching(connection, wanted.collections)))
    if wanted.keys:
        terms.append(items.c.id.in_(listed(matching_keys(connection, wanted.keys, base))))
    return and_(True, *_combined(connection, wanted, base), *terms, *_of_metadata(connection, wanted))


def _of_metadata(connection: Connection, wanted: Filter) -> list[ColumnElement[bool]]:
    """Build the conditions on metadata, of which "in one of these countries, regions and cities" is one."""
    given = (Where(wanted.where), _of_pictures(wanted))
    terms = [item_metadata.condition(connection, where) for where in given if where]
    if wanted.places:
        from clipsearch.store import place_names  # few searches have it, and each module takes time to load

        values = place_names.where_of(connection, wanted.places)
        terms.append(or_(*(item_metadata.condition(connection, Where({n: each})) for n, each in values.items())))
    return terms


def _of_pictures(wanted: Filter) -> Where:
    """Return the conditions on what pictures say themselves in the metadata."""
    said: dict[str, object] = {}
    if wanted.min_rating is not None:
        said[RATING] = {"ge": wanted.min_rating}
    if wanted.color_labels:
        words = [label.strip() for label in wanted.color_labels]
        cases = (str, str.lower, str.upper, str.capitalize, str.title)
        said[LABEL] = [*dict.fromkeys(change(word) for word in words for change in cases)]
    return Where(said)


def _combined(connection: Connection, wanted: Filter, base: str) -> list[ColumnElement[bool]]:
    """Build the conditions of what a filter is combined from, the deepest first, for which SQLite needs least stack."""

    def build(part: Filter) -> ColumnElement[bool]:
        return condition(connection, part, base)

    alternatives = sorted(wanted.any_of, key=lambda part: -part.depth)
    terms = [(part.depth, build(part)) for part in wanted.all_of]
    # what is not known is not true, and so meets the opposite
    terms += [(part.depth, build(part).is_not(true())) for part in wanted.none_of]
    if alternatives:
        terms.append((alternatives[0].depth, or_(*map(build, alternatives))))
    return [term for _, term in sorted(terms, key=lambda pair: -pair[0])]


def _of_columns(wanted: Filter) -> list[ColumnElement[bool]]:
    terms: list[ColumnElement[bool]] = []
    if wanted.taken_from is not None:
        terms.append(items.c.taken_at >= wanted.taken_from.isoformat())  # text of this form sorts by time
    if wanted.taken_until is not None:
        terms.append(items.c.taken_at < wanted.taken_until.isoformat())
    if wanted.cameras:
        terms.append(items.c.camera.in_(_named(wanted.cameras)))
    if wanted.min_width is not None:
        terms.append(items.c.width >= wanted.min_width)
    if wanted.min_height is not None:
        terms.append(items.c.height >= wanted.min_height)
    if wanted.box is not None:
        terms.append(within(wanted.box))
    if wanted.orientation is not None:
        terms.append(_ORIENTED[wanted.orientation])
    return terms


def scopes_of(connection: Connection, path: str, base: str) -> list[Scope]:
    """Find what a path covers: by its real name, and by the name that a file found through a link is shown with."""
    found: list[Scope] = []
    for name in dict.fromkeys((os.path.realpath(path), os.path.abspath(path))):
        own = find_scope(connection, base, name)
        found += [own] if own else []
        found += scopes_below(connection, base, name)
    found += find_sources(connection, base, path)
    return list(dict.fromkeys(found))


def _below(connection: Connection, folders: Sequence[str], base: str) -> ColumnElement[bool]:
    """Build the condition "at or below one of these folders"; it may be thousands of them.

    Parts of roots become ids here, in order: SQLite itself takes ten times as long where the order of names is not
    that of ids.
    """
    scopes = dict.fromkeys(scope for folder in folders for scope in _checked_scopes(connection, folder, base))
    whole = {scope.root_id for scope in scopes if not scope.prefix}
    ids = [_ids_below(connection, scope) for scope in scopes if scope.root_id not in whole]
    terms = [items.c.root_id.in_(listed(whole))] if whole else []
    if ids:
        terms.append(items.c.id.in_(listed(np.unique(np.concatenate(ids)).tolist())))
    return or_(*terms)


def _named(cameras: Iterable[str]) -> Select[tuple[str | None]]:
    """Return the query for the names of cameras that have one of these in them; each is compared once."""
    known, wanted = select(items.c.camera).distinct().subquery(), listed_texts({*cameras}).subquery()
    part = func.instr(func.lower(known.c.camera), func.lower(wanted.c.value)) > 0
    return select(known.c.camera).where(select(wanted.c.value).where(part).correlate(known).exists())


def _of_type(kind: str) -> ColumnElement[bool]:
    """Build the condition "an item of this type"; the name of a file that is a root itself stands there."""
    endings = file_endings(kind)
    if kind in {*Media}:
        return item_media.is_media(Media(kind))
    if not endings:
        return items.c.modality == kind
    alone = select(roots.c.id).where(_ends_with(roots.c.path, endings))
    return or_(_ends_with(items.c.path, endings), and_(items.c.path == "", items.c.root_id.in_(alone)))


def _ends_with(path: Column[str], endings: Iterable[str]) -> ColumnElement[bool]:
    return or_(*(path.like(f"%{ending}") for ending in sorted(endings)))  # ASCII, where LIKE knows no case


def _near(connection: Connection, circle: tuple[float, float, float]) -> list[int]:
    """Return the ids of the items within a radius in km of a place, along the great circle."""
    latitude, longitude, radius = circle
    angle = radius / EARTH_KM
    query = select(items.c.id, items.c.latitude, items.c.longitude).where(_box(latitude, longitude, angle))
    rows = map(tuple, connection.execute(query))  # a Row costs numpy ten times as much to look into
    found = np.array(list(rows), np.float64).reshape(-1, 3)
    ids, north, east = found[:, 0].astype(np.int64), np.radians(found[:, 1]), np.radians(found[:, 2])
    # Haversine formula: Sinnott, "Virtues of the Haversine", 1984
    south, west = math.radians(latitude), math.radians(longitude)
    chord = np.sin((north - south) / 2) ** 2 + math.cos(south) * np.cos(north) * np.sin((east - west) / 2) ** 2
    near: list[int] = ids[2 * np.arcsin(np.sqrt(np.minimum(chord, 1))) <= angle].tolist()
    return near


def _box(latitude: float, longitude: float, angle: float) -> ColumnElement[bool]:
    """Build the condition "between the parallels and meridians that enclose a circle"; angle: its radius in radians."""
    reach = math.degrees(angle) + _SLACK
    rows = items.c.latitude.between(latitude - reach, latitude + reach)
    if abs(latitude) + reach >= 90:  # a pole lies in the circle, and all meridians meet there
        return rows
    # the meridian that touches the circle does so nearer to the pole than its centre lies
    wide = math.degrees(math.asin(math.sin(math.radians(reach)) / math.cos(math.radians(latitude)))) + _SLACK
    columns = [items.c.longitude.between(longitude + turn - wide, longitude + turn + wide) for turn in (-360, 0, 360)]
    return and_(rows, or_(*columns))


def _ids_below(connection: Connection, scope: Scope) -> NDArray[np.int64]:
    """Return the ids of all items in a part of a root: int64."""
    one_range = and_(items.c.path >= scope.prefix, items.c.path < scope.prefix + "0")  # so the index alone is read
    inside = select(items.c.id).where(under(items, scope), one_range)
    return numbers(connection.execute(inside).scalars())


def _checked_scopes(connection: Connection, folder: str, base: str) -> list[Scope]:
    try:
        found = scopes_of(connection, folder, base)
    except ValueError as error:  # a NUL, or half of a character
        raise InvalidInputError(f"{folder!r} is not a path: {error}. Name a folder.") from error
    if not found:
        raise InvalidInputError(f"The folder {folder!r} is not in any indexed folder. List these: clipsearch status")
    return found


class RecentRows:
    """What the filters that were asked for last allow, at one revision: rows of a modality, or ids of items.

    Safe to share by threads.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Modality | None, Filter], NDArray[np.int64]] = OrderedDict()
        self._lock = threading.Lock()

    def get(
        self, modality: Modality | None, wanted: Filter, compute: Callable[[], NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        """Return what is kept, or compute and keep it; read-only, for it is shared."""
        key = (modality, wanted)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        rows = compute()
        rows.flags.writeable = False
        with self._lock:
            self._kept[key] = rows
            while len(self._kept) > KEPT_FILTERS:
                self._kept.popitem(last=False)
        return rows
