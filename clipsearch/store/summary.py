"""What a library holds, for `clipsearch status`."""

from __future__ import annotations

import os
from typing import Any

from sqlalchemy import Connection

from clipsearch.errors import StoreCorruptError
from clipsearch.store import catalog
from clipsearch.store.generations import verify
from clipsearch.store.library import Library
from clipsearch.types import Modality


def summarise(library: Library) -> dict[str, Any]:
    """Return JSON values: library, bytes, encoder, modalities, roots, failed, and problems found in its files."""
    pin = library.encoder
    with library.query() as connection:
        files = catalog.count_items(connection)
        modalities = {str(m): _modality(connection, m, files.get(m, 0)) for m in Modality}
        roots = catalog.get_roots(connection, library.base)
        failed = catalog.list_failures(connection, library.base)
    return {
        "library": str(library.folder),
        "bytes": _disk_usage(str(library.folder)),
        "encoder": pin and {"name": pin.name, "fingerprint": pin.fingerprint, "dim": pin.dim},
        "modalities": modalities,
        "roots": [
            {
                "path": r.path,
                "kind": str(r.kind),
                "offline": r.offline,
                "exclude": list(r.exclude),
                "include_hidden": r.include_hidden,
            }
            for r in roots
        ],
        "failed": [{"path": path, "reason": reason} for path, reason in failed],
        "problems": _problems(library),
    }


def _problems(library: Library) -> list[str]:
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
    return found


def _modality(connection: Connection, modality: Modality, files: int) -> dict[str, Any]:
    rows = sum(segment.committed_rows for segment in catalog.get_segments(connection, modality))
    deleted = len(catalog.get_tombstones(connection, modality))
    generation = catalog.get_generation(connection, modality)
    index = generation and {"kind": generation.kind, "watermark": generation.watermark, **generation.params}
    return {"files": files, "vectors": rows - deleted, "deleted": deleted, "index": index}


def _disk_usage(folder: str) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except OSError:
                continue  # it went meanwhile: SQLite's WAL, or a generation that was replaced
    return total
