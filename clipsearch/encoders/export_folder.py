"""The folder of an exported model: what is in it, whether it is whole, and how it comes to be.

image.onnx and text.onnx with their weights beside them, tokenizer.json, and meta.json, which describes the model
and carries the size and SHA-256 of every other file. A folder is built under another name, synced and renamed.

The checks of sizes, times and digests find damage. They do not keep out who can write the folder, who could write
meta.json too; so a folder, or a file in it, that others can write or that is a link is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clipsearch.durable import fsync_path
from clipsearch.encoders.preprocessing import PictureTransform
from clipsearch.encoders.tokenizer import TextRules
from clipsearch.locations import cache_dir
from clipsearch.private import check_folder, open_private, read_private

log = logging.getLogger("clipsearch")

FORMAT = 1
USUAL_LOGIT_SCALE = 100.0
"""Where the models of CLIP end, which clip theirs there; of exports that do not say theirs."""

META = "meta.json"
IMAGE_GRAPH = "image.onnx"
TEXT_GRAPH = "text.onnx"
TOKENIZER = "tokenizer.json"
FILES = {TOKENIZER} | {name + end for name in (IMAGE_GRAPH, TEXT_GRAPH) for end in ("", ".data")}
"""What an export may consist of beside meta.json."""

_LOCAL, _ONNX = "local-dir:", "onnx-dir:"
_SUBFOLDERS = ("visual", "textual")
_STALE_SECONDS = 6 * 3600


class ExportDamagedError(Exception):
    """An export that is missing, incomplete, changed, or of another format; never leaves the encoders."""


@dataclass(frozen=True, slots=True)
class ExportMeta:
    """What meta.json says.

    fingerprint: hexadecimal SHA-256 over weights, preprocessing, tokenizer and context length. source: name,
    size and time of the files of a local model, to see when it changes. files: name to size, mtime_ns, sha256.
    logit_scale: as Encoder has it.
    """

    name: str
    fingerprint: str
    dim: int
    picture: PictureTransform
    text: TextRules
    source: tuple[tuple[str, int, int], ...]
    files: Mapping[str, Mapping[str, Any]]
    logit_scale: float = USUAL_LOGIT_SCALE

    def dump(self) -> str:
        """Return the JSON of meta.json, with a checksum of itself."""
        fields = {
            "format": FORMAT,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "dim": self.dim,
            "logit_scale": self.logit_scale,
            "picture": self.picture.as_dict(),
            "text": self.text.as_dict(),
            "source": [list(entry) for entry in self.source],
            "files": {name: dict(entry) for name, entry in self.files.items()},
        }
        return json.dumps({**fields, "checksum": _checksum(fields)}, indent=1)

    @classmethod
    def load(cls, folder: Path) -> ExportMeta:
        """Read meta.json of an export.

        Raises ExportDamagedError.
        """
        try:
            fields = json.loads(read_private(folder / META))
            checksum = fields.pop("checksum")
            if fields.pop("format") != FORMAT or checksum != _checksum({"format": FORMAT, **fields}):
                raise ExportDamagedError(f"{folder / META} is damaged or of another version")
            return cls(
                name=fields["name"],
                fingerprint=fields["fingerprint"],
                dim=fields["dim"],
                picture=PictureTransform.from_dict(fields["picture"]),
                text=TextRules.from_dict(fields["text"]),
                source=tuple((str(name), int(size), int(time)) for name, size, time in fields["source"]),
                files=fields["files"],
                logit_scale=float(fields.get("logit_scale", USUAL_LOGIT_SCALE)),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportDamagedError(f"{folder / META} cannot be read: {error}") from error


def describe_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size in bytes, mtime_ns and SHA-256 of each file of a folder but meta.json."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != META:
            state = path.stat()
            found[path.name] = {"size": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": _sha256(path)}
    return found


def verify_export(folder: Path) -> ExportMeta:
    """Check an export and return its description.

    A file whose size and time are as recorded is taken as whole; any other is read and hashed. That could be abused
    by who can write the folder, and by nobody else: owner and permissions of all are checked first.
    Raises ExportDamagedError.
    """
    try:
        check_folder(folder)
    except PermissionError as error:
        raise ExportDamagedError(error.strerror) from error
    except OSError as error:
        raise ExportDamagedError(f"{folder} cannot be read: {error}") from error
    meta = ExportMeta.load(folder)
    for name, entry in meta.files.items():
        if name not in FILES:
            raise ExportDamagedError(f"{META} names {name!r}, which does not belong to a prepared model")
        _verify_file(folder / name, entry)
    return meta


def local_folder(name: str) -> Path | None:
    """Return the folder of a `local-dir:` or `onnx-dir:` model; None for any other.

    name: canonical, or without `openclip:`.
    """
    inner = name.removeprefix("openclip:")
    return next((Path(inner.removeprefix(start)) for start in (_LOCAL, _ONNX) if inner.startswith(start)), None)


def local_source(name: str) -> tuple[tuple[str, int, int], ...]:
    """Return name within the folder, size and mtime_ns of the files of a model in a folder; nothing for any other."""
    folder = local_folder(name)
    if folder is None:
        return ()
    below = [folder / each for each in _SUBFOLDERS if name.startswith(_ONNX)]
    try:
        paths = [path for each in [folder, *filter(Path.is_dir, below)] for path in sorted(each.iterdir())]
        files = [(path.relative_to(folder).as_posix(), path.stat()) for path in paths if path.is_file()]
    except OSError:
        return ()
    return tuple((file, state.st_size, state.st_mtime_ns) for file, state in files)


def _verify_file(path: Path, entry: Mapping[str, Any]) -> None:
    try:
        with open(open_private(path), "rb") as file:
            state = os.fstat(file.fileno())
            if state.st_size != entry["size"]:
                raise ExportDamagedError(f"{path} has {state.st_size} bytes, not {entry['size']}")
            if state.st_mtime_ns == entry["mtime_ns"]:
                return
            if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                raise ExportDamagedError(f"the content of {path} has changed")
    except PermissionError as error:
        raise ExportDamagedError(f"{path}: {error.strerror}") from error
    except OSError as error:
        raise ExportDamagedError(f"{path} cannot be read: {error}") from error
    _remember_time(path, int(entry["mtime_ns"]))


def _remember_time(path: Path, mtime_ns: int) -> None:
    try:
        os.utime(path, ns=(mtime_ns, mtime_ns))
    except OSError:
        # A cache that cannot be written is hashed again next time; that is slower, not wrong.
        return


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def slug(name: str) -> str:
    """Return a file name that is unique to a model name and still says what it is."""
    readable = "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "_" for char in name)
    return f"{readable[-60:]}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


@contextlib.contextmanager
def new_folder(root: Path) -> Iterator[Path]:
    """Yield an empty folder for a new export inside `root`; remove it at the end unless it was published."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(root)
    work = root / f".tmp-{os.getpid()}-{time.time_ns()}"
    work.mkdir(mode=0o700)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, folder: Path) -> Path:
    """Sync a finished export and give it its name; an equal one that another process published first stays."""
    for path in work.iterdir():
        path.chmod(0o600)  # whatever the umask was: it is not used once others can write it
        fsync_path(path)
    fsync_path(work)
    try:
        os.rename(work, folder)
    except OSError:
        if _usable(folder):
            return folder
        old = work.with_name(work.name + "-old")
        with contextlib.suppress(FileNotFoundError):
            os.rename(folder, old)
        os.rename(work, folder)
        shutil.rmtree(old, ignore_errors=True)
    fsync_path(folder.parent)
    return folder


def exports_root() -> Path:
    """Return the folder of prepared models, in the user's cache."""
    return cache_dir() / "openclip"


def find_exports(root: Path, name: str | None = None) -> list[tuple[Path, ExportMeta]]:
    """List the whole exports under `root`, the newest first; damaged ones are reported and left out.

    name: the canonical name of a model; None for all.
    """
    found = []
    for path in _list(root, f"{slug(name)}.*" if name else "[!.]*"):
        try:
            meta = verify_export(path)
            if name is not None and meta.name != name:
                raise ExportDamagedError(f"it is of {meta.name}")
        except ExportDamagedError as error:
            log.warning("The prepared model in %s cannot be used: %s.", path, error)
            continue
        found.append(((path / META).stat().st_mtime_ns, path, meta))
    return [(path, meta) for _time, path, meta in sorted(found, key=lambda entry: entry[0], reverse=True)]


def _list(root: Path, pattern: str) -> list[Path]:
    try:
        return [path for path in root.glob(pattern) if (path / META).is_file()]
    except OSError:  # a cache that cannot be read holds nothing
        return []


def _usable(folder: Path) -> bool:
    try:
        verify_export(folder)
    except ExportDamagedError:
        return False
    return True


def _remove_stale(root: Path) -> None:
    # A process that was killed leaves its folder behind; one that still works on its own touched it lately.
    for path in root.glob(".tmp-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
