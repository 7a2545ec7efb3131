"""How a model is prepared, once: exported from open_clip, or taken over where it is ONNX already."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.encoders import export_folder
from clipsearch.encoders.export_folder import ExportMeta, exports_root
from clipsearch.encoders.names import HUB, ONNX_DIR, ONNX_HUB, OPENCLIP, PRESETS
from clipsearch.errors import EncoderError, EncoderUnavailableError

if TYPE_CHECKING:
    import tempfile

log = logging.getLogger("clipsearch")

_scratch: list[tempfile.TemporaryDirectory[str]] = []


def prepare(name: str, *, threads: int, offline: bool, is_pinned: bool) -> tuple[Path, ExportMeta]:
    """Prepare a model that is not prepared on this machine; return its folder and what that says.

    name: canonical. threads: for the check. offline: make no connection. is_pinned: whether a library was made with it.
    Raises EncoderUnavailableError with the reason, EncoderError.
    """
    try:
        is_onnx = name.startswith((ONNX_DIR, ONNX_HUB))
        make = (_make_onnx if is_onnx else _make)(name, threads, offline)
        try:
            folder = make(exports_root())
            return folder, export_folder.verify_export(folder)
        except (OSError, export_folder.ExportDamagedError) as error:
            log.warning(
                "%s cannot be stored in %s (%s), so every command prepares it again. Free "
                "some space or allow writing there, or "
                "set CLIPSEARCH_CACHE to another folder.", name, exports_root(), error,
            )  # fmt: skip
        folder = make(_scratch_root())
        return folder, export_folder.verify_export(folder)
    except EncoderUnavailableError as error:
        if not is_pinned:
            raise
        raise EncoderUnavailableError(
            f"The library was made with {name}, which is not prepared on this machine and cannot be prepared: {error}"
        ) from error
    except (OSError, export_folder.ExportDamagedError) as error:
        raise EncoderError(
            f"{name} cannot be prepared, neither in {exports_root()} nor in the system's temporary folder: {error}. "
            "Free some space or allow writing there, or set CLIPSEARCH_CACHE to another folder."
        ) from error


def _make(name: str, threads: int, offline: bool) -> Callable[[Path], Path]:
    """Load a model with open_clip; return what prepares it in a folder of prepared models."""
    from clipsearch.encoders import exporting, openclip

    _require_at_hand(name, offline)
    reference = openclip.fetch(name.removeprefix(OPENCLIP), offline=offline)
    return lambda root: exporting.export(reference, name, root, threads=threads)


def _make_onnx(name: str, threads: int, offline: bool) -> Callable[[Path], Path]:
    """Find a model that is ONNX already, without torch; return what prepares it in a folder of prepared models."""
    from clipsearch.encoders import onnx_hub, onnx_import

    found = onnx_hub.find(name, offline=offline)
    return lambda root: onnx_import.prepare(found, name, root, threads=threads)


def _scratch_root() -> Path:
    """Return a folder of this process alone, which goes when the process ends."""
    import tempfile  # here, because a query has no use for it

    if not _scratch:
        _scratch.append(tempfile.TemporaryDirectory(prefix="clipsearch-", ignore_cleanup_errors=True))
    return Path(_scratch[0].name)


def drop_scratch() -> None:
    """Delete what was prepared for this process alone; for a process that ends without cleaning up."""
    while _scratch:
        _scratch.pop().cleanup()


def _require_at_hand(name: str, offline: bool) -> None:
    # Where the repository is known, the hub can be asked before torch is imported, which takes longer.
    from clipsearch.encoders import hub

    presets = {preset.name: (preset.repository, preset.needed) for preset in PRESETS.values()}
    named_on_hub = (name.removeprefix(OPENCLIP + HUB), ()) if name.startswith(OPENCLIP + HUB) else None
    source = presets.get(name, named_on_hub)
    if source is None:
        return
    repository, needed = source
    if hub.is_cached(repository, needed):
        return
    why = "offline mode forbids fetching them" if hub.is_offline(offline) else "the model hub cannot be reached"
    if hub.is_offline(offline) or not hub.answers(repository):
        raise EncoderUnavailableError(
            f"The weights of {name} are not on this machine, and {why}. Go online once, or set HF_ENDPOINT to a "
            "mirror. Until then use the builtin encoder (`--model builtin`) or a folder with the weights "
            "(`--model local-dir:PATH`). In Python: clipsearch.open(DIR, create=True, model=...)."
        )
