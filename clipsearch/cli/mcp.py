"""clipsearch mcp."""

from __future__ import annotations

import contextlib
import logging
import os

import click

from clipsearch.cli.options import library_option, note, read_settings
from clipsearch.errors import ClipSearchError


@click.command()
@click.option("--http", is_flag=True, help="Serve over HTTP instead of stdin and stdout.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --http: where to listen.")
@click.option(
    "--port",
    default=8765,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="With --http: the port, 0 for any that is free.",
)
@click.option(
    "--token",
    envvar="CLIPSEARCH_MCP_TOKEN",
    help="With --http: what each request must bring.  [default: $CLIPSEARCH_MCP_TOKEN]",
)
@click.option("--allow-write", is_flag=True, help="Offer tools that add, change and delete items.")
@library_option
@click.option("--offline", is_flag=True, default=None, help="Never contact a model hub.")
def mcp(
    http: bool,
    host: str,
    port: int,
    token: str | None,
    allow_write: bool,
    library: str | None,
    offline: bool | None,
) -> None:
    """Serve the library to an assistant, by the Model Context Protocol.

    \b
    clipsearch mcp --library ./photos/.clipsearch
    clipsearch mcp --http --port 8765

    The tools search, list and look: search, similar, find, get_image, stats. Only with --allow-write do others add,
    change and delete items.
    """  # noqa: D301 - click wants the character itself
    try:
        from clipsearch.integrations.mcp import build_server
        from clipsearch.integrations.mcp.http import serve
    except ModuleNotFoundError as error:
        raise ClipSearchError(
            f"`clipsearch mcp` needs {error.name}, which is not installed. Run: pip install 'clipsearch[mcp]'"
        ) from error
    import clipsearch
    from clipsearch.access import Access

    access = Access(host, port, token or None, allow_write) if http else None
    if access is not None:
        access.check()
    _log_briefly()
    settings, folder = read_settings(library=library, offline=offline)
    with clipsearch.open(folder, settings=settings) as engine:
        server = build_server(engine, allow_write=allow_write)
        if access is None:
            server.run("stdio")
            return
        with contextlib.suppress(KeyboardInterrupt):
            serve(server, access, lambda url: note(f"Listening: {url}. It stops with Ctrl-C."))


class _Brief(logging.Formatter):
    """Leaves out tracebacks: the SDK logs one for each request that a client got wrong."""

    def formatException(self, ei: object) -> str:
        return ""


def _log_briefly() -> None:
    """Log to stderr, on a line each, what the SDK reports; with CLIPSEARCH_DEBUG, its tracebacks too."""
    handler = logging.StreamHandler()
    if not os.environ.get("CLIPSEARCH_DEBUG"):
        handler.setFormatter(_Brief("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
