"""Exports that are sent: lines of JSON, as fast as a client takes them, of one state of the library."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing

from clipsearch.errors import ClipSearchError
from clipsearch.filtering import Filter
from clipsearch.server.problems import of_error
from clipsearch.server.service import OverdueError, Service

LEAST_RATE = 16 << 10
"""Bytes per second that a client must read: a snapshot that stays open keeps deleted data from being cleaned up."""


def send_export(service: Service, filters: Filter | None) -> Generator[bytes]:
    """Yield an export of the items that a filter allows, piece by piece; None for all. It blocks.

    What happens before the first piece is raised. What happens later, such as damage or a stop, is the last line.
    """
    from indexer.export_stream import problem_line, stream_export

    end = time.monotonic() + service.settings.work_seconds
    with closing(stream_export(service.engine.library, filters)) as pieces:
        yield next(pieces)
        try:
            for piece in pieces:
                if service.stopping.is_set():
                    raise OverdueError("The server stopped before the export was sent. Ask again once it runs.")
                if time.monotonic() > end:
                    raise OverdueError("The export is read too slowly, and was given up. Ask for fewer items.")
                yield piece
                end += len(piece) / LEAST_RATE
        except ClipSearchError as error:
            yield problem_line(bytes(of_error(error).body))
