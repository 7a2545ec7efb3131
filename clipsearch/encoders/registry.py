"""How an encoder is loaded by its name: builtin, prepared on this machine, or prepared now."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from clipsearch.encoders import export_folder, names
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.compute import Compute
from clipsearch.encoders.export_folder import ExportMeta, exports_root
from clipsearch.encoders.names import AUTO, BUILTINS, HUB, LOCAL, OPENCLIP, PRESETS, resolve
from clipsearch.errors import EncoderError, EncoderMismatchError, EncoderUnavailableError
from clipsearch.types import EncoderPin

if TYPE_CHECKING:
    import tempfile

log = logging.getLogger("clipsearch")

_scratch: list[tempfile.TemporaryDirectory[str]] = []


def load_pinned(
    pin: EncoderPin,
    *,
    model: str,
    threads: int,
    offline: bool,
    device: str = "cpu",
    precision: str = "auto",
) -> Encoder:
    """Load the encoder that a library is pinned to, which is all that may load one by a library's word.

    Builtin encoders and open_clip's own load. One from a folder or a hub must be trusted (clipsearch.encoders.trust),
    or be what the user names now. model: as in Settings, of who asks. Else as `load`.
    Raises EncoderUnavailableError also for an encoder that is not trusted, with the command that trusts it;
    EncoderMismatchError also for one whose vectors have another length: imported ones came with only its name.
    """
    fingerprint = None if pin.is_imported else pin.fingerprint
    encoder = _load_trusted(pin.name, model, Options(threads, offline, fingerprint, device, precision))
    if encoder.dim != pin.dim:
        raise EncoderMismatchError(
            f"The library was made with vectors of {pin.dim} dimensions, imported as those of {pin.name}, but "
            f"{encoder.name} makes {encoder.dim}. Search by vector, import again with the "
            "right --encoder, or index into another library with --library."
        )
    return encoder


def _load_trusted(name: str, model: str, options: Options) -> Encoder:
    if not name.startswith((OPENCLIP + LOCAL, OPENCLIP + HUB)):
        return _load(name, options)
    if _is_named(name, model):
        return _load_remembered(name, options)
    from clipsearch.encoders import trust

    return _load(name, options, partial(trust.check_content, trust.require(name)))


def load(
    name: str,
    *,
    threads: int,
    offline: bool,
    fingerprint: str | None = None,
    device: str = "cpu",
    precision: str = "auto",
) -> Encoder:
    """Return the encoder that the user named; its towers are loaded when first used, on a GPU the weights now.

    One from a folder or a hub is trusted from then on. What a library names goes to `load_pinned`.
    name: canonical. threads: of the processor, at most. offline: make no connection.
    fingerprint: of the encoder that made the library; a prepared model that has it is preferred. device, precision:
    as in Compute; a query takes the processor, which is ready first.
    Raises EncoderUnavailableError if the model is unavailable or cannot run so, EncoderMismatchError when its
    fingerprint is another, InvalidInputError for an unknown device or precision.
    """
    options = Options(threads, offline, fingerprint, device, precision)
    if not name.startswith((OPENCLIP + LOCAL, OPENCLIP + HUB)):
        return _load(name, options)
    return _load_remembered(name, options)


@dataclass(frozen=True, slots=True)
class Options:
    """How an encoder is loaded, as `load` has it."""

    threads: int
    offline: bool
    fingerprint: str | None
    device: str
    precision: str


def _is_named(name: str, model: str) -> bool:
    """Tell whether a setting names an encoder; `auto` names none that a library could bring."""
    if model.strip().lower() == AUTO:
        return False
    try:
        return resolve(model, offline=True).name == name
    except EncoderUnavailableError:
        return False


def _load_remembered(name: str, options: Options) -> Encoder:
    from clipsearch.encoders import trust

    described = trust.describe(name)  # before it is read, so that no later files pass for these
    encoder = _load(name, options)
    try:
        trust.remember(described)
    except OSError as error:
        log.warning("Your trust in %s cannot be saved: %s.", name, error)
    return encoder


def _load(name: str, options: Options, check_source: Callable[[], None] = lambda: None) -> Encoder:
    """Load by a name that may be loaded. check_source: called before files of the model itself are read."""
    fingerprint = options.fingerprint
    compute = Compute(options.device, options.precision, options.threads)
    if name in BUILTINS:
        from clipsearch.encoders.builtin import BuiltinEncoder

        variant = cast(Literal["small", "base"], name.removeprefix("builtin-"))
        _require_int8(name, compute)
        encoder: Encoder = BuiltinEncoder(variant, threads=compute.threads)
    elif name.startswith(OPENCLIP):
        encoder = _load_openclip(name, compute, options, check_source)
    else:
        raise names.unknown(name)
    if fingerprint is not None and encoder.fingerprint != fingerprint:
        raise EncoderMismatchError(
            f"The library was made with {name} of fingerprint {fingerprint[:12]}, but {name} here has "
            f"{encoder.fingerprint[:12]}: vectors of the two cannot be compared. Restore the weights it was made "
            "with, or index again into a new library."
        )
    return encoder


def _load_openclip(name: str, compute: Compute, options: Options, check_source: Callable[[], None]) -> Encoder:
    from clipsearch.encoders import accelerators
    from clipsearch.encoders.onnx_runtime import OnnxEncoder

    devices = accelerators.find_devices(compute)
    if not devices:
        _require_fp32_or_int8(name, compute)
    found = _find_prepared(name, options.fingerprint)
    if found is None:
        check_source()
        found = _prepare(name, options)
    folder, meta = found
    if devices and (accelerated := _load_on(devices, folder, meta, compute, options, check_source)) is not None:
        return accelerated
    encoder = OnnxEncoder(folder, meta, threads=compute.threads, int8=compute.precision == "int8")
    if compute.precision == "int8":
        encoder.load_pictures()  # a model that int8 does not serve is refused before any file is read
    return encoder


def _require_int8(name: str, compute: Compute) -> None:
    if compute.device not in ("auto", "cpu"):
        raise EncoderUnavailableError(
            f"{name} runs on the processor only, not on {compute.device}: it is too small to gain from a GPU. "
            "Use --device auto, or another model."
        )
    if compute.precision not in ("auto", "int8"):
        raise EncoderUnavailableError(
            f"{name} is made in int8 and cannot run in {compute.precision}. Use --precision auto, or another model."
        )


def _require_fp32_or_int8(name: str, compute: Compute) -> None:
    if compute.precision in ("bf16", "fp16"):
        raise EncoderUnavailableError(
            f"{name} cannot run in {compute.precision} on a processor, because ONNX Runtime does not support it there. "
            "Use --precision fp32, or int8, which is faster and changes the vectors a little."
        )


def _load_on(
    devices: tuple[str, ...],
    folder: Path,
    meta: ExportMeta,
    compute: Compute,
    options: Options,
    check_source: Callable[[], None],
) -> Encoder | None:
    """Load the weights for devices; None where that fails and the devices were not asked for by name."""
    try:
        check_source()
        from clipsearch.encoders import torch_runtime

        return torch_runtime.load(folder, meta, devices, compute.precision, offline=options.offline)
    except EncoderUnavailableError as error:
        if compute.device != "auto":
            raise
        log.warning("%s runs on the processor, although there is a GPU: %s", meta.name, error)
        return None


def _find_prepared(name: str, fingerprint: str | None) -> tuple[Path, ExportMeta] | None:
    exports = export_folder.find_exports(exports_root(), name)
    for entry in exports:
        if entry[1].fingerprint == fingerprint:
            return entry
    source = export_folder.local_source(name.removeprefix(OPENCLIP))
    # A local model whose files have changed is another model; one whose folder is gone still answers.
    return next((entry for entry in exports if not source or entry[1].source == source), None)


def _prepare(name: str, options: Options) -> tuple[Path, ExportMeta]:
    from clipsearch.encoders import exporting, openclip

    try:
        _require_at_hand(name, options.offline)
        reference = openclip.fetch(name.removeprefix(OPENCLIP), offline=options.offline)
        try:
            folder = exporting.export(reference, name, exports_root(), threads=options.threads)
            return folder, export_folder.verify_export(folder)
        except (OSError, export_folder.ExportDamagedError) as error:
            log.warning(
                "%s cannot be stored in %s (%s), so every command prepares it again. Free "
                "some space or allow writing there, or "
                "set CLIPSEARCH_CACHE to another folder.", name, exports_root(), error,
            )  # fmt: skip
        folder = exporting.export(reference, name, _scratch_root(), threads=options.threads)
        return folder, export_folder.verify_export(folder)
    except EncoderUnavailableError as error:
        if options.fingerprint is None:
            raise
        raise EncoderUnavailableError(
            f"The library was made with {name}, which is not prepared on this machine and cannot be prepared: {error}"
        ) from error
    except (OSError, export_folder.ExportDamagedError) as error:
        raise EncoderError(
            f"{name} cannot be prepared, neither in {exports_root()} nor in the system's temporary folder: {error}. "
            "Free some space or allow writing there, or set CLIPSEARCH_CACHE to another folder."
        ) from error


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
            "(`--model local-dir:PATH`)."
        )
