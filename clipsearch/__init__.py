"""Cross-modal semantic search over pictures and texts.

    import clipsearch
    hits = clipsearch.open("photos/.clipsearch").search(text="a cat on a sofa", k=10)

Importing this package loads nothing heavy; what a name needs is imported when the name is used.
"""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from clipsearch.client.async_client import AsyncClient
    from clipsearch.client.client import Client
    from clipsearch.config import Settings, load_settings
    from clipsearch.errors import (
        AccessDeniedError,
        AnnIndexError,
        ClipSearchError,
        EncoderError,
        EncoderMismatchError,
        EncoderUnavailableError,
        InvalidInputError,
        LibraryError,
        LibraryLockedError,
        LibraryNotFoundError,
        MediaError,
        PictureError,
        SchemaVersionError,
        ServerBusyError,
        ServerError,
        StoreCorruptError,
        TextError,
    )
    from clipsearch.filtering import Filter
    from clipsearch.matches import Match, Matches
    from clipsearch.query.engine import SearchEngine
    from clipsearch.query.joint.engine import JointEngine
    from clipsearch.query.parser import QuerySyntaxError, parse
    from clipsearch.query.terms import Indexed, Picture, Query, Text
    from clipsearch.records import AddReport, Record
    from clipsearch.saved_searches import SavedAnswer, SavedSearch
    from clipsearch.types import (
        Collection,
        Facets,
        Hit,
        Item,
        Listing,
        Modality,
        Page,
        Passage,
        PictureInfo,
        Results,
        Suggestion,
        TextLine,
    )
    from indexer.report import IndexReport

__version__ = "0.1.0"

logging.getLogger("clipsearch").addHandler(logging.NullHandler())  # a program that wants to hear of it says where

_HOMES = {
    "clipsearch.client.async_client": ("AsyncClient",),
    "clipsearch.client.client": ("Client",),
    "clipsearch.config": ("Settings", "load_settings"),
    "clipsearch.days": ("group_by_day",),
    "clipsearch.errors": (
        "AccessDeniedError", "AnnIndexError", "ClipSearchError", "EncoderError", "EncoderMismatchError",
        "EncoderUnavailableError", "InvalidInputError", "LibraryError", "LibraryLockedError", "LibraryNotFoundError",
        "MediaError", "PictureError", "SchemaVersionError", "ServerBusyError", "ServerError", "StoreCorruptError",
        "TextError",
    ),
    "clipsearch.explanation": ("Explanation", "TermScore", "WordMatch"),
    "clipsearch.filtering": ("Filter",),
    "clipsearch.matches": ("Match", "Matches"),
    "clipsearch.query.engine": ("SearchEngine",),
    "clipsearch.query.joint.engine": ("JointEngine",),
    "clipsearch.query.parser": ("QuerySyntaxError", "parse"),
    "clipsearch.query.terms": ("Indexed", "Picture", "Query", "Text"),
    "clipsearch.records": ("AddReport", "Record"),
    "clipsearch.saved_searches": ("SavedAnswer", "SavedSearch"),
    "clipsearch.types": (
        "Cluster", "Collection", "Facets", "Hit", "Item", "Listing", "Modality", "Page", "Passage", "PictureInfo",
        "Places", "Results", "Suggestion", "TextLine",
    ),
    "indexer.report": ("IndexReport",),
}  # fmt: skip

__all__ = [
    "AccessDeniedError",
    "AddReport",
    "AnnIndexError",
    "AsyncClient",
    "Client",
    "ClipSearchError",
    "Cluster",
    "Collection",
    "EncoderError",
    "EncoderMismatchError",
    "EncoderUnavailableError",
    "Explanation",
    "Facets",
    "Filter",
    "Hit",
    "IndexReport",
    "Indexed",
    "InvalidInputError",
    "Item",
    "JointEngine",
    "LibraryError",
    "LibraryLockedError",
    "LibraryNotFoundError",
    "Listing",
    "Match",
    "Matches",
    "MediaError",
    "Modality",
    "Page",
    "Passage",
    "Picture",
    "PictureError",
    "PictureInfo",
    "Places",
    "Query",
    "QuerySyntaxError",
    "Record",
    "Results",
    "SavedAnswer",
    "SavedSearch",
    "SchemaVersionError",
    "SearchEngine",
    "ServerBusyError",
    "ServerError",
    "Settings",
    "StoreCorruptError",
    "Suggestion",
    "TermScore",
    "Text",
    "TextError",
    "TextLine",
    "WordMatch",
    "group_by_day",
    "load_settings",
    "open",
    "parse",
]


@overload
def open(  # type: ignore[overload-overlap]
    library: str | os.PathLike[str] | None = None,
    *,
    create: bool = False,
    model: str | None = None,
    dim: int | None = None,
    index_metadata: str | Iterable[str] = (),
    timeout: float = 30.0,
    settings: Settings | None = None,
    catalog: str | None = None,
) -> SearchEngine: ...
@overload
def open(
    library: Sequence[str | os.PathLike[str] | SearchEngine | Client],
    *,
    partial: bool = False,
    settings: Settings | None = None,
) -> JointEngine: ...
def open(
    library: str | os.PathLike[str] | Sequence[str | os.PathLike[str] | SearchEngine | Client] | None = None,
    *,
    create: bool = False,
    model: str | None = None,
    dim: int | None = None,
    index_metadata: str | Iterable[str] = (),
    timeout: float = 30.0,
    settings: Settings | None = None,
    partial: bool = False,
    catalog: str | None = None,
) -> SearchEngine | JointEngine:
    """Open a library, to search it and to write to it; or several, to search them as one.

    Args:
        library: Its folder; None finds it as the command line does: the environment, the nearest `.clipsearch/`, the
            data folder. Or a list of libraries of one encoder: folders, URLs of servers, engines and clients. Those
            that are opened here are closed with the engine.
        create: Make the library if it is not there.
        model: The encoder of a new library, as `clipsearch index --model` takes it; None for what the settings name. An
            existing library must have that encoder.
        dim: The length of vectors that are made elsewhere, by what `model` names; nothing is encoded then.
        index_metadata: Names of metadata whose values are indexed from now on, beside those that are.
        timeout: Seconds that a call that writes waits for another writer.
        settings: None reads the environment and the config file. A `local-dir:` or `hf-hub:` model is loaded only if
            `Settings(model=...)`, `clipsearch trust` or `index --model` named it.
        partial: Of several libraries, leave out those that are out of reach, with a warning; else that is an error.
        catalog: The PostgreSQL server of a new library's catalog, or the one that an existing one is to be reached at:
            `postgresql+psycopg://USER@HOST/DATABASE`. None for what the folder or CLIPSEARCH_CATALOG says.

    Returns:
        A search engine, safe to share between threads. Close it, or use it as a context manager.

    Raises:
        LibraryNotFoundError: The library does not exist.
        EncoderMismatchError: The library has another encoder than `model`.
        EncoderUnavailableError: The encoder of a new library cannot be loaded; that of another, at the first search.
        InvalidInputError: An argument cannot be used.
        LibraryError: The library cannot be made there, or not be written where there is a name to index.

    Example:
        >>> with clipsearch.open("photos/.clipsearch") as engine:
        ...     hits = engine.search("a cat on a sofa", k=10)
    """
    if library is not None and not isinstance(library, str | os.PathLike):
        from clipsearch.client.joining import open_several, refuse_writing

        if create or model is not None or dim is not None or index_metadata or catalog is not None:
            refuse_writing()
        return open_several(library, settings, partial=partial)
    from clipsearch.config import load_settings
    from clipsearch.locations import library_path
    from clipsearch.query.opening import open_engine

    chosen = settings or load_settings()
    folder = library_path(os.fspath(library) if library is not None else chosen.library)
    return open_engine(
        folder, chosen, create=create, model=model, dim=dim, index_metadata=index_metadata, timeout=timeout,
        catalog=catalog,
    )  # fmt: skip


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:  # noqa: ANN401
        for home, names in _HOMES.items():
            if name in names:
                return getattr(importlib.import_module(home), name)
        raise AttributeError(f"module 'clipsearch' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__", "__doc__"])
