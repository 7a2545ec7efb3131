"""Opening several libraries as one: folders on this machine, and libraries that servers have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from clipsearch.config import Settings, load_settings
from clipsearch.errors import ClipSearchError, InvalidInputError, LibraryError
from clipsearch.locations import library_path
from clipsearch.paths import is_url
from clipsearch.query.engine import SearchEngine
from clipsearch.query.joint.engine import JointEngine
from clipsearch.query.joint.part import LocalPart, Part
from clipsearch.store.library import Library

if TYPE_CHECKING:
    from clipsearch.client.client import Client


def open_several(
    libraries: Sequence[str | os.PathLike[str] | SearchEngine | Client],
    settings: Settings | None = None,
    *,
    partial: bool = False,
    token: str | None = None,
    allow_http: bool = False,
) -> JointEngine:
    """Open libraries to search them as one. Those that are opened here are closed with the engine.

    libraries: folders, URLs of servers, engines, clients. partial: leave out what cannot be opened, with a warning.
    token: what servers that are named by URLs need; None takes CLIPSEARCH_TOKEN. allow_http: as `Client` takes it.

    Raises InvalidInputError for no library or one twice, and what opening one of them raises.
    """
    chosen = settings or load_settings()
    parts: list[Part] = []
    lost: list[tuple[object, ClipSearchError]] = []
    try:
        for each in libraries:
            try:
                parts.append(_open(each, chosen, token, allow_http))
            except InvalidInputError:
                raise
            except ClipSearchError as error:
                if not partial:
                    raise
                lost.append((each, error))
        if lost and not parts:
            raise LibraryError(f"None of the libraries can be opened. {lost[0][1]}")
        warnings = [f"{name} is not searched: {error}" for name, error in lost]
        return JointEngine(parts, chosen, partial=partial, unopened=warnings)
    except BaseException:
        for part in parts:
            part.close()
        raise


def _open(
    library: str | os.PathLike[str] | SearchEngine | Client, settings: Settings, token: str | None, allow_http: bool
) -> Part:
    if isinstance(library, SearchEngine):
        return LocalPart(library, own=False)
    if isinstance(library, str) and is_url(library):
        from clipsearch.client.client import Client
        from clipsearch.client.part import RemotePart

        secret = token or os.environ.get("CLIPSEARCH_TOKEN") or None
        return RemotePart(Client(library, secret, allow_http=allow_http))
    if isinstance(library, str | os.PathLike):
        return LocalPart(SearchEngine(Library(library_path(os.fspath(library))), settings))
    from clipsearch.client.client import Client

    if isinstance(library, Client):
        from clipsearch.client.part import RemotePart

        return RemotePart(library, own=False)
    raise InvalidInputError(f"A library is a folder, a URL, an engine or a client, not {library!r:.80}.")


def refuse_writing() -> NoReturn:
    """Raise the error for arguments that make a library where several are opened."""
    raise InvalidInputError(
        "Several libraries are only searched: create, model, dim and index_metadata are for one. "
        "Make each library first: clipsearch.open(DIR, create=True)"
    )
