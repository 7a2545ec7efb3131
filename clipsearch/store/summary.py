"""What a library holds, for `clipsearch status`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select

from clipsearch.errors import StoreCorruptError
from clipsearch.store import catalog, shards
from clipsearch.store.catalog import Generation
from clipsearch.store.generations import verify
from clipsearch.store.library import Library
from clipsearch.store.records import LIVE_PHOTO, Root
from clipsearch.store.roots import get_roots
from clipsearch.store.schema import failures
from clipsearch.store.second_set import SecondSet
from clipsearch.store.shards import SourceSummary
from clipsearch.types import EncoderPin, Modality


@dataclass(frozen=True, slots=True)
class ModalitySummary:
    """What a library has of one modality.

    files: how many can be found. vectors, deleted: rows that can be found, and that cannot. index: None if search is
    exact.
    """

    files: int
    vectors: int
    deleted: int
    index: Generation | None = None


@dataclass(frozen=True, slots=True)
class LibrarySummary:
    """What a library holds.

    sources: by the ids of their roots. failed: (path, reason) of each file that could not be indexed. problems: of its
    files. second: the vectors of another encoder that it holds too.
    """

    library: str
    bytes: int
    encoder: EncoderPin | None
    modalities: Mapping[Modality, ModalitySummary]
    roots: tuple[Root, ...]
    sources: Mapping[int, SourceSummary]
    failed: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]
    second: SecondSet | None = None

    def to_payload(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "library": self.library,
            "bytes": self.bytes,
            "encoder": self.encoder and asdict(self.encoder),
            "modalities": {str(modality): _modality_payload(part) for modality, part in self.modalities.items()},
            "roots": [_root_payload(root, self.sources.get(root.id)) for root in self.roots],
            "failed": [{"path": path, "reason": reason} for path, reason in self.failed],
            "problems": list(self.problems),
            "second_set": self.second and self.second.to_payload(),
        }


def summarise(library: Library) -> LibrarySummary:
    """Say what a library holds, and what is wrong with its files."""
    pin = library.encoder
    with library.query() as connection:
        files = catalog.count_items(connection)
        modalities = {m: _modality(connection, m, files.get(m, 0)) for m in Modality}
        roots = tuple(get_roots(connection, library.base))
        sources = shards.summarise(connection)
        failed = tuple(_failures(connection, roots))
    size = _disk_usage(str(library.folder))
    problems = _problems(library)
    try:
        second = library.second
    except StoreCorruptError as error:
        second, problems = None, (*problems, str(error))
    return LibrarySummary(str(library.folder), size, pin, modalities, roots, sources, failed, problems, second)


def _problems(library: Library) -> tuple[str, ...]:
    """Check that segments are as long as the catalog says, and index files as they were written."""
    found: list[str] = []
    with library.read() as snapshot:
        for modality in Modality:
            try:
                snapshot.rows(modality)
                if (generation := snapshot.generation(modality)) is not None:
                    verify(library.folder, generation)
            except StoreCorruptError as error:
                found.append(str(error))
    return tuple(found)


def _failures(connection: Connection, roots: Sequence[Root]) -> Iterator[tuple[str, str]]:
    """Yield (absolute path, reason) of the files that could not be indexed."""
    paths = {root.id: root.path for root in roots}
    query = select(failures.c.root_id, failures.c.path, failures.c.reason).order_by(failures.c.root_id, failures.c.path)
    query = query.where(~failures.c.reason.startswith(LIVE_PHOTO))
    return ((catalog.path_of(paths, root, path), reason) for root, path, reason in connection.execute(query))


def _modality(connection: Connection, modality: Modality, files: int) -> ModalitySummary:
    rows = catalog.count_rows(connection, modality)
    deleted = len(catalog.get_tombstones(connection, modality))
    return ModalitySummary(files, rows - deleted, deleted, catalog.get_generation(connection, modality))


def _modality_payload(part: ModalitySummary) -> dict[str, Any]:
    index = part.index and {"kind": part.index.kind, "watermark": part.index.watermark, **part.index.params}
    return {"files": part.files, "vectors": part.vectors, "deleted": part.deleted, "index": index}


def _root_payload(root: Root, source: SourceSummary | None) -> dict[str, Any]:
    payload = {
        "path": root.path,
        "kind": str(root.kind),
        "offline": root.offline,
        "exclude": list(root.exclude),
        "include_hidden": root.include_hidden,
    }
    return payload if source is None else payload | asdict(source)


def _disk_usage(folder: str) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except OSError:
                continue  # it was deleted since: SQLite's WAL, or a generation that was replaced
    return total
