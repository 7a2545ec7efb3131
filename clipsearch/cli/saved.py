"""clipsearch saved, clipsearch unsave, and how a saved search is run by `clipsearch query --saved`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from clipsearch.cli.options import (
    json_option,
    library_option,
    note,
    read_settings,
    write_bytes,
)
from clipsearch.cli.remote import refuse_local, server_options
from clipsearch.cli.showing import Showing, written
from clipsearch.config import Settings
from clipsearch.errors import ClipSearchError, InvalidInputError

if TYPE_CHECKING:
    from clipsearch.cli.requests import Answer, SearchRequest
    from clipsearch.client.client import Client
    from clipsearch.query.engine import SearchEngine
    from clipsearch.query.joint.engine import JointEngine
    from clipsearch.saved_searches import SavedAnswer, SavedSearch

_WITH_SAVED = {"saved", "new", "k", "offset"}
"""Options of `query` about the search itself that go with --saved."""


@click.command()
@json_option
@library_option
@server_options
def saved(as_json: bool, library: str | None, server: Client | None) -> None:
    """List the saved searches of the library.

    \b
    clipsearch saved
    clipsearch query --saved beaches
    """  # noqa: D301 - click wants the character itself
    from clipsearch import present

    with opened(library, server) as engine:
        found = engine.saved_searches()
    if as_json:
        write_bytes(present.to_json({"searches": [asdict(each) for each in found]}))
        return
    if not found:
        note('The library has no saved searches. Save one: clipsearch save NAME "a cat on a sofa"')
    write_bytes("".join(map(_line, found)).encode("utf-8", "backslashreplace"))


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@library_option
@server_options
def unsave(names: tuple[str, ...], library: str | None, server: Client | None) -> None:
    """Delete saved searches; what they find stays.

    \b
    clipsearch unsave beaches
    """  # noqa: D301 - click wants the character itself
    from clipsearch.paths import printable

    with opened(library, server) as engine:
        for name in names:
            engine.delete_search(name)
            note(f"Search deleted: {printable(name)}")


def run_saved(
    name: str | None,
    new: bool,
    asked: SearchRequest,
    showing: Showing,
    settings: Settings,
    library: Path,
    server: Client | JointEngine | None,
) -> Answer:
    """Run a saved search, print what it finds in the shape of a request, and remember what was shown as new."""
    from clipsearch.cli.query import put_out
    from clipsearch.cli.requests import shape_answer
    from clipsearch.query.opening import open_library

    k, offset = _read_counts(name, new)
    assert name is not None
    showing.check()
    if server is not None:
        refuse_local(written(showing))
    with ExitStack() as stack:
        engine = server or stack.enter_context(open_library(library, settings))
        found: SavedAnswer = engine.run_search(name, new=new, k=k, offset=offset)
        given = shape_answer(found.results, asked, is_here=server is None, only_new=new)
        put_out(given, asked.shape, showing, settings, library)
        if found.mark is not None:
            _remember(engine, name, found.mark, is_shown=len(found.results) > 0)
    return given


def _read_counts(name: str | None, new: bool) -> tuple[int | None, int | None]:
    """Return -k and --offset where they are given. Raises InvalidInputError for what does not go with --saved."""
    if name is None:
        raise InvalidInputError("--new is for a saved search. Name it: clipsearch query --saved NAME --new")
    from clipsearch.cli.save import says_what_is_found

    context = click.get_current_context()
    given = {
        each.name: each.opts[0]
        for each in context.command.params
        if context.get_parameter_source(str(each.name)) is ParameterSource.COMMANDLINE and says_what_is_found(each)
    }
    if other := [option for option_name, option in given.items() if option_name not in _WITH_SAVED]:
        raise InvalidInputError(
            f"A saved search has its own query and options. Leave out {', '.join(other)}, or save another search."
        )
    values = context.params
    return (values["k"] if "k" in given else None), (values["offset"] if "offset" in given else None)


def _remember(engine: SearchEngine | Client | JointEngine, name: str, mark: str, *, is_shown: bool) -> None:
    """Let what was printed count as seen. Where nothing was, nothing is lost if that cannot be written."""
    try:
        engine.remember_search(name, mark)
    except ClipSearchError as error:
        if is_shown:
            raise type(error)(f"What is new was printed, but not remembered: --new prints it again. {error}") from error


@contextmanager
def opened(library: str | None, server: Client | None) -> Iterator[SearchEngine | Client]:
    """Open the library here, unless a server is asked."""
    if server is not None:
        yield server
        return
    from clipsearch.query.opening import open_library

    settings, folder = read_settings(library=library)
    with open_library(folder, settings) as engine:
        yield engine


def _line(search: SavedSearch) -> str:
    from clipsearch.paths import printable

    options = json.dumps(search.options, ensure_ascii=False) if search.options else ""
    shown = (printable(f"{search.query}  {options}".rstrip()))[:200]
    return f"{printable(search.name)}\t{shown}\n"
