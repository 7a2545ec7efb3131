"""Where a server is, and the token that it wants: checked once, before anything is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from clipsearch.access import is_this_machine
from clipsearch.errors import InvalidInputError

_TOKEN = re.compile(r"[!-~]{1,4096}")
"""What a header can bring."""

_EXAMPLE = "Write it as https://photos.example.org or http://127.0.0.1:8756."


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server.

    Attributes:
        url: Without a slash at its end, and without the /v1 of its routes.
        token: What each request brings; None for nothing.
        is_local: Whether the server is on this machine.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    is_local: bool = False

    @property
    def is_encrypted(self) -> bool:
        """Whether nobody on the way can read what is sent."""
        return self.url.startswith("https:")


def read_address(url: str, token: str | None = None, *, allow_http: bool = False) -> Address:
    """Read the address of a server.

    allow_http: send the token unencrypted to another machine too. Raises InvalidInputError for an address or a token
    that cannot be used; no message shows the token, or a password.
    """
    if token is not None and not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        raise InvalidInputError("The token has a character that no token has, or none at all. Check where it is from.")
    parts = _split(url)
    host = parts.hostname or ""
    is_local = is_this_machine(host)
    if token is not None and parts.scheme == "http" and not is_local and not allow_http:
        raise InvalidInputError(
            f"The token would go to {host} unencrypted, for others to read. Use https; or, in a network that you "
            "trust, --allow-http; in Python: allow_http=True"
        )
    path = parts.path.rstrip("/").removesuffix("/v1")
    return Address(f"{parts.scheme}://{parts.netloc}{path}", token, is_local)


def _split(url: object) -> SplitResult:
    """Take an address apart. Raises InvalidInputError."""
    if not isinstance(url, str) or not re.fullmatch(r"[^\s\\\x00-\x1f\x7f]+", url):
        raise InvalidInputError(f"{url!r:.200} is not the address of a server. {_EXAMPLE}")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidInputError(f"The address of the server cannot be read: {error}. {_EXAMPLE}") from None
    if parts.username is not None or parts.password is not None:
        raise InvalidInputError("The address of the server has a user name or a password. Leave them out.")
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InvalidInputError(f"{url!r:.200} is not the address of a server. {_EXAMPLE}")
    if parts.query or parts.fragment:
        raise InvalidInputError(f"{url!r:.200} has more than an address. Leave out what is after ? or #.")
    return parts
