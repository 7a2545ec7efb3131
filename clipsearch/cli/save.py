"""clipsearch save."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import click

from clipsearch.cli.filters import FilteringCommand, filter_options, note_unknown_paths
from clipsearch.cli.options import library_option, note, search_options
from clipsearch.cli.query import query as query_command
from clipsearch.cli.query import read_query, says_more
from clipsearch.cli.remote import server_options
from clipsearch.errors import InvalidInputError
from clipsearch.query.options import SearchOptions

if TYPE_CHECKING:
    from clipsearch.client.client import Client

_QUERY = {"words", "image", "like", "unlike", "negate", "plain"}


def _save(
    name: str,
    plain: bool,
    options: SearchOptions,
    library: str | None,
    server: Client | None,
    **query: Any,  # noqa: ANN401 - what `read_query` takes
) -> None:
    """Keep a search in the library under a name, in place of one of that name.

    \b
    clipsearch save beaches "a beach" --on "last year" -k 50
    clipsearch save cat --image cat.jpg
    clipsearch query --saved beaches
    clipsearch query --saved beaches --new

    It takes the words and options of `clipsearch query` that say what is found. Dates in words, as "last month", are
    read each time that the search runs.
    """  # noqa: D301 - click wants the character itself
    from clipsearch.cli.saved import opened
    from clipsearch.paths import printable
    from clipsearch.words import fold_tag

    if bool(query["words"] or query["like"] or query["unlike"]) == (query["image"] is not None):
        raise InvalidInputError('Say what to look for, in words or with --image: clipsearch save cats "a cat"')
    text, picture, composed = read_query(**query)
    if not plain and says_more(query["words"], text):
        options = replace(options, understand=True)
    given = {each.name: getattr(options, each.name) for each in fields(options)}
    asked = text if composed is None else composed
    with opened(library, server) as engine:
        before = {fold_tag(each.name) for each in engine.saved_searches()}
        found = engine.save_search(name, asked, image=picture, **given)
    done = "Replaced" if fold_tag(found.name) in before else "Saved"
    run = f"clipsearch query --saved {printable(shlex.quote(found.name))}"
    note(f"{done}: {printable(found.name)}. Run it: {run}. Only what is new: --new")
    note_unknown_paths(server, library)


def says_what_is_found(option: click.Parameter) -> bool:
    """Tell whether an option of `query` is about what is found, not about how it is shown."""
    names = _QUERY.union(each.name for each in fields(SearchOptions))
    return option.name in names or str(option.name).startswith("filter_")


def _command() -> click.Command:
    """Make the command, whose options are those of `query` that say what is found: a new one comes along."""

    @click.command(cls=FilteringCommand)
    @library_option
    @server_options
    def own(**given: object) -> None:
        """Carry options."""

    shared = [each for each in query_command.params if says_what_is_found(each)]
    name = click.Argument(["name"])
    return FilteringCommand(
        "save",
        params=[name, *shared, *own.params],
        callback=server_options(filter_options(search_options(_save))),
        help=_save.__doc__,
    )


save = _command()
