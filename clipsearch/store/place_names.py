"""Names of places: the country, region and city of items in their metadata, and what else these are called.

A library knows only the places of its own items. Their names are one setting, which is read where a filter or a query
may name a place, so that other places cost nothing.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, select

from clipsearch.errors import StoreCorruptError
from clipsearch.metadata import check_metadata
from clipsearch.store import catalog, item_metadata
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import items, settings
from clipsearch.store.sql_values import listed
from clipsearch.words import fold_tag

FIELDS = ("country", "region", "city")
"""The names in the metadata of items."""

PROGRESS_KEY, NAMES_KEY = "places", "place_names"
"""The settings: how far items have got their places, and what the places are called."""

MAX_NAMES = 20_000
"""As many are kept; of more, those that are main names. Reading them takes 10 ms."""

_MOST_READ, _MOST_BYTES = 5 * MAX_NAMES, 1 << 22
"""The limits of names and of bytes of the setting. A larger setting is ignored as invalid."""


class PlaceName(NamedTuple):
    """Where an item is, as its metadata says it."""

    country: str
    region: str | None
    city: str | None

    def values(self) -> dict[str, str]:
        """Return what of it is known, by name of metadata."""
        return {name: value for name, value in zip(FIELDS, self, strict=True) if value}


class PlaceAlias(NamedTuple):
    """What a place is called. is_main: in lower case too, it can hardly be meant as anything else."""

    text: str
    field: str
    name: str
    is_main: bool


class PlaceNames:
    """The places of a library by what they are called."""

    def __init__(self, names: Mapping[str, Sequence[tuple[str, str, bool]]] | None = None) -> None:
        """Take names: by the folded name, the field, the name in the metadata, and whether that is a main one."""
        self._names = dict(names or {})

    def __len__(self) -> int:
        return len(self._names)

    def find(self, text: str) -> list[PlaceAlias]:
        """Return the places that are called so, in any case; none for a text that is no place of the library."""
        folded = fold_tag(text)
        return [PlaceAlias(text, field, name, is_main) for field, name, is_main in self._names.get(folded, ())]

    def add(self, aliases: Iterable[PlaceAlias]) -> PlaceNames:
        """Return these names and others."""
        found = {folded: list(each) for folded, each in self._names.items()}
        ordered = sorted(aliases, key=lambda alias: not alias.is_main)
        for alias in ordered:
            for text in dict.fromkeys((alias.text, _plain(alias.text))):
                own = found.setdefault(fold_tag(text), []) if len(found) < MAX_NAMES or alias.is_main else []
                if (alias.field, alias.name) not in {(field, name) for field, name, _ in own}:
                    own.append((alias.field, alias.name, alias.is_main))
        return PlaceNames(found)

    def holds(self, field: str, name: str) -> bool:
        """Tell whether a value of the metadata is that of a place."""
        return (field, name) in {(each.field, each.name) for each in self.find(name)}

    def dump(self) -> str:
        """Return it as the setting has it."""
        places = {
            place: i for i, place in enumerate(dict.fromkeys(p[:2] for each in self._names.values() for p in each))
        }
        names = {
            folded: [[places[field, name], int(is_main)] for field, name, is_main in each]
            for folded, each in self._names.items()
        }
        return json.dumps({"places": [*places], "names": names}, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def load(cls, setting: str | None) -> PlaceNames:
        """Read what `dump` returned; nothing for None. Raises StoreCorruptError for anything else."""
        if setting is None:
            return cls()
        try:
            read = json.loads(setting)
            places = [(str(field), str(name)) for field, name in read["places"] if field in FIELDS]
            return cls({str(n): [(*places[i], bool(main)) for i, main in each] for n, each in read["names"].items()})
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            raise StoreCorruptError(f"The catalog has a wrong list of places ({error!r:.80}). {REPAIR}") from error


def get_names(connection: Connection) -> PlaceNames:
    """Return the names of the places of a library, none where there are too many. Raises StoreCorruptError."""
    is_long = (settings.c.key == NAMES_KEY) & (catalog.value_length(connection) > _MOST_BYTES)
    if connection.execute(select(settings.c.key).where(is_long)).first() is not None:
        return PlaceNames()
    found = PlaceNames.load(catalog.get_setting(connection, NAMES_KEY))
    return found if len(found) <= _MOST_READ else PlaceNames()


def where_of(connection: Connection, places: Iterable[str]) -> dict[str, list[str]]:
    """Return the values of metadata, by name, one of which an item in one of these places has.

    A name that no place of the library has stands for itself, for items whose metadata came from elsewhere.
    """
    names = get_names(connection)
    found: dict[str, list[str]] = {field: [] for field in FIELDS}
    for place in places:
        for alias in names.find(place):
            found[alias.field].append(alias.name)
        for field in FIELDS:
            found[field].append(place)
    return {field: list(dict.fromkeys(values)) for field, values in found.items()}


def unplaced(connection: Connection, after: int) -> list[tuple[int, float, float]]:
    """Return the id, latitude and longitude of the live items beyond an id that have coordinates."""
    columns = (items.c.id, items.c.latitude, items.c.longitude)
    query = select(*columns).where(items.c.id > after, items.c.latitude.is_not(None), ~items.c.deleted)
    return [
        (row.id, row.latitude, row.longitude)
        for row in connection.execute(query)
        if isinstance(row.latitude, float) and isinstance(row.longitude, float)
    ]


def last_id(connection: Connection) -> int:
    """Return the highest id of an item, 0 without any."""
    return connection.execute(select(items.c.id).order_by(items.c.id.desc()).limit(1)).scalar() or 0


def store_places(connection: Connection, places: Mapping[int, PlaceName], known: PlaceNames) -> int:
    """Put places into the metadata of items, by id; return how many got one.

    What a caller or a table has said of a place stays: only values that `known` has are replaced.
    """
    exists = set(connection.execute(select(items.c.id).where(items.c.id.in_(listed(places)))).scalars())
    present, damaged = item_metadata.values_of(connection, exists)
    changed: dict[int, str] = {}
    for item_id in sorted(exists - damaged):
        values = present.get(item_id, {})
        own = {name: values[name] for name in FIELDS if name in values}
        new = places[item_id].values()
        if own == new or not all(isinstance(value, str) and known.holds(name, value) for name, value in own.items()):
            continue
        rest = {name: value for name, value in values.items() if name not in FIELDS}
        changed[item_id] = check_metadata({**rest, **new})
    item_metadata.store(connection, changed)
    return len(changed)


def _plain(text: str) -> str:
    """Return a text of Latin letters without accents, as people type it."""
    apart = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in apart if not unicodedata.combining(c))
    return plain if plain.isascii() else text
