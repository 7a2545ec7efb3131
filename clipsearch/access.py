"""Who can reach a server of ours, and where it listens: shared by the HTTP API and the MCP server."""

from __future__ import annotations

import hmac
import ipaddress
import socket
from dataclasses import dataclass, field
from typing import ClassVar

from clipsearch.errors import InvalidInputError

LOCAL = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine, as a URL has them."""

_MIN_TOKEN = 16


def is_this_machine(host: str) -> bool:
    """Tell whether a host can only be this machine: `localhost`, or a loopback address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Access:
    """Who can reach a server, and what they may do.

    Attributes:
        host: Where it listens.
        port: 0 for any that is free.
        token: What a request must bring, as `Authorization: Bearer TOKEN`; None for nothing.
        allow_write: Whether requests may change the library.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = field(default=None, repr=False)  # a log may show the rest
    allow_write: bool = False

    how_to_give: ClassVar[str] = "--token; in Python: token=..."
    """How a token is given, as messages say it."""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return is_this_machine(self.host)

    @property
    def name(self) -> str:
        """The host as a URL has it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def check(self) -> None:
        """Raise InvalidInputError where somebody else could write, or reach it at all, without a token.

        On this machine, other users and programs can reach it as well: they may look, but not write.
        """
        if not self.host:
            raise InvalidInputError("The host is empty. Name where to listen, such as 127.0.0.1.")
        if self.token is not None and not (
            self.token.isascii() and self.token.isprintable() and self.token.strip() == self.token
        ):
            raise InvalidInputError(
                "The token has spaces around it, or characters that are not ASCII, which a header cannot bring. Make "
                "one: openssl rand -hex 16"
            )
        if self.token is not None and len(self.token) < _MIN_TOKEN:
            raise InvalidInputError(
                f"The token has {len(self.token)} characters, but needs at least {_MIN_TOKEN}. Make one: "
                "openssl rand -hex 16"
            )
        if self.token is None and not self.is_local:
            raise InvalidInputError(f"Others can reach {self.host}. Give a token that they need: {self.how_to_give}")
        if self.token is None and self.allow_write:
            raise InvalidInputError(f"Writing over HTTP needs a token: {self.how_to_give}")

    def admits(self, authorization: str | None) -> bool:
        """Tell, in constant time, whether the header `Authorization` of a request brings the token."""
        if self.token is None:
            return True
        given = (authorization or "").encode("latin-1", "replace")  # as it was read from the bytes of the header
        return hmac.compare_digest(given, f"Bearer {self.token}".encode())


def listen(access: Access) -> socket.socket:
    """Listen where an access says. Raises InvalidInputError where that cannot be."""
    try:
        family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
        listener = socket.create_server((access.host, access.port), family=family)
    except (OSError, OverflowError) as error:
        where, reason = f"{access.host}, port {access.port}", getattr(error, "strerror", None) or error
        raise InvalidInputError(f"The server cannot listen at {where}: {reason}. Name another.") from error
    # Connections inherit it. asyncio itself sets it only where a socket names its protocol, which this one does not;
    # without it the end of each answer waits 40 ms for the client to acknowledge its beginning.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
