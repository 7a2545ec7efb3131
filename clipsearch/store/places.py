"""Where items were taken, put together into clusters for a map: on a grid, in SQL.

The cells of the grid are those of the whole Earth at a scale of a power of two, so that they stay where they are while
a map is moved. A longitude counts from the western edge of what is shown, so that nothing is torn apart at the date
line.
Coordinates that are no numbers of degrees are of a damaged catalog, and are no place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Integer, and_, case, cast, func, or_, select

from clipsearch.store.schema import items
from clipsearch.types import Box, Cluster, Places

_FINEST = 24
"""The finest cells are 360 / 2 ** 24 degrees wide, some two metres."""

_NUMBERS = ("real", "integer")


class _Strip(NamedTuple):
    """The items within a degree of longitude: how many, and between which parallels and meridians."""

    number: int
    south: float
    north: float
    west: float
    east: float


def within(box: Box) -> ColumnElement[bool]:
    """Build the condition "taken within a box", whose west may lie beyond its east, across the date line."""
    south, west, north, east = box
    longitude = items.c.longitude
    if west <= east:
        meridians: ColumnElement[bool] = longitude.between(west, east)
    else:
        meridians = or_(longitude.between(west, 180), longitude.between(-180, east))
    return and_(_is_place(), items.c.latitude.between(south, north), meridians)


def count_places(connection: Connection, allowed: ColumnElement[bool], cells: int, box: Box | None) -> Places:
    """Put the places of the live items that meet a condition together into clusters, most items first.

    cells: how many columns and rows of the grid what is shown has at most, give or take one. box: what is shown, and
    all that the condition allows lies in it; None for the smallest around the items.
    """
    shown = and_(~items.c.deleted, allowed, _is_place())
    strips = _strips(connection, shown)
    if not strips:
        return Places(0)
    bounds = _bounds(strips)
    south, west, north, east = box or bounds
    width = east - west if west <= east else east - west + 360
    exponent = math.floor(math.log2(360 * cells / max(width, north - south, 360 / 2**_FINEST)))
    size = 360 / 2 ** min(max(exponent, 0), _FINEST)
    clusters = _clusters(connection, shown, west, size)
    return Places(sum(strip.number for strip in strips), clusters, bounds)


def _is_place() -> ColumnElement[bool]:
    latitude, longitude = items.c.latitude, items.c.longitude
    are_numbers = and_(func.typeof(latitude).in_(_NUMBERS), func.typeof(longitude).in_(_NUMBERS))
    return and_(are_numbers, latitude.between(-90, 90), longitude.between(-180, 180))


def _strips(connection: Connection, shown: ColumnElement[bool]) -> list[_Strip]:
    """Return the strips that have items, from west to east; 361 at most."""
    latitude, longitude = items.c.latitude, items.c.longitude
    degree = cast(longitude + 180, Integer)  # rounds down, as of nothing below 0
    edges = (func.min(latitude), func.max(latitude), func.min(longitude), func.max(longitude))
    query = select(func.count(), *edges).where(shown).group_by(degree).order_by(degree)
    return [_Strip._make(row) for row in connection.execute(query)]


def _bounds(strips: Sequence[_Strip]) -> Box:
    """Return the smallest box around all strips; it begins after the widest gap, which may lie anywhere."""
    gaps = [east.west - west.east for west, east in pairwise(strips)]
    gaps.append(strips[0].west + 360 - strips[-1].east)
    last = max(range(len(gaps)), key=lambda i: (gaps[i], i))
    first = (last + 1) % len(strips)
    south, north = min(strip.south for strip in strips), max(strip.north for strip in strips)
    return south, strips[first].west, north, strips[last].east


def _clusters(connection: Connection, shown: ColumnElement[bool], west: float, size: float) -> tuple[Cluster, ...]:
    latitude, longitude = items.c.latitude, items.c.longitude
    unbroken = case((longitude < west, longitude + 360), else_=longitude)
    row, column = cast((latitude + 90) / size, Integer), cast((unbroken + 180) / size, Integer)
    count = func.count()
    middle = (func.avg(latitude), func.avg(unbroken))
    query = select(*middle, count, func.max(items.c.id)).where(shown).group_by(row, column)
    found = connection.execute(query.order_by(count.desc(), row, column))
    return tuple(
        Cluster(north, east if east <= 180 else east - 360, number, item_id) for north, east, number, item_id in found
    )
