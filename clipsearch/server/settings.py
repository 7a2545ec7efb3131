"""What a server may do, and how much of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import ClassVar

from clipsearch.access import Access
from clipsearch.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class ServerSettings(Access):
    """Who may reach a server, what they may do, and its limits.

    Attributes:
        allow_urls: Whether a search or an added record may name a picture by its URL, which the server fetches.
        allowed_hosts: Names by which a proxy in front of the server is reached, such as `photos.example.org`.
        index_folders: Folders that a job may index, with what is below them, beside the roots of the library.
        max_body: Bytes of a request at most, but for one that may bring pictures.
        max_upload: Bytes of a request that may bring pictures at most.
        max_in_flight: Bytes of all requests at work together at most, but for those of less than 64 KiB.
        max_pixels: The largest picture that is decoded of a request.
        max_queue: Requests that are at work or wait at most; the next is told to come back later.
        threads: Threads for work that is not done in batches, such as decoding.
        body_seconds: Seconds in which a request must have come, with one more for each 8 KiB.
        head_seconds: Seconds in which a connection must have sent the head of a request, in `clipsearch serve`.
        send_seconds: Seconds in which a client must read on in a response, in `clipsearch serve`.
        work_seconds: Seconds after which a request is given up.
        max_connections: Connections at most, in `clipsearch serve`.
    """

    how_to_give: ClassVar[str] = "--token-file FILE; in Python: token=..."

    port: int = 8756
    allow_urls: bool = False
    allowed_hosts: tuple[str, ...] = ()
    index_folders: tuple[str, ...] = ()
    max_body: int = 1 << 20
    max_upload: int = 32 << 20
    max_in_flight: int = 256 << 20
    max_pixels: int = 64_000_000
    max_queue: int = 256
    threads: int = 4
    body_seconds: float = 20.0
    head_seconds: float = 10.0
    send_seconds: float = 60.0
    work_seconds: float = 60.0
    max_connections: int = 512

    def check(self) -> None:
        """Raise InvalidInputError where somebody could reach the server, or write, without a token."""
        Access.check(self)
        if self.allowed_hosts and self.token is None:
            raise InvalidInputError(f"A server that others reach through a proxy needs a token: {self.how_to_give}")
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name.startswith(("max_", "threads")) or each.name.endswith("_seconds"):
                if not value > 0:
                    raise InvalidInputError(f"{each.name} is {value}, but it must be above 0.")
        for folder in self.index_folders:
            if not os.path.isdir(folder):
                raise InvalidInputError(f"{folder!r} is not a folder. Name one that jobs may index.")
