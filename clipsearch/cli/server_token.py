"""The token of `clipsearch serve`: from a file of the user, or made and kept for the user."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from clipsearch.errors import InvalidInputError
from clipsearch.locations import state_dir
from clipsearch.private import read_private, write_private

_MAX_TOKEN_FILE = 4096
_OWN = "server-token"


def read_token(path: str) -> str:
    """Return the first line of a file. Raises InvalidInputError for one that cannot be read, or is empty."""
    try:
        with open(os.path.expanduser(path), encoding="ascii") as file:
            token = file.readline(_MAX_TOKEN_FILE).strip()
    except OSError as error:
        raise InvalidInputError(
            f"The token cannot be read from {path!r}: {error.strerror}. Name another file."
        ) from error
    except ValueError as error:  # such as a NUL in the path
        raise InvalidInputError(f"{path!r} is not a file of ASCII characters. Name another file.") from error
    if not token:
        raise InvalidInputError(f"{path!r} has no token. Make one: openssl rand -hex 16 > {path}")
    return token


def own_token() -> tuple[str, Path]:
    """Return the token that is kept for this user, and its file, which only this user can read; make it at first.

    Raises InvalidInputError where it cannot be kept, or others may have written it.
    """
    path = state_dir() / _OWN
    try:
        if not os.path.lexists(path):
            with contextlib.suppress(FileExistsError):  # another process was faster
                write_private(path, secrets.token_urlsafe().encode() + b"\n", replace=False)
        token = read_private(path)[:_MAX_TOKEN_FILE].decode("ascii", "replace").strip()
    except OSError as error:
        raise InvalidInputError(
            f"The token cannot be kept in {path}: {error.strerror}. Give one: --token-file"
        ) from error
    if not token:
        raise InvalidInputError(f"{path} has no token. Delete the file, and the next start makes one.")
    return token, path
