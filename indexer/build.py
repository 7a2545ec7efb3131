"""Build, check and publish the approximate index of a library."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from clipsearch.ann import registry
from clipsearch.ann.base import AnnIndex
from clipsearch.errors import StoreCorruptError
from clipsearch.store.catalog import Generation, get_setting
from clipsearch.store.generations import publish, sweep, verify
from clipsearch.store.library import Library, Snapshot
from clipsearch.store.vectors import Rows
from clipsearch.store.writer import Writer
from clipsearch.types import Modality

logger = logging.getLogger("clipsearch")

KIND_KEY = "index_kind"
MAX_TRAINING_ROWS = 100_000
STALE_SHARE = 0.2
"""A generation is rebuilt when more than this share of the rows came after it."""


def build(library: Library, writer: Writer, kind: str) -> dict[Modality, str]:
    """Build the index of every modality anew and make it active.

    kind: one of clipsearch.ann.registry.KINDS; it is kept as the library's choice. Returns the kind that was built,
    by modality. Raises LibraryError when the disk refuses; the generation before stays active then.
    """
    writer.set_setting(KIND_KEY, kind)
    with library.read() as snapshot:
        chosen = {m: registry.choose(kind, len(snapshot.rows(m))) for m in Modality if len(snapshot.rows(m))}
        for modality in Modality:
            if chosen.get(modality, "flat") == "flat":
                writer.deactivate(modality)
            else:
                _build_one(library, writer, snapshot, modality, chosen[modality])
    _sweep(library)
    return chosen


def refresh(library: Library, writer: Writer) -> None:
    """Rebuild what is missing, damaged or stale, after the library's own choice of kind."""
    with library.query() as connection:
        kind = get_setting(connection, KIND_KEY) or "auto"
    with library.read() as snapshot:
        for modality in Modality:
            rows = len(snapshot.rows(modality))
            wanted = registry.choose(kind, rows)
            if wanted != "flat" and not _is_good(library, snapshot.generation(modality), rows):
                logger.info("Building the %s index of %d %s vectors.", wanted, rows, modality)
                _build_one(library, writer, snapshot, modality, wanted)
    _sweep(library)


def _is_good(library: Library, generation: Generation | None, rows: int) -> bool:
    if generation is None or rows - generation.watermark > STALE_SHARE * rows:
        return False
    try:
        verify(library.folder, generation)
    except StoreCorruptError as error:
        logger.warning("%s It is built anew.", error)
        return False
    return True


def _build_one(library: Library, writer: Writer, snapshot: Snapshot, modality: Modality, kind: str) -> None:
    rows = snapshot.rows(modality)
    index = registry.create(kind, len(rows), rows.dim)
    _fill(index, rows)
    name, checksums = publish(library.folder, str(modality), index.save)
    writer.activate(Generation(modality, name, kind, index.params, len(index), checksums))


def _fill(index: AnnIndex, rows: Rows) -> None:
    index.train(_sample(rows))
    for _, block in rows.blocks():
        index.add(block)


def _sample(rows: Rows) -> NDArray[np.float32]:
    """Return the rows to learn from, evenly spread: float32 (at most MAX_TRAINING_ROWS, dim)."""
    ranks = np.linspace(0, len(rows) - 1, min(len(rows), MAX_TRAINING_ROWS)).astype(np.int64)
    return rows.gather(np.unique(ranks))


def _sweep(library: Library) -> None:
    with library.read() as snapshot:
        active = {g.name for m in Modality if (g := snapshot.generation(m)) is not None}
    sweep(library.folder, active)
