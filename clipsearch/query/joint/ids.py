"""The ids of items of several libraries: the number of the library above 40 bits, its own id below.

So an id of the first library is its own, ids do not change when libraries are added at the end, and items are in order
of libraries, as if the first had been filled first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from clipsearch.filtering import Filter, change_parts
from clipsearch.types import Item

PART_BITS = 40
MAX_PARTS = 1 << 10
"""Libraries that are searched as one at most; ids stay below 2 ** 53, which JSON holds everywhere."""

_LOCAL = (1 << PART_BITS) - 1


def joint_id(part: int, own: int) -> int:
    """Return the id of an item among several libraries. part: the number of its library, from 0."""
    return (part << PART_BITS) | own


def split_id(number: int) -> tuple[int, int]:
    """Return the number of the library of an id, and the id in that library."""
    return number >> PART_BITS, number & _LOCAL


def ids_of_part(numbers: Iterable[int], part: int) -> list[int]:
    """Return those of these ids that are of one library, as it has them."""
    return [own for number in numbers for of, own in [split_id(number)] if of == part]


def joint_item(item: Item, part: int) -> Item:
    """Return an item of a library with its id among several."""
    return item if part == 0 else replace(item, id=joint_id(part, item.id))


def own_item(item: Item) -> Item:
    """Return an item with the id that its library has for it."""
    return item if item.id <= _LOCAL else replace(item, id=item.id & _LOCAL)


def own_filter(wanted: Filter, part: int) -> Filter:
    """Return a filter as one library takes it: the ids are its own."""
    ids = None if wanted.ids is None else frozenset(ids_of_part(wanted.ids, part))
    return replace(change_parts(wanted, lambda each: own_filter(each, part)), ids=ids)
