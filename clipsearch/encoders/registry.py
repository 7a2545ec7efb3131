"""How an encoder is loaded by its name: builtin, prepared on this machine, or prepared first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, cast

from clipsearch.encoders import export_folder, names
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.compute import Compute
from clipsearch.encoders.export_folder import ExportMeta, exports_root
from clipsearch.encoders.names import AUTO, BUILTINS, FROM_ELSEWHERE, ONNX_DIR, ONNX_HUB, OPENCLIP, resolve
from clipsearch.errors import EncoderMismatchError, EncoderUnavailableError
from clipsearch.types import EncoderPin

log = logging.getLogger("clipsearch")


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
    if pin.is_imported and pin.name not in BUILTINS and not pin.name.startswith((OPENCLIP, ONNX_DIR, ONNX_HUB)):
        raise EncoderUnavailableError(
            f"The vectors of this library were made elsewhere, with {pin.name!r}, which clipsearch cannot load. Search "
            "by a vector made with it, from Python: engine.search(vector=...)."
        )
    fingerprint = None if pin.is_imported else pin.fingerprint
    encoder = _load_trusted(pin.name, model, Options(threads, offline, fingerprint, device, precision))
    if encoder.dim != pin.dim:
        raise EncoderMismatchError(
            f"The library was made with vectors of {pin.dim} dimensions, imported as those of {pin.name}, but "
            f"{encoder.name} makes {encoder.dim}. Search by vector, import again with the "
            "right `--encoder`, or index into another library: `--library DIR` (in Python: clipsearch.open(DIR))."
        )
    return encoder


def _load_trusted(name: str, model: str, options: Options) -> Encoder:
    if not name.startswith(FROM_ELSEWHERE):
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
    if not name.startswith(FROM_ELSEWHERE):
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
    elif name.startswith((OPENCLIP, ONNX_DIR, ONNX_HUB)):
        encoder = _load_prepared(name, compute, options, check_source)
    else:
        raise names.unknown(name)
    if fingerprint is not None and encoder.fingerprint != fingerprint:
        raise EncoderMismatchError(
            f"The library was made with {name} of fingerprint {fingerprint[:12]}, but {name} here has "
            f"{encoder.fingerprint[:12]}: vectors of the two cannot be compared. Restore the weights it was made "
            "with, or index again into a new library."
        )
    return encoder


def _load_prepared(name: str, compute: Compute, options: Options, check_source: Callable[[], None]) -> Encoder:
    from clipsearch.encoders import accelerators
    from clipsearch.encoders.onnx_runtime import OnnxEncoder

    is_torch = name.startswith(OPENCLIP)
    if not is_torch and compute.device not in ("auto", "cpu"):
        raise EncoderUnavailableError(
            f"{name} runs on the processor only, not on {compute.device}: it has no weights that torch could load. "
            "Use `--device auto` (in Python: Settings(device='auto')), or a model of open_clip."
        )
    devices = accelerators.find_devices(compute) if is_torch else ()
    if not devices:
        _require_fp32_or_int8(name, compute)
    found = _find_prepared(name, options.fingerprint)
    if found is None:
        check_source()
        from clipsearch.encoders import preparing

        is_pinned = options.fingerprint is not None
        found = preparing.prepare(name, threads=options.threads, offline=options.offline, is_pinned=is_pinned)
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
            "Use `--device auto` (in Python: Settings(device='auto')), or another model."
        )
    if compute.precision not in ("auto", "int8"):
        raise EncoderUnavailableError(
            f"{name} is made in int8 and cannot run in {compute.precision}. Use `--precision auto` (in Python: "
            "Settings(precision='auto')), or another model."
        )


def _require_fp32_or_int8(name: str, compute: Compute) -> None:
    if compute.precision in ("bf16", "fp16"):
        raise EncoderUnavailableError(
            f"{name} cannot run in {compute.precision} on a processor, because ONNX Runtime does not support it there. "
            "Use `--precision fp32` (in Python: Settings(precision='fp32')), or int8, which is faster and changes the "
            "vectors a little."
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
    source = export_folder.local_source(name)
    # A local model whose files have changed is another model; one whose folder is gone still answers.
    return next((entry for entry in exports if not source or entry[1].source == source), None)
