"""Roots: the folders, and single files, that a library covers. They never overlap: each file belongs to one root.

A collection is a root that is not walked. It may be a folder that is also a root, or lie in one. Its path is stored
with "/" at its end, which no path of a folder has, so that both can be stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Integer,
    Row,
    Table,
    Text,
    and_,
    case,
    column,
    delete,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    update,
)

from clipsearch.errors import StoreCorruptError
from clipsearch.locations import LOCAL_LIBRARY
from clipsearch.paths import RECORDS, is_url, quote_path, unquote_path
from clipsearch.store.checksums import require_sound
from clipsearch.store.records import Root, RootKind, Scope
from clipsearch.store.refusals import REPAIR
from clipsearch.store.schema import failures, items, roots

COLLECTION_END = "/"
"""Ends the stored path of a collection."""

SOURCE_START = "source:"
"""Begins the stored address of a data set, which may be a path that is also walked."""

BASE_KEY = "portable_base"
"""The setting by which the backup of a portable library knows the folder that its roots are relative to. It counts
only where the library is in no folder called `.clipsearch`."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Which files of a root are wanted."""

    exclude: tuple[str, ...] = ()
    include_hidden: bool = False


@dataclass(frozen=True, slots=True)
class RulesChange:
    """New values for the rules of a root; None keeps what it has."""

    exclude: tuple[str, ...] | None = None
    include_hidden: bool | None = None


def library_base(folder: Path) -> str:
    """Return the folder that portable roots are relative to: the parent of a `.clipsearch/`, else ""."""
    return os.path.realpath(folder.parent) if folder.name == LOCAL_LIBRARY else ""


def get_roots(connection: Connection, base: str) -> list[Root]:
    """List the roots; base: the folder that portable roots are relative to."""
    return [_root(row, base) for row in connection.execute(select(roots).order_by(roots.c.id))]


def find_scope(connection: Connection, base: str, path: str) -> Scope | None:
    """Find the root that holds an absolute path, and where in it the path lies; None if no root does.

    A collection holds no path.
    """
    folders = [path, *(str(parent) for parent in Path(path).parents)]
    stored = {(quote_path(folder), False): folder for folder in folders}
    stored |= {(quote_path(inside), True): f for f in folders if base and (inside := relative(f, base)) is not None}
    query = select(roots.c.id, roots.c.path, roots.c.portable).where(roots.c.path.in_({text for text, _ in stored}))
    by_path = {stored[key]: row.id for row in connection.execute(query) if (key := (row.path, row.portable)) in stored}
    for folder in folders:
        if folder in by_path:
            return Scope(by_path[folder], quote_path(relative(path, folder) or ""))
    return None


def scopes_below(connection: Connection, base: str, path: str) -> list[Scope]:
    """List the roots at or below an absolute path."""
    return [Scope(root.id) for root in get_roots(connection, base) if relative(root.path, path) is not None]


def holds(connection: Connection, scope: Scope) -> bool:
    """Tell whether there is anything in a scope: a root, an item, or a file that failed."""
    if not scope.prefix:
        return True
    return any(connection.execute(select(t.c.id).where(under(t, scope)).limit(1)).first() for t in (items, failures))


def held_paths(connection: Connection, base: str, paths: Iterable[str]) -> set[str]:
    """Return those of some absolute paths of which there is anything: a root, an item, or a file that failed.

    They may be thousands, which are looked up in one statement.
    """
    folders = {root.path: root.id for root in get_roots(connection, base) if root.kind is RootKind.FOLDER}
    places: dict[tuple[int, str], str] = {}
    for path in paths:
        folder = path
        while folder not in folders and folder != os.path.dirname(folder):
            folder = os.path.dirname(folder)
        if folder in folders:
            places[folders[folder], quote_path(relative(path, folder) or "")] = path
    given = func.json_each(json.dumps([*places])).table_valued(column("value", JSON))
    root_id = func.json_extract(given.c.value, literal_column("'$[0]'"), type_=Integer)
    prefix = func.json_extract(given.c.value, literal_column("'$[1]'"), type_=Text)
    found = {path for (_, name), path in places.items() if not name}
    for table in (items, failures):
        stored = table.c.path
        below = and_(stored >= prefix + "/", stored < prefix + "0")  # as in `under`
        own = select(table.c.id).where(table.c.root_id == root_id, or_(stored == prefix, below)).exists()
        found |= {places[number, name] for number, name in connection.execute(select(root_id, prefix).where(own))}
    return found


def under(table: Table, scope: Scope) -> ColumnElement[bool]:
    """Build the condition "a row of items or failures that lies in this scope"."""
    in_root, path = table.c.root_id == scope.root_id, table.c.path
    if not scope.prefix:
        return in_root
    below = and_(path >= scope.prefix + "/", path < scope.prefix + "0")  # "0" follows "/" in ASCII
    return and_(in_root, or_(path == scope.prefix, below))


def add_root(connection: Connection, base: str, path: str) -> Scope:
    """Add a folder or a file as a root, unless a root contains it; merge the roots below it into it with their items.

    path: absolute and resolved. Returns what an indexing run of that path covers.
    """
    scope = find_scope(connection, base, path)
    if scope is not None:
        return scope
    stored, portable = _stored(base, path)
    folders = [] if os.path.isfile(path) else _folders(connection, base)  # nothing lies below a file
    root_id = _insert(connection, RootKind.FOLDER, stored, portable)
    for root in folders:
        if (inside := relative(root.path, path)) is not None:
            _merge(connection, root, root_id, quote_path(inside))
    return Scope(root_id)


def _folders(connection: Connection, base: str) -> list[Root]:
    return [root for root in get_roots(connection, base) if root.kind is RootKind.FOLDER]


def add_collection(connection: Connection, base: str, source: str) -> int:
    """Return the root of the collection that comes from an absolute and resolved path, adding it if it is new."""
    path, portable = _stored(base, source)
    path = (path or os.curdir) + COLLECTION_END
    known = select(roots.c.id).where(roots.c.path == path, roots.c.portable == portable)
    root_id: int | None = connection.execute(known).scalar_one_or_none()
    return _insert(connection, RootKind.COLLECTION, path, portable) if root_id is None else root_id


def add_source(connection: Connection, base: str, address: str, options: str) -> int:
    """Return the root of the data set at an address, adding it if it is new; options: JSON, kept for later runs."""
    path, portable = (address, False) if is_url(address) or "::" in address else _stored(base, address)
    path = SOURCE_START + path
    known = select(roots.c.id).where(roots.c.path == path, roots.c.portable == portable)
    root_id: int | None = connection.execute(known).scalar_one_or_none()
    if root_id is None:
        root_id = _insert(connection, RootKind.SOURCE, path, portable)
    rules = json.dumps(asdict(Rules()) | {"source": json.loads(options)})
    changed = roots.c.rules != rules
    connection.execute(update(roots).where(roots.c.id == root_id, changed).values(rules=rules))
    return root_id


def find_sources(connection: Connection, base: str, address: str) -> list[Scope]:
    """List the data set that has an address."""
    found = [root for root in get_roots(connection, base) if root.kind is RootKind.SOURCE]
    return [Scope(root.id) for root in found if root.path == address]


def find_records_root(connection: Connection) -> int | None:
    """Return the root of the records that were added from Python; None before the first of them."""
    found: int | None = connection.execute(select(roots.c.id).where(roots.c.kind == RootKind.RECORDS)).scalar()
    return found


def add_records_root(connection: Connection) -> int:
    """Return the root of the records that are added from Python, adding it if it is new."""
    root_id = find_records_root(connection)
    return _insert(connection, RootKind.RECORDS, RECORDS, False) if root_id is None else root_id


def restore_root(connection: Connection, base: str, root: Root) -> None:
    """Add a root with the id that it has in an export. base: the folder that portable roots are relative to."""
    path, portable = RECORDS, False
    if root.kind is not RootKind.RECORDS:
        is_address = is_url(root.path) or "::" in root.path
        path, portable = (root.path, False) if is_address else _stored(base, root.path)
    if root.kind is RootKind.COLLECTION:
        path = (path or os.curdir) + COLLECTION_END
    rules: dict[str, Any] = asdict(Rules(root.exclude, root.include_hidden))
    if root.kind is RootKind.SOURCE:
        path, rules = SOURCE_START + path, rules | {"source": json.loads(root.options)}
    values = {"path": path, "portable": portable, "rules": json.dumps(rules), "kind": root.kind}
    connection.execute(insert(roots).values(id=root.id, offline=False, **values))


def relocate(connection: Connection, base: str, root_id: int, path: str) -> None:
    """Give a folder another path, absolute and resolved, which no root holds or lies in."""
    stored, portable = _stored(base, path)
    connection.execute(update(roots).where(roots.c.id == root_id).values(path=stored, portable=portable, offline=False))


def change_rules(connection: Connection, root_id: int, change: RulesChange) -> None:
    """Change which files of a root are wanted."""
    given = {name: value for name, value in asdict(change).items() if value is not None}
    if given:
        stored = json.loads(connection.execute(select(roots.c.rules).where(roots.c.id == root_id)).scalar_one())
        values = json.dumps(stored | given)
        connection.execute(update(roots).where(roots.c.id == root_id).values(rules=values))


def set_offline(connection: Connection, root_id: int, offline: bool) -> None:
    """Record whether a root can be reached."""
    connection.execute(update(roots).where(roots.c.id == root_id).values(offline=offline))


def relative(path: str, folder: str) -> str | None:
    """Return where a path lies in a folder, with `/` and "" for the folder itself; None if outside."""
    if path == folder:
        return ""
    start = folder if folder.endswith(os.sep) else folder + os.sep
    return path[len(start) :].replace(os.sep, "/") if path.startswith(start) else None


def _stored(base: str, path: str) -> tuple[str, bool]:
    """Return how a root's absolute path is stored, and whether it is portable."""
    inside = relative(path, base) if base else None
    return quote_path(path if inside is None else inside), inside is not None


def _insert(connection: Connection, kind: RootKind, path: str, portable: bool) -> int:
    rules = json.dumps(asdict(Rules()))
    statement = insert(roots).values(path=path, portable=portable, rules=rules, offline=False, kind=kind)
    root_id: int = connection.execute(statement.returning(roots.c.id)).scalar_one()
    return root_id


def _merge(connection: Connection, root: Root, into: int, prefix: str) -> None:
    """Move a root's items and failures to a root above it, and delete the root."""
    for table in (items, failures):
        longer = case((table.c.path == "", prefix), else_=literal(prefix + "/") + table.c.path)
        connection.execute(update(table).where(table.c.root_id == root.id).values(root_id=into, path=longer))
    connection.execute(delete(roots).where(roots.c.id == root.id))


def _root(row: Row[Any], base: str) -> Root:
    require_sound(row, roots)
    try:
        return _read_root(row, base)
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise StoreCorruptError(f"The catalog has a wrong entry for root {row.id} ({error}). {REPAIR}") from error


def _read_root(row: Row[Any], base: str) -> Root:
    kind = RootKind(row.kind)
    stored = row.path.removesuffix(COLLECTION_END) if kind is RootKind.COLLECTION else row.path
    stored = stored.removeprefix(SOURCE_START) if kind is RootKind.SOURCE else stored
    path = stored if is_url(stored) or "::" in stored else unquote_path(stored)
    if row.portable:
        path = os.path.normpath(os.path.join(base, path))
    exclude, include_hidden, options = _rules(row.rules)
    return Root(row.id, path, exclude, include_hidden, row.offline, kind, options)


@lru_cache(maxsize=64)  # thousands of single files as roots share one
def _rules(stored: str) -> tuple[tuple[str, ...], bool, str]:
    rules = json.loads(stored)
    return tuple(rules["exclude"]), rules["include_hidden"], json.dumps(rules.get("source", {}))
