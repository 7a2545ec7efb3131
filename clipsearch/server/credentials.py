"""Who is let in: who brings the token, or the cookie of a session that began with it."""

from __future__ import annotations

import hashlib
import hmac
import os
import time

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from clipsearch.locations import state_dir
from clipsearch.private import SECRET_BYTES, read_secret
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

    A session is no state of the server: its cookie has the time at which it ends, and an HMAC-SHA256 of that. The key
    is made of the token and of a secret in the state folder of this user. So a session holds after a restart, ends with
    the token, and no cookie is a guess of the token, however short that is. Forged ones need not be counted: a page of
    another port of this host could set them, to lock the visitor out.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._failed = FailedTokens()
        self._key = b"" if settings.token is None else _session_key(settings.token)

    def check(self, request: HTTPConnection) -> None:
        """Raise HTTPException for a request that brings neither the token nor a session."""
        if self._settings.token is None:
            return
        given = request.headers.get("authorization")
        is_session = any(map(self._is_session, _cookies(request)))
        if given is not None or not is_session:
            self._require_few_failures(request)
        if given is not None and self._settings.admits(given):
            return
        if is_session:
            return _require_same_origin(request)
        if given is not None and given[:7].lower() == "bearer ":
            self._failed.record(_address(request), given)
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
        end, _, signature = cookie.partition(".")
        if not (end.isascii() and end.isdigit() and len(end) <= _DIGITS) or int(end) <= time.time():
            return False
        return hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(end).encode())

    def _sign(self, end: str) -> str:
        return hmac.new(self._key, end.encode(), hashlib.sha256).hexdigest()


def _session_key(token: str) -> bytes:
    """Return the key of sessions; where nothing can be kept, it holds for this process."""
    try:
        secret = read_secret(state_dir() / "sessions.key", make=True)
    except OSError:
        secret = os.urandom(SECRET_BYTES)
    return hmac.digest(secret, b"clipsearch session " + token.encode(), "sha256")


def _cookies(request: HTTPConnection) -> list[str]:
    """Return all cookies that are called as that of a session: another port of the host may have added some."""
    name = cookie_name(request)
    pairs = (pair.partition("=") for line in request.headers.getlist("cookie") for pair in line.split(";"))
    return [value.strip() for found, _, value in pairs if found.strip() == name]


def cookie_name(request: HTTPConnection) -> str:
    """Return the name of the cookie: with the port, since browsers share cookies between all ports of a host."""
    port = request.headers.get("host", "").rpartition(":")[2]
    return f"clipsearch-session-{port}" if port.isascii() and port.isdigit() else "clipsearch-session"


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
