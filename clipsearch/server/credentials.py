"""Who is let in: who brings the token, or the cookie of a session that began with it."""

from __future__ import annotations

import hashlib
import hmac
import time

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from clipsearch.server.attempts import FailedTokens
from clipsearch.server.settings import ServerSettings

SESSION_SECONDS = 30 * 24 * 3600
"""How long a session lasts."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

_DIGITS = 12
"""Of the time at which a session ends, in seconds, at most."""


class Credentials:
    """Checks tokens and sessions, and counts the wrong ones; of one event loop.

    A session is no state of the server: its cookie has the time at which it ends, and an HMAC-SHA256 of that with the
    token as the key. So it holds after a restart, and ends with the token.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._failed = FailedTokens()

    def check(self, request: HTTPConnection) -> None:
        """Raise HTTPException for a request that brings neither the token nor a session."""
        if self._settings.token is None:
            return
        self._require_few_failures(request)
        given = request.headers.get("authorization")
        if given is not None and self._settings.admits(given):
            return
        cookie = request.cookies.get(cookie_name(request))
        if cookie is not None and self._is_session(cookie):
            return _require_same_origin(request)
        if given is not None and given[:7].lower() == "bearer ":
            self._failed.record(_address(request), given)
        if cookie is not None and not _is_over(cookie):
            self._failed.record(_address(request), cookie)
        raise HTTPException(401, "Send `Authorization: Bearer TOKEN`.", {"WWW-Authenticate": "Bearer"})

    def begin_session(self, request: HTTPConnection, token: str) -> str | None:
        """Return the value of the cookie of a new session; None where no token is needed.

        Raises HTTPException for a wrong token, which counts as one.
        """
        if self._settings.token is None:
            return None
        self._require_few_failures(request)
        given = f"Bearer {token}"
        if not self._settings.admits(given):
            self._failed.record(_address(request), given)
            raise HTTPException(401, "This is not the token of the server.", {"WWW-Authenticate": "Bearer"})
        end = str(int(time.time()) + SESSION_SECONDS)
        return f"{end}.{self._sign(end)}"

    def _require_few_failures(self, request: HTTPConnection) -> None:
        if seconds := self._failed.wait(_address(request)):
            detail = f"This address brought too many wrong tokens. Wait {seconds} seconds."
            raise HTTPException(429, detail, {"Retry-After": str(seconds)})

    def _is_session(self, cookie: str) -> bool:
        if _is_over(cookie):
            return False
        end, _, signature = cookie.partition(".")
        return hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(end).encode())

    def _sign(self, end: str) -> str:
        token = self._settings.token or ""
        return hmac.new(token.encode(), b"clipsearch session " + end.encode(), hashlib.sha256).hexdigest()


def cookie_name(request: HTTPConnection) -> str:
    """Return the name of the cookie: with the port, since browsers share cookies between all ports of a host."""
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"clipsearch-session-{port}" if port.isascii() and port.isdigit() else "clipsearch-session"


def _is_over(cookie: str) -> bool:
    """Tell whether a session says that it ended, or says nothing of the kind: then it is no guess of the token."""
    end = cookie.partition(".")[0]
    return not (end.isascii() and end.isdigit() and len(end) <= _DIGITS) or int(end) <= time.time()


def _require_same_origin(request: HTTPConnection) -> None:
    """Refuse a change by whoever may have made the browser send its cookie along.

    The guard has refused other origins; here something must say that it is this one.
    """
    headers = request.headers
    if request.scope["method"] not in _SAFE and "origin" not in headers:
        if headers.get("sec-fetch-site") != "same-origin":
            raise HTTPException(403, "A session changes something only from the server's own page. Send the token.")


def _address(request: HTTPConnection) -> str:
    return request.client.host if request.client else "unknown"
