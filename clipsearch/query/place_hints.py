"""Why a search by place finds nothing: the library may know no places at all."""

from __future__ import annotations

from collections.abc import Iterable

from clipsearch.filtering import Filter
from clipsearch.store.place_names import FIELDS
from clipsearch.store.snapshot import Snapshot

_KNOWN = Filter(any_of=tuple(Filter(where={name: {"exists": True}}) for name in FIELDS))
_LOCATED = Filter(box=(-90, -180, 90, 180))


def place_hints(snapshot: Snapshot, wanted: Iterable[Filter]) -> tuple[str, ...]:
    """Return a hint where filters that allow nothing name a place, and no item has one."""
    if not any(map(_names_place, wanted)) or snapshot.count_items(_KNOWN):
        return ()
    located = snapshot.count_items(_LOCATED)
    if not located:
        return ("No item of the library has a place, and none has coordinates that `clipsearch index` could name.",)
    have = "1 item has coordinates" if located == 1 else f"{located:,} items have coordinates"
    return (
        f"No item of the library has a place, but {have}. "
        "To name where they are: pip install 'clipsearch[places]', then clipsearch index",
    )


def _names_place(wanted: Filter) -> bool:
    return bool(wanted.places) or any(map(_names_place, (*wanted.all_of, *wanted.any_of)))
