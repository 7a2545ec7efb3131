"""The options by which a command asks a server for what its library has, in place of one on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from clipsearch.errors import InvalidInputError

if TYPE_CHECKING:
    from clipsearch.client.client import Client
    from clipsearch.query.joint.engine import JointEngine

F = TypeVar("F", bound=Callable[..., Any])

SERVER = "CLIPSEARCH_SERVER"

_OPTIONS = (
    click.option("--server", metavar="URL", help=f"Ask a server of clipsearch instead.  [default: ${SERVER}]"),
    click.option(
        "--token-file", metavar="FILE", help="A file whose first line the server needs.  [default: $CLIPSEARCH_TOKEN]"
    ),
    click.option("--allow-http", is_flag=True, help="Send the token unencrypted to another machine too."),
)

_SHARD_OPTIONS = (
    click.option(
        "--shards",
        multiple=True,
        metavar="DIR|URL",
        help="Search several libraries as one; say it for each, or put commas between.",
    ),
    click.option("--partial", is_flag=True, help="Leave out libraries that are out of reach, with a warning."),
)


def server_options(command: F) -> F:
    """Add the options; the command gets a client as `server`, or None for a library on this machine."""

    @wraps(command)
    def connected(server: str | None, token_file: str | None, allow_http: bool, **given: Any) -> Any:  # noqa: ANN401
        url = server or _named(server)
        if url is None:
            if token_file is not None or allow_http:
                raise InvalidInputError(f"A token is sent to a server. Name it: --server URL, or {SERVER}")
            return command(server=None, **given)
        if server is not None and _is_written("library"):
            raise InvalidInputError("A server has a library of its own. Use one of --server and --library.")
        with _connect(url, token_file, allow_http) as client:
            return command(server=client, **given)

    for option in reversed(_OPTIONS):
        connected = option(connected)
    return connected  # type: ignore[return-value]


def shard_options(command: F) -> F:
    """Add `server_options` and those of several libraries, whose engine the command gets as `server`."""
    connected = server_options(command)

    @wraps(connected)
    def joined(shards: tuple[str, ...], partial: bool, **given: Any) -> Any:  # noqa: ANN401
        named = [name for each in shards for name in each.split(",") if name]
        if not named:
            if partial:
                raise InvalidInputError("--partial is for several libraries. Name them: --shards DIR --shards DIR")
            return connected(**given)
        if _is_written("library") or given["server"] is not None:
            raise InvalidInputError("--shards names all libraries. Use it without --library and --server.")
        rest = {name: value for name, value in given.items() if name not in ("server", "token_file", "allow_http")}
        with _join(named, partial, given) as engine:
            return command(**rest, server=engine)

    for option in reversed(_SHARD_OPTIONS):
        joined = option(joined)
    return joined  # type: ignore[return-value]


def refuse_local(names: dict[str, bool]) -> None:
    """Raise InvalidInputError for options that need the files of the library; names: whether each is given."""
    given = [name for name, is_given in names.items() if is_given]
    if given:
        raise InvalidInputError(f"{', '.join(given)} needs the library on this machine. Leave it out with a server.")


def _named(server: str | None) -> str | None:
    """Return the server that the environment names, unless a library is named by an option."""
    named = os.environ.get(SERVER)
    return named if named and server is None and not _is_written("library") else None


def _is_written(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _join(named: list[str], partial: bool, given: dict[str, Any]) -> JointEngine:
    from clipsearch.cli.options import read_settings
    from clipsearch.client.joining import open_several

    no_cache = given.get("no_cache")
    settings, _ = read_settings(offline=given.get("offline"), query_cache=False if no_cache else None)
    return open_several(
        named, settings, partial=partial, token=_token(given["token_file"]), allow_http=given["allow_http"]
    )


def _token(token_file: str | None) -> str | None:
    from clipsearch.cli.server_token import read_token

    return read_token(token_file) if token_file else os.environ.get("CLIPSEARCH_TOKEN") or None


def _connect(url: str, token_file: str | None, allow_http: bool) -> Client:
    from clipsearch.client.client import Client

    return Client(url, _token(token_file), allow_http=allow_http)
