"""One import of vectors that were made elsewhere, from a source to a committed library."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.encoders import listing, names, registry
from clipsearch.encoders.dimensions import dimension_of
from clipsearch.errors import (
    ClipSearchError,
    EncoderUnavailableError,
    InvalidInputError,
    LibraryNotFoundError,
)
from clipsearch.store import catalog
from clipsearch.store.library import Library
from clipsearch.store.reading import catalog_file
from clipsearch.store.writer import Writer
from clipsearch.types import EncoderPin, Modality
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
    encoder: str | None = None,
    encoder_dir: str | None = None,
    items: str | None = None,
    modality: Modality | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
) -> ImportReport:
    """Bring the vectors of a source into the library in `folder`, as a collection that is named by the source.

    The whole source is checked before anything is written. Then it is committed a block at a time; after a kill the
    same call goes on where it was. encoder: the name of what made the vectors, in any form; nothing is fetched.
    encoder_dir: instead of it, the folder of an open_clip model, which is loaded, and trusted from then on.
    items, modality: see EmbeddingSource. Raises InvalidInputError for a source that cannot be used,
    EncoderMismatchError for a library of another encoder, EncoderUnavailableError for a model that cannot be loaded,
    LibraryLockedError, LibraryError for a full disk.
    """
    started = time.monotonic()
    progress, settings = progress or Silent(), settings or Settings()
    opened = EmbeddingSource(source, items, modality)
    if encoder_dir is None:
        pin = _pin(folder, canonical_name(encoder or ""), opened.dim)
    else:
        pin = _pin_of_folder(folder, encoder_dir, opened.dim, settings)
    for rows in opened.check():
        progress.scanned(rows)
    library = Library.create(folder)
    try:
        library.pin(pin)
        with library.writer() as writer:
            library.check_pin(pin)
            report = _import(opened, writer, library.base, progress)
            refresh_derived(library, writer, settings)
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


def refresh_derived(library: Library, writer: Writer, settings: Settings, *, spreads: bool = True) -> None:
    """Renew the index, and the spreads unless they are known; what was committed stands whatever becomes of that."""
    load = encoder_loader(library, settings)
    try:
        build.refresh(library, writer, load)
        if spreads:
            refresh_spreads(library, writer, load)
    except ClipSearchError as error:
        logger.warning("%s", error)


def _pin(folder: Path, name: str, dim: int) -> EncoderPin:
    """Return what the library is, or will be, pinned to. Raises EncoderMismatchError, InvalidInputError."""
    present = _present_pin(folder, name)
    if present is not None:
        # Vectors carry no fingerprint: that they are of the library's encoder, their name alone says.
        _check_dim(dim, present.dim, f"the library in {folder} has")
        return present
    fingerprint, made_dim = listing.identify(name)
    model_folder = names.folder_of(name)
    if fingerprint is None and model_folder is not None and not os.path.isdir(model_folder):
        raise InvalidInputError(
            f"The encoder is the model in {model_folder}, but there is no such folder. Correct the path, or name the "
            "model otherwise."
        )
    _check_dim(dim, made_dim or dimension_of(name) or dim, f"{name} makes")
    return EncoderPin(name, fingerprint, dim) if fingerprint else EncoderPin.imported(name, dim)


def _pin_of_folder(folder: Path, encoder_dir: str, dim: int, settings: Settings) -> EncoderPin:
    """Return the pin of the model in `encoder_dir`, which the user names and which therefore is trusted."""
    if not encoder_dir or not os.path.isdir(encoder_dir):
        raise InvalidInputError(f"There is no folder {encoder_dir!r}. Name the folder of an open_clip model.")
    name = names.resolve(names.LOCAL + encoder_dir, offline=True).name
    _check_dim(dim, dimension_of(name) or dim, f"the model in {encoder_dir} makes")
    present = _present_pin(folder, name)
    encoder = registry.load(name, threads=settings.cores, offline=True)
    _check_dim(dim, encoder.dim, f"the model in {encoder_dir} makes")
    return present or EncoderPin(name, encoder.fingerprint, encoder.dim)


def _present_pin(folder: Path, name: str) -> EncoderPin | None:
    """Return what a library that holds something is pinned to. Raises EncoderMismatchError if that is another name."""
    if not catalog_file(folder).exists():
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


def canonical_name(name: str) -> str:
    """Return a name as the registry writes it, or as it is where the registry has never heard of it."""
    given = name.strip()
    if not given or given.lower() == names.AUTO or not given.isprintable():
        raise InvalidInputError(
            f"The encoder is {name!r}, but it must name what made the vectors, such as ViT-B-32/openai. For a model in "
            "a folder: `--encoder-dir DIR` (in Python: model='local-dir:DIR')."
        )
    try:
        return names.resolve(given, offline=True).name
    except EncoderUnavailableError:
        return given
