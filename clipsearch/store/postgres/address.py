"""Where the catalog of a library is when it is not in its folder: a server, a database, and a schema of its own.

The folder keeps that in `catalog.json`, without a password. A library may come from a stranger, so a server that only
its folder names is not connected to: the user has to name it once on this machine, by an option, by an argument or in
the environment. What was named is kept in the user's state folder, without a password too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from clipsearch.errors import InvalidInputError, LibraryError, StoreCorruptError
from clipsearch.locations import state_dir
from clipsearch.private import read_private, write_private
from clipsearch.store.folder import open_folder
from clipsearch.store.reading import MARKER
from clipsearch.store.refusals import REPAIR, unreadable

VARIABLE = "CLIPSEARCH_CATALOG"
"""The environment variable that names a server."""

SCHEME = "postgresql+psycopg"
_SCHEMES = (SCHEME, "postgresql", "postgres")
_OPTIONS = frozenset({"host", "port", "sslmode", "sslrootcert", "connect_timeout", "schema"})
"""What may stand behind the `?`: parameters of libpq that name or secure the server, and our own `schema`."""

_PLAIN = re.compile(r"[A-Za-z0-9+:/@._~%?&=,\[\]-]+")
_SCHEMA = re.compile(r"(?!public$|information_schema$|pg_)[a-z_][a-z0-9_]{0,49}")
_TEMPORARY = re.compile(rf"\.{re.escape(MARKER)}-[0-9a-f]{{16}}\.tmp")
_ID = re.compile(r"[0-9a-f]{32}")
_FORMAT = 1
_MOST_BYTES = 1 << 16
_EXAMPLE = "postgresql+psycopg://USER@HOST/DATABASE"


@dataclass(frozen=True, slots=True)
class CatalogAddress:
    """A server and a database.

    url: without password and schema. schema: "" where none was named. password: never stored and never shown.
    """

    url: str
    schema: str = ""
    password: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """How it is shown."""
        return f"{self.url} (schema {self.schema})"

    def parameters(self) -> dict[str, str]:
        """Return what libpq is given; what is missing it takes from its own variables and files."""
        parts = urlsplit(self.url)
        named = {
            "host": unquote(parts.hostname or ""),
            "port": str(parts.port or ""),
            "user": unquote(parts.username or ""),
            "dbname": unquote(parts.path.removeprefix("/")),
            "password": self.password or "",
            **dict(parse_qsl(parts.query)),
        }
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Marker:
    """What the folder of a library says of its catalog."""

    address: CatalogAddress
    library_id: str


def parse(url: str) -> CatalogAddress:
    """Read the URL of a catalog. Raises InvalidInputError, which never shows a password."""
    try:
        parts = urlsplit(url)
        port = parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except (ValueError, TypeError, AttributeError):
        raise InvalidInputError(f"The catalog's address is not a URL. An example is {_EXAMPLE}.") from None
    if not _PLAIN.fullmatch(url):
        raise InvalidInputError(
            "The catalog's address has characters that a URL does not have. Write each as % and two hexadecimal digits."
        )
    if parts.scheme not in _SCHEMES:
        raise InvalidInputError(
            f"A catalog can be in PostgreSQL only, not at an address that begins with {parts.scheme[:40]!r}. An "
            f"example is {_EXAMPLE}."
        )
    if unknown := sorted(options.keys() - _OPTIONS):
        raise InvalidInputError(
            f"The catalog's address has an option {unknown[0][:40]!r}. Use: {', '.join(sorted(_OPTIONS))}. A password "
            "belongs into ~/.pgpass or PGPASSWORD."
        )
    if not parts.path.strip("/") or "/" in parts.path[1:]:
        raise InvalidInputError(f"The catalog's address names no database. An example is {_EXAMPLE}.")
    schema = options.pop("schema", "")
    if schema and not _SCHEMA.fullmatch(schema):
        raise InvalidInputError(
            f"The schema {schema[:60]!r} cannot be used. A name has up to 50 of a to z, 0 to 9 and _, and begins with "
            "no digit nor pg_; public is for others."
        )
    return CatalogAddress(_without_password(parts, port, options), schema, parts.password and unquote(parts.password))


def _without_password(parts: object, port: int | None, options: Mapping[str, str]) -> str:
    user, host = getattr(parts, "username", None), getattr(parts, "hostname", None) or ""
    host = f"[{host}]" if ":" in host else host
    where = (f"{quote(unquote(user), safe='')}@" if user else "") + host + (f":{port}" if port else "")
    query = f"?{urlencode(sorted(options.items()))}" if options else ""
    return f"{SCHEME}://{where}{getattr(parts, 'path', '')}{query}"


def named(given: str | None) -> CatalogAddress | None:
    """Return the catalog that the user names, by an argument or in the environment; None for none."""
    url = given or os.environ.get(VARIABLE)
    return parse(url) if url else None


def new_marker(address: CatalogAddress) -> Marker:
    """Return a marker for a new library; its schema is its own unless the address names one."""
    library_id = os.urandom(16).hex()
    return Marker(replace(address, schema=address.schema or f"clipsearch_{library_id[:12]}"), library_id)


def read_marker(folder: Path) -> Marker | None:
    """Read what a folder says of its catalog; None where it says nothing. Raises StoreCorruptError, LibraryError."""
    try:
        with open_folder(folder) as own:
            with open(own.open(MARKER, os.O_RDONLY), "rb") as file:
                data = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unreadable(folder / MARKER, error) from error
    try:
        content = json.loads(data)
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}, this version of clipsearch reads {_FORMAT}")
        url, schema, library_id = (content[name] for name in ("url", "schema", "library_id"))
        address = parse(url)
        if address.url != url or not _SCHEMA.fullmatch(schema) or not _ID.fullmatch(library_id):
            raise ValueError("it is not as clipsearch writes it")
        return Marker(replace(address, schema=schema), library_id)
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError, InvalidInputError) as error:
        raise StoreCorruptError(f"{folder / MARKER} cannot be used: {error}. {REPAIR}") from error


def write_marker(folder: Path, marker: Marker) -> None:
    """Write what a folder says of its catalog, durably. Raises LibraryError."""
    address = marker.address
    content = {"format": _FORMAT, "url": address.url, "schema": address.schema, "library_id": marker.library_id}
    try:
        with open_folder(folder) as own:
            for left in filter(_TEMPORARY.fullmatch, own.names()):  # of a process that died here
                own.unlink(left)
            name = f".{MARKER}-{os.urandom(8).hex()}.tmp"
            with open(own.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL), "r+b") as file:
                file.write(json.dumps(content, indent=1).encode())
                file.flush()
                os.fsync(file.fileno())
            own.rename(name, MARKER)
            own.sync()
    except OSError as error:
        raise LibraryError(f"{folder / MARKER} cannot be written: {error.strerror}.") from error


def resolve(marker: Marker, given: str | None) -> CatalogAddress:
    """Return the address that a library's catalog is reached at.

    given: what the user names, which is connected to in place of what the folder says; so is what the environment
    names, where this user never named what the folder says. Raises LibraryError for a server that only the folder
    names.
    """
    is_trusted = _is_trusted(marker.address.url)
    word = named(given) if given or not is_trusted else _same(marker)
    if word is not None:
        if word.schema not in ("", marker.address.schema):
            raise InvalidInputError(
                f"The catalog of this library is in the schema {marker.address.schema}, not in {word.schema}. Leave "
                "the schema out."
            )
        return replace(word, schema=marker.address.schema)
    if not is_trusted:
        raise LibraryError(
            f"The catalog of this library is at {marker.address.url}, says its folder. clipsearch connects to a server "
            f"only after you have named it. If it is yours: clipsearch index --catalog '{marker.address.url}', or set "
            f"{VARIABLE}."
        )
    return marker.address


def _same(marker: Marker) -> CatalogAddress | None:
    """Return what the environment names where that is what a folder says: it may have the password."""
    word = named(None)
    return word if word is not None and word.url == marker.address.url else None


def trust(url: str) -> None:
    """Remember that the user has named a server. A state folder that cannot be written is passed over."""
    if not _is_trusted(url):
        try:
            write_private(_trust_file(url), json.dumps({"url": url}).encode())
        except OSError:
            return


def _is_trusted(url: str) -> bool:
    try:
        return bool(json.loads(read_private(_trust_file(url)))["url"] == url)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _trust_file(url: str) -> Path:
    return state_dir() / "catalogs" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"
