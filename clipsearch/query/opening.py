"""Opening a library for search, and making a new one with the encoder that it is bound to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from clipsearch.config import Settings
from clipsearch.errors import EncoderUnavailableError, InvalidInputError, LibraryNotFoundError
from clipsearch.query.embedding import Embedder
from clipsearch.query.engine import SearchEngine
from clipsearch.query.validation import read_names
from clipsearch.store.library import Library, encoder_mismatch
from clipsearch.types import EncoderPin


def open_library(folder: Path, settings: Settings | None = None, embedder: Embedder | None = None) -> SearchEngine:
    """Open the library in a folder for search. Raises LibraryNotFoundError if it does not exist."""
    return SearchEngine(Library(folder), settings, embedder=embedder)


def open_second(folder: Path, settings: Settings | None = None) -> SearchEngine:
    """Open the second set of vectors of a library for search. Raises LibraryError if the library has no second set."""
    from clipsearch.store.second_library import SecondLibrary

    return SearchEngine(SecondLibrary(folder), settings)


def open_engine(
    folder: Path,
    settings: Settings,
    *,
    create: bool,
    model: str | None,
    dim: int | None,
    index_metadata: str | Iterable[str] = (),
    timeout: float,
    catalog: str | None = None,
) -> SearchEngine:
    """Open a library as `clipsearch.open` does. Raises what that raises."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < float("inf"):
        raise InvalidInputError(f"The timeout is {timeout!r}, but must be a number of seconds of at least 0.")
    names = read_names(index_metadata)
    library = open_or_create(folder, settings, create=create, model=model, dim=dim, timeout=timeout, catalog=catalog)
    engine = SearchEngine(library, settings, timeout=timeout, may_be_empty=True)
    try:
        engine.index_metadata(names)
    except BaseException:
        engine.close()
        raise
    return engine


def open_or_create(
    folder: Path,
    settings: Settings,
    *,
    create: bool,
    model: str | None,
    dim: int | None,
    timeout: float,
    catalog: str | None = None,
) -> Library:
    """Open the library in a folder, and make it if it is not there and `create` says so.

    model: the encoder of a new library, or what an existing one must have. dim: the library holds vectors of that
    length, made elsewhere with `model`.
    catalog: the URL of its catalog in PostgreSQL. Raises LibraryNotFoundError, EncoderMismatchError,
    InvalidInputError, and what loading the encoder raises, before anything is made.
    """
    given = None if dim is None else _imported_pin(model, dim)
    try:
        library = Library(folder, catalog)
    except LibraryNotFoundError:
        if not create:
            raise
        given = given or _load_pin(model, settings)  # before anything is made
        library = Library.create(folder, catalog_url=catalog, timeout=timeout)
    try:
        _agree(library, settings, create, model, given, timeout)
    except BaseException:
        library.close()
        raise
    return library


def _agree(
    library: Library, settings: Settings, create: bool, model: str | None, given: EncoderPin | None, timeout: float
) -> None:
    """Pin the encoder of a new or empty library. Raises EncoderMismatchError where another one is wanted."""
    present = library.encoder
    wanted = given
    if wanted is None and model is not None and model.strip().lower() != "auto" and present is not None:
        name = _canonical(model, settings)
        if _is_meant(model, name, present.name):
            return
        if not create:
            raise encoder_mismatch(library.folder, present.name, name)
    if wanted is None and present is not None and (model is None or model.strip().lower() == "auto"):
        return
    if not create and wanted != present:
        raise encoder_mismatch(library.folder, present.name if present else "no encoder", model or "another")
    if wanted is None:
        library.check_encoder(_canonical(model or settings.model, settings))
        wanted = _load_pin(model, settings)
    library.pin(wanted, timeout=timeout)


def _imported_pin(model: str | None, dim: int) -> EncoderPin:
    from clipsearch.store.vectors import MAX_DIM
    from indexer.importing import canonical_name

    if type(dim) is not int or not 0 < dim <= MAX_DIM:
        raise InvalidInputError(f"dim is {dim!r}, but must be a whole number from 1 to {MAX_DIM}.")
    if not model:
        raise InvalidInputError("With dim, model must name what makes the vectors, such as model='ViT-B-32/openai'.")
    return EncoderPin.imported(canonical_name(model), dim)


def _load_pin(model: str | None, settings: Settings) -> EncoderPin:
    from indexer.pipeline import choose_encoder

    encoder = choose_encoder(model, settings)
    return EncoderPin(encoder.name, encoder.fingerprint, encoder.dim)


def _canonical(model: str, settings: Settings) -> str:
    from clipsearch.encoders import names

    try:
        return names.resolve(model, offline=settings.offline).name
    except EncoderUnavailableError:
        return model.strip()


def _is_meant(asked: str, name: str, present: str) -> bool:
    from clipsearch.encoders import names

    return name == present or names.meant(asked, present)
