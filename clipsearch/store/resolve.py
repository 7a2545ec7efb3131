"""What is to be stored for the files of a batch: all that it refers to is read before anything is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, bindparam, func, select

from clipsearch.paths import join, quote_path, unquote_path
from clipsearch.store import catalog
from clipsearch.store.checksums import row_checksum
from clipsearch.store.item_media import infos_of
from clipsearch.store.ledger import Ledger
from clipsearch.store.positions import dump_position
from clipsearch.store.records import Captions, Encoded, FileRecord, Known, Outcome, Taken
from clipsearch.store.schema import FIRST_RECOGNISED_PART, items
from clipsearch.store.sql_values import text_parameter, to_parameter
from clipsearch.store.vectors import ROW_DTYPE, VectorStore
from clipsearch.types import MediaInfo, Modality, PartPosition, Passage, PictureInfo

RowsByModality = dict[Modality, NDArray[np.float16]]

Place = tuple[int, str]
"""Where an item is: its root and its path as it is stored."""

_MOST_ABSENT = 16
"""Of so many items of one content it is looked whether their files are gone; there may be thousands of copies."""

_AT_PATHS = select(items).where(items.c.root_id == bindparam("root"), items.c.path.in_(text_parameter("paths")))


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """The columns of an item that its file decides, as they are stored. taken_at: ISO 8601, local time."""

    modality: str
    content_hash: str
    width: int | None = None
    height: int | None = None
    taken_at: str | None = None
    camera: str | None = None
    latitude: float | None = None
    longitude: float | None = None

    def taken(self, taken: Taken) -> ItemColumns:
        """Return these columns for a picture that was taken then and there."""
        latitude, longitude = taken.place or (None, None)
        return replace(
            self, taken_at=taken.at.isoformat() if taken.at else None, latitude=latitude, longitude=longitude
        )

    @classmethod
    def of_row(cls, item: Row[Any]) -> ItemColumns:
        """Take the columns of an item that is stored."""
        return cls(**{column.name: getattr(item, column.name) for column in fields(cls)})

    @classmethod
    def of_content(cls, modality: Modality, content_hash: str, picture: PictureInfo | None = None) -> ItemColumns:
        """Take what was read of a file or a record."""
        if picture is None:
            return cls(str(modality), content_hash)
        return cls(
            str(modality),
            content_hash,
            picture.width,
            picture.height,
            picture.taken_at.isoformat() if picture.taken_at else None,
            picture.camera,
            picture.latitude,
            picture.longitude,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file that has a vector. part: its number in the modality. text, line, end_line: of a passage.

    position: where in a film or a document it lies, as stored.
    """

    modality: Modality
    part: int
    text: str | None = None
    line: int | None = None
    end_line: int | None = None
    position: str | None = None

    @classmethod
    def of_passage(cls, part: int, passage: Passage) -> Part:
        """Return the part that a passage of a text or a caption is."""
        position = dump_position(passage.position)
        return cls(Modality.TEXT, part, passage.text, passage.line, passage.end_line, position)

    @classmethod
    def of_picture(cls, part: int, position: PartPosition | None = None) -> Part:
        """Return the part that a picture is. position: of one of several."""
        return cls(Modality.IMAGE, part, position=dump_position(position))

    @property
    def passage(self) -> tuple[str | None, int | None, int | None]:
        """The text and its lines, as `row_checksum` takes them."""
        return self.text, self.line, self.end_line


@dataclass(slots=True)
class Content:
    """What is to be stored for one file.

    columns: of its item, but for its place and caption. parts: those of one modality belong to the rows,
    float16 (parts, dim), of that modality, in order. own: the item at its place, live or deleted. moved: an item that
    keeps its id and what it has, but for its captions where `captions` has others. captions: None keeps those of an
    item that is moved. media: what an item of several parts is. note: what is missing of a picture that was decoded;
    None keeps what its item says.
    """

    record: FileRecord
    columns: ItemColumns
    caption: str | None = None
    parts: list[Part] = field(default_factory=list)
    rows: RowsByModality = field(default_factory=dict)
    own: Row[Any] | None = None
    moved: Row[Any] | None = None
    captions: Captions | None = None
    media: MediaInfo | None = None
    note: str | None = None

    @property
    def place(self) -> Place:
        """Where its item is."""
        return place_of(self.record)


class Resolver:
    """Turns outcomes into contents, with what the library holds already."""

    def __init__(self, store: VectorStore, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._none_deleted: set[str] = set()

    def resolve(
        self, connection: Connection, batch: Sequence[Outcome], roots: Mapping[int, str]
    ) -> tuple[list[Content], list[FileRecord]]:
        """Return what to store, and the files whose known content is gone meanwhile.

        Of several outcomes for one place the last one counts. roots: id -> path of those whose files may be gone.
        """
        contents: dict[Place, Content] = {}
        unresolved: list[FileRecord] = []
        fresh: dict[str, Content] = {}
        owners = items_at(connection, [outcome.record for outcome in batch])
        # An item at the path of a file of this batch will become that file, so it cannot also move elsewhere.
        taken = {own.id for own in owners.values()}
        gone = _GoneItems(connection, self._ledger, taken, self._none_deleted, roots)
        for outcome in batch:
            content: Content | None
            own = owners.get(place_of(outcome.record))
            if isinstance(outcome, Encoded):
                content = encoded = _from_encoded(outcome)
                fresh.setdefault(outcome.content_hash, encoded)
            elif isinstance(outcome, Known):
                content = self._from_known(connection, outcome, own, fresh, gone)
            else:
                continue
            if content is None or not _add_captions(content, outcome.captions):
                unresolved.append(outcome.record)
            else:
                content.own = own
                contents[content.place] = content
        return list(contents.values()), unresolved

    def _from_known(
        self, connection: Connection, known: Known, own: Row[Any] | None, fresh: dict[str, Content], gone: _GoneItems
    ) -> Content | None:
        """Find the content elsewhere: in the item itself, in one that is gone from its place, or in a copy."""
        if own is not None and own.content_hash == known.content_hash and catalog.is_encoded(connection, own.id):
            return _moved(known.record, own)
        if own is None or own.deleted:
            found = gone.take(known.record.size, known.content_hash)
            if found is not None:
                return _moved(known.record, found)
        source = self._source(connection, known)
        if source is not None and (copy := self._copy(connection, known.record, source)) is not None:
            return copy
        if known.content_hash in fresh:
            twin = fresh[known.content_hash]
            parts, rows = list(twin.parts), dict(twin.rows)
            return Content(known.record, twin.columns, twin.caption, parts, rows, media=twin.media, note=twin.note)
        return None

    def _source(self, connection: Connection, known: Known) -> Row[Any] | None:
        """Return the best item to copy: one with the same captions, if there is any."""
        same = select(items).where(items.c.content_hash == known.content_hash, catalog.IS_ENCODED)
        text = known.captions and known.captions.text
        # Without an order SQLite stops at the first: of many equal files it looks at few.
        alike = same.where(items.c.caption.is_not_distinct_from(text), ~items.c.deleted).limit(1)
        found = connection.execute(alike).one_or_none()
        if found is not None:
            return found
        order = (items.c.caption.is_not(text), items.c.deleted, items.c.id)
        return connection.execute(same.order_by(*order).limit(1)).one_or_none()

    def _copy(self, connection: Connection, record: FileRecord, source: Row[Any]) -> Content | None:
        """Return the content of an item for another file; None where its rows are damaged."""
        media = infos_of(connection, [source.id]).get(source.id)
        content = Content(record, ItemColumns.of_row(source), source.caption, media=media)
        found = [part for part in catalog.rows_of_item(connection, source.id) if part.part < FIRST_RECOGNISED_PART]
        for modality in dict.fromkeys(Modality(part.modality) for part in found):
            own = [part for part in found if part.modality == modality]
            view = self._store.view(catalog.get_segments(connection, modality))
            rows = view.take(np.array([part.row for part in own], np.int64))
            if not all(map(_is_sound, own, rows)):
                return None
            content.rows[modality] = rows
            content.parts += [Part(modality, p.part, p.text, p.line, p.end_line, p.position) for p in own]
        return content


class _GoneItems:
    """The items whose files are gone, and which the files of a batch may be; each is taken once.

    Many files may have one content. So what is deleted is read once for each content of a batch, and a content of
    which nothing is deleted is remembered for all batches: what the same run deletes is not moved.
    """

    def __init__(
        self,
        connection: Connection,
        ledger: Ledger,
        taken: set[int],
        none_deleted: set[str],
        roots: Mapping[int, str],
    ) -> None:
        """Prepare. taken: ids of items that stay where they are. none_deleted: is added to. roots: id -> path."""
        self._connection = connection
        self._ledger = ledger
        self._taken = taken
        self._none_deleted = none_deleted
        self._roots = roots
        self._ids: dict[str, Iterator[int]] = {}

    def take(self, size: int, content_hash: str) -> Row[Any] | None:
        """Return an item of that content that none has taken yet: missing ones first, deleted ones last."""
        if content_hash not in self._ids:
            self._ids[content_hash] = chain(
                self._ledger.missing_with(self._connection, size, content_hash),
                self._absent(content_hash),
                self._deleted(content_hash),
            )
        for item_id in self._ids[content_hash]:
            if item_id not in self._taken and catalog.is_encoded(self._connection, item_id):
                self._taken.add(item_id)
                return self._connection.execute(select(items).where(items.c.id == item_id)).one()
        return None

    def _absent(self, content_hash: str) -> Iterator[int]:
        """Yield items that no walk of this run looked for, and whose files are gone."""
        query = select(items.c.id, items.c.root_id, items.c.path)
        query = query.where(items.c.content_hash == content_hash, ~items.c.deleted).order_by(items.c.id)
        found = self._connection.execute(query.limit(_MOST_ABSENT)).all() if self._roots else []
        for item in found:
            if item.root_id in self._roots and _is_gone(join(self._roots[item.root_id], item.path)):
                yield item.id

    def _deleted(self, content_hash: str) -> Iterator[int]:
        if content_hash in self._none_deleted:
            return
        query = select(items.c.id).where(items.c.content_hash == content_hash, items.c.deleted).order_by(items.c.id)
        found = self._connection.execute(query).scalars().all()
        if not found:
            self._none_deleted.add(content_hash)
        yield from found


def sample_files(connection: Connection, root_id: int, count: int) -> list[tuple[FileRecord, str]]:
    """Choose files of a root by chance; each with the hash of its content."""
    query = select(items.c.path, items.c.size, items.c.mtime_ns, items.c.content_hash)
    query = query.where(items.c.root_id == root_id, ~items.c.deleted).order_by(func.random()).limit(count)
    return [
        (FileRecord(root_id, unquote_path(item.path), item.size, item.mtime_ns), item.content_hash)
        for item in connection.execute(query)
    ]


def _is_gone(path: str) -> bool:
    """Tell whether nothing is at a path. What cannot be looked at may be there."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        pass
    return False


def _is_sound(place: Row[Any], vector: NDArray[np.float16]) -> bool:
    """Tell whether a vector is the one that was written there; one without a checksum is from before checksums."""
    passage = (place.text, place.line, place.end_line)
    computed = row_checksum(vector.data, place.modality, place.item_id, place.part, passage, place.position)
    return place.checksum is None or bool(place.checksum == computed)


def _moved(record: FileRecord, item: Row[Any]) -> Content:
    return Content(record, ItemColumns.of_row(item), item.caption, moved=item)


def _add_captions(content: Content, captions: Captions | None) -> bool:
    """Give a content its captions, in place of others; False where their vectors are wanted and not there.

    Captions of the same text stay as they are.
    """
    if captions is not None and captions.stamp is None and content.moved is not None:
        captions = None
    content.captions = captions
    if captions is not None and captions.taken is not None:
        content.columns = content.columns.taken(captions.taken)
    if captions is None or captions.text == content.caption:
        return True
    if captions.text is not None and captions.vectors is None:
        return False
    content.caption = captions.text
    content.parts = [part for part in content.parts if part.modality is not Modality.TEXT]
    content.parts += [Part.of_passage(number, passage) for number, passage in enumerate(captions.passages)]
    content.rows.pop(Modality.TEXT, None)
    if captions.vectors is not None:
        content.rows[Modality.TEXT] = captions.vectors.astype(ROW_DTYPE)
    return True


def place_of(record: FileRecord) -> Place:
    """Return the place of a file as the catalog holds it."""
    return record.root_id, quote_path(record.path)


def items_at(connection: Connection, records: Sequence[FileRecord]) -> dict[Place, Row[Any]]:
    """Return the items at the places of files, live or deleted."""
    found: dict[Place, Row[Any]] = {}
    for root_id, paths in paths_by_root(map(place_of, records)).items():
        items_there = connection.execute(_AT_PATHS, {"root": root_id, "paths": to_parameter(paths)})
        found.update({(root_id, item.path): item for item in items_there})
    return found


def paths_by_root(places: Iterable[Place]) -> dict[int, list[str]]:
    """Group the paths of places by their roots."""
    paths: dict[int, list[str]] = {}
    for root_id, path in places:
        paths.setdefault(root_id, []).append(path)
    return paths


def _from_encoded(encoded: Encoded) -> Content:
    columns = ItemColumns.of_content(encoded.modality, encoded.content_hash, encoded.picture)
    note = encoded.picture.note if encoded.picture else ""
    parts, rows = parts_of(encoded), stored_rows(encoded)
    return Content(encoded.record, columns, parts=parts, rows=rows, media=encoded.media, note=note)


def stored_rows(encoded: Encoded) -> RowsByModality:
    """Return the vectors of a file as they are stored, by modality."""
    rows = {encoded.modality: encoded.vectors.astype(ROW_DTYPE)}
    if encoded.passage_vectors is not None:
        rows[Modality.TEXT] = encoded.passage_vectors.astype(ROW_DTYPE)
    return rows


def parts_of(encoded: Encoded) -> list[Part]:
    """Return the parts that the vectors of a file belong to: its pictures, then its passages."""
    passages = [Part.of_passage(number, passage) for number, passage in enumerate(encoded.passages)]
    if encoded.modality is Modality.TEXT:
        return passages or [Part(Modality.TEXT, number) for number in range(len(encoded.vectors))]
    positions: Sequence[PartPosition | None] = encoded.positions or [None] * len(encoded.vectors)
    return [*(Part.of_picture(number, position) for number, position in enumerate(positions)), *passages]
