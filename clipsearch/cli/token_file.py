"""Tokens of servers, in files that others cannot read."""

from __future__ import annotations

import os

from clipsearch.errors import InvalidInputError

_MAX_TOKEN_FILE = 4096


def read_token(path: str) -> str:
    """Return the first line of a file. Raises InvalidInputError for one that cannot be read, or is empty."""
    try:
        with open(os.path.expanduser(path), encoding="ascii") as file:
            token = file.readline(_MAX_TOKEN_FILE).strip()
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"The token cannot be read from {path!r}: {error}. Name another file.") from error
    if not token:
        raise InvalidInputError(f"{path!r} has no token. Make one: openssl rand -hex 16 > {path}")
    return token
