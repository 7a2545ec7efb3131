"""One import of vectors that were made elsewhere, from a source to a committed library."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.encoders import export_folder, registry
from clipsearch.errors import (
    ClipSearchError,
    EncoderUnavailableError,
    InvalidInputError,
    LibraryNotFoundError,
)
from clipsearch.store import catalog
from clipsearch.store.library import Library
from clipsearch.store.reading import CATALOG, EncoderPin, imported_fingerprint, is_imported
from clipsearch.store.writer import Writer
from clipsearch.types import Modality
from indexer import build
from indexer.calibration import encoder_loader
from indexer.report import Progress, Silent
from indexer.sources.embeddings import EmbeddingSource
from indexer.spreads import refresh_spreads

logger = logging.getLogger("clipsearch")


@dataclass(slots=True)
class ImportReport:
    """The outcome of an import, in records. skipped: were there already, as they are. seconds: wall time."""

    imported: int = 0
    skipped: int = 0
    replaced: int = 0
    seconds: float = 0.0


def import_embeddings(
    folder: Path,
    source: str,
    *,
    encoder: str,
    items: str | None = None,
    modality: Modality | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> ImportReport:
    """Bring the vectors of a source into the library in `folder`, as a collection that is named by the source.

    The whole source is checked before anything is written. Then it is committed a block at a time; after a kill the
    same call goes on where it was. encoder: the name of what made the vectors, in any form; nothing is fetched.
    items, modality: see EmbeddingSource. Raises InvalidInputError for a source that cannot be used,
    EncoderMismatchError for a library of another encoder, LibraryLockedError, LibraryError for a full disk.
    """
    started = time.monotonic()
    progress = progress or Silent()
    opened = EmbeddingSource(source, items, modality)
    pin = _pin(folder, encoder, opened.dim)
    for rows in opened.check():
        progress.scanned(rows)
    library = Library.create(folder)
    try:
        library.pin(pin)
        with library.writer() as writer:
            library.check_pin(pin)
            report = _import(opened, writer, library.base, progress)
            _refresh(library, writer, settings or Settings())
    finally:
        library.close()
    report.seconds = round(time.monotonic() - started, 3)
    return report


def _import(source: EmbeddingSource, writer: Writer, base: str, progress: Progress) -> ImportReport:
    report = ImportReport()
    root_id = writer.add_collection(base, str(source.path))
    progress.start(source.rows)
    for block in source.blocks():
        counts = writer.commit_records(root_id, block)
        report.imported += counts.imported
        report.skipped += counts.skipped
        report.replaced += counts.replaced
        progress.advance(len(block.records))
    left = writer.count_records(root_id) - source.rows
    if left > 0:
        logger.warning(
            "%s records of earlier imports are no longer in %s; they stay in the library. To remove them: "
            "clipsearch forget %s, then import again.", f"{left:,}", source.path, source.path,
        )  # fmt: skip
    return report


def _refresh(library: Library, writer: Writer, settings: Settings) -> None:
    """Renew the index and the spreads; what was committed stands whether or not that succeeds."""
    pin, load = library.encoder, encoder_loader(library, settings)
    try:
        build.refresh(library, writer, load)
        if pin is not None and not is_imported(pin.fingerprint):
            refresh_spreads(library, writer, load)
    except ClipSearchError as error:
        logger.warning("%s", error)


def _pin(folder: Path, encoder: str, dim: int) -> EncoderPin:
    """Return what the library is, or will be, pinned to. Raises EncoderMismatchError, InvalidInputError."""
    name = _canonical(encoder)
    present = _present_pin(folder, name)
    if present is not None:
        # Vectors carry no fingerprint: that they are of the library's encoder, their name alone says.
        _check_dim(dim, present.dim, f"the library in {folder} has")
        return present
    fingerprint, made_dim = _known(name)
    _check_dim(dim, made_dim or dim, f"{name} makes")
    return EncoderPin(name, fingerprint or imported_fingerprint(name), dim)


def _present_pin(folder: Path, name: str) -> EncoderPin | None:
    """Return what a library that holds something is pinned to. Raises EncoderMismatchError if that is another name."""
    if not (folder / CATALOG).exists():
        return None
    try:
        library = Library(folder)
    except LibraryNotFoundError:  # a catalog that was never filled
        return None
    try:
        library.check_encoder(name)
        with library.query() as connection:
            return None if catalog.is_empty(connection) else library.encoder
    finally:
        library.close()


def _check_dim(dim: int, wanted: int, who: str) -> None:
    if dim != wanted:
        raise InvalidInputError(f"The vectors have {dim} dimensions, but {who} {wanted}. Nothing was imported.")


def _canonical(name: str) -> str:
    """Return a name as the registry writes it, or as it is where the registry has never heard of it."""
    given = name.strip()
    if not given or given.lower() == registry.AUTO:
        raise InvalidInputError(
            f"--encoder is {name!r}, but it must name what made the vectors, such as ViT-B-32/openai."
        )
    try:
        return registry.resolve(given, offline=True).name
    except EncoderUnavailableError:
        return given


def _known(name: str) -> tuple[str | None, int | None]:
    """Return the fingerprint and the dimensions of an encoder, as far as this machine knows them; nothing is loaded."""
    if name in registry.BUILTINS:
        encoder = registry.load_pinned(name, model=registry.AUTO, threads=1, offline=True, fingerprint=None)
        return encoder.fingerprint, encoder.dim
    for _, meta in export_folder.find_exports(registry.exports_root(), name):
        return meta.fingerprint, meta.dim
    return None, next((preset.dim for preset in registry.PRESETS.values() if preset.name == name), None)
