"""Which servers of vectors this user trusts, of those that a library cannot connect to by its own word.

A library is data that a stranger may have sent, so a server that it names is asked only after the user has named it on
this machine, by `clipsearch build --uri` or `clipsearch trust`. That is kept in the user's state folder, one small file
a server, mode 0600. The token comes from the environment, never from a library.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from clipsearch.access import is_this_machine
from clipsearch.errors import IndexServerError, InvalidInputError
from clipsearch.locations import state_dir
from clipsearch.private import read_private, write_private

log = logging.getLogger("clipsearch")

TOKEN, TOKEN_FILE = "CLIPSEARCH_MILVUS_TOKEN", "CLIPSEARCH_MILVUS_TOKEN_FILE"
DEFAULT_PORT = 19530

_URI = re.compile(r"https?://[A-Za-z0-9._\-\[\]:]{1,260}(/[A-Za-z0-9_]{1,255})?/?", re.ASCII)
_LITE = re.compile(r"\A(?!https?://).*\.db\Z", re.DOTALL)
_MAX_TOKEN = 4096
_EXAMPLE = "Write it as http://127.0.0.1:19530 or https://milvus.example.org:19530/database."


def is_server_uri(text: str) -> bool:
    """Tell whether a text is meant as the address of a server, not as the name of a model."""
    return text.startswith(("http://", "https://"))


def read_uri(text: str) -> str:
    """Return the address of a server in its one form. Raises InvalidInputError for what is not one."""
    if _LITE.search(text):
        raise InvalidInputError(
            f"{text!r:.200} is a file of Milvus Lite, which has no IVF_PQ index and is not supported. Without a "
            "server, use `--index ivfpq` (in Python: index='ivfpq' of engine.build). The address of a server looks "
            "like http://127.0.0.1:19530."
        )
    if not _URI.fullmatch(text):
        raise InvalidInputError(f"{text!r:.200} is not the address of a Milvus server. {_EXAMPLE}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError as error:
        raise InvalidInputError(f"The address of the Milvus server cannot be read: {error}. {_EXAMPLE}") from None
    if not host:
        raise InvalidInputError(f"{text!r:.200} names no host. {_EXAMPLE}")
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{port}{parts.path.rstrip('/')}"


def is_trusted(uri: str) -> bool:
    """Tell whether the user has named a server on this machine. uri: in its one form."""
    return _load(_path(uri)) == uri


def remember(uri: str) -> None:
    """Keep a server among those that are trusted. Raises IndexServerError where that cannot be kept."""
    if is_trusted(uri):
        return
    try:
        write_private(_path(uri), json.dumps({"uri": uri}).encode())
    except OSError as error:
        raise IndexServerError(
            f"That {uri} is trusted cannot be kept in {_folder()}: {error.strerror}. Make the folder writable."
        ) from error


def forget(uri: str) -> None:
    """Trust a server no longer. Raises InvalidInputError for one that is not trusted."""
    try:
        _path(uri).unlink()
    except FileNotFoundError:
        raise InvalidInputError(f"{uri} is not a server that you trust. List these: clipsearch trust --list") from None


def list_trusted() -> list[str]:
    """Return the addresses of all servers that the user trusts, sorted."""
    try:
        paths = sorted(_folder().glob("*.json"))
    except OSError:
        return []
    return sorted(uri for path in paths if (uri := _load(path)) is not None)


def read_token(uri: str) -> str:
    """Return the token for a server: of the environment, else of the file that it names, else "".

    Raises IndexServerError for a file that cannot be read, and where the token would cross a network unencrypted.
    """
    token = os.environ.get(TOKEN, "")
    path = os.environ.get(TOKEN_FILE, "")
    if not token and path:
        try:
            with open(os.path.expanduser(path), encoding="ascii") as file:
                token = file.readline(_MAX_TOKEN).strip()
        except (OSError, ValueError) as error:
            raise IndexServerError(
                f"The token of the Milvus server cannot be read from {path!r}, which {TOKEN_FILE} names: {error}."
            ) from error
    if token and uri.startswith("http:") and not is_this_machine(urlsplit(uri).hostname or ""):
        raise IndexServerError(
            f"The token would go to {uri} unencrypted, for others to read. Use an https address, or a tunnel to a port "
            "of this machine."
        )
    return token


def _folder() -> Path:
    return state_dir() / "trusted-servers"


def _path(uri: str) -> Path:
    return _folder() / f"{hashlib.sha256(uri.encode(errors='surrogatepass')).hexdigest()[:32]}.json"


def _load(path: Path) -> str | None:
    try:
        return str(json.loads(read_private(path))["uri"])
    except FileNotFoundError:
        return None
    except PermissionError as error:
        log.warning("Trusted servers cannot be read from %s: %s.", path, error.strerror)
    except (OSError, ValueError, KeyError, TypeError):
        log.warning("Trusted servers cannot be read from %s: the file is damaged. Delete it.", path)
    return None
