"""Saved searches: each is one setting of the library, and so is sealed, backed up, restored and moved like the others.

A search is stored as JSON: what is asked, as clipsearch.query.saved writes it, and the mark up to which its matches
were seen. What came to the library since has a higher id than the mark, and what has changed has vectors in rows after
it: ids are never given again, and a compaction, which gives rows other numbers in the same order, moves the marks too.
A catalog may come from a stranger: invalid entries are skipped, and no path or URL in an entry is opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, delete, func, select

from clipsearch.errors import InvalidInputError
from clipsearch.store import catalog
from clipsearch.store.checksums import is_sound
from clipsearch.store.revision import get_revision
from clipsearch.store.schema import FIRST_RECOGNISED_PART, items, settings, vectors
from clipsearch.types import Modality
from clipsearch.words import fold_tag, tidy_name

MAX_SEARCHES, MAX_LENGTH = 1000, 1 << 18
"""Searches of a library, and bytes of one as it is stored."""

MAX_SAVED = MAX_LENGTH // 2
"""Characters of a search as it is saved: its mark grows, up to that of MAX_SHOWN ids."""

MAX_SHOWN, MAX_CHANGED = 10_000, 1000
"""Ids that a mark holds: of matches after it that were shown already, and of items that changed before a flip."""

_PREFIX = "search:"
_NUMBERS = ("id", "images", "texts", "revision")
_ROWS = {Modality.IMAGE: "images", Modality.TEXT: "texts"}


class UnknownSearchError(InvalidInputError):
    """There is no saved search of that name."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Up to where a library was seen.

    Attributes:
        id: The highest id of its items.
        images: How many rows of pictures it had.
        texts: How many rows of texts it had.
        revision: The state that this is of.
        shown: Ids of items after it that were seen already.
        changed: Ids of items before it that changed since, and whose rows do not show that any more.
    """

    id: int = 0
    images: int = 0
    texts: int = 0
    revision: int = 0
    shown: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()

    def to_values(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: object) -> Self:
        """Read what `to_values` returned. Raises InvalidInputError for anything else."""
        names = {each.name for each in fields(cls)}
        if not isinstance(values, dict) or values.keys() != names:
            raise _invalid("It has no mark.")
        numbers = [*(values[name] for name in _NUMBERS), *_listed(values["shown"]), *_listed(values["changed"])]
        if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
            raise _invalid("Its mark has a value that is no id or count.")
        made: dict[str, Any] = {**values, "shown": tuple(values["shown"]), "changed": tuple(values["changed"])}
        return cls(**made)


def _listed(value: object) -> list[Any]:
    if not isinstance(value, list | tuple) or len(value) > MAX_SHOWN:
        raise _invalid("Its mark has no list of ids.")
    return list(value)


@dataclass(frozen=True, slots=True)
class StoredSearch:
    """A saved search as it is stored.

    Attributes:
        name: As it was written.
        asked: What is asked, as JSON values.
        saved_at: When it was saved: ISO 8601, in UTC. It tells a search from another one that takes its name.
        mark: Up to where its matches were seen.
    """

    name: str
    asked: Mapping[str, Any] = field(hash=False)
    saved_at: str
    mark: Mark


def list_all(connection: Connection) -> list[StoredSearch]:
    """Return the saved searches in order of their names; without damaged and invalid entries."""
    is_one = settings.c.key.like(f"{_PREFIX}%") & (catalog.value_length(connection) <= MAX_LENGTH)
    query = select(settings).where(is_one).order_by(settings.c.key).limit(MAX_SEARCHES)
    found = []
    for row in connection.execute(query).all():
        try:
            found.append(_read(row))
        except InvalidInputError:
            continue
    return sorted(found, key=lambda each: fold_tag(each.name))


def get(connection: Connection, name: str) -> StoredSearch:
    """Return a saved search. Raises UnknownSearchError, InvalidInputError for one that is damaged."""
    own = settings.c.key == _key(name)
    is_short = catalog.value_length(connection) <= MAX_LENGTH
    row = connection.execute(select(settings).where(own, is_short)).one_or_none()
    if row is not None:
        return _read(row)
    if connection.execute(select(settings.c.key).where(own)).first() is not None:
        raise _invalid(f"It is longer than {MAX_LENGTH:,} bytes.")
    raise _unknown(name)


def put(connection: Connection, search: StoredSearch) -> None:
    """Store a search; one of that name is replaced. Raises InvalidInputError for too many, or one too large."""
    query = select(func.count()).where(settings.c.key.like(f"{_PREFIX}%"), settings.c.key != _key(search.name))
    if (count := int(connection.execute(query).scalar_one())) >= MAX_SEARCHES:
        raise InvalidInputError(
            f"The library has {count:,} saved searches, and no room for more. Delete one: clipsearch unsave NAME"
        )
    _write(connection, search, MAX_SAVED)


def _write(connection: Connection, search: StoredSearch, most: int) -> None:
    try:
        text = _dump(search)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"This search cannot be saved: {error}.") from error
    if len(text) > most:
        raise InvalidInputError(
            f"The search takes {len(text):,} characters, but at most {most:,} are saved. Shorten its filters; "
            "put items into a collection."
        )
    catalog.set_setting(connection, _key(search.name), text)


def _dump(search: StoredSearch, *, is_ascii: bool = True) -> str:
    return json.dumps({**asdict(search), "asked": dict(search.asked)}, allow_nan=False, ensure_ascii=is_ascii)


def _move(connection: Connection, search: StoredSearch, mark: Mark) -> None:
    """Set a mark, whatever searches there are; one that cannot be written stays: it must not stop other work."""
    try:
        text = _dump(replace(search, mark=mark), is_ascii=False)
        is_short = len(text.encode()) <= MAX_LENGTH
    except (TypeError, ValueError, RecursionError):
        return
    if is_short:
        catalog.set_setting(connection, _key(search.name), text)


def erase(connection: Connection, name: str) -> None:
    """Delete a saved search, whatever state it is in. Raises UnknownSearchError."""
    if not connection.execute(delete(settings).where(settings.c.key == _key(name))).rowcount:
        raise _unknown(name)


def remember(connection: Connection, name: str, saved_at: str, mark: Mark) -> None:
    """Move the mark of a search; nothing is done if another has taken its name, or newer matches were seen already.

    However many searches there are, this one has its room.
    """
    stored = get(connection, name)
    if stored.saved_at == saved_at and mark.revision >= stored.mark.revision:
        _write(connection, replace(stored, mark=mark), MAX_LENGTH)


def current(connection: Connection) -> Mark:
    """Return the mark of a library of which all was seen."""
    last = connection.execute(select(func.max(items.c.id))).scalar_one() or 0
    images, texts = (catalog.count_rows(connection, modality) for modality in _ROWS)
    return Mark(last, images, texts, get_revision(connection))


class Arrived(NamedTuple):
    """The items that came or changed since a mark. reached: the mark after them. is_all: whether there are no more."""

    ids: frozenset[int]
    reached: Mark
    is_all: bool


def arrived(connection: Connection, mark: Mark, most: int) -> Arrived:
    """Return the items that came or changed since a mark and were not shown yet; of more than `most`, the first.

    Text that is recognised in a picture later does not change it.
    """
    newer = select(items.c.id).where(items.c.id > mark.id, ~items.c.deleted).order_by(items.c.id).limit(most)
    new = list(connection.execute(newer).scalars())
    changed = {*mark.changed, *_changed_since(connection, mark, most)}
    reached, is_all = current(connection), len(new) < most
    if not is_all:
        reached = replace(mark, id=new[-1], revision=reached.revision)
    return Arrived(frozenset(new).union(changed).difference(mark.shown), reached, is_all)


def renumber(connection: Connection, modality: Modality, old_rows: NDArray[np.int64]) -> None:
    """Move the marks as a compaction moves rows. old_rows: int64 (rows,), ascending, the numbers of those that stay."""
    for stored in list_all(connection):
        before = getattr(stored.mark, _ROWS[modality])
        moved: dict[str, Any] = {_ROWS[modality]: int(np.searchsorted(old_rows, before))}
        if moved[_ROWS[modality]] != before:
            _move(connection, stored, replace(stored.mark, **moved))


def note_changes(connection: Connection) -> dict[str, tuple[int, ...]]:
    """Return, for each search, which items before its mark have changed since: before rows of other numbers answer."""
    found = {}
    for stored in list_all(connection):
        changed = dict.fromkeys([*stored.mark.changed, *_changed_since(connection, stored.mark, MAX_CHANGED)])
        found[stored.name] = tuple(changed)[:MAX_CHANGED]
    return found


def restart(connection: Connection, changed: Mapping[str, tuple[int, ...]]) -> None:
    """Set the marks to the rows that answer now. changed: what `note_changes` returned."""
    now = current(connection)
    for stored in list_all(connection):
        mark = replace(stored.mark, images=now.images, texts=now.texts, changed=changed.get(stored.name, ()))
        _move(connection, stored, mark)


def _changed_since(connection: Connection, mark: Mark, most: int) -> list[int]:
    found: list[int] = []
    for modality, name in _ROWS.items():
        is_new = (vectors.c.modality == modality) & (vectors.c.row >= getattr(mark, name))
        own = (vectors.c.item_id <= mark.id) & (vectors.c.part < FIRST_RECOGNISED_PART)
        query = select(vectors.c.item_id).distinct().where(is_new, own).limit(most)
        found += connection.execute(query).scalars()
    return found


def _read(row: Row[Any]) -> StoredSearch:
    if not is_sound(row, settings):
        raise _invalid("It does not match its checksum.")
    try:
        values = json.loads(row.value)
        name, asked, saved_at = values["name"], values["asked"], values["saved_at"]
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise _invalid("It is no JSON object of a search.") from error
    if not isinstance(asked, dict) or not isinstance(saved_at, str) or len(saved_at) > 40 or _key(name) != row.key:
        raise _invalid("It has no query, or another name.")
    return StoredSearch(tidy_name(name, "saved search"), asked, saved_at, Mark.from_values(values.get("mark")))


def _key(name: object) -> str:
    return _PREFIX + fold_tag(tidy_name(name, "saved search"))


def _invalid(why: str) -> InvalidInputError:
    return InvalidInputError(f"The saved search is damaged. {why} Save it again, or delete it: clipsearch unsave NAME")


def _unknown(name: str) -> UnknownSearchError:
    return UnknownSearchError(f"There is no saved search {name!r}. List them: clipsearch saved")
