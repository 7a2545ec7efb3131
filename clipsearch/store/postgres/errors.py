"""What PostgreSQL and psycopg say goes wrong, as our errors."""

from __future__ import annotations

import sys

from clipsearch.errors import LibraryError, LibraryLockedError, StoreCorruptError
from clipsearch.store.refusals import REPAIR

_KINDS: dict[str, tuple[type[LibraryError], str, str]] = {
    "08": (LibraryError, "The server of the catalog cannot be reached", "Start it, then run again"),
    "28": (
        LibraryError,
        "The server of the catalog refuses this user",
        "Give the password in ~/.pgpass or PGPASSWORD, or name another user",
    ),
    "3D": (LibraryError, "The server has no such database", "Make it: createdb NAME"),
    "42501": (
        LibraryError,
        "The server does not permit this",
        "Grant the user CREATE on the database, and all on the library's schema",
    ),
    "42P01": (StoreCorruptError, "The catalog is damaged", REPAIR.removesuffix(".")),
    "42703": (StoreCorruptError, "The catalog is damaged", REPAIR.removesuffix(".")),
    "3F": (StoreCorruptError, "The catalog is damaged", REPAIR.removesuffix(".")),
    "XX": (StoreCorruptError, "The catalog is damaged", "Restore the database from its backup"),
    "53100": (
        LibraryError,
        "The disk of the server is full",
        "Free some space and run again; nothing committed is lost",
    ),
    "53300": (LibraryError, "The server has no connection to spare", "Raise its max_connections, or run again later"),
    "55P03": (LibraryLockedError, "The catalog is busy", "Wait for the other process to end, then run again"),
    "57": (LibraryError, "The server of the catalog ended the connection", "Run again; nothing committed is lost"),
    "54": (LibraryError, "PostgreSQL cannot hold a value of this length", "Shorten the name or the text"),
    "22021": (LibraryError, "PostgreSQL cannot hold a NUL character", "Remove it from the text"),
    "25006": (LibraryError, "The server only reads", "Name the primary server, not a standby"),
}
"""By SQLSTATE, or by its first two characters: our error, the fact and the remedy."""


def database_errors() -> tuple[type[Exception], ...]:
    """Return the class of psycopg's errors, if psycopg is in use."""
    psycopg = sys.modules.get("psycopg")
    return () if psycopg is None else (psycopg.Error,)


def translate_error(error: BaseException) -> LibraryError | None:
    """Build our error for one of psycopg's; None for another."""
    if not isinstance(error, database_errors()):
        return None
    diagnosis = getattr(error, "diag", None)
    cause = getattr(diagnosis, "message_primary", None) or " ".join(str(error).split())
    state = getattr(error, "sqlstate", None) or _state_of(error, cause)
    kind = _KINDS.get(state) or _KINDS.get(state[:2])
    if kind is None:
        return LibraryError(f"The catalog could not be used: {cause}. See what is damaged: clipsearch verify")
    error_class, fact, remedy = kind
    return error_class(f"{fact} ({cause.removesuffix('.')}). {remedy}.")


def _state_of(error: BaseException, cause: str) -> str:
    """Return the SQLSTATE of an error that comes from the client's side, which has none."""
    if "password" in cause or "authentication" in cause:
        return "28000"
    if "NUL" in cause:
        return "22021"
    return "08000" if type(error).__name__ in ("OperationalError", "ConnectionTimeout") else ""
