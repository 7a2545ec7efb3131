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

F = TypeVar("F", bound=Callable[..., Any])

SERVER = "CLIPSEARCH_SERVER"

_OPTIONS = (
    click.option("--server", metavar="URL", help=f"Ask a server of clipsearch instead.  [default: ${SERVER}]"),
    click.option(
        "--token-file", metavar="FILE", help="A file whose first line the server needs.  [default: $CLIPSEARCH_TOKEN]"
    ),
    click.option("--allow-http", is_flag=True, help="Send the token unencrypted to another machine too."),
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


def _connect(url: str, token_file: str | None, allow_http: bool) -> Client:
    from clipsearch.cli.server_token import read_token
    from clipsearch.client.client import Client

    token = read_token(token_file) if token_file else os.environ.get("CLIPSEARCH_TOKEN") or None
    return Client(url, token, allow_http=allow_http)
