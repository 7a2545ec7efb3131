"""The encoders that there are, as far as this machine knows them; nothing is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from clipsearch.encoders import export_folder, languages
from clipsearch.encoders.base import Encoder
from clipsearch.encoders.export_folder import ExportMeta, exports_root
from clipsearch.encoders.names import BUILTINS, DEFAULT_BUILTIN, PRESETS


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What `clipsearch models` says of an encoder.

    ready: whether it can be used without a connection. reads: codes of the languages it reads well; None if unknown.
    """

    name: str
    aliases: tuple[str, ...]
    dim: int
    licence: str
    ready: bool
    note: str
    reads: tuple[str, ...] | None


def catalogue() -> list[ModelInfo]:
    """List the builtin encoders, the presets, and every other model that is prepared on this machine."""
    exports = export_folder.find_exports(exports_root())
    prepared = {meta.name: meta for _path, meta in exports}
    named = {preset.name for preset in PRESETS.values()}
    others = [_describe_export(meta) for name, meta in sorted(prepared.items()) if name not in named]
    return [*map(_describe_builtin, BUILTINS), *(_describe_preset(alias, prepared) for alias in PRESETS), *others]


def identify(name: str) -> tuple[str | None, int | None]:
    """Return the fingerprint and the dimensions of an encoder, as far as this machine knows them; else None."""
    if name in BUILTINS:
        encoder = _builtin(name)
        return encoder.fingerprint, encoder.dim
    for _, meta in export_folder.find_exports(exports_root(), name):
        return meta.fingerprint, meta.dim
    return None, next((preset.dim for preset in PRESETS.values() if preset.name == name), None)


def _builtin(name: str) -> Encoder:
    from clipsearch.encoders.builtin import BuiltinEncoder

    return BuiltinEncoder(cast(Literal["small", "base"], name.removeprefix("builtin-")), threads=1)


def _describe_builtin(name: str) -> ModelInfo:
    dim = _builtin(name).dim
    aliases = ("builtin",) if name == DEFAULT_BUILTIN else ()
    note = "needs no hub; object words, lower quality"
    return ModelInfo(name, aliases, dim, "Apache-2.0", True, note, languages.reads(name))


def _describe_preset(alias: str, prepared: dict[str, ExportMeta]) -> ModelInfo:
    from clipsearch.encoders import hub

    preset = PRESETS[alias]
    ready = preset.name in prepared or hub.is_cached(preset.repository, preset.needed)
    reads = languages.reads(preset.name)
    return ModelInfo(preset.name, (alias,), preset.dim, preset.licence, ready, preset.note, reads)


def _describe_export(meta: ExportMeta) -> ModelInfo:
    return ModelInfo(meta.name, (), meta.dim, "as its publisher says", True, "prepared on this machine", None)
