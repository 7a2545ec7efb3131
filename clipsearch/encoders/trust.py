"""Which encoders this user trusts, of those that a library cannot load by its own word.

A library is data that a stranger may have sent, so a model from a folder (`local-dir:`, `onnx-dir:`) or from a
repository of a hub (`hf-hub:`, `hf-onnx:`) that it names loads only after the user has named it on this machine. That
is kept in the user's state folder, one small file an encoder, mode 0600. For a folder the trust is in its content too:
the digest of the files of which the model may consist. For a hub it is in the name: its owner may publish other files,
which are data all the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from clipsearch.encoders import names
from clipsearch.encoders.export_folder import local_folder, local_source
from clipsearch.errors import EncoderUnavailableError, InvalidInputError
from clipsearch.locations import state_dir
from clipsearch.paths import printable
from clipsearch.private import read_private, write_private

log = logging.getLogger("clipsearch")


@dataclass(frozen=True, slots=True)
class TrustedEncoder:
    """An encoder that the user named.

    name: canonical. content: hexadecimal SHA-256 of the files of a folder; None for a hub, and for a folder that was
    not there. source: name, size and mtime_ns of these files, which spare reading them when they are trusted again.
    """

    name: str
    content: str | None
    source: tuple[tuple[str, int, int], ...]


def needs_trust(name: str) -> bool:
    """Tell whether a library may not load an encoder of this canonical name by its own word."""
    return name.startswith(names.FROM_ELSEWHERE)


def require(name: str) -> TrustedEncoder:
    """Return what is known of an encoder that a library names and the user trusts.

    name: as the library has it. Raises EncoderUnavailableError, with the command that trusts it, for any other.
    """
    found = _load(_path(name))
    if found is None or found.name != name:
        raise EncoderUnavailableError(
            f"The library names the encoder {printable(name)}, which comes from {_origin(name)}. It loads only after "
            f"you say that you trust it. {_remedy(name)}"
        )
    return found


def check_content(trusted: TrustedEncoder) -> None:
    """Check that a folder still holds what was trusted. Raises EncoderUnavailableError, with the command to renew."""
    folder = local_folder(trusted.name)
    if folder is not None and digest_files(trusted.name) != trusted.content:
        raise EncoderUnavailableError(
            f"The files in {printable(str(folder))} have changed since you trusted them. {_remedy(trusted.name)}"
        )


def describe(name: str, *, read: bool = False) -> TrustedEncoder:
    """Return an encoder as it is now, to be remembered.

    read: read the files of a folder even where their sizes and times are those remembered.
    Raises EncoderUnavailableError for a folder that cannot be read.
    """
    source = local_source(name)
    known = _load(_path(name))
    if known is not None and (known.source == source or not source) and not read:
        return known
    return TrustedEncoder(name, digest_files(name) if source else None, source)


def remember(trusted: TrustedEncoder) -> None:
    """Keep an encoder among those that are trusted. Raises OSError where the state folder cannot be written."""
    path = _path(trusted.name)
    if _load(path) != trusted:
        write_private(path, json.dumps(asdict(trusted)).encode())


def forget(name: str) -> None:
    """Trust an encoder no longer. Raises InvalidInputError for one that is not trusted."""
    try:
        _path(name).unlink()
    except FileNotFoundError:
        raise InvalidInputError(
            f"{printable(name)} is not an encoder that you trust. List these: clipsearch trust --list"
        ) from None


def list_trusted() -> list[TrustedEncoder]:
    """Return all encoders that the user trusts, by name; a file that others may have written is reported, not read."""
    try:
        paths = sorted(_folder().glob("*.json"))
    except OSError:
        return []
    return sorted((found for path in paths if (found := _load(path)) is not None), key=lambda each: each.name)


def stamp() -> int:
    """Return a number that changes with what is trusted."""
    try:
        return os.stat(_folder()).st_mtime_ns
    except OSError:
        return 0


def digest_files(name: str) -> str:
    """Return the hexadecimal SHA-256 of the names and contents of the files of a model in a folder.

    Raises EncoderUnavailableError for one that cannot be read.
    """
    folder, digest = local_folder(name) or Path(), hashlib.sha256()
    try:
        for file, size, _time in local_source(name):
            with open(folder / file, "rb") as content:
                digest.update(repr((file, size, hashlib.file_digest(content, "sha256").hexdigest())).encode())
    except OSError as error:
        raise EncoderUnavailableError(
            f"The model folder {printable(str(folder))} cannot be read: {error}. Check the path and its permissions."
        ) from error
    return digest.hexdigest()


def _folder() -> Path:
    return state_dir() / "trusted"


def _path(name: str) -> Path:
    return _folder() / f"{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:32]}.json"


def _load(path: Path) -> TrustedEncoder | None:
    try:
        fields = json.loads(read_private(path))
        source = tuple((str(name), int(size), int(time)) for name, size, time in fields["source"])
        return TrustedEncoder(str(fields["name"]), fields["content"], source)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        log.warning("Trusted encoders cannot be read from %s: %s.", path, error.strerror)
    except (OSError, ValueError, KeyError, TypeError):
        log.warning("Trusted encoders cannot be read from %s: the file is damaged. Delete it.", path)
    return None


def _origin(name: str) -> str:
    return "a folder" if name.startswith(names.FROM_FOLDERS) else "a model hub"


def _remedy(name: str) -> str:
    inner = name.removeprefix(names.OPENCLIP)
    try:
        is_ours = inner.isprintable() and names.resolve(inner, offline=True).name == name
    except EncoderUnavailableError:
        is_ours = False
    if not is_ours:  # the command would trust another name, or could not be typed
        return "The name is not one that clipsearch gives, so it cannot be trusted: index the files into a new library."
    quoted = inner.replace("'", "'\"'\"'")
    return f"If you trust it: clipsearch trust '{quoted}'"
