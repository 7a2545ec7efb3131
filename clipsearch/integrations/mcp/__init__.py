"""A library as a server of the Model Context Protocol (https://modelcontextprotocol.io), by the official SDK.

An assistant gets tools that search, list and look; those that change the library are there only if they are allowed.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec

from mcp.server import MCPServer
from mcp_types import CallToolResult, TextContent, ToolAnnotations

import clipsearch
from clipsearch import ClipSearchError, SearchEngine
from clipsearch.integrations.mcp.reading import ReadingTools

INSTRUCTIONS = (
    "Searches a library of pictures and texts by meaning. Use `search` for what is described in words, `find` for what "
    "is known by date, tag, folder or metadata, and `similar` for more like known items. Results name items by `key`; "
    "`get_image` shows one. If `confident` is false, nothing in the library stands out for the query."
)

P = ParamSpec("P")


def build_server(engine: SearchEngine, *, allow_write: bool = False) -> MCPServer[Any]:
    """Build a server for the library of an engine.

    Args:
        engine: It is shared by the tools, which run in threads; the caller closes it.
        allow_write: Offer the tools that change the library too.

    Returns:
        A server, to be run over any transport of the SDK.
    """
    server: MCPServer[Any] = MCPServer(
        "clipsearch",
        title="clipsearch",
        instructions=INSTRUCTIONS,
        version=clipsearch.__version__,
        log_level="WARNING",
        subscriptions=False,
    )
    reading = ReadingTools(engine, writable=allow_write)
    looks = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    for look in (reading.search, reading.similar, reading.find, reading.get_image, reading.stats):
        server.add_tool(guarded(look), description=inspect.getdoc(look), annotations=looks)
    if allow_write:
        from clipsearch.integrations.mcp.writing import WritingTools

        writing = WritingTools(engine)
        # Whatever is added or changed may replace what was there under its key.
        changes = ToolAnnotations(
            read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
        )
        for change in (writing.add_text, writing.add_image, writing.update, writing.delete):
            server.add_tool(guarded(change), description=inspect.getdoc(change), annotations=changes)
    return server


def guarded(tool: Callable[P, CallToolResult]) -> Callable[P, CallToolResult]:
    """Give errors of ours to the model as what they say; whatever else is raised, the SDK reports without its text."""

    @functools.wraps(tool)
    def run(*args: P.args, **kwargs: P.kwargs) -> CallToolResult:
        try:
            return tool(*args, **kwargs)
        except ClipSearchError as error:
            said = str(error).encode("utf-8", "backslashreplace").decode()
            return CallToolResult(content=[TextContent(type="text", text=said)], is_error=True)

    return run
