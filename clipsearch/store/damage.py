"""Damage of a library: what `clipsearch repair` handles, and what a backup must not copy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, select

from clipsearch.errors import StoreCorruptError
from clipsearch.store import catalog
from clipsearch.store.database import mapped_errors
from clipsearch.store.findings import counted
from clipsearch.store.generations import verify as verify_index
from clipsearch.store.library import Library
from clipsearch.store.revision import get_revision
from clipsearch.store.schema import (
    collection_items,
    collections,
    failures,
    generations,
    item_media,
    item_metadata,
    items,
    recognised_text,
    record_contents,
    record_pictures,
    second_generations,
    second_segments,
    second_settings,
    shard_items,
    shards,
    tags,
)
from clipsearch.store.second_check import is_damaged
from clipsearch.store.sql_values import listed
from clipsearch.store.verification import (
    count_damaged,
    damaged_rows,
    differs_from_metadata,
    differs_from_texts,
    integrity_problems,
)
from clipsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Damage:
    """What is damaged.

    rows: by modality, rows that belong to an item, int64, ascending. items, generations, failures: ids in these tables.
    tags, texts, contents, collected: how many; texts of pictures; metadata of items, and contents of records, which are
    in items too; names and items of collections; how far data sets were read. indexes: the modalities whose
    approximate index is. words, metadata: whether the full-text index is, and the index of metadata. second: whether
    the second set of vectors is. catalog: what SQLite says of its file, but for the full-text index. other: what no
    repair can fix, a line each.
    """

    rows: Mapping[Modality, NDArray[np.int64]]
    items: tuple[int, ...] = ()
    generations: tuple[int, ...] = ()
    failures: tuple[int, ...] = ()
    tags: int = 0
    texts: int = 0
    contents: int = 0
    collected: int = 0
    sharded: int = 0
    indexes: tuple[Modality, ...] = ()
    words: bool = False
    metadata: bool = False
    second: bool = False
    catalog: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether anything is damaged."""
        return bool(self.describe())

    def describe(self) -> list[str]:
        """Describe the damage, a line for each kind."""
        found = [f"{counted(len(rows), 'vector')} of {modality}" for modality, rows in self.rows.items() if len(rows)]
        found += [counted(len(self.items), "item")] if self.items else []
        found += [counted(len(self.generations), "approximate index")] if self.generations else []
        found += [counted(len(self.failures), "failed file")] if self.failures else []
        found += [counted(self.tags, "tag")] if self.tags else []
        found += [counted(self.texts, "recognised text")] if self.texts else []
        found += [counted(self.contents, "row") + " of metadata and contents"] if self.contents else []
        found += [counted(self.collected, "row") + " of collections"] if self.collected else []
        found += [counted(self.sharded, "row") + " of data sets"] if self.sharded else []
        found += [f"the approximate index of {modality}" for modality in self.indexes]
        found += ["the full-text index"] if self.words else []
        found += ["the index of metadata"] if self.metadata else []
        found += ["the second set of vectors"] if self.second else []
        return [*found, *(f"the catalog: {line}" for line in self.catalog), *self.other]


@dataclass(frozen=True, slots=True)
class DamagedItem:
    """An item of which something is damaged. path: as stored."""

    id: int
    root_id: int
    path: str
    content_hash: str
    deleted: bool


def damaged_items(library: Library, damage: Damage) -> list[DamagedItem]:
    """Return the items that are damaged or have a damaged row, in order of their ids.

    One that has a row and is lost itself counts as deleted.
    """
    columns = [items.c[column.name] for column in fields(DamagedItem)]
    with library.query() as connection:
        ids = set(damage.items)
        for modality, rows in damage.rows.items():
            ids |= set(catalog.item_ids_by_row(connection, modality, rows=rows.tolist()).values())
        found = connection.execute(select(*columns).where(items.c.id.in_(listed(ids))).order_by(items.c.id))
        known = [DamagedItem(**row) for row in found.mappings()]
    return known + [DamagedItem(number, 0, "", "", True) for number in sorted(ids - {item.id for item in known})]


def find_damage(library: Library) -> Damage:
    """Read all that a library has and return what is damaged. Raises StoreCorruptError where it cannot be read."""
    while True:
        revision, damage = _look(library)
        with library.query() as connection:
            # An index that a build has replaced during the check is not missing.
            if not damage.indexes or get_revision(connection) == revision:
                return damage


def _look(library: Library) -> tuple[int, Damage]:
    with library.query() as connection:
        lines = integrity_problems(connection)
        about_words = [line for line in lines if "full_text" in line or "inverted index" in line]
        whole = tuple(line for line in lines if line not in about_words)
        unsound = count_damaged(connection)
        ids = {table.name: tuple(unsound.pop(table.name)[1]) for table in (items, generations, failures)}
        tables = (item_metadata, item_media, record_contents, record_pictures)
        contents = [item for table in tables for item in unsound.pop(table.name)[1]]
        tags_damaged, texts_damaged = (unsound.pop(table.name)[0] for table in (tags, recognised_text))
        sharded = sum(unsound.pop(table.name)[0] for table in (shards, shard_items))
        second = any(unsound.pop(table.name)[0] for table in (second_segments, second_generations, second_settings))
        collected = sum(unsound.pop(table.name)[0] for table in (collections, collection_items))
        other = tuple(f"{counted(count, 'row')} of its table {name}" for name, (count, _) in unsound.items() if count)
        words = bool(about_words) or _differs(connection, differs_from_texts)
        metadata = _differs(connection, differs_from_metadata)
        indexes = tuple(m for m in Modality if not _is_index_whole(library, connection, m))
        revision = get_revision(connection)
    rows = {modality: damaged_rows(library, modality) for modality in Modality}
    return revision, Damage(
        rows,
        tuple(sorted({*ids[items.name], *contents})),
        ids[generations.name],
        ids[failures.name],
        tags_damaged,
        texts_damaged,
        len(contents),
        collected,
        sharded,
        indexes,
        words,
        metadata,
        second or is_damaged(library),
        whole,
        other,
    )


def _differs(connection: Connection, differs: Callable[[Connection], bool]) -> bool:
    """Tell whether a derived index differs from its tables, or is too damaged to tell."""
    try:
        with mapped_errors():
            return differs(connection)
    except StoreCorruptError:
        return True


def _is_index_whole(library: Library, connection: Connection, modality: Modality) -> bool:
    try:
        generation = catalog.get_generation(connection, modality)
        if generation is not None:
            verify_index(library.folder, generation)
    except StoreCorruptError:
        return False
    return True
